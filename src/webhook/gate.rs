//! How many requests are under way at once, and how much may wait for its turn.

use super::backend::Failure;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

/// Requests enter in the order in which they come.
pub(super) struct Gate {
    permits: Semaphore,
    /// Bytes of events that may be in here.
    limit: usize,
    held: AtomicUsize,
}

/// A request that is under way; dropping it makes room.
pub(super) struct Entered<'a> {
    _permit: SemaphorePermit<'a>,
    _held: Option<Held<'a>>,
}

struct Held<'a> {
    gate: &'a Gate,
    bytes: usize,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.gate.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl Gate {
    pub(super) fn new(concurrency: usize, limit: usize) -> Self {
        Self { permits: Semaphore::new(concurrency), limit, held: AtomicUsize::new(0) }
    }

    /// Waits for a turn until `deadline`, with an event of so many bytes. A single event fits, however big it is.
    pub(super) async fn enter(&self, bytes: usize, deadline: Instant) -> Result<Entered<'_>, Failure> {
        let before = self.held.fetch_add(bytes, Ordering::AcqRel);
        let held = Held { gate: self, bytes };
        if before > 0 && before + bytes > self.limit {
            return Err(Failure::Overflow);
        }
        match timeout_at(deadline, self.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(Entered { _permit: permit, _held: Some(held) }),
            // Never closed, so an error is the time that is over.
            Ok(Err(_)) | Err(_) => Err(Failure::Late),
        }
    }

    /// Waits for a turn, with an event that waits elsewhere.
    pub(super) async fn pass(&self) -> Option<Entered<'_>> {
        let permit = self.permits.acquire().await.ok()?;
        Some(Entered { _permit: permit, _held: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_waited_for_within_the_time_and_within_the_bytes() {
        let gate = Gate::new(1, 100);
        let soon = || Instant::now() + Duration::from_secs(1);
        let first = gate.enter(500, soon()).await.unwrap();
        assert!(matches!(gate.enter(1, soon()).await, Err(Failure::Overflow)));
        drop(first);
        let first = gate.enter(50, soon()).await.unwrap();
        assert!(matches!(gate.enter(50, soon()).await, Err(Failure::Late)));
        assert!(matches!(gate.enter(51, soon()).await, Err(Failure::Overflow)));
        let (second, ()) = tokio::join!(gate.enter(50, soon()), async { drop(first) });
        drop(second.unwrap());
        assert_eq!(gate.held.load(Ordering::Acquire), 0);
    }
}
