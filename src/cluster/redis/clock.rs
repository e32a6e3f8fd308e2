//! One clock for the whole cluster: Redis's, as far as this node can tell it.
//!
//! Deadlines of requests and the latency histogram compare times that two hosts have taken; their own clocks may be seconds
//! apart. Each renewal of the lease brings Redis's time along, so it costs nothing to know how far off one's own is.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970 by this host's clock.
pub(super) fn local_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// The cluster's clock.
#[derive(Debug, Default)]
pub(super) struct ClusterClock {
    /// What to add to this host's microseconds.
    ahead: AtomicI64,
}

impl ClusterClock {
    /// Sets it from Redis's time, asked for at `before` and answered now.
    pub(super) fn set(&self, redis: u64, before: u64) {
        let middle = before + local_micros().saturating_sub(before) / 2;
        self.ahead.store(redis as i64 - middle as i64, Ordering::Relaxed);
    }

    /// Microseconds since 1970.
    pub(super) fn now(&self) -> u64 {
        local_micros().saturating_add_signed(self.ahead.load(Ordering::Relaxed))
    }

    /// The cluster's time as this host's clock shows it.
    pub(super) fn to_local(&self, micros: u64) -> u64 {
        micros.saturating_add_signed(-self.ahead.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_redis_and_translates_back() {
        let clock = ClusterClock::default();
        let local = local_micros();
        clock.set(local + 5_000_000, local);
        assert!(clock.now() > local + 4_000_000);
        assert!(clock.to_local(clock.now()).abs_diff(local) < 1_000_000);
    }
}
