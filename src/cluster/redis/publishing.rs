//! Handing pushes to the bus.

use super::connect::Purpose;
use super::core::Core;
use super::envelope::Envelope;
use super::scripts;
use super::wire::{Command, Fault};
use crate::cluster::Published;
use crate::model::{ConnectionId, Error, Push, Result, Target};
use bytes::Bytes;
use fred::types::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes that may be on their way to Redis at once; who brings more waits, as the socket to Redis is slower than he is.
const ON_THEIR_WAY: u32 = 64 << 20;

/// Room for what is on its way to Redis, in bytes.
pub(super) struct Outgoing(Semaphore);

impl Default for Outgoing {
    fn default() -> Self {
        Self(Semaphore::new(ON_THEIR_WAY as usize))
    }
}

impl Outgoing {
    /// Waits until there is room for so many bytes, and holds it.
    pub(super) async fn room(&self, bytes: usize) -> Result<SemaphorePermit<'_>> {
        let bytes = u32::try_from(bytes).unwrap_or(ON_THEIR_WAY).min(ON_THEIR_WAY);
        let room = self.0.acquire_many(bytes).await;
        room.map_err(|_| Error::Unavailable("this node is stopping".to_owned()))
    }
}

/// What became of a message for one connection's owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ToConnection {
    /// The owner's inbox has it.
    Taken,
    /// There is no such connection.
    Unknown,
}

/// What a caller is told of a fault.
pub(super) fn unavailable(fault: Fault) -> Error {
    Error::Unavailable(fault.to_string())
}

impl Core {
    /// One command for each push, never sent twice.
    pub(super) async fn push(&self, push: Push) -> Result<Published> {
        self.hub.has_room().await;
        let _room = self.outgoing.room(push.payload.len()).await?;
        let target = push.target.clone();
        let message = Envelope::Push { push, taken_at: self.clock.now() }.encode();
        let topic = match target {
            Target::Connection(connection) => {
                return self.to_connection(connection, message).await.map(|to| match to {
                    ToConnection::Taken => Published::Taken,
                    ToConnection::Unknown => Published::UnknownConnection,
                });
            }
            Target::Audience(audience) => self.keys.audience_topic(&audience),
            Target::All | Target::Audiences(_) => self.keys.all_topic(),
        };
        self.hand_to_bus(&Command::publish(topic, message)).await?;
        self.metrics.published.inc();
        Ok(Published::Taken)
    }

    /// Runs a command that publishes. A server that has begun anew would take it for nobody, as the others may still be
    /// deaf there: the caller is then held until they are back. In a Cluster each server has subscriptions of its own,
    /// and what a node may have missed at one that was replaced is a gap, which that node counts.
    pub(super) async fn hand_to_bus(&self, command: &Command) -> Result<Value> {
        if self.subscriber.is_sharded() {
            self.health.admit().await?;
            return self.lanes.run(command, Purpose::Publishing).await.map_err(unavailable);
        }
        let mut wire = self.lanes.wire_of(command.slot, Purpose::Publishing).await.map_err(unavailable)?;
        if !self.health.knows(&wire.run_id) {
            // One of the two is out of date; a new connection is to the server of now.
            wire.end();
            wire = self.lanes.wire_of(command.slot, Purpose::Publishing).await.map_err(unavailable)?;
            self.health.connected(&wire.run_id);
            self.subscriber.served_by(&wire.run_id);
        }
        // Whoever was admitted before was so to what may be no more.
        self.health.admit().await?;
        wire.run(command).await.map_err(unavailable)
    }

    /// Hands a message to the node that owns the connection.
    pub(super) async fn to_connection(&self, connection: ConnectionId, message: Bytes) -> Result<ToConnection> {
        let seq = connection.seq();
        let known = self.leases.copy().of(seq).cloned();
        let mut tried = None;
        if let Some(registration) = known {
            if let Some(receivers) = self.hand_over(&registration, connection, message.clone()).await? {
                return self.judge(connection, receivers).await;
            }
            tried = Some(registration);
        }
        // The copy may be older than the connection.
        let leases = self.live_leases().await?;
        match leases.of(seq) {
            Some(registration) if tried.as_ref() != Some(registration) => {
                match self.hand_over(registration, connection, message).await? {
                    Some(receivers) => self.judge(connection, receivers).await,
                    None => Ok(ToConnection::Unknown),
                }
            }
            _ => Ok(ToConnection::Unknown),
        }
    }

    /// How many received it; `None` where the registration has no such connection.
    async fn hand_over(
        &self,
        registration: &super::keys::Registration,
        connection: ConnectionId,
        message: Bytes,
    ) -> Result<Option<i64>> {
        let keys = [self.keys.connections(registration), self.keys.inbox_topic(registration.seq)];
        let command = Command::script(&scripts::TO_CONNECTION, &keys)
            .arg(connection.counter().to_string())
            .arg(message)
            .arg(if self.subscriber.is_sharded() { "SPUBLISH" } else { "PUBLISH" });
        let answer = self.hand_to_bus(&command).await?;
        let receivers = answer.as_i64().ok_or_else(|| unavailable(Fault::Unexpected("to_connection")))?;
        Ok((receivers >= 0).then_some(receivers))
    }

    /// A message that nobody received was not taken: its owner is dead, or deaf just now.
    async fn judge(&self, connection: ConnectionId, receivers: i64) -> Result<ToConnection> {
        if receivers > 0 {
            self.metrics.published.inc();
            return Ok(ToConnection::Taken);
        }
        let leases = self.live_leases().await?;
        match leases.of(connection.seq()) {
            None => Ok(ToConnection::Unknown),
            Some(_) => Err(Error::Unavailable(format!(
                "the node that owns connection {connection} is not subscribed just now"
            ))),
        }
    }
}
