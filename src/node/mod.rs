//! One node: puts the parts together, runs them, and takes them apart without losing a client.
//!
//! | file | what it is about |
//! |---|---|
//! | `start` | putting it together |
//! | `listen` | its ports |
//! | `reload` | what changes while it runs |
//! | `follow` | the files that say so |
//! | `drain` | taking it apart |

mod drain;
mod follow;
mod listen;
mod reload;
mod start;

use crate::api::{Api, CorsOrigins, Secrets};
use crate::cluster::{Cluster, Sink};
use crate::config::{Config, Faults};
use crate::hub::Hub;
use crate::log::LogLevel;
use crate::model::NodeId;
use crate::operator::{LastReload, Order};
use crate::service::Service;
use crate::session::Sessions;
use crate::session::handler::Routes;
use crate::session::hooks::Hooks;
use crate::session::origins::AllowedOrigins;
use crate::session::sign_in::SignIn;
use crate::tls::Certificate;
use crate::webhook::Secret;
use follow::Follower;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use listen::StartError;

/// What a program brings to a node beside its configuration.
#[derive(Default)]
pub struct Extras {
    /// The log's level, which changes with the configuration.
    pub log: Option<LogLevel>,
    /// Where the configuration is read again from. None: a node is not told to.
    pub configuration: Option<fn() -> Result<Config, Faults>>,
    /// What has its metrics. Those of the node are added.
    pub registry: prometheus::Registry,
    /// A socket that clients connect to, in place of the configured port.
    pub ws: Option<TcpListener>,
    /// How backends connect.
    pub http: HttpPort,
    /// Which path leads to which of the program's handlers.
    pub routes: Routes,
    /// The program's own hooks.
    pub hooks: Option<Arc<dyn Overlay>>,
    /// Where the node puts what a program may call while it runs, before the first client comes.
    pub service: Arc<OnceLock<Arc<Service>>>,
    /// The same with its HTTP interfaces.
    pub api: Arc<OnceLock<Arc<Api>>>,
    /// How long handlers, and requests that are no handshake, may go on when the node stops; none: [`GRACE`].
    pub grace: Option<Duration>,
}

/// How long what is under way may go on when a node stops, where a program says nothing else.
const GRACE: Duration = Duration::from_secs(10);

/// Hooks of a program's own, which stand before the webhook's.
pub trait Overlay: Send + Sync {
    /// Who is told of what the cluster owes: them, and the webhook, if there is one.
    fn sink(&self, webhook: Option<Arc<dyn Sink>>) -> Arc<dyn Sink>;

    /// They themselves, over the webhook's, if there is one. Called once, before the first client comes.
    fn over(&self, webhook: Option<Arc<dyn Hooks>>) -> Arc<dyn Hooks>;

    /// How long it may take until one of them has taken something.
    fn patience(&self) -> Duration;
}

/// How backends connect.
#[derive(Default)]
pub enum HttpPort {
    /// On the configured port.
    #[default]
    Configured,
    /// On this socket.
    Given(TcpListener),
    /// Not at all.
    None,
}

/// A node whose ports are open.
pub struct Node {
    config: Config,
    hub: Arc<Hub>,
    cluster: Arc<dyn Cluster>,
    ws_address: SocketAddr,
    http_address: Option<SocketAddr>,
    manager_address: Option<SocketAddr>,
    /// Not ready any more: the node is about to go.
    draining: watch::Sender<bool>,
    /// No more WebSocket clients.
    ws_closed: watch::Sender<bool>,
    /// No more HTTP.
    http_closed: watch::Sender<bool>,
    secrets: watch::Sender<Secrets>,
    sign_in: watch::Sender<Arc<SignIn>>,
    allowed_origins: watch::Sender<AllowedOrigins>,
    cors_origins: watch::Sender<CorsOrigins>,
    webhook_secret: watch::Sender<Option<Secret>>,
    /// Whoever is told of connections.
    hooks: Option<Arc<dyn Hooks>>,
    sessions: Arc<Sessions>,
    certificate: Option<Arc<Certificate>>,
    last_reload: LastReload,
    log: Option<LogLevel>,
    configuration: Option<fn() -> Result<Config, Faults>>,
    /// What the node waits for when it stops.
    tasks: JoinSet<()>,
    /// What ends with the node.
    _background: JoinSet<()>,
}

impl Node {
    /// Where WebSocket clients connect.
    pub fn ws_address(&self) -> SocketAddr {
        self.ws_address
    }

    /// Where backends connect, if they do.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    fn announce(&self, id: NodeId) {
        for warning in &self.config.warnings {
            tracing::warn!("{warning}");
        }
        tracing::info!(
            ws = %self.ws_address,
            http = self.http_address.map(tracing::field::display),
            manager = self.manager_address.map(tracing::field::display),
            node = %id,
            version = crate::release::VERSION,
            commit = crate::release::COMMIT,
            state = if self.config.redis.is_some() { "redis" } else { "embedded" },
            "listening"
        );
    }

    /// Runs until it is told to stop and has drained, or two signals have told it so. Without anybody who could give orders
    /// (the sender is gone) it stops as well.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut files = Follower::new(self.configuration, &self.config);
        let mut signalled = loop {
            let order = tokio::select! {
                order = orders.recv() => order,
                read = files.changed() => {
                    // Has been logged: nobody waits for it.
                    let _ = self.reload(Some(read));
                    continue;
                }
            };
            match order {
                Some(Order::Reload(waiting)) => {
                    let reloaded = self.reload(files.now().await);
                    // An error: whoever waited has gone.
                    let _ = waiting.map(|waiting| waiting.send(reloaded));
                }
                Some(Order::Terminate) => break true,
                Some(Order::Stop) | None => break false,
            }
        };
        let again = async {
            loop {
                match orders.recv().await {
                    Some(Order::Terminate) if signalled => return,
                    Some(Order::Terminate) => {
                        signalled = true;
                        tracing::info!("told to stop by a signal too: draining goes on, another one ends it at once");
                    }
                    // A reload is dropped: whoever waits for it hears that it is not done.
                    Some(Order::Stop | Order::Reload(_)) => {}
                    None => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            () = self.drain() => tracing::info!("stopped"),
            () = again => tracing::warn!("told to stop by a second signal: stopping at once, connections are cut off"),
        }
    }
}
