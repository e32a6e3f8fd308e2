//! WebSocket sessions over real loopback sockets, in front of a hub and an embedded cluster in the same process.
//!
//! The raw client says exactly the bytes that a test is about; one test lets another implementation of the protocol talk
//! to the server. What the decoder makes of every kind of frame is a table next to the decoder itself.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on says where")]

mod client;
mod closing;
mod gate;
mod handshake;
mod messages;
mod plain;
mod server;
