//! Carillon: a WebSocket push server.
pub mod cluster;
pub mod hub;
pub mod model;
