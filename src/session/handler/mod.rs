//! Connections that a program's own code serves, from the handshake to the end: what [`server`](crate::server) is made over.
//!
//! | file | what it is about |
//! |---|---|
//! | `routes` | which path has which handler |
//! | `offer` | a handshake that waits for a handler's answer |
//! | `stream` | a connection in a handler's hands |
//! | `hand` | from the session into a handler's hands |
//! | `run` | a handler at work, and what becomes of connections that it has dropped |
//!
//! The engine is the one that all connections have: the session's reader decodes, and hands messages over here instead of giving
//! them a meaning; the hub writes.

mod hand;
mod offer;
mod routes;
mod run;
mod stream;

use futures_util::future::BoxFuture;
use std::error::Error;

pub use offer::{Acceptance, Asked, NotAccepted, Offer};
pub use routes::{HttpHandler, Routes};
pub use stream::{Gone, Incoming, Stream};

pub(crate) use run::panic_text;

pub(super) use hand::Hand;
pub(super) use offer::offer;
pub(super) use routes::{Route, WebSocket};

/// What came of serving a connection. An error closes it with 1011 where it is still open, and is logged.
pub type Outcome = Result<(), Box<Failure>>;

/// Why serving a connection has failed.
pub type Failure = dyn Error + Send + Sync;

/// Serves connections.
pub trait Handler: Send + Sync + 'static {
    /// Serves the one that this handshake is about.
    fn handle(&self, offer: Offer) -> BoxFuture<'static, Outcome>;

    /// Whether this is how connections end every day, because of what clients do.
    fn is_usual(&self, failure: &Failure) -> bool {
        let _ = failure;
        false
    }
}
