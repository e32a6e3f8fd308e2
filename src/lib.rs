//! Carillon: a WebSocket push server. One push, and every bell that should ring rings.
//!
//! This crate is two things: the `carillon` binary, which backends push through over HTTP or a unix socket, and the engine
//! that it runs on, for programs that serve WebSocket connections themselves. This page is about the second; the first is
//! in the README.
//!
//! # From nothing to a running handler
//!
//! ```sh
//! cargo new bells && cd bells
//! cargo add carillon --path ../carillon   # a checkout beside it
//! cargo add tokio --features full
//! ```
//!
//! `src/main.rs`:
//!
//! ```no_run
//! use carillon::{Handshake, Outcome, Response, Server};
//!
//! async fn greet(handshake: Handshake) -> Outcome {
//!     let mut connection = handshake.accept().await?;
//!     while let Some(message) = connection.recv().await? {
//!         let name = message.as_text().unwrap_or("whoever you are");
//!         connection.push(format!("hello, {name}")).await?;
//!     }
//!     Ok(())
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let server = Server::builder()
//!         .listen(([127, 0, 0, 1], 9502))
//!         .handle("/greet", greet)
//!         .handle_http("/", |_request| async { Response::html("<h1>bells</h1>") })
//!         .start()
//!         .await?;
//!     server.run().await?;
//!     Ok(())
//! }
//! ```
//!
//! `cargo run`, and a browser's console says `new WebSocket("ws://127.0.0.1:9502/greet")`. The examples go on from there:
//! `greeting` and `broadcast`, `chat` on several nodes, `live`, a whole application.
//!
//! # What is where
//!
//! - [`Server::builder`]: ports, TLS, Redis, limits, handlers by path ([`Builder::handle`]), plain HTTP beside them, the
//!   binary's own profiles and APIs mounted
//! - [`Handshake`]: who wants to connect; [`accept`](Handshake::accept) and [`accept_with`](Handshake::accept_with) let them in,
//!   [`refuse`](Handshake::refuse) answers with something else; [`Builder::middleware`] looks at all of them first
//! - [`Connection`]: [`recv`](Connection::recv), [`push`](Connection::push), [`close`](Connection::close),
//!   [`join`](Connection::join)
//! - [`Hooks`] and [`Controller`]: a program's word in the binary's own profiles
//! - [`Handle`]: the cluster, whatever node a connection is on: [`publish`](Handle::publish) to everybody, a
//!   [`channel`], a [`group`], a [`user`] or a connection
//!
//! A handler does several things at once with `tokio::select!`: see [`Connection`]. When the server stops handlers have
//! [time](Builder::handler_grace) to come to their end.
//!
//! What goes wrong is logged with [`tracing`](https://docs.rs/tracing): a program that wants to see it brings a subscriber.
//!
//! # What is not there
//!
//! Compression (permessage-deflate, RFC 7692) is not offered to clients: fastwebsockets, which knows the protocol here, has
//! none, and a push would have to be compressed for each client by itself. Compress the payload where it is large.
//!
//! # The map
//!
//! | module | what is in it |
//! |---|---|
//! | `model` | ids and their spellings, names, audiences, targets, pushes, limits, the one error type: plain values |
//! | `release` | which version and commit this program is |
//! | `query` | the parameters of a URL or form, by PHP's rules |
//! | `hub` | a node's own sockets and the local half of every audience: roster, journal, shards that write |
//! | `auth` | who a connection says it is: tokens, keys, claims |
//! | `operator` | what an operator can tell a node, and the words in which it is answered |
//! | `peer` | where clients are behind proxies: whose word counts, what they say, how many connections each address has |
//! | `accept` | what is done where a listener can't accept; for all three kinds of them |
//! | `session` | a WebSocket from its handshake to its end: decoding, profiles' rules, violations |
//! | `cluster` | the contract of directory and bus; `embedded` and `redis` keep it |
//! | `service` | every operation that the interfaces offer, once |
//! | `api` | the HTTP server; the actions API, the events API, the console, metrics and health; the device socket |
//! | `webhook` | an application behind HTTP: told of connections by signed requests, answering with operations |
//! | `config` | the environment as values, all faults at once; the only reader of the environment |
//! | `tls` | the certificate of the node's own ports, and its exchange |
//! | `log` | how log lines look, and their level |
//! | `metrics` | metrics, made and registered in one step |
//! | `server` | the same for programs that embed it: builder, connections, handlers, hooks and controllers, the cluster |
//! | `node` | puts a node together, runs it, drains it, reloads it |
//! | `cli`, `client` | the command line: its words, and the commands that are clients of a running node |
//! | `daemon` | a node in the background: starting it, its pid file; what a process tells a service manager |
//!
//! Dependencies point one way: `model` ← `hub` ← `cluster` ← `service` ← `api`, and `session` beside `service`; `query`,
//! `auth`, `peer`, `operator` and `tls` are below both; `webhook` and, for programs, `server` keep `session`'s contract of hooks over
//! `service`; `config` knows the types it fills, `node` knows them all, and nobody knows `node` but `server`, which the binary is a
//! user of like any other program.
//!
//! # A push
//!
//! `api` parses a dialect into a `model::Push`; `service` checks and counts it; `cluster::Cluster::publish` is one
//! `PUBLISH`; on every subscribed node `hub::Hub::deliver` encodes it once and hands it to the shards, which write it to
//! the sockets of its target. Embedded, `publish` goes straight to `deliver`.
//!
//! # The invariants
//!
//! 1. **One writer.** A registration's keys in Redis are written by its node alone, through one ordered queue, and once it
//!    is dead by one reaper. Whoever wants something done to a connection asks its owner.
//! 2. **Death is written, never inferred.** A node's members count while its registration stands in one hash; taken out of
//!    there, all of them are gone from every answer in the same instant.
//! 3. **101 means subscribed.** A handshake is answered after hub, directory and subscription have the connection.
//! 4. **One path.** A push goes over the bus even where publisher and socket are on the same node; one publisher's pushes
//!    arrive in their order, once (in a Redis Cluster: its pushes to one audience).
//! 5. **Encode once.** A push becomes bytes on the wire once per node, shared by all its sockets.
//! 6. **Everything is bounded**, in bytes or entries, with a named thing that happens at the limit.
//! 7. **Never a false yes.** What Redis did not take is refused; no local-only delivery, no falling back to embedded.
//! 8. **Reads ask Redis, not nodes.** Nodes are asked only to act.
//! 9. **Formats stay where they belong.** Only `api` knows its wire formats, only `cluster::redis` knows Redis, and the rules
//!    of a session know no sockets.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

mod server;

/// The README's program is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[doc(inline)]
pub use cluster::redis::RedisConfig;
#[doc(inline)]
pub use config::Faults;
#[doc(inline)]
pub use model::{
    Audience, AudienceKind, ConnectionId, Error, Exclusions, Limits, Name, NameError, Opcode, Push, Target,
};
#[doc(inline)]
pub use node::StartError;
#[doc(inline)]
pub use server::{
    Accept, Asking, BodyError, BuildError, Builder, Call, Called, Client, Closed, Connection, Controller, Entry,
    Handle, Handler, Handshake, Heard, Hooks, HttpHandler, Message, Middleware, Next, NotAccepted, Outcome, Profile,
    PushError, RecvError, Reply, Request, Response, Server, Wanted, channel, close_key, group, user,
};

/// The types of HTTP that [`Response`], [`Asking`] and [`Request`] are made of.
pub use hyper::{HeaderMap, StatusCode, header, http};

/// Crates whose types are in what this one offers: [`Bytes`](bytes::Bytes), [`Registry`](prometheus::Registry),
/// [`Value`](serde_json::Value). A program that uses these needs no version of its own.
pub use {bytes, prometheus, serde_json};

/// What implementations of [`Hooks`] and [`Controller`] are written with.
pub use async_trait::async_trait;

// What follows is the binary, and what its tests look into. It may change with every version.
mod accept;
#[doc(hidden)]
pub mod api;
#[doc(hidden)]
pub mod auth;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod client;
#[doc(hidden)]
pub mod cluster;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod daemon;
#[doc(hidden)]
pub mod hub;
#[doc(hidden)]
pub mod log;
mod metrics;
#[doc(hidden)]
pub mod model;
#[doc(hidden)]
pub mod node;
#[doc(hidden)]
pub mod operator;
#[doc(hidden)]
pub mod peer;
#[doc(hidden)]
pub mod query;
#[doc(hidden)]
pub mod release;
#[doc(hidden)]
pub mod service;
#[doc(hidden)]
pub mod session;
#[doc(hidden)]
pub mod tls;
#[doc(hidden)]
pub mod webhook;
