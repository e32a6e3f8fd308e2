//! Every operation that the dialects offer, once.
//!
//! A dialect turns its wire format into a call here and the result into its own words; what is checked, counted and
//! limited for all of them is in this place.

use crate::cluster::{
    Act, Answer, Cluster, Life, NamedPages, NodeSummary, Outcome, Pages, Published, Question, State, StoreInfo,
};
use crate::metrics::Register;
use crate::model::{
    Audience, AudienceKind, ConnectionId, DeviceId, Error, HexId, Limits, Name, NodeId, Push, Result, Seq, Target, Who,
};
use bytes::Bytes;
use prometheus::{IntCounterVec, Registry};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The close code of a connection that was closed through an API: its purpose is fulfilled (RFC 6455, section 7.4.1).
const CLOSED_BY_API: u16 = 1000;

/// What the label `reason` of a push that was not taken can be; [`refusal`] chooses.
const REFUSALS: [&str; 4] = ["unknown_connection", "unavailable", "no_answer", "limit"];

/// The interfaces that backends use; a label of the metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// `/?action=…`.
    Actions,
    /// `/?event=…`.
    Events,
    /// JSON documents on the unix socket, or from clients that may send them.
    Device,
    /// Operations in an application's answers.
    Webhook,
    /// What an operator has said to everybody.
    Operator,
    /// A program that the node is part of.
    Library,
}

impl Dialect {
    const ALL: [Self; 6] = [Self::Actions, Self::Events, Self::Device, Self::Webhook, Self::Operator, Self::Library];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Actions => "actions",
            Self::Events => "events",
            Self::Device => "device",
            Self::Webhook => "webhook",
            Self::Operator => "operator",
            Self::Library => "library",
        }
    }
}

/// The cluster as `stats` describes it.
#[derive(Clone, Debug)]
pub struct Stats {
    /// The live nodes with their counters.
    pub nodes: Vec<NodeSummary>,
    /// The store behind the directory.
    pub store: StoreInfo,
    /// Every channel that has members, sorted, with their number.
    pub channels: Vec<(Name, u64)>,
}

/// The operations.
pub struct Service {
    cluster: Arc<dyn Cluster>,
    limits: Arc<Limits>,
    pushes: IntCounterVec,
    refused: IntCounterVec,
}

impl Service {
    /// Operations on `cluster`, their metrics in `registry`; an error where another service has registered there.
    pub fn new(cluster: Arc<dyn Cluster>, limits: Arc<Limits>, registry: &Registry) -> prometheus::Result<Arc<Self>> {
        let pushes = registry.counters(
            "carillon_pushes_total",
            "Pushes that the bus has taken, by interface and kind of target.",
            &["dialect", "target"],
        )?;
        let refused = registry.counters(
            "carillon_pushes_refused_total",
            "Pushes that were not taken, by interface and reason.",
            &["dialect", "reason"],
        )?;
        for dialect in Dialect::ALL {
            for target in Target::KINDS {
                pushes.with_label_values(&[dialect.as_str(), target]);
            }
            for reason in REFUSALS {
                refused.with_label_values(&[dialect.as_str(), reason]);
            }
        }
        Ok(Arc::new(Self { cluster, limits, pushes, refused }))
    }

    /// The limits that all operations keep to.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How the cluster looks from here.
    pub fn state(&self) -> watch::Receiver<State> {
        self.cluster.state()
    }

    /// Hands a push to the bus; with [`Opcode::Text`](crate::model::Opcode::Text) its dialect has checked it to be UTF-8.
    ///
    /// # Errors
    /// [`Error::Limit`] over [`Limits::max_push`]; [`Error::Unavailable`] where the bus did not take it.
    pub async fn push(&self, dialect: Dialect, push: Push) -> Result<Published> {
        let target = push.target.kind();
        let published = self.publish(push).await;
        match refusal(&published) {
            None => self.pushes.with_label_values(&[dialect.as_str(), target]).inc(),
            Some(reason) => self.refused.with_label_values(&[dialect.as_str(), reason]).inc(),
        }
        published
    }

    async fn publish(&self, push: Push) -> Result<Published> {
        if let Some(why) = self.too_long(&push.payload) {
            return Err(Error::Limit(why));
        }
        self.cluster.publish(push).await
    }

    fn too_long(&self, payload: &Bytes) -> Option<String> {
        let (size, limit) = (payload.len(), self.limits.max_push);
        (size > limit).then(|| format!("message of {size} bytes is longer than MAX_PUSH, {limit} bytes"))
    }

    /// Closes a connection; false where there is none.
    pub async fn close_connection(&self, connection: ConnectionId) -> Result<bool> {
        self.close_with(connection, CLOSED_BY_API, String::new()).await
    }

    /// Closes a connection with a code and reason of the caller's; false where there is none.
    pub async fn close_with(&self, connection: ConnectionId, code: u16, reason: String) -> Result<bool> {
        Ok(self.request(Act::Close { who: connection.into(), code, reason }).await?.is_some())
    }

    /// Makes a connection one of a user's: `None` where there is no such connection, false where it has a user, which it keeps.
    pub async fn bind(&self, connection: ConnectionId, user: Name) -> Result<Option<bool>> {
        Ok(self.request(Act::Bind { connection, user }).await?.map(|bound| bound > 0))
    }

    /// Takes a connection's user from it: `None` where there is no such connection, false where it has none.
    pub async fn unbind(&self, connection: ConnectionId) -> Result<Option<bool>> {
        let act = Act::LeaveAll { who: connection.into(), kind: AudienceKind::User };
        Ok(self.request(act).await?.map(|unbound| unbound > 0))
    }

    /// The connection that an `_id` spells; `None` where it was spelled in a life that has ended. Whether the connection is
    /// still there is not known.
    pub async fn spelled_hex(&self, id: HexId) -> Result<Option<ConnectionId>> {
        let life = self.cluster.life(id.connection().seq()).await?;
        Ok(life.filter(|life| life.id.tag() == id.life()).map(|_| id.connection()))
    }

    /// Closes every member of an audience; how many.
    pub async fn close_audience(&self, audience: Audience) -> Result<u64> {
        let act = Act::Close { who: audience.into(), code: CLOSED_BY_API, reason: String::new() };
        Ok(self.request(act).await?.unwrap_or(0))
    }

    /// The connection that a device id spells; `None` where it was spelled in a life that has ended. Whether the connection is
    /// still there is not known.
    pub async fn spelled(&self, id: DeviceId) -> Result<Option<ConnectionId>> {
        let life = self.cluster.life(id.connection().seq()).await?;
        Ok(life.filter(|life| id.is_of(life.id.tag())).map(|_| id.connection()))
    }

    /// Makes a connection, or all members of an audience, members of audiences. When this returns they are, for everybody:
    /// what is pushed to those from then on reaches them. `None` where there is no such connection, else how many
    /// memberships are new.
    pub async fn join(&self, who: impl Into<Who>, audiences: Vec<Audience>) -> Result<Option<u64>> {
        let (count, limit) = (audiences.len(), self.limits.max_channels);
        if count > limit {
            return Err(Error::Limit(format!("{count} channels are more than MAX_CHANNELS, {limit}")));
        }
        self.request(Act::Join { who: who.into(), audiences }).await
    }

    /// Takes a connection, or all members of an audience, out of audiences. `None` where there is no such connection, else
    /// how many memberships have ended.
    pub async fn leave(&self, who: impl Into<Who>, audiences: Vec<Audience>) -> Result<Option<u64>> {
        self.request(Act::Leave { who: who.into(), audiences }).await
    }

    async fn request(&self, act: Act) -> Result<Option<u64>> {
        match self.cluster.request(act, self.limits.act_timeout).await? {
            Outcome::Done(affected) => Ok(Some(affected)),
            Outcome::Unknown => Ok(None),
            Outcome::NoAudience => Ok(Some(0)),
            Outcome::Failed(why) | Outcome::NoAnswer(why) => Err(Error::Unavailable(why)),
            Outcome::Refused(why) => Err(Error::Limit(why)),
        }
    }

    /// The live nodes of one moment, in the order of their numbers.
    pub async fn lives(&self) -> Result<Vec<Life>> {
        self.cluster.lives().await
    }

    /// This node, whether or not it is in the cluster just now.
    pub fn own_life(&self) -> Life {
        Life { seq: self.cluster.seq(), id: self.cluster.node_id() }
    }

    /// What the directory says of each of `lives`; see [`Cluster::look`].
    pub async fn look(&self, lives: &[Life], questions: &[Question]) -> Result<Vec<Vec<Answer>>> {
        self.cluster.look(lives, questions).await
    }

    /// Has each of `lives` carry out `acts`, one after the other; see [`Cluster::act`]. Pushes among them are counted, and
    /// refused over [`Limits::max_push`] before any node is asked. A node is waited for as long as `patience`.
    pub async fn act(&self, dialect: Dialect, lives: &[Life], acts: &[Act], patience: Duration) -> Vec<Vec<Outcome>> {
        let too_long = |act: &Act| pushed(act).and_then(|(payload, _)| self.too_long(payload));
        let (mut fit, mut refused) = (Vec::with_capacity(acts.len()), Vec::new());
        for (at, act) in acts.iter().enumerate() {
            match too_long(act) {
                None => fit.push(act.clone()),
                Some(why) => refused.push((at, why)),
            }
        }
        let mut all = self.cluster.act(lives, &fit, patience).await;
        for outcomes in &mut all {
            for (at, why) in &refused {
                outcomes.insert(*at, Outcome::Refused(why.clone()));
            }
        }
        self.count(dialect, acts, &all);
        all
    }

    /// Counts the pushes among acts: taken where any node took it.
    fn count(&self, dialect: Dialect, acts: &[Act], outcomes: &[Vec<Outcome>]) {
        for (at, act) in acts.iter().enumerate() {
            let Some((_, target)) = pushed(act) else { continue };
            let of_nodes = || outcomes.iter().filter_map(|outcomes| outcomes.get(at));
            let reason = match of_nodes().find(|outcome| matches!(outcome, Outcome::Done(_))).or(of_nodes().next()) {
                Some(Outcome::Done(_)) | None => None,
                Some(Outcome::Unknown | Outcome::NoAudience) => Some("unknown_connection"),
                Some(Outcome::Failed(_)) => Some("unavailable"),
                Some(Outcome::NoAnswer(_)) => Some("no_answer"),
                Some(Outcome::Refused(_)) => Some("limit"),
            };
            match reason {
                None => self.pushes.with_label_values(&[dialect.as_str(), target]).inc(),
                Some(reason) => self.refused.with_label_values(&[dialect.as_str(), reason]).inc(),
            }
        }
    }

    /// Whether a connection is there.
    pub async fn exists(&self, connection: ConnectionId) -> Result<bool> {
        self.cluster.exists(connection).await
    }

    /// The audiences of a kind that have members, sorted, each with their number.
    pub async fn audiences(&self, kind: AudienceKind) -> Result<Vec<(Name, u64)>> {
        self.cluster.audiences(kind).await
    }

    /// All connections, in pages.
    pub async fn connections(&self) -> Result<Pages> {
        self.cluster.connections().await
    }

    /// An audience's members, in pages.
    pub async fn members(&self, audience: &Audience) -> Result<Pages> {
        self.cluster.members(audience).await
    }

    /// The members of these channels, in their order, or of all channels that have any, sorted by name.
    pub async fn channels(&self, names: Option<Vec<Name>>) -> Result<NamedPages> {
        self.cluster.listing(AudienceKind::Channel, names).await
    }

    /// Number of connections. Costs by nodes.
    pub async fn count_connections(&self) -> Result<u64> {
        self.cluster.count_connections().await
    }

    /// Number of an audience's members. Costs by nodes.
    pub async fn count_members(&self, audience: &Audience) -> Result<u64> {
        self.cluster.count_members(audience).await
    }

    /// This node's id for this life, and its number.
    pub fn node(&self) -> (NodeId, Seq) {
        (self.cluster.node_id(), self.cluster.seq())
    }

    /// The live nodes of the cluster, this one among them.
    pub async fn nodes(&self) -> Result<Vec<NodeSummary>> {
        self.cluster.nodes().await
    }

    /// Pushes that the bus has taken from this node since its start, by whatever interface they came.
    pub fn pushes(&self) -> u64 {
        let kinds = Dialect::ALL.into_iter().flat_map(|dialect| Target::KINDS.map(|target| (dialect, target)));
        kinds.map(|(dialect, target)| self.pushes.with_label_values(&[dialect.as_str(), target]).get()).sum()
    }

    /// The cluster's figures.
    pub async fn stats(&self) -> Result<Stats> {
        let (nodes, store, channels) = tokio::try_join!(
            self.cluster.nodes(),
            self.cluster.store(),
            self.cluster.audiences(AudienceKind::Channel)
        )?;
        Ok(Stats { nodes, store, channels })
    }
}

/// What an act pushes, and the word for its target; `None` where it pushes nothing.
fn pushed(act: &Act) -> Option<(&Bytes, &'static str)> {
    match act {
        Act::Deliver(push) | Act::DeliverToOne(push) => Some((&push.payload, push.target.kind())),
        Act::DeliverToOneOfEach { payload, .. } => Some((payload, "several")),
        Act::Close { .. } | Act::Join { .. } | Act::Leave { .. } | Act::LeaveAll { .. } | Act::Bind { .. } => None,
    }
}

/// Why a push was not taken, in the words of the metrics; `None` where it was.
fn refusal(published: &Result<Published>) -> Option<&'static str> {
    match published {
        Ok(Published::Taken) => None,
        Ok(Published::UnknownConnection) => Some("unknown_connection"),
        Err(Error::Unavailable(_)) => Some("unavailable"),
        Err(Error::NoAnswer { .. }) => Some("no_answer"),
        Err(Error::Limit(_)) => Some("limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_label_that_is_there_from_the_start() {
        let all = [
            Ok(Published::UnknownConnection),
            Err(Error::Unavailable(String::new())),
            Err(Error::NoAnswer { node: String::new(), waited: Duration::ZERO }),
            Err(Error::Limit(String::new())),
        ];
        assert_eq!(all.each_ref().map(refusal), REFUSALS.map(Some));
        assert_eq!(refusal(&Ok(Published::Taken)), None);
    }
}
