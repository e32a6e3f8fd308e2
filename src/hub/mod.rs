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

mod backlog;
pub mod frame;
mod gap;
mod inbox;
mod journal;
mod metrics;
mod refusal;
mod roster;
mod shard;
mod socket;

use crate::model::{Audience, AudienceKind, ConnectionId, Limits, Name, NodeCounters, Push, Seq, Target};
use bytes::Bytes;
use inbox::{Budget, Command, Inbox, Parcel, To};
use journal::Journal;
use metrics::HubMetrics;
use roster::Roster;
use shard::Shard;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot, watch};

pub use gap::GapPolicy;
pub use journal::{Change, Changes, Snapshot};
pub use metrics::Traffic;
pub use refusal::{Full, JoinError};
pub use socket::{CloseReason, Socket};

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
        self.strike_locked(&mut self.roster(), counter, reason)
    }

    /// The same for everybody else: `command` tells the shard (`always`, or only where the connection was still in).
    /// Both happen under one lock, as the numbers of audiences that end here may be given to others at once.
    fn strike_and_tell(&self, reason: CloseReason, counter: u32, always: bool, command: Command) -> bool {
        let mut roster = self.roster();
        let was_there = self.strike_locked(&mut roster, counter, reason);
        if was_there || always {
            self.inbox(counter).push(command);
        }
        was_there
    }

    fn strike_locked(&self, roster: &mut Roster, counter: u32, reason: CloseReason) -> bool {
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

    // ---- for sessions ----

    /// Takes a connection in before its handshake is answered: it is in the roster, a member of its audiences, and what
    /// is pushed to it waits until [`attach`](Self::attach) brings its socket. `Err` where the node is full.
    pub fn open(&self, opening: Opening) -> Result<ConnectionId, Full> {
        let inner = &*self.inner;
        let Opening { details, audiences, greeting } = opening;
        let mut roster = inner.roster();
        if inner.limits.max_connections > 0 && roster.len() >= inner.limits.max_connections {
            return Err(Full);
        }
        let counter = roster.open(details);
        let audiences: roster::Numbers = audiences.iter().filter_map(|a| roster.join(counter, a)).collect();
        inner.held.fetch_add(1, Ordering::Relaxed);
        inner.metrics.accepted.inc();
        inner.metrics.joins.inc_by(audiences.len() as u64);
        inner.inbox(counter).push(Command::Open { counter, audiences, greeting });
        inner.changed(&roster);
        Ok(ConnectionId::new(roster.seq(), counter))
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
        let (written, receiver) = oneshot::channel();
        let counter = connection.counter();
        self.inner.inbox(counter).push(Command::Send { counter, frame, written });
        receiver
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

    /// Gives a push to its local members' sockets. Never waits: what is over the queue's limit is dropped and counted,
    /// and becomes a gap for everybody once there is room again. Order is kept from call to call.
    pub fn deliver(&self, delivery: Delivery) {
        let inner = &*self.inner;
        let Delivery { push, taken_at } = delivery;
        let charge = inner.budget.charge(push.payload.len());
        // Encoded before the lock is taken: it may be a megabyte.
        let frame = if charge.is_some() { frame::message(push.opcode, &push.payload) } else { Bytes::new() };
        let roster = inner.roster();
        let to = match &push.target {
            Target::All => Some(To::All),
            Target::Audience(audience) => roster.number(audience).map(To::Audience),
            Target::Audiences(audiences) => {
                Some(To::Audiences(audiences.iter().filter_map(|a| roster.number(a)).collect()))
                    .filter(|to| !matches!(to, To::Audiences(numbers) if numbers.is_empty()))
            }
            Target::Connection(id) => {
                (id.seq() == roster.seq() && roster.contains(id.counter())).then_some(To::Connection(id.counter()))
            }
        };
        let Some(to) = to else {
            inner.metrics.misses.inc();
            return;
        };
        inner.metrics.hits.inc();
        let Some(charge) = charge else {
            if inner.metrics.dropped.get() == 0 {
                tracing::warn!(
                    limit = inner.limits.hub_queue,
                    "hub queue full: pushes are dropped here because they come faster than this node's sockets take them; \
                     raise HUB_QUEUE, or put the clients on more nodes"
                );
            }
            inner.metrics.dropped.inc();
            return;
        };
        let own = |id: &ConnectionId| (id.seq() == roster.seq()).then_some(id.counter());
        let user = |name: &Name| roster.number(&Audience { kind: AudienceKind::User, name: name.clone() });
        let parcel = Arc::new(Parcel {
            to,
            exclude: push.exclude.connections.iter().filter_map(own).collect(),
            exclude_audiences: push.exclude.users.iter().filter_map(user).collect(),
            frame,
            taken_at,
            _charge: charge,
        });
        // Still under the roster's lock: no membership changes between look-up and queue.
        match parcel.to {
            To::Connection(counter) => inner.inbox(counter).push(Command::Deliver(parcel)),
            To::All | To::Audience(_) | To::Audiences(_) => {
                inner.inboxes.iter().for_each(|inbox| inbox.push(Command::Deliver(parcel.clone())));
            }
        }
        drop(roster);
        inner.metrics.queued.set(inner.budget.used() as i64);
    }

    /// Says that local members of these audiences (`None`: everybody) may have missed pushes.
    pub fn gap(&self, audiences: Option<&[Audience]>) {
        let inner = &*self.inner;
        let roster = inner.roster();
        let numbers = audiences.map(|all| all.iter().filter_map(|a| roster.number(a)).collect::<roster::Numbers>());
        inner.inboxes.iter().for_each(|inbox| inbox.push(Command::Gap(numbers.clone())));
    }

    /// Waits while the queue is more than half full, so that publishers on this node slow down before anything is dropped.
    pub async fn has_room(&self) {
        self.inner.budget.wait_for_room().await;
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

    // ---- acts ----

    /// Closes a connection; false where it isn't here. It is out of every listing when this returns.
    pub fn close(&self, connection: ConnectionId, code: u16, reason: &str) -> bool {
        connection.seq() == self.seq() && self.close_each(&[connection.counter()], code, reason, CloseReason::Api) == 1
    }

    /// Closes every local member; how many.
    pub fn close_audience(&self, audience: &Audience, code: u16, reason: &str) -> u64 {
        let members = self.members(audience);
        self.close_each(&members, code, reason, CloseReason::Api)
    }

    /// Closes every connection; how many. For a node that goes away or has to begin anew.
    pub fn close_all(&self, code: u16, reason: &str) -> u64 {
        let why = if code == 1012 { CloseReason::Restart } else { CloseReason::GoingAway };
        self.close_each(&self.connections(), code, reason, why)
    }

    /// Closes these connections; how many of them were still here.
    pub fn close_each(&self, counters: &[u32], code: u16, reason: &str, why: CloseReason) -> u64 {
        let frame = frame::close(code, reason);
        let mut closed = 0;
        for &counter in counters {
            let command = Command::Close { counter, frame: frame.clone(), reason: why, written: None };
            closed += u64::from(self.inner.strike_and_tell(why, counter, false, command));
        }
        closed
    }

    /// Makes a connection a member of audiences, of all or of none; of how many it was none before.
    pub fn join(&self, connection: ConnectionId, audiences: &[Audience]) -> Result<u64, JoinError> {
        let inner = &*self.inner;
        let counter = connection.counter();
        let mut roster = inner.roster();
        if connection.seq() != roster.seq() {
            return Err(JoinError::Unknown);
        }
        let channels = roster.channels_with(counter, audiences).ok_or(JoinError::Unknown)?;
        let limit = inner.limits.max_channels;
        if channels > limit {
            return Err(JoinError::TooMany { channels, limit });
        }
        let mut joined = 0;
        for audience in audiences {
            if let Some(audience) = roster.join(counter, audience) {
                inner.inbox(counter).push(Command::Join { counter, audience });
                joined += 1;
            }
        }
        inner.metrics.joins.inc_by(joined);
        inner.changed(&roster);
        Ok(joined)
    }

    /// Takes a connection out of audiences; `None` where it isn't here, else of how many it was a member.
    pub fn leave(&self, connection: ConnectionId, audiences: &[Audience]) -> Option<u64> {
        let inner = &*self.inner;
        let counter = connection.counter();
        let mut roster = inner.roster();
        if connection.seq() != roster.seq() || !roster.contains(counter) {
            return None;
        }
        let mut left = 0;
        for audience in audiences {
            if let Some(audience) = roster.leave(counter, audience) {
                inner.inbox(counter).push(Command::Leave { counter, audience });
                left += 1;
            }
        }
        inner.changed(&roster);
        Some(left)
    }

    // ---- reads of the embedded directory ----

    /// Whether the connection is here.
    pub fn exists(&self, connection: ConnectionId) -> bool {
        let roster = self.inner.roster();
        connection.seq() == roster.seq() && roster.contains(connection.counter())
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
