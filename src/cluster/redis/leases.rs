//! This node's copy of `leases`: which registrations are live.

use super::connect::Purpose;
use super::core::Core;
use super::keys::Registration;
use super::wire::{Command, Fault, fields};
use crate::model::Seq;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What a lease's value ends with while its node has not got all its subscriptions: it is live, but a push would pass it by.
const DEAF: char = '~';

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
