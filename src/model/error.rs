//! The one closed set of reasons why an operation did not happen; each dialect puts every one of them into its own words.

use std::time::Duration;

/// Why an operation did not happen. Small and closed on purpose: dialects match it without a catch-all.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Redis did not take or answer it, or this node is not (yet) in a state to say yes; the text says which.
    #[error("{0}")]
    Unavailable(String),
    /// A node that had to act did not answer in time; whether it acted is not known.
    #[error("node {node} did not answer within {} ms", .waited.as_millis())]
    NoAnswer {
        /// The node that was asked: its id, or its seq where no id was known.
        node: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A limit stands against it; the text names limit and value.
    #[error("{0}")]
    Limit(String),
}

/// A result with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
