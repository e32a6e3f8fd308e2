//! `/console`: a page for people, and the figures that it shows.
//!
//! | path | what it is | token |
//! |---|---|---|
//! | `/console/` | the page and its parts, see [`assets`] | none: it holds no secret |
//! | `/console/node` | this node as it is now: state, gauges, growing counters and the clock to divide them by | of the API |
//! | `/console/nodes` | the live nodes of the cluster as the directory has them; 503 where it can't be read | of the API |
//!
//! What the page sends goes the way of every backend, through the APIs.

mod assets;

use super::Api;
use super::answer::{self, Answer, Content};
use crate::auth::bearer;
use crate::cluster::{NodeSummary, State};
use crate::hub::Traffic;
use assets::Assets;
use bytes::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, HeaderName, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use tokio::time::{Instant, timeout};

/// What the console shows of the node beside what the service knows.
#[derive(Clone)]
pub struct NodeFacts {
    /// The port for WebSockets; `None` where it is the HTTP port, however that is reached.
    pub ws_port: Option<u16>,
    /// When the node started, in seconds since 1970.
    pub start_time: u64,
    /// Reads the figures of the node's sockets.
    pub traffic: Arc<dyn Fn() -> Traffic + Send + Sync>,
}

impl fmt::Debug for NodeFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ws_port, start_time, traffic: _ } = self;
        f.debug_struct("NodeFacts").field("ws_port", ws_port).field("start_time", start_time).finish_non_exhaustive()
    }
}

/// What the console's paths are answered from.
pub(super) struct Console {
    facts: NodeFacts,
    /// Where the clock of `/console/node` is zero.
    began: Instant,
    assets: Assets,
}

impl Console {
    pub(super) fn facts(&self) -> &NodeFacts {
        &self.facts
    }

    pub(super) fn new(facts: NodeFacts) -> Self {
        Self { facts, began: Instant::now(), assets: Assets::new() }
    }
}

/// The reply at `/console/node`.
#[derive(Serialize)]
struct OwnNode {
    id: String,
    seq: u32,
    version: &'static str,
    start_time: u64,
    ws_port: Option<u16>,
    /// `ready`, `recovering` or `away`.
    state: &'static str,
    /// Why it is not ready.
    reason: Option<String>,
    draining: bool,
    /// Milliseconds of a clock that never jumps, for differences only.
    clock_ms: u64,
    connections: u64,
    unsent_bytes: u64,
    pushes: u64,
    deliveries: u64,
    sent_bytes: u64,
    slow_consumers: u64,
}

/// The reply at `/console/nodes`.
#[derive(Serialize)]
struct Nodes {
    /// The id of the node that answers.
    node: String,
    nodes: Vec<NodeSummary>,
}

/// Any reply that is none of these.
#[derive(Serialize)]
struct Failure<'a> {
    error: &'a str,
}

impl Api {
    /// Answers what is for the console; `None` where the path isn't one of its own.
    pub(super) async fn console(&self, parts: &Parts) -> Option<Answer> {
        let path = parts.uri.path().strip_prefix("/console")?;
        if !path.is_empty() && !path.starts_with('/') {
            return None;
        }
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            let refused = answer::text(StatusCode::METHOD_NOT_ALLOWED, "the console is read with GET\n");
            return Some(with(refused, ALLOW, "GET, HEAD"));
        }
        Some(match path {
            // Relative, so that it is right behind a proxy that serves all this below a path of its own.
            "" => with(answer::bare(StatusCode::PERMANENT_REDIRECT), LOCATION, "console/"),
            "/node" | "/nodes" if !self.admits_bearer(parts) => {
                let refused = json(StatusCode::UNAUTHORIZED, &Failure { error: "a bearer token of the api is needed" });
                with(refused, WWW_AUTHENTICATE, "Bearer")
            }
            "/node" => json(StatusCode::OK, &self.own_node()),
            "/nodes" => self.nodes().await,
            asset => self.console.assets.answer(&asset[1..], &parts.headers),
        })
    }

    fn admits_bearer(&self, parts: &Parts) -> bool {
        let secrets = self.secrets.borrow();
        secrets.api.is_open() || bearer(&parts.headers).is_some_and(|token| secrets.api.accept(token))
    }

    fn own_node(&self) -> OwnNode {
        let (id, seq) = self.service.node();
        let (state, reason) = match &*self.health.state.borrow() {
            State::Ready => ("ready", None),
            State::Recovering(why) => ("recovering", Some(why.clone())),
            State::Away(why) => ("away", Some(why.clone())),
        };
        let facts = &self.console.facts;
        // Before the counters: what is counted in between belongs to the next second.
        let clock = self.console.began.elapsed();
        let Traffic { connections, unsent_bytes, deliveries, sent_bytes, slow_consumers } = (facts.traffic)();
        OwnNode {
            id: id.to_string(),
            seq: seq.get(),
            version: crate::release::VERSION,
            start_time: facts.start_time,
            ws_port: facts.ws_port,
            state,
            reason,
            draining: self.health.is_draining(),
            clock_ms: u64::try_from(clock.as_millis()).unwrap_or(u64::MAX),
            connections,
            unsent_bytes,
            pushes: self.service.pushes(),
            deliveries,
            sent_bytes,
            slow_consumers,
        }
    }

    async fn nodes(&self) -> Answer {
        let patience = self.service.limits().act_timeout;
        let why = match timeout(patience, self.service.nodes()).await {
            Ok(Ok(nodes)) => {
                let node = self.service.node().0.to_string();
                return json(StatusCode::OK, &Nodes { node, nodes });
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer from the directory within {} ms", patience.as_millis()),
        };
        json(StatusCode::SERVICE_UNAVAILABLE, &Failure { error: &why })
    }
}

/// A reply that is true only now.
fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => {
            let mut answer = answer::json(Content::from(Bytes::from(body)));
            *answer.status_mut() = status;
            with(answer, CACHE_CONTROL, "no-store")
        }
        Err(error) => answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("reply can't be written: {error}\n")),
    }
}

fn with(mut answer: Answer, name: HeaderName, value: &'static str) -> Answer {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
    answer
}
