//! A cluster of one: the roster is the directory, and the bus is a loop-back with the same contract.

mod owed;

use super::owed::Owing;
use super::{
    About, Act, Answer, Cluster, Details, Life, NamedPages, NodeSummary, Outcome, Pages, Published, Question, State,
    StoreInfo, acts,
};
use crate::hub::{Delivery, Hub};
use crate::model::{Audience, AudienceKind, ConnectionId, Name, NodeId, Push, Result, Seq, Target};
use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Ids in a page of a listing.
const PAGE: usize = 1000;

/// What one membership, connection or audience costs in the roster, roughly; for `stats`, which wants a figure.
const BYTES_PER_ENTRY: u64 = 128;

/// How long the last channel events may take to be taken when the node stops.
const LAST_EVENTS: Duration = Duration::from_secs(5);

/// One node alone, with its state in its own hub.
pub struct Embedded {
    hub: Arc<Hub>,
    about: About,
    state: watch::Sender<State>,
    /// Tells of channel events until the node leaves.
    teller: Mutex<JoinSet<()>>,
    leaves: Arc<Notify>,
}

impl Embedded {
    /// The cluster that consists of `hub`.
    pub fn new(hub: Arc<Hub>, about: About) -> Arc<Self> {
        Arc::new(Self {
            hub,
            about,
            state: watch::Sender::new(State::Ready),
            teller: Mutex::default(),
            leaves: Arc::default(),
        })
    }

    /// The same, where somebody may be told of channel events. To be called on a tokio runtime, before the hub has its first
    /// connection.
    pub fn owing(hub: Arc<Hub>, about: About, owing: Owing) -> Arc<Self> {
        let cluster = Self::new(hub, about);
        if owing.channel_events().any() {
            cluster.hub.start_journal();
            let telling = owed::tell(cluster.hub.clone(), owing, cluster.leaves.clone());
            cluster.teller.lock().unwrap_or_else(PoisonError::into_inner).spawn(telling);
        }
        cluster
    }

    /// Nothing has to be written or subscribed: what the roster has is in every answer.
    async fn carry_out(&self, acts: &[Act]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(acts.len());
        for act in acts {
            if matches!(act, Act::Deliver(_) | Act::DeliverToOne(_) | Act::DeliverToOneOfEach { .. }) {
                self.hub.has_room().await;
            }
            outcomes.extend(acts::apply(&self.hub, std::slice::from_ref(act), now()));
        }
        outcomes
    }

    fn answer(&self, question: &Question) -> Answer {
        let hub = &self.hub;
        match question {
            Question::Connections => Answer::Count(hub.count()),
            Question::ConnectionIds => Answer::Ids(hub.connections()),
            Question::Members(audience) => Answer::Count(hub.local_members(audience)),
            Question::MemberIds(audience) => Answer::Ids(hub.members(audience)),
            Question::MemberIdsOfAll(kind) => Answer::Ids(hub.members_of_all(*kind)),
            Question::SharedMember(one, other) => Answer::Count(u64::from(hub.share_a_member(one, other))),
            Question::AudienceCount(kind) => Answer::Count(hub.count_audiences(*kind)),
            Question::Audiences(kind) => Answer::Names(hub.audiences(*kind)),
            Question::AudiencesOfMembers(audience, kind) => {
                Answer::Names(hub.names_of_members(audience, *kind).into_iter().map(|name| (name, 0)).collect())
            }
            Question::Details(connection) => {
                Answer::Details(hub.details(*connection).map(|details| Box::new(Details::parse(&details))))
            }
        }
    }
}

/// Microseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

fn pages(seq: Seq, counters: Vec<u32>) -> Pages {
    let pages: Vec<Vec<u32>> = counters.chunks(PAGE).map(<[u32]>::to_vec).collect();
    let ids = move |page: Vec<u32>| Ok(page.into_iter().map(|counter| ConnectionId::new(seq, counter)).collect());
    stream::iter(pages).map(ids).boxed()
}

#[async_trait]
impl Cluster for Embedded {
    fn node_id(&self) -> NodeId {
        self.about.id
    }

    fn seq(&self) -> Seq {
        self.hub.seq()
    }

    fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    async fn settle(&self, _audiences: &[Audience]) -> Result<()> {
        Ok(())
    }

    async fn publish(&self, push: Push) -> Result<Published> {
        if let Target::Connection(id) = push.target
            && !self.hub.exists(id)
        {
            return Ok(Published::UnknownConnection);
        }
        self.hub.has_room().await;
        self.hub.deliver(Delivery { push, taken_at: now() });
        Ok(Published::Taken)
    }

    async fn request(&self, act: Act, _timeout: Duration) -> Result<Outcome> {
        Ok(self.carry_out(std::slice::from_ref(&act)).await.pop().unwrap_or_else(|| act.nobody()))
    }

    async fn lives(&self) -> Result<Vec<Life>> {
        Ok(vec![Life { seq: self.hub.seq(), id: self.about.id }])
    }

    async fn look(&self, lives: &[Life], questions: &[Question]) -> Result<Vec<Vec<Answer>>> {
        Ok(lives.iter().map(|_| questions.iter().map(|question| self.answer(question)).collect()).collect())
    }

    async fn act(&self, lives: &[Life], acts: &[Act], _timeout: Duration) -> Vec<Vec<Outcome>> {
        // There is one life, or none that was asked for.
        let mut all = Vec::with_capacity(lives.len());
        for _ in lives {
            all.push(self.carry_out(acts).await);
        }
        all
    }

    async fn nodes(&self) -> Result<Vec<NodeSummary>> {
        Ok(vec![self.about.summary(self.hub.seq())])
    }

    async fn store(&self) -> Result<StoreInfo> {
        let counters = (self.about.counters)();
        Ok(StoreInfo {
            memory: (self.hub.count() + self.hub.memberships()) * BYTES_PER_ENTRY,
            hits: counters.hits,
            misses: counters.misses,
            start_time: self.about.start_time,
            kind: "embedded",
        })
    }

    async fn exists(&self, connection: ConnectionId) -> Result<bool> {
        Ok(self.hub.exists(connection))
    }

    async fn count_connections(&self) -> Result<u64> {
        Ok(self.hub.count())
    }

    async fn count_members(&self, audience: &Audience) -> Result<u64> {
        Ok(self.hub.local_members(audience))
    }

    async fn audiences(&self, kind: AudienceKind) -> Result<Vec<(Name, u64)>> {
        Ok(self.hub.audiences(kind))
    }

    async fn connections(&self) -> Result<Pages> {
        Ok(pages(self.hub.seq(), self.hub.connections()))
    }

    async fn members(&self, audience: &Audience) -> Result<Pages> {
        Ok(pages(self.hub.seq(), self.hub.members(audience)))
    }

    async fn listing(&self, kind: AudienceKind, names: Option<Vec<Name>>) -> Result<NamedPages> {
        let all = || self.hub.audiences(kind).into_iter().map(|(name, _)| name).collect();
        let (hub, seq) = (self.hub.clone(), self.hub.seq());
        // One audience's members at a time are copied out of the hub.
        let pages = stream::iter(names.unwrap_or_else(all)).flat_map(move |name| {
            let counters = hub.members(&Audience { kind, name: name.clone() });
            self::pages(seq, counters).map(move |page| page.map(|ids| (name.clone(), ids)))
        });
        Ok(pages.boxed())
    }

    async fn leave(&self) {
        let mut teller = std::mem::take(&mut *self.teller.lock().unwrap_or_else(PoisonError::into_inner));
        self.leaves.notify_one();
        // Whoever was told nothing by then never is: there is no other node to do it.
        let told = async { while teller.join_next().await.is_some() {} };
        if timeout(LAST_EVENTS, told).await.is_err() {
            tracing::warn!("stopping before all channel events were taken");
        }
        teller.shutdown().await;
    }
}
