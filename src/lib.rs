//! Carillon: a WebSocket push server.
pub mod api;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod config;
pub mod hub;
pub mod log;
pub mod model;
pub mod node;
pub mod service;
pub mod session;
