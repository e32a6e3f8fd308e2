//! The HTTP server and the interfaces that backends use on it.

pub mod query;
