//! What stands against a connection, or against its becoming a member.

/// The node has as many connections as it may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// Why a connection can't become a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JoinError {
    /// It isn't here.
    #[error("there is no such connection")]
    Unknown,
    /// It would be in more channels than [`Limits::max_channels`](crate::model::Limits::max_channels).
    #[error("it would be in {channels} channels, which are more than MAX_CHANNELS, {limit}")]
    TooMany {
        /// How many it would be.
        channels: usize,
        /// How many they may be.
        limit: usize,
    },
}
