//! Renewal of this node's lease. It has a connection of its own kind, so that it never queues behind the registration.

use super::clock::local_micros;
use super::connect::Purpose;
use super::core::Core;
use super::keys::slot;
use super::leases::lease_value;
use super::scripts;
use super::wire::{Command, Fault};
use fred::types::Value;
use std::time::Duration;
use tokio::time::timeout;

/// The lease is renewed at least this often, so that a Redis that takes no writes is noticed within three seconds.
const RENEW: Duration = Duration::from_secs(1);

/// While the node is deaf, or others wait for it: the counter must move between any two looks of anybody.
const RENEW_UNSETTLED: Duration = Duration::from_millis(100);

impl Core {
    /// Renews the lease, for as long as it is polled.
    pub(super) async fn keep_lease(&self) {
        let calm = RENEW.min(self.config.node_lease / 3);
        loop {
            let pause = if self.health.is_unsettled() { RENEW_UNSETTLED.min(calm) } else { calm };
            // Woken early, or the time has come: either way it is renewed.
            let _ = timeout(pause, self.own.renew.notified()).await;
            if let Err(fault) = self.renew_lease().await {
                self.trouble(&fault);
                tokio::time::sleep(RENEW_UNSETTLED).await;
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
        let before = local_micros();
        match self.lanes.run(&renewal, Purpose::Control).await? {
            Value::Array(time) => {
                let part = |at: usize| time.get(at).and_then(Value::as_u64).unwrap_or(0);
                self.clock.set(part(0) * 1_000_000 + part(1), before);
                self.health.lease_written();
            }
            _ if self.own.missing(&registration) => {
                tracing::warn!(%registration, "this node's lease is gone from redis: registering anew");
                self.health.registration_lost();
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
            Fault::Refused(why) => self.health.unusable(format!("redis refuses: {why}")),
            Fault::Unanswered(_) | Fault::Moved { .. } | Fault::Busy(_) | Fault::Unexpected(_) => {
                tracing::debug!(%fault, "the lease could not be renewed");
            }
        }
    }
}
