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

use crate::model::{Audience, AudienceKind, ConnectionId, Error, Name, NodeCounters, NodeId, Push, Result, Seq};
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

pub use acts::carry_out;

/// Pages of ids as they come from the directory: no order, no duplicates; an error ends them.
pub type Pages = BoxStream<'static, Result<Vec<ConnectionId>>>;

/// Pages of ids, each with the name of the audience whose members they are; an audience's pages follow each other.
pub type NamedPages = BoxStream<'static, Result<(Name, Vec<ConnectionId>)>>;

/// What somebody wants done to a connection that another node may own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    /// Close one connection with this code and reason.
    Close {
        /// Which one.
        connection: ConnectionId,
        /// The close frame's code (RFC 6455, section 7.4).
        code: u16,
        /// The close frame's reason, at most 123 bytes.
        reason: String,
    },
    /// Close every member of an audience.
    CloseAudience {
        /// Whose members.
        audience: Audience,
        /// The close frame's code (RFC 6455, section 7.4).
        code: u16,
        /// The close frame's reason, at most 123 bytes.
        reason: String,
    },
    /// Make a connection a member of these audiences.
    Join {
        /// Which one.
        connection: ConnectionId,
        /// Of what.
        audiences: Vec<Audience>,
    },
    /// Take a connection out of these audiences.
    Leave {
        /// Which one.
        connection: ConnectionId,
        /// Out of what.
        audiences: Vec<Audience>,
    },
}

/// What came of an [`Act`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Done, written to the directory and subscribed where that is meant; so many connections were affected.
    Done(u64),
    /// There is no such connection (any more).
    Unknown,
    /// It could not be done, for the reason given.
    Failed(String),
    /// A limit stands against it, which the text names.
    Refused(String),
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
            version: env!("CARGO_PKG_VERSION").to_owned(),
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
    /// an audience every live node that the directory shows to have members. Affected connections are summed up.
    async fn request(&self, act: Act, timeout: Duration) -> Result<Outcome>;

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
