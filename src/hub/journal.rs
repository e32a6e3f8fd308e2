//! What has changed in the roster, in order, for whoever writes it to a directory.

use crate::model::Audience;
use prometheus::IntGauge;
use std::sync::Arc;
use tokio::sync::oneshot;

/// How many changes may wait. Beyond it the journal is dropped and the directory is written anew from a [`Snapshot`],
/// which costs less than so many single changes would.
pub(super) const JOURNAL_LIMIT: usize = 65_536;

/// One change, with all that has to be written for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A connection is there; `details` is the compact JSON object that the directory keeps of it.
    Opened {
        /// Its number on the node.
        counter: u32,
        /// Compact JSON.
        details: Arc<str>,
    },
    /// A connection is gone. Its memberships have left before, one by one.
    Closed {
        /// Its number on the node.
        counter: u32,
    },
    /// A connection became a member; the audience now has `members` on this node (1: it is the first).
    Joined {
        /// Its number on the node.
        counter: u32,
        /// Which audience.
        audience: Audience,
        /// The audience's members on this node after the change.
        members: u64,
    },
    /// A connection stopped being a member; the audience now has `members` on this node (0: it was the last).
    Left {
        /// Its number on the node.
        counter: u32,
        /// Which audience.
        audience: Audience,
        /// The audience's members on this node after the change.
        members: u64,
    },
}

/// What [`Hub::take_changes`](super::Hub::take_changes) hands out.
#[derive(Debug)]
pub enum Changes {
    /// The oldest changes, in order, and who waits for exactly these to be written.
    Some {
        /// What has changed.
        changes: Vec<Change>,
        /// Who hears when it is written.
        waiters: Vec<oneshot::Sender<()>>,
    },
    /// More changed than the journal holds: take a [`Snapshot`] and write everything anew.
    Overflow,
}

/// All that there is to write, at one instant; the journal goes on from that very instant.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Connections: counter and details.
    pub connections: Vec<(u32, Arc<str>)>,
    /// Audiences with their local members' counters; none is empty.
    pub audiences: Vec<(Audience, Vec<u32>)>,
    /// Who waits for something that this snapshot contains.
    pub waiters: Vec<oneshot::Sender<()>>,
}

/// The waiting changes. Lives inside the roster's lock, so that its order is the order of the changes.
#[derive(Debug)]
pub(super) struct Journal {
    changes: Vec<Change>,
    /// Waiters, each with the number of changes in front of it.
    waiters: Vec<(usize, oneshot::Sender<()>)>,
    overflow: bool,
    /// How many changes wait, for whoever looks on.
    waiting: IntGauge,
}

impl Journal {
    /// An empty journal that keeps `waiting` at the number of its changes, or at [`JOURNAL_LIMIT`] from an overflow until
    /// the snapshot.
    pub(super) fn new(waiting: IntGauge) -> Self {
        Self { changes: Vec::new(), waiters: Vec::new(), overflow: false, waiting }
    }

    pub(super) fn push(&mut self, change: Change) {
        if self.overflow {
            return;
        }
        if self.changes.len() >= JOURNAL_LIMIT {
            self.overflow = true;
            self.changes = Vec::new();
            return;
        }
        self.changes.push(change);
        self.show();
    }

    /// A receiver that fires when everything before this call is written; `None` when nothing waits to be.
    pub(super) fn mark(&mut self) -> oneshot::Receiver<()> {
        let (waiter, written) = oneshot::channel();
        self.waiters.push((self.changes.len(), waiter));
        written
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.waiters.is_empty() && !self.overflow
    }

    pub(super) fn take(&mut self, at_most: usize) -> Changes {
        if self.overflow {
            return Changes::Overflow;
        }
        let taken = at_most.min(self.changes.len());
        let rest = self.changes.split_off(taken);
        let changes = std::mem::replace(&mut self.changes, rest);
        self.show();
        let mut waiters = Vec::new();
        self.waiters = std::mem::take(&mut self.waiters)
            .into_iter()
            .filter_map(|(before, waiter)| {
                if before <= taken {
                    waiters.push(waiter);
                    None
                } else {
                    Some((before - taken, waiter))
                }
            })
            .collect();
        Changes::Some { changes, waiters }
    }

    /// Forgets all changes, as a snapshot that is being taken contains them, and hands over the waiters.
    pub(super) fn restart(&mut self) -> Vec<oneshot::Sender<()>> {
        self.changes = Vec::new();
        self.overflow = false;
        self.show();
        std::mem::take(&mut self.waiters).into_iter().map(|(_, waiter)| waiter).collect()
    }
    fn show(&self) {
        self.waiting.set(self.changes.len() as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_length_is_shown_and_stays_at_the_limit_until_a_snapshot_takes_the_place_of_what_was_dropped() {
        let waiting = IntGauge::new("waiting", "w").unwrap();
        let mut journal = Journal::new(waiting.clone());
        (0..10).for_each(|counter| journal.push(Change::Closed { counter }));
        assert_eq!(waiting.get(), 10);
        assert!(matches!(journal.take(4), Changes::Some { changes, .. } if changes.len() == 4));
        assert_eq!(waiting.get(), 6);
        (0..JOURNAL_LIMIT as u32).for_each(|counter| journal.push(Change::Closed { counter }));
        assert!(matches!(journal.take(1), Changes::Overflow));
        assert_eq!(waiting.get(), JOURNAL_LIMIT as i64);
        journal.restart();
        assert_eq!(waiting.get(), 0);
    }
}
