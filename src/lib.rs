//! Carillon: a WebSocket push server. One push, and every bell that should ring rings.
//!
//! # The map
//!
//! | module | what is in it |
//! |---|---|
//! | [`model`] | ids and their spellings, names, audiences, targets, pushes, limits, the one error type: plain values |
//! | [`query`] | the parameters of a URL or form, by PHP's rules |
//! | [`hub`] | a node's own sockets and the local half of every audience: roster, journal, shards that write |
//! | [`auth`] | who a connection says it is: tokens, keys, claims |
//! | [`operator`] | what an operator can tell a node, and the words in which it is answered |
//! | [`peer`] | where clients are behind proxies: whose word counts, what they say, how many connections each address has |
//! | `accept` | what is done where a listener can't accept; for all three kinds of them |
//! | [`session`] | a WebSocket from its handshake to its end: decoding, profiles' rules, violations |
//! | [`cluster`] | the contract of directory and bus; `embedded` and `redis` keep it |
//! | [`service`] | every operation that the interfaces offer, once |
//! | [`api`] | the HTTP server; the actions API, the events API, the console, metrics and health; the device socket |
//! | [`webhook`] | an application behind HTTP: told of connections by signed requests, answering with operations |
//! | [`config`] | the environment as values, all faults at once; the only reader of the environment |
//! | [`tls`] | the certificate of the node's own ports, and its exchange |
//! | [`log`] | how log lines look, and their level |
//! | [`node`] | puts a node together, runs it, drains it, reloads it |
//! | [`cli`], [`client`] | the command line: its words, and the commands that are clients of a running node |
//! | [`daemon`] | a node in the background: starting it, its pid file |
//!
//! Dependencies point one way: `model` ← `hub` ← `cluster` ← `service` ← `api`, and `session` beside `service`; `query`,
//! `auth`, `peer`, `operator` and `tls` are below both; `webhook` keeps `session`'s contract of hooks over `service`; `config` knows the types it fills, `node` knows them all, and nobody
//! knows `node` but `main`.
//!
//! # A push
//!
//! `api` parses a dialect into a [`model::Push`]; [`service`] checks and counts it; [`cluster::Cluster::publish`] is one
//! `PUBLISH`; on every subscribed node [`hub::Hub::deliver`] encodes it once and hands it to the shards, which write it to
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

mod accept;
pub mod api;
pub mod auth;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod config;
pub mod daemon;
pub mod hub;
pub mod log;
pub mod model;
pub mod node;
pub mod operator;
pub mod peer;
pub mod query;
pub mod service;
pub mod session;
pub mod tls;
pub mod webhook;
