//! Which heartbeat the clients of each profile get.

use super::profile::Profile;
use crate::hub::{Heartbeat, HeartbeatNumber, Hub};

/// The heartbeats that are configured, in the order of [`Profile::ALL`]; one without an interval is none.
pub type ProfileHeartbeats = [Heartbeat; Profile::ALL.len()];

/// Each profile's heartbeat in the hub.
pub(super) struct Heartbeats([Option<HeartbeatNumber>; Profile::ALL.len()]);

impl Heartbeats {
    /// Tells the hub what it has to send.
    pub(super) fn set(hub: &Hub, configured: &ProfileHeartbeats) -> Self {
        let mut numbers = [None; Profile::ALL.len()];
        numbers.iter_mut().zip(hub.set_heartbeats(configured)).for_each(|(mine, number)| *mine = number);
        Self(numbers)
    }

    /// What a client of this profile gets.
    pub(super) fn of(&self, profile: Profile) -> Option<HeartbeatNumber> {
        Profile::ALL.into_iter().zip(self.0).find(|(of, _)| *of == profile).and_then(|(_, number)| number)
    }
}
