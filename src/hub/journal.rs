//! What has changed in the roster, in order, for whoever writes it to a directory.

use crate::model::Audience;
use prometheus::IntGauge;
use std::collections::VecDeque;
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
    /// A connection's user or groups have changed, and with them what the directory keeps of it.
    Described {
        /// Its number on the node.
        counter: u32,
        /// Compact JSON.
        details: Arc<str>,
    },
    /// A connection is gone. Its memberships have left before, one by one.
    Closed {
        /// Its number on the node.
        counter: u32,
        /// Of one that was watched: what it was and how it ended, as compact JSON, to be kept until it is told.
        untold: Option<Arc<str>>,
    },
    /// The end of a watched connection was told, or never will be: nothing has to be kept of it.
    Told {
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
    /// Connections that have ended, whose end is not told yet: counter, and what they were and how they ended.
    pub untold: Vec<(u32, Arc<str>)>,
    /// Audiences with their local members' counters; none is empty.
    pub audiences: Vec<(Audience, Vec<u32>)>,
    /// Who waits for something that this snapshot contains.
    pub waiters: Vec<oneshot::Sender<()>>,
}

/// The waiting changes. Lives inside the roster's lock, so that its order is the order of the changes.
#[derive(Debug)]
pub(super) struct Journal {
    changes: VecDeque<Change>,
    /// Changes that were taken since the journal began.
    taken: u64,
    /// Waiters, each with the number of the change that it waits for.
    waiters: VecDeque<(u64, oneshot::Sender<()>)>,
    overflow: bool,
    /// How many changes wait, for whoever looks on.
    waiting: IntGauge,
}

impl Journal {
    /// An empty journal that keeps `waiting` at the number of its changes, or at [`JOURNAL_LIMIT`] from an overflow until
    /// the snapshot.
    pub(super) fn new(waiting: IntGauge) -> Self {
        Self { changes: VecDeque::new(), taken: 0, waiters: VecDeque::new(), overflow: false, waiting }
    }

    pub(super) fn push(&mut self, change: Change) {
        if self.overflow {
            return;
        }
        if self.changes.len() >= JOURNAL_LIMIT {
            self.overflow = true;
            self.changes = VecDeque::new();
            return;
        }
        self.changes.push_back(change);
        self.show();
    }

    /// A receiver that fires when everything before this call is written; `None` when nothing waits to be.
    pub(super) fn mark(&mut self) -> oneshot::Receiver<()> {
        let (waiter, written) = oneshot::channel();
        self.waiters.push_back((self.taken + self.changes.len() as u64, waiter));
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
        let changes = self.changes.drain(..taken).collect();
        self.taken += taken as u64;
        self.show();
        let ready = self.waiters.iter().take_while(|(last, _)| *last <= self.taken).count();
        let waiters = self.waiters.drain(..ready).map(|(_, waiter)| waiter).collect();
        Changes::Some { changes, waiters }
    }

    /// Forgets all changes, as a snapshot that is being taken contains them, and hands over the waiters.
    pub(super) fn restart(&mut self) -> Vec<oneshot::Sender<()>> {
        self.changes = VecDeque::new();
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

    fn opened(counter: u32) -> Change {
        Change::Opened { counter, details: "{}".into() }
    }

    fn journal() -> (Journal, IntGauge) {
        let waiting = IntGauge::new("waiting", "w").unwrap();
        (Journal::new(waiting.clone()), waiting)
    }

    #[test]
    fn a_waiter_goes_with_the_last_change_before_it() {
        let (mut journal, waiting) = journal();
        let mut first = journal.mark();
        (1..=3).for_each(|counter| journal.push(opened(counter)));
        let mut second = journal.mark();
        journal.push(opened(4));
        let mut take = |at_most| match journal.take(at_most) {
            Changes::Some { changes, waiters } => {
                let count = waiters.len();
                waiters.into_iter().for_each(|waiter| waiter.send(()).unwrap());
                (changes, count)
            }
            Changes::Overflow => panic!("no overflow yet"),
        };
        assert_eq!(take(2), (vec![opened(1), opened(2)], 1));
        assert!(first.try_recv().is_ok() && second.try_recv().is_err());
        assert_eq!(waiting.get(), 2);
        assert_eq!(take(1), (vec![opened(3)], 1));
        assert!(second.try_recv().is_ok());
        assert_eq!(take(9), (vec![opened(4)], 0));
        assert!(journal.is_empty());
    }

    #[test]
    fn beyond_its_limit_the_journal_asks_for_a_snapshot_and_begins_anew_with_it() {
        let (mut journal, waiting) = journal();
        (0..=JOURNAL_LIMIT as u32).for_each(|counter| journal.push(opened(counter)));
        let mut written = journal.mark();
        assert!(matches!(journal.take(10), Changes::Overflow));
        assert_eq!(waiting.get(), JOURNAL_LIMIT as i64, "full, until the snapshot");
        let waiters = journal.restart();
        assert_eq!(waiting.get(), 0);
        assert_eq!(waiters.len(), 1);
        drop(waiters);
        assert!(written.try_recv().is_err());
        journal.push(opened(7));
        assert!(matches!(journal.take(10), Changes::Some { changes, .. } if changes == [opened(7)]));
    }
}
