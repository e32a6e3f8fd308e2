//! A node's own sockets and the local half of every audience.
//!
//! Two views of the same connections, changed together under one short lock: the roster is the truth about membership
//! (what the directory is written from, and all there is where the state is embedded); the shards hold the sockets in
//! dense arrays and write to them. Every change reaches both in the same order, and the journal, from which a cluster's
//! registration is written, as well.
//!
//! Bounds: pushes that wait for the shards, by [`Limits::hub_queue`] (beyond it dropped, counted, a gap); unsent bytes of
//! a connection, by [`Limits::max_unsent`] (beyond it closed with 4008); the journal, by its length (beyond it replaced by
//! a snapshot).

mod acts;
mod backlog;
mod delivery;
mod departure;
pub mod frame;
mod gap;
mod heartbeat;
mod inbox;
mod journal;
mod metrics;
mod refusal;
mod roster;
mod shard;
mod socket;
mod tls;

use crate::model::{Audience, AudienceKind, ConnectionId, Limits, Name, NodeCounters, Seq};
use bytes::Bytes;
use heartbeat::Heartbeats;
use inbox::{Budget, Command, Inbox};
use journal::Journal;
use metrics::HubMetrics;
use roster::Roster;
use shard::Shard;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::{Notify, oneshot, watch};

pub use acts::Left;
pub use delivery::Delivery;
pub use departure::{Departure, End, Portrait, Watch};
pub use gap::GapPolicy;
pub use heartbeat::{Heartbeat, HeartbeatNumber};
pub use inbox::Part;
pub use journal::{Change, Changes, Snapshot};
pub use metrics::Traffic;
pub use refusal::{Full, JoinError, Overflow};
pub use socket::{CloseReason, Socket};

/// What the hub has to know of a new connection.
#[derive(Clone, Debug, Default)]
pub struct Opening {
    /// The compact JSON object that the directory keeps of it.
    pub details: Arc<str>,
    /// What it is a member of from the start.
    pub audiences: Vec<Audience>,
    /// What becomes of its end.
    pub watch: Watch,
    /// The heartbeat that it gets, one of those of [`Hub::set_heartbeats`].
    pub heartbeat: Option<HeartbeatNumber>,
}

/// A node's own sockets.
pub struct Hub {
    inner: Arc<Inner>,
    stop: watch::Sender<bool>,
}

/// What the hub's handle and its shards share.
struct Inner {
    limits: Arc<Limits>,
    gap_policy: GapPolicy,
    metrics: HubMetrics,
    heartbeats: OnceLock<Heartbeats>,
    roster: Mutex<Roster>,
    inboxes: Vec<Inbox>,
    budget: Arc<Budget>,
    journal_filled: Notify,
    /// Connections that a shard still knows, those that are being closed included.
    held: AtomicUsize,
    stop: watch::Receiver<bool>,
}

impl Inner {
    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inbox(&self, counter: u32) -> &Inbox {
        &self.inboxes[counter as usize % self.inboxes.len()]
    }

    /// To be called after the roster changed, with its lock still held, so that figures and journal follow the order.
    fn changed(&self, roster: &Roster) {
        self.metrics.open.set(roster.len() as i64);
        self.metrics.audiences.set(roster.audience_count() as i64);
        self.metrics.memberships.set(roster.memberships() as i64);
        if roster.journal.is_some() {
            self.journal_filled.notify_one();
        }
    }

    /// Takes a connection out of every listing; false where it was out before. For its shard, which must take it out of
    /// its own arrays before it takes the next command.
    fn strike(&self, counter: u32, reason: CloseReason) -> bool {
        self.strike_locked(&mut self.roster(), counter, reason, None)
    }

    /// The same for everybody else: `command` tells the shard (`always`, or only where the connection was still in).
    /// Both happen under one lock, as the numbers of audiences that end here may be given to others at once.
    fn strike_and_tell(&self, reason: CloseReason, counter: u32, always: bool, command: Command) -> bool {
        let mut roster = self.roster();
        let was_there = self.strike_locked(&mut roster, counter, reason, Some(&command));
        if was_there || always {
            self.inbox(counter).push(command);
        }
        was_there
    }

    fn strike_locked(&self, roster: &mut Roster, counter: u32, reason: CloseReason, command: Option<&Command>) -> bool {
        roster.departs(counter, reason, command);
        let was_there = roster.close(counter);
        if was_there {
            self.metrics.closed.with_label_values(&[reason.as_str()]).inc();
            self.changed(roster);
        }
        was_there
    }

    /// Has a shard told when a socket is writable again: one task for each blocked socket, none for the others.
    fn watch_writable(self: &Arc<Self>, shard: usize, counter: u32, socket: Arc<Socket>) {
        let inner = self.clone();
        tokio::spawn(async move {
            // An error shows in the write that follows.
            let _ = socket.stream().writable().await;
            inner.inboxes[shard].push(Command::Writable { counter });
        });
    }

    /// Waits until the hub's handle is gone.
    async fn stopped(&self) {
        let mut stop = self.stop.clone();
        // An error means that the handle is gone as well.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

impl Hub {
    /// A hub with so many shards (at least one), whose tasks run on the current tokio runtime until it is dropped.
    pub fn start(
        limits: Arc<Limits>,
        gap_policy: GapPolicy,
        shards: usize,
        registry: &prometheus::Registry,
    ) -> prometheus::Result<Arc<Self>> {
        let (stop, stopped) = watch::channel(false);
        let inner = Arc::new(Inner {
            budget: Budget::new(limits.hub_queue),
            limits,
            gap_policy,
            metrics: HubMetrics::new(registry)?,
            heartbeats: OnceLock::new(),
            roster: Mutex::new(Roster::new()),
            inboxes: (0..shards.max(1)).map(|_| Inbox::default()).collect(),
            journal_filled: Notify::new(),
            held: AtomicUsize::new(0),
            stop: stopped,
        });
        for number in 0..inner.inboxes.len() {
            tokio::spawn(Shard::new(number, inner.clone()).run());
        }
        Ok(Arc::new(Self { inner, stop }))
    }

    /// Sets what connections can be sent again and again, once, before the first of them is opened; the number that each has
    /// for [`Opening::heartbeat`]. Without an interval a heartbeat is none, and so are those of a second call.
    pub fn set_heartbeats(&self, heartbeats: &[Heartbeat]) -> Vec<Option<HeartbeatNumber>> {
        let (table, numbers) = Heartbeats::new(heartbeats);
        if self.inner.heartbeats.set(table).is_ok() { numbers } else { vec![None; heartbeats.len()] }
    }

    // ---- for sessions ----

    /// Takes a connection in before its handshake is answered: it is in the roster, a member of its audiences, and what
    /// is pushed to it waits until [`attach`](Self::attach) brings its socket. `greet` gives the encoded frames that come
    /// before any push, which may tell the client its id. `Err` where the node is full.
    pub fn open(&self, opening: Opening, greet: impl FnOnce(ConnectionId) -> Vec<Bytes>) -> Result<ConnectionId, Full> {
        let inner = &*self.inner;
        let Opening { details, audiences, heartbeat, watch } = opening;
        let mut roster = inner.roster();
        if inner.limits.max_connections > 0 && roster.len() >= inner.limits.max_connections {
            return Err(Full);
        }
        let counter = roster.open(details);
        let seq = roster.seq();
        roster.departures.watch(counter, watch, seq);
        let connection = ConnectionId::new(roster.seq(), counter);
        let described = audiences.iter().any(|audience| roster.is_described(counter, audience.kind));
        let audiences: roster::Numbers = audiences.iter().filter_map(|a| roster.join(counter, a)).collect();
        if described {
            roster.describe(counter);
        }
        let greeting = greet(connection);
        inner.held.fetch_add(1, Ordering::Relaxed);
        inner.metrics.accepted.inc();
        inner.metrics.joins.inc_by(audiences.len() as u64);
        inner.inbox(counter).push(Command::Open { counter, audiences, greeting, heartbeat });
        inner.changed(&roster);
        Ok(connection)
    }

    /// Brings the socket of a connection that was opened; what waits for it is written first. If it was closed in the
    /// meantime its close frame is written; if it was forgotten the socket is shut down.
    pub fn attach(&self, connection: ConnectionId, socket: Arc<Socket>) {
        let counter = connection.counter();
        self.inner.inbox(counter).push(Command::Attach { counter, socket });
    }

    /// Sends one connection a frame of its own (an echo, a pong), in order with its pushes; for a close frame see
    /// [`end`](Self::end). The receiver fires when the last byte is with the kernel, and fails when the connection ended
    /// before that: awaiting it before reading on is what keeps a client that doesn't read its answers from piling them up.
    pub fn send(&self, connection: ConnectionId, frame: Bytes) -> oneshot::Receiver<()> {
        self.send_part(connection, frame, Part::Whole)
    }

    /// The same with a fragment of a message. What is pushed to the connection between the first and the last of them waits for the
    /// last, and counts as unread meanwhile.
    pub fn send_part(&self, connection: ConnectionId, frame: Bytes, part: Part) -> oneshot::Receiver<()> {
        let (written, receiver) = oneshot::channel();
        let counter = connection.counter();
        self.inner.inbox(counter).push(Command::Send { counter, frame, part, written });
        receiver
    }

    /// Ends a connection's stream at once, without a close frame and whatever waits to be written; false where it isn't here.
    pub fn abort(&self, connection: ConnectionId) -> bool {
        let counter = connection.counter();
        connection.seq() == self.seq()
            && self.inner.strike_and_tell(CloseReason::Api, counter, false, Command::Abort { counter })
    }

    /// Ends a connection with a close frame: it is out of every listing when this returns, the frame goes out behind
    /// all that was pushed to it before, and nothing after. The receiver as in [`send`](Self::send). If the connection
    /// was ended before, its first close frame is the only one.
    pub fn end(&self, connection: ConnectionId, frame: Bytes, reason: CloseReason) -> oneshot::Receiver<()> {
        let (written, receiver) = oneshot::channel();
        let counter = connection.counter();
        let command = Command::Close { counter, frame, reason, written: Some(written) };
        self.inner.strike_and_tell(reason, counter, true, command);
        receiver
    }

    /// Forgets a connection whose session is over: roster, audiences, shard. Idempotent; the first reason counts.
    pub fn forget(&self, connection: ConnectionId, reason: CloseReason) {
        let counter = connection.counter();
        self.inner.strike_and_tell(reason, counter, true, Command::Forget { counter });
    }

    // ---- for the cluster ----

    /// The node's number, which all new ids carry.
    pub fn seq(&self) -> Seq {
        self.inner.roster().seq()
    }

    /// Sets the node's number; counters go on from `first`. Only while the hub has no connections.
    pub fn set_seq(&self, seq: Seq, first: u32) {
        self.inner.roster().set_seq(seq, first);
    }

    /// Turns the journal on; a hub whose state is embedded keeps none.
    pub fn start_journal(&self) {
        let waiting = self.inner.metrics.journal.clone();
        self.inner.roster().journal.get_or_insert_with(|| Journal::new(waiting));
    }

    /// Waits until [`take_changes`](Self::take_changes) has something. Cancel-safe; for one task.
    pub async fn changed(&self) {
        loop {
            if self.inner.roster().journal.as_ref().is_some_and(|journal| !journal.is_empty()) {
                return;
            }
            self.inner.journal_filled.notified().await;
        }
    }

    /// Takes the oldest changes, `at_most` so many.
    pub fn take_changes(&self, at_most: usize) -> Changes {
        match &mut self.inner.roster().journal {
            Some(journal) => journal.take(at_most),
            None => Changes::Some { changes: Vec::new(), waiters: Vec::new() },
        }
    }

    /// Everything there is, at one instant from which the journal goes on.
    pub fn snapshot(&self) -> Snapshot {
        self.inner.roster().snapshot()
    }

    /// Fires when everything that has changed up to now was written (its sender is handed out with those changes); an
    /// error of the receiver: whoever had to write them gave up, or there is no journal.
    pub fn mark(&self) -> oneshot::Receiver<()> {
        let mut roster = self.inner.roster();
        match &mut roster.journal {
            Some(journal) => {
                let written = journal.mark();
                self.inner.journal_filled.notify_one();
                written
            }
            None => oneshot::channel().1,
        }
    }

    /// Number of the audience's members on this node.
    pub fn local_members(&self, audience: &Audience) -> u64 {
        self.inner.roster().members(audience).len() as u64
    }

    /// All audiences that have members on this node.
    pub fn local_audiences(&self) -> Vec<Audience> {
        self.inner.roster().all_audiences()
    }

    /// This node's own figures, as far as the hub has them.
    pub fn counters(&self) -> NodeCounters {
        let metrics = &self.inner.metrics;
        // Both change under the roster's lock.
        let (connections, accepted) = {
            let roster = self.inner.roster();
            (roster.len() as u64, metrics.accepted.get())
        };
        NodeCounters {
            connections,
            accepted,
            closed: accepted.saturating_sub(connections),
            hits: metrics.hits.get(),
            misses: metrics.misses.get(),
            joins: metrics.joins.get(),
            ..NodeCounters::default()
        }
    }

    // ---- reads of the embedded directory ----

    /// Whether the connection is here.
    pub fn exists(&self, connection: ConnectionId) -> bool {
        let roster = self.inner.roster();
        connection.seq() == roster.seq() && roster.contains(connection.counter())
    }

    /// What the directory keeps of a connection; `None` where it isn't here.
    pub fn details(&self, connection: ConnectionId) -> Option<Arc<str>> {
        let roster = self.inner.roster();
        if connection.seq() == roster.seq() { roster.details(connection.counter()) } else { None }
    }

    /// Whether two audiences have a member in common here.
    pub fn share_a_member(&self, one: &Audience, other: &Audience) -> bool {
        let roster = self.inner.roster();
        let (mut one, mut other) = (one, other);
        if roster.members(one).len() > roster.members(other).len() {
            std::mem::swap(&mut one, &mut other);
        }
        let other = roster.number(other);
        other.is_some_and(|other| roster.members(one).iter().any(|counter| roster.is_member(*counter, other)))
    }

    /// The names of the audiences of a kind that an audience's members are in, sorted.
    pub fn names_of_members(&self, audience: &Audience, kind: AudienceKind) -> Vec<Name> {
        let roster = self.inner.roster();
        let names = roster.members(audience).iter().flat_map(|counter| roster.audiences_of_kind(*counter, kind));
        let names: std::collections::BTreeSet<Name> = names.map(|audience| audience.name).collect();
        names.into_iter().collect()
    }

    /// Number of connections here.
    pub fn count(&self) -> u64 {
        self.inner.roster().len() as u64
    }

    /// Number of connections that are not quite over: those in the listings, and those whose close is under way.
    pub fn held(&self) -> usize {
        self.inner.held.load(Ordering::Relaxed)
    }

    /// Number of memberships here.
    pub fn memberships(&self) -> u64 {
        self.inner.roster().memberships() as u64
    }

    /// The counters of all connections.
    pub fn connections(&self) -> Vec<u32> {
        self.inner.roster().counters()
    }

    /// The counters of an audience's members.
    pub fn members(&self, audience: &Audience) -> Vec<u32> {
        self.inner.roster().members(audience).to_vec()
    }

    /// The counters of all that are members of any audience of a kind.
    pub fn members_of_all(&self, kind: AudienceKind) -> Vec<u32> {
        let roster = self.inner.roster();
        let mut counters = roster.counters();
        counters.retain(|counter| !roster.audiences_of_kind(*counter, kind).is_empty());
        counters
    }

    /// How many audiences of a kind have members.
    pub fn count_audiences(&self, kind: AudienceKind) -> u64 {
        self.inner.roster().count_audiences(kind)
    }

    /// The audiences of a kind that have members, sorted by name, each with its number of members.
    pub fn audiences(&self, kind: AudienceKind) -> Vec<(Name, u64)> {
        self.inner.roster().audiences(kind)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}
