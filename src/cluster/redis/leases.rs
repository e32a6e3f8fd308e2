//! This node's copy of `leases`: which registrations are live.

use super::connect::Purpose;
use super::core::Core;
use super::keys::Registration;
use super::publishing::unavailable;
use super::wire::{Command, Fault, fields};
use crate::model::{Error, Seq};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What a lease's value ends with while its node has not got all its subscriptions: it is live, but a push would pass it by.
const DEAF: char = '~';

/// How often a caller's read is tried: once more after the node has recovered, and once should it be lost again then.
const READS: usize = 3;

/// The value of a lease: a counter, and whether the node hears what is pushed.
pub(super) fn lease_value(counter: u64, hears: bool) -> String {
    if hears { counter.to_string() } else { format!("{counter}{DEAF}") }
}

/// Whether a node with this lease hears what is pushed.
pub(super) fn hears(value: &str) -> bool {
    !value.ends_with(DEAF)
}

/// The live registrations with their leases' values, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LeaseTable(pub(super) BTreeMap<Registration, String>);

impl LeaseTable {
    /// The live registrations.
    pub(super) fn registrations(&self) -> impl Iterator<Item = &Registration> {
        self.0.keys()
    }

    /// The live registration of the node with this number.
    pub(super) fn of(&self, seq: Seq) -> Option<&Registration> {
        self.0.keys().find(|registration| registration.seq == seq)
    }
}

/// The copy.
#[derive(Default)]
pub(super) struct Leases {
    copy: Mutex<Arc<LeaseTable>>,
}

impl Leases {
    /// As last read.
    pub(super) fn copy(&self) -> Arc<LeaseTable> {
        self.copy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, table: LeaseTable) -> Arc<LeaseTable> {
        let table = Arc::new(table);
        *self.copy.lock().unwrap_or_else(PoisonError::into_inner) = table.clone();
        table
    }
}

impl Core {
    /// Reads `leases` now, and renews the copy.
    pub(super) async fn read_leases(&self) -> Result<Arc<LeaseTable>, Fault> {
        let answer = self.lanes.run(&Command::keyed("HGETALL", &self.keys.leases()), Purpose::Control).await?;
        let entries = fields(answer).into_iter();
        let table = entries.filter_map(|(name, value)| Some((Registration::parse(&name)?, value))).collect();
        Ok(self.leases.set(LeaseTable(table)))
    }

    /// The live registrations, for an answer to a caller. A Redis that lacks this node's own registration has lost
    /// others as well, and would have their connections missing from the answer: the caller is held until they are back.
    pub(super) async fn live_leases(&self) -> Result<Arc<LeaseTable>, Error> {
        for _ in 0..READS {
            // Admitted and known before the read: what stood then and still stands was not lost in between, nor were
            // those who were back by then.
            self.health.admit().await?;
            let own = self.own.current();
            let table = self.read_leases().await.map_err(unavailable)?;
            if self.is_in(&table, own.as_ref()) {
                return Ok(table);
            }
        }
        Err(Error::Unavailable("this node is registering with redis anew".to_owned()))
    }

    /// Whether the table has this node's registration, which was known before the table was read. Where it hasn't, the
    /// registration is written anew.
    pub(super) fn is_in(&self, table: &LeaseTable, own: Option<&Registration>) -> bool {
        let Some(own) = own else { return false };
        if table.0.contains_key(own) {
            return true;
        }
        if self.own.missing(own, &self.health) {
            tracing::warn!(registration = %own, "redis has lost this node's registration: writing it anew");
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_tells_whether_its_node_hears() {
        assert!(hears(&lease_value(7, true)));
        assert!(!hears(&lease_value(7, false)));
        assert_ne!(lease_value(7, true), lease_value(7, false));
    }
}
