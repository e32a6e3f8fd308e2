//! What a shard is told, and the bound on how much of it may wait.

use super::heartbeat::HeartbeatNumber;
use super::roster::{AudienceNumber, Numbers};
use super::socket::{CloseReason, Socket};
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, oneshot};

/// What a parcel costs beyond its bytes: its own record and its place in each inbox.
pub(super) const PARCEL_OVERHEAD: usize = 256;

/// Whom a parcel is for, in this node's own numbers.
#[derive(Debug)]
pub(super) enum To {
    All,
    Audience(AudienceNumber),
    /// Members of any of them, each once.
    Audiences(SmallVec<[AudienceNumber; 4]>),
    Connection(u32),
}

/// A push, encoded once for all the sockets of the node.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) to: To,
    pub(super) exclude: Vec<u32>,
    pub(super) exclude_audiences: Numbers,
    pub(super) frame: Bytes,
    pub(super) taken_at: u64,
    /// Gives its bytes back to the budget when the last shard is done with it, and with others that share its frame.
    pub(super) _charge: Arc<Charge>,
}

impl Parcel {
    /// Whether everybody in the target gets it.
    pub(super) fn is_plain(&self) -> bool {
        self.exclude.is_empty() && self.exclude_audiences.is_empty()
    }
}

/// What a connection's own frame is of a message in several fragments (RFC 6455, section 5.4). Between the first and the last of
/// them no other message may be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Nothing: it is a message of its own, or a control frame.
    Whole,
    /// A fragment that others follow.
    More,
    /// The last fragment.
    Last,
}

/// One thing a shard is told. Membership changes are at most a few for each connection and caller that waits for its
/// answer, parcels are bounded by the [`Budget`].
pub(super) enum Command {
    Open { counter: u32, audiences: Numbers, greeting: Vec<Bytes>, heartbeat: Option<HeartbeatNumber> },
    Attach { counter: u32, socket: Arc<Socket> },
    Join { counter: u32, audience: AudienceNumber },
    Leave { counter: u32, audience: AudienceNumber },
    Deliver(Arc<Parcel>),
    Send { counter: u32, frame: Bytes, part: Part, written: oneshot::Sender<()> },
    Close { counter: u32, frame: Bytes, reason: CloseReason, written: Option<oneshot::Sender<()>> },
    Abort { counter: u32 },
    Gap(Option<Numbers>),
    Writable { counter: u32 },
    Forget { counter: u32 },
}

/// A shard's queue: pushed to under the hub's lock, taken whole by the shard.
#[derive(Default)]
pub(super) struct Inbox {
    commands: Mutex<Vec<Command>>,
    waiting: Notify,
}

impl Inbox {
    pub(super) fn push(&self, command: Command) {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = commands.is_empty();
        commands.push(command);
        drop(commands);
        if was_empty {
            self.waiting.notify_one();
        }
    }

    /// Swaps all that waits against `empty`, so that the two buffers are used for ever.
    pub(super) fn take(&self, empty: &mut Vec<Command>) {
        std::mem::swap(&mut *self.commands.lock().unwrap_or_else(PoisonError::into_inner), empty);
    }

    /// Waits until something was pushed. Cancel-safe.
    pub(super) async fn filled(&self) {
        self.waiting.notified().await;
    }
}

/// The bytes of pushes that may wait in all the shards of a hub together.
pub(super) struct Budget {
    limit: usize,
    used: AtomicUsize,
    /// Something was dropped since the queue was last below half.
    overflowed: AtomicBool,
    room: Notify,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0), overflowed: AtomicBool::new(false), room: Notify::new() })
    }

    /// Takes room for a frame; `None` where there is none. A single frame always fits an empty queue.
    pub(super) fn charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let cost = bytes + PARCEL_OVERHEAD;
        let before = self.used.fetch_add(cost, Ordering::AcqRel);
        if before > 0 && before + cost > self.limit {
            self.used.fetch_sub(cost, Ordering::AcqRel);
            self.overflowed.store(true, Ordering::Release);
            return None;
        }
        Some(Charge { budget: self.clone(), cost })
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    fn has_room(&self) -> bool {
        self.used() <= self.limit / 2
    }

    /// Whether pushes were dropped and there is room again: true once for each time that happened.
    pub(super) fn recovered(&self) -> bool {
        self.overflowed.load(Ordering::Acquire) && self.has_room() && self.overflowed.swap(false, Ordering::AcqRel)
    }

    /// Waits while more than half is used.
    pub(super) async fn wait_for_room(&self) {
        while !self.has_room() {
            let room = self.room.notified();
            if self.has_room() {
                return;
            }
            room.await;
        }
    }
}

/// Bytes taken from a [`Budget`], given back on drop.
pub(super) struct Charge {
    budget: Arc<Budget>,
    cost: usize,
}

impl std::fmt::Debug for Charge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Charge({})", self.cost)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let before = self.budget.used.fetch_sub(self.cost, Ordering::AcqRel);
        let half = self.budget.limit / 2;
        if before > half && before - self.cost <= half {
            self.budget.room.notify_waiters();
        }
    }
}
