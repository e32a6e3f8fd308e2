//! Programs that serve WebSocket connections themselves, over real sockets.
//!
//! | file | what it is about |
//! |---|---|
//! | `requests` | handshakes and other requests: what a handler is told of them, and how they are answered |
//! | `receiving` | what clients send |
//! | `sending` | what clients are sent |
//! | `closing` | ends, and who hears of them |
//! | `failing` | handlers that panic |
//! | `audiences` | connections as members, on one node and on two |
//! | `servers` | ports, TLS, APIs, limits, and what a server refuses to be |
//! | `stopping` | how a server stops, and what is waited for |

#[path = "../support/mod.rs"]
mod support;

mod audiences;
mod closing;
mod failing;
mod receiving;
mod requests;
mod running;
mod sending;
mod servers;
mod stopping;
