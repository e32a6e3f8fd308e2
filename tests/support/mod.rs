//! The harness of the end-to-end tests: real nodes, a real Redis, real sockets.
//!
//! - [`node`] runs the binary, [`example`] an example, each as a [`process`] with its log; [`redis`] runs Redis; [`proxy`] stands between them and misbehaves.
//! - [`http`], [`api`] and [`device`] speak to a node as a backend does; [`ws`] as a browser does, [`raw`] as nobody should.
//! - [`library`] runs servers in the test itself.
//! - [`balancer`] runs nginx or haproxy in front of nodes.
//! - [`backend`] is an application that nodes tell of connections, [`wire`] one whose every byte a test writes.
//! - [`events`] speaks the events API, and runs its rows; [`story`] runs requests and replies that are written down as data.
//! - [`tokens`] makes the tokens that clients sign in with.
//! - [`prometheus`] scrapes them; [`promql`] reads its expressions.
//! - [`certificates`] signs what TLS needs; [`resp`] looks into Redis; [`eventually`] is the only place where a test waits.
//!
//! A test owns everything it starts: what it drops is killed, and its logs are printed if the test fails.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "every test file is a crate of its own and uses a part of the harness"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test a surprise is a failure with a backtrace")]

pub mod api;
pub mod backend;
pub mod balancer;
pub mod census;
pub mod certificates;
pub mod device;
pub mod events;
pub mod eventually;
pub mod example;
pub mod fleet;
pub mod http;
pub mod library;
pub mod node;
pub mod php;
pub mod process;
pub mod prometheus;
pub mod promql;
pub mod proxy;
pub mod raw;
pub mod redis;
pub mod resp;
pub mod story;
pub mod tokens;
pub mod wire;
pub mod ws;

pub use backend::Backend;
pub use census::Census;
pub use events::Events;
pub use eventually::{DEADLINE, eventually};
pub use example::Example;
pub use fleet::Fleet;
pub use node::Node;
pub use redis::RedisServer;
pub use ws::{Heard, Listener};
