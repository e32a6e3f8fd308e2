//! The buckets that channels are spread over, so that a Redis Cluster shares the work and one script serves many channels.

use super::super::keys::slot;
use crate::model::{ConnectionId, Name};

/// How many there are; the same for all nodes of a cluster for ever, or for as long as it stands still.
pub(super) const BUCKETS: usize = 64;

/// Which bucket a channel is in.
pub(super) fn bucket_of(channel: &Name) -> usize {
    usize::from(slot(channel.as_str())) % BUCKETS
}

/// Which bucket the close of a connection is delivered from.
pub(super) fn bucket_of_close(connection: ConnectionId) -> usize {
    connection.counter() as usize % BUCKETS
}
