//! Renewal of this node's lease. It has a connection of its own kind, so that it never queues behind the registration.

use super::clock::local_micros;
use super::connect::Purpose;
use super::core::Core;
use super::keys::slot;
use super::leases::lease_value;
use super::scripts;
use super::wire::{Command, Fault};
use fred::types::Value;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// The lease is renewed so often, whatever the way to Redis and back takes: the counter must move between any two looks of
/// anybody, as silence may begin at any moment and counts as a death where it does not.
const RENEW: Duration = Duration::from_millis(100);

/// Whoever waits for a renewal has one made earlier, but not more often than this.
const RENEW_AT_MOST: Duration = Duration::from_millis(5);

/// Renewals that may be on their way at once; when there are as many, the next one waits for its turn to come again.
const MOST_RENEWALS: usize = 64;

impl Core {
    /// Renews the lease, for as long as it is polled.
    pub(super) async fn keep_lease(&self) {
        let mut under_way = FuturesUnordered::new();
        loop {
            let mut next = pin!(async {
                sleep(RENEW_AT_MOST).await;
                // Woken early, or the time has come: either way it is renewed.
                let _ = timeout(RENEW - RENEW_AT_MOST, self.own.renew.notified()).await;
            });
            loop {
                tokio::select! {
                    biased;
                    Some(renewed) = under_way.next() => if let Err(fault) = renewed {
                        self.trouble(&fault);
                    },
                    () = &mut next => break,
                }
            }
            if under_way.len() < MOST_RENEWALS {
                under_way.push(self.renew_lease());
            }
        }
    }

    async fn renew_lease(&self) -> Result<(), Fault> {
        let leases = self.keys.leases();
        // First, and without a registration as well: this is how the node learns that Redis is there or has changed.
        let wire = self.lanes.wire_of(slot(&leases), Purpose::Control).await?;
        self.health.connected(&wire.run_id);
        self.subscriber.served_by(&wire.run_id);
        let Some((registration, counter)) = self.own.next_lease() else { return Ok(()) };
        let value = lease_value(counter, self.subscriber.hears());
        let renewal = Command::script(&scripts::RENEW, &[leases]).arg(registration.to_string()).arg(value);
        let (began, before) = (Instant::now(), local_micros());
        match self.lanes.run(&renewal, Purpose::Control).await? {
            Value::Array(time) => {
                let part = |at: usize| time.get(at).and_then(Value::as_u64).unwrap_or(0);
                self.clock.set(part(0) * 1_000_000 + part(1), before);
                self.health.lease_written(began);
            }
            _ if self.own.missing(&registration, &self.health) => {
                tracing::warn!(%registration, "this node's lease is gone from redis: registering anew");
            }
            _ => {}
        }
        Ok(())
    }

    /// A command to the server that holds `leases` failed.
    pub(super) fn trouble(&self, fault: &Fault) {
        match fault {
            // Nobody listens, or it does not want us: no need to wait until three seconds are over.
            Fault::Unreachable(why) => self.health.unusable(format!("redis can't be reached: {why}")),
            Fault::Refused(why) if fault.is_full() => self.health.is_full(why.clone()),
            Fault::Refused(why) => self.health.unusable(format!("redis refuses: {why}")),
            Fault::Unanswered(_) | Fault::Moved { .. } | Fault::Busy(_) | Fault::Unexpected(_) => {
                tracing::debug!(%fault, "the lease could not be renewed");
            }
        }
    }
}
