//! The interfaces that backends use: the HTTP server with those on it, and the device socket.
//!
//! - [`server`]: accepting connections, their limits, stopping
//! - [`routes`]: which interface a request is for
//! - [`actions`]: the actions API, `/?action=…`; [`events`]: the events API, `/?event=…`
//! - [`device`]: the device socket, JSON documents on a unix socket
//! - [`console`]: `/console`, a page for people and the figures it shows
//! - [`operator`]: `/admin/` and the management port, for whoever runs the node
//! - [`health`], [`metrics`]: `/livez`, `/readyz`, `/metrics`
//! - [`body`]: parameters, as PHP reads them; [`tokens`]: who may call; [`cors`]: from
//!   which web pages; [`json`], [`answer`], [`shown`]: what goes out

mod actions;
mod answer;
mod body;
mod console;
mod cors;
pub mod device;
mod events;
#[cfg(test)]
mod fixture;
mod health;
mod json;
mod memory;
mod metrics;
mod operator;
mod routes;
mod server;
mod shown;
#[cfg(test)]
mod tests;
mod tokens;

pub use answer::{Answer, Content};
pub use console::NodeFacts;
pub use cors::CorsOrigins;
pub use tokens::{Secrets, Tokens};

use crate::operator::Order;
use crate::peer::{Peer, Peers};
use crate::service::Service;
use crate::tls::Certificate;
use body::Bodies;
use console::Console;
use futures_util::future::BoxFuture;
use health::Health;
use hyper::Request;
use hyper::body::Incoming;
use metrics::{HttpMetrics, Metrics};
use operator::Operator;
use prometheus::Registry;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Connections that the HTTP server holds at the same time unless told otherwise; each may be reading 96 KiB of headers.
pub const DEFAULT_CONNECTIONS: u32 = 4096;

/// How the HTTP server behaves.
#[derive(Clone)]
pub struct ApiConfig {
    /// The parameter that holds the token (`HTTP_PARAM`).
    pub token_param: String,
    /// The tokens, as they are at each request.
    pub secrets: watch::Receiver<Secrets>,
    /// Which web pages may call, as it is at each request.
    pub cors: watch::Receiver<CorsOrigins>,
    /// Whether the node is about to stop, and so not ready for new work.
    pub draining: watch::Receiver<bool>,
    /// The certificate of the HTTP port (not of one for metrics alone); without one it speaks plain TCP.
    pub tls: Option<Arc<Certificate>>,
    /// Who is believed about where clients are.
    pub peers: Arc<Peers>,
    /// Where an operator's orders go.
    pub orders: mpsc::Sender<Order>,
    /// HTTP connections at the same time on each listener, at least one; more are answered 503 and closed.
    pub max_connections: u32,
    /// What the console shows of the node.
    pub facts: NodeFacts,
}

/// Answers WebSocket handshakes where they come in on this server's port.
pub type Upgrade = Arc<dyn Fn(Request<Incoming>, Peer) -> BoxFuture<'static, Answer> + Send + Sync>;

/// What a listener offers.
#[derive(Clone)]
pub enum Surface {
    /// The APIs, metrics and health, and with `Some` WebSockets as well.
    Full(Option<Upgrade>),
    /// Metrics and health alone.
    Operations,
    /// What an operator tells the node; everything is answered by [`Api::manage`].
    Management(Upgrade),
}

/// The interfaces, as every request meets them.
pub struct Api {
    service: Arc<Service>,
    /// What PHP makes of the token parameter's name.
    token_param: String,
    secrets: watch::Receiver<Secrets>,
    cors: watch::Receiver<CorsOrigins>,
    health: Health,
    metrics: Metrics,
    http: HttpMetrics,
    bodies: Bodies,
    console: Console,
    tls: Option<Arc<Certificate>>,
    peers: Arc<Peers>,
    operator: Operator,
    max_connections: u32,
}

impl Api {
    /// The interfaces to `service`; `registry` is what `/metrics` shows, and gets this server's own metrics. An error
    /// where they are registered there already.
    pub fn new(service: Arc<Service>, config: ApiConfig, registry: &Registry) -> prometheus::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            token_param: crate::query::plain_name(&config.token_param),
            secrets: config.secrets,
            cors: config.cors,
            health: Health { state: service.state(), draining: config.draining },
            metrics: Metrics::new(registry, service.clone())?,
            http: HttpMetrics::new(registry)?,
            bodies: Bodies::new(service.limits().max_body),
            console: Console::new(config.facts),
            tls: config.tls,
            peers: config.peers,
            operator: Operator::new(config.orders),
            max_connections: config.max_connections.max(1),
            service,
        }))
    }

    /// HTTP requests taken since the start, and how many are being answered now; for the node's own counters.
    pub fn requests(&self) -> (u64, u64) {
        (self.http.requests(), self.http.active())
    }
}
