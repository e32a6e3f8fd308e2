//! What stands against a connection, against its becoming a member, or against a push.

use crate::model::AudienceKind;

/// The node has as many connections as it may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// The pushes that wait for this node's sockets are as many bytes as may wait
/// ([`Limits::hub_queue`](crate::model::Limits::hub_queue)): this one was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("hub queue is full: the push was dropped on this node")]
pub struct Overflow;

/// Why a connection can't become a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JoinError {
    /// It isn't here.
    #[error("there is no such connection")]
    Unknown,
    /// It would be in more channels than [`Limits::max_channels`](crate::model::Limits::max_channels), or in more groups
    /// than [`Limits::max_groups`](crate::model::Limits::max_groups).
    #[error("it would be in {count} {kind}s, which are more than MAX_{}S, {limit}", .kind.as_str().to_uppercase())]
    TooMany {
        /// What it would have too many of.
        kind: AudienceKind,
        /// How many it would be.
        count: usize,
        /// How many they may be.
        limit: usize,
    },
}
