//! A node's own sockets and the local half of every audience.
//!
//! Two views of the same connections, changed together under one short lock: the roster is the truth about membership
//! (what the directory is written from, and all there is where the state is embedded); the shards hold the sockets in
//! dense arrays and write to them. Every change reaches both in the same order, and the journal, from which a cluster's
//! registration is written, as well.

mod journal;

use crate::model::{Audience, AudienceKind, ConnectionId, Limits, Name, NodeCounters, Push, Seq};
use bytes::Bytes;
pub use journal::{Change, Changes, Snapshot};
use std::sync::Arc;
use tokio::sync::oneshot;

/// A push as it came off the bus.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What to deliver, to the local members of its target.
    pub push: Push,
    /// When its publisher took it, in microseconds since 1970; for the latency histogram.
    pub taken_at: u64,
}

/// What the hub has to know of a new connection.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The compact JSON object that the directory keeps of it.
    pub details: Arc<str>,
    /// What it is a member of from the start.
    pub audiences: Vec<Audience>,
    /// Frames that come before any push, encoded.
    pub greeting: Vec<Bytes>,
}

/// The node has as many connections as it may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// A connection's TCP stream, shared by its shard (which writes) and its session (which reads).
pub struct Socket {
    stream: tokio::net::TcpStream,
}

impl Socket {
    /// Takes the stream over.
    pub fn new(stream: tokio::net::TcpStream) -> Arc<Self> {
        Arc::new(Self { stream })
    }

    /// The stream, for reading (`readable`, `try_read`); only the shard writes to it.
    pub fn stream(&self) -> &tokio::net::TcpStream {
        &self.stream
    }

    /// The session has read something: the connection is alive, whatever pings say.
    pub fn heard(&self) {}
}

/// Why a connection ended; a label of `carillon_connections_closed_total`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CloseReason {
    /// The client sent a close frame.
    Client,
    /// The stream ended or broke without one.
    Lost,
    /// The client broke RFC 6455 (1002, 1003, 1007).
    Protocol,
    /// A message over the limit (1009).
    TooBig,
    /// Closed through an API.
    Api,
    /// It did not read what it was sent (4008).
    SlowConsumer,
    /// It answered no ping.
    PingTimeout,
    /// It may have missed a push and was configured to be closed for it (4009).
    Gap,
    /// The node is shutting down (1001).
    GoingAway,
    /// Another life was found under the node's number (1012).
    Restart,
    /// The handshake was answered, but the client was gone before its socket came.
    Handshake,
}

/// A node's own sockets.
pub struct Hub {}

impl Hub {
    /// A hub with so many shards, whose tasks run on the current tokio runtime.
    pub fn start(_limits: Arc<Limits>, _shards: usize) -> Arc<Self> {
        todo!()
    }

    // ---- for sessions ----

    /// Takes a connection in before its handshake is answered: it is in the roster, a member of its audiences, and what
    /// is pushed to it waits until [`attach`](Self::attach) brings its socket. `Err` where the node is full.
    pub fn open(&self, _opening: Opening) -> Result<ConnectionId, Full> {
        todo!()
    }

    /// Brings the socket of a connection that was opened; what waits for it is written first. False where the
    /// connection was closed in the meantime (the caller drops the socket).
    pub fn attach(&self, _connection: ConnectionId, _socket: Arc<Socket>) -> bool {
        todo!()
    }

    /// Sends one connection a frame of its own (an echo, a pong, a close), in order with its pushes. The receiver fires
    /// when the last byte is with the kernel, and fails when the connection ended before that.
    pub fn send(&self, _connection: ConnectionId, _frame: Bytes) -> oneshot::Receiver<()> {
        todo!()
    }

    /// Forgets a connection whose session has ended: roster, audiences, shard. Idempotent.
    pub fn forget(&self, _connection: ConnectionId, _reason: CloseReason) {
        todo!()
    }

    // ---- for the cluster ----

    /// The node's number, which all new ids carry.
    pub fn seq(&self) -> Seq {
        todo!()
    }

    /// Sets the node's number. Only while the hub has no connections.
    pub fn set_seq(&self, _seq: Seq) {
        todo!()
    }

    /// Turns the journal on; a hub whose state is embedded keeps none.
    pub fn start_journal(&self) {
        todo!()
    }

    /// Waits until [`take_changes`](Self::take_changes) has something. Cancel-safe; for one task.
    pub async fn changed(&self) {
        todo!()
    }

    /// Takes the oldest changes, `at_most` so many.
    pub fn take_changes(&self, _at_most: usize) -> Changes {
        todo!()
    }

    /// Everything there is, at one instant from which the journal goes on.
    pub fn snapshot(&self) -> Snapshot {
        todo!()
    }

    /// Fires when everything that has changed up to now was written (its sender is handed out with those changes);
    /// an error of the receiver: the one who had to write them gave up.
    pub fn mark(&self) -> oneshot::Receiver<()> {
        todo!()
    }

    /// Number of the audience's members on this node.
    pub fn local_members(&self, _audience: &Audience) -> u64 {
        todo!()
    }

    /// All audiences that have members on this node.
    pub fn local_audiences(&self) -> Vec<Audience> {
        todo!()
    }

    /// Gives a push to its local members' sockets. Never waits: what is over the queue's limit is dropped and counted as
    /// a gap. Order is kept from call to call.
    pub fn deliver(&self, _delivery: Delivery) {
        todo!()
    }

    /// Says that local members of these audiences (`None`: of all) may have missed pushes.
    pub fn gap(&self, _audiences: Option<&[Audience]>) {
        todo!()
    }

    /// Waits while the queue is more than half full, so that publishers on this node slow down before anything is dropped.
    pub async fn has_room(&self) {
        todo!()
    }

    /// This node's own figures.
    pub fn counters(&self) -> NodeCounters {
        todo!()
    }

    // ---- acts ----

    /// Closes a connection; false where it isn't here. It is out of the roster when this returns.
    pub fn close(&self, _connection: ConnectionId, _code: u16, _reason: &str) -> bool {
        todo!()
    }

    /// Closes every local member; how many.
    pub fn close_audience(&self, _audience: &Audience, _code: u16, _reason: &str) -> u64 {
        todo!()
    }

    /// Closes every connection; how many.
    pub fn close_all(&self, _code: u16, _reason: &str) -> u64 {
        todo!()
    }

    /// Makes a connection a member of audiences; `None` where it isn't here, else in how many it was not before.
    pub fn join(&self, _connection: ConnectionId, _audiences: &[Audience]) -> Option<u64> {
        todo!()
    }

    /// Takes a connection out of audiences; `None` where it isn't here, else of how many it was a member.
    pub fn leave(&self, _connection: ConnectionId, _audiences: &[Audience]) -> Option<u64> {
        todo!()
    }

    // ---- reads of the embedded directory ----

    /// Whether the connection is here.
    pub fn exists(&self, _connection: ConnectionId) -> bool {
        todo!()
    }

    /// The counters of all connections.
    pub fn connections(&self) -> Vec<u32> {
        todo!()
    }

    /// The counters of an audience's members.
    pub fn members(&self, _audience: &Audience) -> Vec<u32> {
        todo!()
    }

    /// The audiences of a kind that have members, sorted by name.
    pub fn audiences(&self, _kind: AudienceKind) -> Vec<(Name, u64)> {
        todo!()
    }
}
