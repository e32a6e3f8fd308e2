//! What follows from a push that may have been missed.

use bytes::Bytes;

/// What is done to connections that may have missed a push; they are counted in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GapPolicy {
    /// Nothing else.
    Count,
    /// They are sent this frame.
    Tell(Bytes),
    /// They are closed with 4009, so that their clients fetch the whole state anew.
    Close,
}
