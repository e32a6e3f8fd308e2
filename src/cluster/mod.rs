//! The cluster's half: who is where (the directory) and how a push gets there (the bus).
//!
//! [`Cluster`] is the contract; [`embedded`] and [`redis`] keep it, and one suite (`tests/cluster_contract.rs`) is run
//! over both. What every implementation promises:
//!
//! - **Settled means there.** After [`Cluster::settle`] returned, the connection is in every answer on every node, and a
//!   push sent by anybody afterwards reaches it.
//! - **One path.** A push goes through the bus even when publisher and socket are on the same node; one publisher's
//!   pushes to an audience arrive in their order, once.
//! - **Never a false yes.** What was not taken is an [`Error`], never a silent local-only delivery.
//! - **Reads ask no node.** They come from the directory alone; only acts are asked of the owning node.

pub mod embedded;
pub mod redis;

mod acts;
mod details;
mod owed;

use crate::model::{
    Audience, AudienceKind, ConnectionId, Error, Name, NodeCounters, NodeId, Opcode, Push, Result, Seq, Who,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

pub use details::Details;
pub use owed::{ChannelEvents, NotTaken, Owed, Owing, Sink};

/// Pages of ids as they come from the directory: no order, no duplicates; an error ends them.
pub type Pages = BoxStream<'static, Result<Vec<ConnectionId>>>;

/// Pages of ids, each with the name of the audience whose members they are; an audience's pages follow each other.
pub type NamedPages = BoxStream<'static, Result<(Name, Vec<ConnectionId>)>>;

/// What somebody wants done to connections that other nodes may own. What the nodes answer is an [`Outcome`] each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    /// Close connections; done: how many.
    Close {
        /// Which.
        who: Who,
        /// The close frame's code (RFC 6455, section 7.4).
        code: u16,
        /// The close frame's reason, at most 123 bytes.
        reason: String,
    },
    /// Make connections members of audiences, all of all or nobody of any; done: how many memberships are new.
    Join {
        /// Which.
        who: Who,
        /// Of what.
        audiences: Vec<Audience>,
    },
    /// Take connections out of audiences; done: how many memberships have ended.
    Leave {
        /// Which.
        who: Who,
        /// Out of what.
        audiences: Vec<Audience>,
    },
    /// Take connections out of all audiences of a kind (for users: unbind them); done: how many memberships have ended.
    LeaveAll {
        /// Which.
        who: Who,
        /// Out of what.
        kind: AudienceKind,
    },
    /// Make a connection one of a user's; done: 1, or 0 where it has a user already, which it keeps.
    Bind {
        /// Which.
        connection: ConnectionId,
        /// Whose.
        user: Name,
    },
    /// Deliver a push to the node's connections; done: to how many it went.
    Deliver(Push),
    /// Deliver a push to one connection of its target on each node, any; done: to how many it went, 0 or 1.
    DeliverToOne(Push),
    /// Deliver a message to one member, any, of each audience of a kind on each node; done: how many audiences it were.
    DeliverToOneOfEach {
        /// Of what kind.
        kind: AudienceKind,
        /// The message; with [`Opcode::Text`] checked to be UTF-8.
        payload: Bytes,
        /// How it is framed.
        opcode: Opcode,
    },
}

/// What came of an [`Act`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Done, written to the directory and subscribed where that is meant; so many of what the act counts.
    Done(u64),
    /// There is no such connection (any more); of an audience's members: it has none.
    Unknown,
    /// None of the audiences to leave has a member.
    NoAudience,
    /// It could not be done, for the reason given.
    Failed(String),
    /// A limit stands against it, which the text names.
    Refused(String),
    /// The node did not answer in time; whether it acted is not known. The text says how long it was waited for.
    NoAnswer(String),
}

/// One life of one node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Life {
    /// The node's number, which its connections carry.
    pub seq: Seq,
    /// The life's id.
    pub id: NodeId,
}

/// What a node's part of the directory is asked. What it says is an [`Answer`] of the variant named.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Question {
    /// How many connections it has: [`Answer::Count`].
    Connections,
    /// Which connections it has: [`Answer::Ids`].
    ConnectionIds,
    /// How many members an audience has: [`Answer::Count`].
    Members(Audience),
    /// Which members an audience has: [`Answer::Ids`].
    MemberIds(Audience),
    /// Which connections are members of any audience of a kind (for users: which are bound): [`Answer::Ids`].
    MemberIdsOfAll(AudienceKind),
    /// Whether two audiences have a member in common: [`Answer::Count`], 1 or 0.
    SharedMember(Audience, Audience),
    /// How many audiences of a kind have members: [`Answer::Count`].
    AudienceCount(AudienceKind),
    /// The audiences of a kind that have members: [`Answer::Names`], sorted, each with their number.
    Audiences(AudienceKind),
    /// The audiences of a kind (users or groups) that an audience's members are in: [`Answer::Names`], sorted, their
    /// numbers of members left at 0.
    AudiencesOfMembers(Audience, AudienceKind),
    /// What is kept of a connection: [`Answer::Details`].
    Details(ConnectionId),
}

/// What a node's part of the directory says to a [`Question`].
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// A number.
    Count(u64),
    /// The counters of connections of that node: no order, no duplicates. Their ids are [`ConnectionId::new`] with its seq.
    Ids(Vec<u32>),
    /// Names, sorted, with numbers.
    Names(Vec<(Name, u64)>),
    /// What is kept of a connection; `None` where it isn't there.
    Details(Option<Box<Details>>),
}

/// What [`Cluster::publish`] knows of a push that the bus has taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Published {
    /// The bus has it; for an audience that says nothing of how many listen.
    Taken,
    /// The target is a connection that does not exist.
    UnknownConnection,
}

/// How the cluster looks from this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Pushes and reads are served.
    Ready,
    /// Redis is back, but not every node known before is: callers are held for a short while, then refused.
    Recovering(String),
    /// Redis does not take writes: callers are refused at once with this reason.
    Away(String),
}

/// One live node, as the directory has it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct NodeSummary {
    /// Its number.
    pub seq: u32,
    /// Its life's id, 32 hex digits.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Where its HTTP interface listens, for people.
    pub address: String,
    /// When it started, in seconds since 1970.
    pub start_time: u64,
    /// Its own counters, as it last wrote them (at most a second old).
    pub counters: NodeCounters,
}

/// What a node tells of itself.
#[derive(Clone)]
pub struct About {
    /// Its id for this life.
    pub id: NodeId,
    /// Where its HTTP interface listens, for people.
    pub address: String,
    /// When it started, in seconds since 1970.
    pub start_time: u64,
    /// Its own figures, read whenever they are written or asked for.
    pub counters: Arc<dyn Fn() -> NodeCounters + Send + Sync>,
}

impl About {
    /// The node as the others see it.
    pub fn summary(&self, seq: Seq) -> NodeSummary {
        NodeSummary {
            seq: seq.get(),
            id: self.id.to_string(),
            version: crate::release::VERSION.to_owned(),
            address: self.address.clone(),
            start_time: self.start_time,
            counters: (self.counters)(),
        }
    }
}

/// What the store behind the directory says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreInfo {
    /// Bytes of memory it uses.
    pub memory: u64,
    /// Look-ups of keys that were there.
    pub hits: u64,
    /// Look-ups of keys that were not.
    pub misses: u64,
    /// When it started, in seconds since 1970.
    pub start_time: u64,
    /// What it is: `redis` or `embedded`.
    pub kind: &'static str,
}

/// One cluster, seen from one node. See the module's page for what is promised.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// This node's id for this life.
    fn node_id(&self) -> NodeId;

    /// This node's number. Changes only when another life was found under it.
    fn seq(&self) -> Seq;

    /// How the cluster looks from here, for health checks and metrics.
    fn state(&self) -> watch::Receiver<State>;

    /// Waits until all that the hub has journalled up to now is in the directory and the node is subscribed to all of
    /// `audiences`, by acknowledgement of the connection that is still the subscriber.
    async fn settle(&self, audiences: &[Audience]) -> Result<()>;

    /// Hands a push to the bus. Never retried by itself.
    async fn publish(&self, push: Push) -> Result<Published>;

    /// Asks whoever owns the target to act, and waits for the answers of all that must: one node for a connection, for
    /// an audience every live node that the directory shows to have members. What is counted is summed up.
    async fn request(&self, act: Act, timeout: Duration) -> Result<Outcome>;

    /// The live nodes of one moment, in the order of their numbers.
    async fn lives(&self) -> Result<Vec<Life>>;

    /// The live node of this number. For single calls: where the answer is known already it costs nothing.
    async fn life(&self, seq: Seq) -> Result<Option<Life>> {
        Ok(self.lives().await?.into_iter().find(|life| life.seq == seq))
    }

    /// What the directory says of each of `lives` to each of `questions`: first by life, then by question, in their orders.
    /// A life that has ended since has nothing. Costs round trips by hundreds of questions, and by the sizes of what is
    /// listed.
    async fn look(&self, lives: &[Life], questions: &[Question]) -> Result<Vec<Vec<Answer>>>;

    /// Asks `lives` to carry out `acts`, one after the other, and waits for what each says to each: first by life, then by
    /// act, in their orders. Only nodes that the directory shows to be concerned are asked; for the others the outcome is
    /// known ([`Act::nobody`]), and so it is for a life that has ended since. What a node says is waited for no longer than
    /// `timeout`. Costs round trips by hundreds of acts.
    async fn act(&self, lives: &[Life], acts: &[Act], timeout: Duration) -> Vec<Vec<Outcome>>;

    /// The live nodes.
    async fn nodes(&self) -> Result<Vec<NodeSummary>>;

    /// What the store says of itself.
    async fn store(&self) -> Result<StoreInfo>;

    /// Whether the connection is there.
    async fn exists(&self, connection: ConnectionId) -> Result<bool>;

    /// Number of connections. Costs by nodes.
    async fn count_connections(&self) -> Result<u64>;

    /// Number of an audience's members. Costs by nodes.
    async fn count_members(&self, audience: &Audience) -> Result<u64>;

    /// The names of all audiences of a kind that have members, sorted, each with its number of members.
    async fn audiences(&self, kind: AudienceKind) -> Result<Vec<(Name, u64)>>;

    /// All connections, in pages.
    async fn connections(&self) -> Result<Pages>;

    /// The members of an audience, in pages.
    async fn members(&self, audience: &Audience) -> Result<Pages>;

    /// The members of several audiences of a kind, of one moment's live nodes: those that `names` gives, in its order, or all,
    /// sorted by name. An audience without members has no page.
    async fn listing(&self, kind: AudienceKind, names: Option<Vec<Name>>) -> Result<NamedPages>;

    /// Leaves the cluster: the registration is taken out and its keys removed. Called once, after the last socket.
    async fn leave(&self);
}

/// The error of a call that came while `state` does not allow it.
pub fn unavailable(state: &State) -> Option<Error> {
    match state {
        State::Ready => None,
        State::Recovering(why) | State::Away(why) => Some(Error::Unavailable(why.clone())),
    }
}

/// How long a node is waited for that was silent for `patience` just before, in the same call: what it is asked further on
/// must not add up to many times what the caller is ready to wait, and yet it may have woken up.
pub fn impatience(patience: Duration) -> Duration {
    patience / 10
}
