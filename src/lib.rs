//! Carillon: a WebSocket push server.
pub mod api;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod hub;
pub mod model;
pub mod service;
pub mod session;
