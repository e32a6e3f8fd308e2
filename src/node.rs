//! One node: puts the parts together, runs them, and takes them apart without losing a client.

use crate::api::device::{BindError, DeviceListener, DeviceSocket, SocketConfig};
use crate::api::{Api, ApiConfig, CorsOrigins, DEFAULT_CONNECTIONS, NodeFacts, Secrets, Surface, Upgrade};
use crate::cluster::embedded::Embedded;
use crate::cluster::redis::{RedisCluster, RedisConfig};
use crate::cluster::{About, Cluster, Owing, Sink};
use crate::config::Config;
use crate::hub::{CloseReason, Hub};
use crate::log::LogLevel;
use crate::model::{NodeCounters, NodeId};
use crate::operator::{LastReload, Order, Reloaded};
use crate::service::Service;
use crate::session::handler::Routes;
use crate::session::hooks::Hooks;
use crate::session::origins::AllowedOrigins;
use crate::session::sign_in::SignIn;
use crate::session::{self, ClientDocuments, PlainHttp, Sessions};
use crate::tls::Certificate;
use crate::webhook::{OwedSink, Secret, Webhook, WebhookConfig, WebhookMetrics};
use http_body_util::BodyExt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How often a slice of the sockets is closed while a node drains.
const DRAIN_SLICE: Duration = Duration::from_millis(100);

/// Connections that may wait to be accepted; the system's own limit (`net.core.somaxconn`) is lower or equal.
const BACKLOG: i32 = 4096;

/// How long closed sockets may take for their last bytes: what the hub gives a peer to answer its close frame, and a bit.
const LAST_BYTES: Duration = Duration::from_secs(6);

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address can't be listened on.
    #[error("{variable}: can't listen on {address}: {error}")]
    Listen {
        /// The variable that names the port.
        variable: &'static str,
        /// What was tried.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// The device socket can't be offered.
    #[error("UNIX_SOCKET: can't listen at {path}: {error}")]
    UnixSocket {
        /// Its path.
        path: String,
        /// Why not.
        error: BindError,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// Two metrics have one name, or a name that can't be.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The certificate can't be used.
    #[error(transparent)]
    Tls(#[from] crate::tls::StartError),
    /// The cluster's configuration can't work.
    #[error(transparent)]
    Cluster(#[from] crate::cluster::redis::StartError),
    /// The application can't be spoken to.
    #[error("WEBHOOK_URL: {0}")]
    Webhook(#[from] crate::webhook::StartError),
}

/// A node whose ports are open.
pub struct Node {
    config: Config,
    hub: Arc<Hub>,
    cluster: Arc<dyn Cluster>,
    ws_address: SocketAddr,
    http_address: SocketAddr,
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
    webhook: Option<Arc<Webhook>>,
    sessions: Arc<Sessions>,
    certificate: Option<Arc<Certificate>>,
    last_reload: LastReload,
    log: Option<LogLevel>,
    /// What the node waits for when it stops.
    tasks: JoinSet<()>,
    /// What ends with the node.
    _background: JoinSet<()>,
}

impl Node {
    /// Opens the ports and joins the cluster. With Redis away this returns as well: the node says over HTTP that it is
    /// not ready, and goes on trying. `orders` is the other end of what [`run`](Self::run) gets.
    pub async fn start(config: Config, log: Option<LogLevel>, orders: mpsc::Sender<Order>) -> Result<Self, StartError> {
        let registry = prometheus::Registry::new();
        let limits = Arc::new(config.limits.clone());
        let hub = Hub::start(limits.clone(), config.gap.clone(), config.shards, &registry)?;

        let certificate = match &config.reloadable.tls {
            Some(sources) => Some(Certificate::load(sources.clone(), &registry)?),
            None => None,
        };
        let http = listen("HTTP_PORT", config.http_host, config.http_port)?;
        let ws = if config.shared_port { None } else { Some(listen("WS_PORT", config.ws_host, config.ws_port)?) };
        let metrics = match config.metrics_port {
            Some(port) => Some(listen("METRICS_PORT", config.http_host, port)?),
            None => None,
        };
        let manager = match config.manager {
            Some(address) => Some(listen("MANAGER_PORT", address.ip(), address.port())?),
            None => None,
        };
        let unix_socket = match &config.unix_socket {
            Some(config) => Some(listen_at(config).await?),
            None => None,
        };
        let http_address = local_address(&http, config.http_host, config.http_port);
        let ws_address = ws.as_ref().map_or(http_address, |ws| local_address(ws, config.ws_host, config.ws_port));

        let api_later = Arc::new(OnceLock::new());
        let about = About {
            id: NodeId::random()?,
            address: http_address.to_string(),
            start_time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            counters: counters(hub.clone(), api_later.clone()),
        };
        let node_id = about.id;
        let facts = NodeFacts {
            ws_port: ws.is_some().then_some(ws_address.port()),
            start_time: about.start_time,
            traffic: {
                let hub = hub.clone();
                Arc::new(move || hub.traffic())
            },
        };
        let owed = config.webhook.as_ref().map(|webhook| OwedSink::new(webhook.channel_events));
        let owing = Owing::new(owed.clone().map(|owed| owed as Arc<dyn Sink>), &registry)?;
        let cluster: Arc<dyn Cluster> = match &config.redis {
            None => Embedded::owing(hub.clone(), about, owing),
            Some(redis) => {
                let redis = patient(redis.clone(), config.webhook.as_ref());
                RedisCluster::start(redis, hub.clone(), about, owing, &registry)?
            }
        };

        let (draining, is_draining) = watch::channel(false);
        let (ws_closed, ws_closes) = watch::channel(false);
        let (http_closed, http_closes) = watch::channel(false);
        let (secrets, current_secrets) = watch::channel(config.reloadable.secrets.clone());
        let (sign_in, current_sign_in) = watch::channel(config.reloadable.sign_in.clone());
        let (allowed_origins, current_origins) = watch::channel(config.reloadable.allowed_origins.clone());
        let (cors_origins, current_cors) = watch::channel(config.reloadable.cors_origins.clone());
        let peers = Arc::new(config.peers.clone());
        let service = Service::new(cluster.clone(), limits.clone(), &registry)?;
        let (webhook_secret, current_secret) = watch::channel(config.reloadable.webhook_secret.clone());
        let webhook_metrics = Arc::new(WebhookMetrics::new(&registry)?);
        let webhook = match config.webhook.clone() {
            Some(webhook) => {
                let kept = config.redis.is_some();
                Some(Webhook::start(webhook, current_secret, service.clone(), kept, webhook_metrics)?)
            }
            None => None,
        };
        if let (Some(owed), Some(webhook)) = (owed, &webhook) {
            owed.lead_to(webhook);
        }
        let devices = DeviceSocket::new(service.clone(), &registry)?;
        let api = Api::new(
            service,
            ApiConfig {
                token_param: config.token_param.clone(),
                secrets: current_secrets,
                cors: current_cors,
                draining: is_draining,
                tls: certificate.clone().filter(|_| config.http_tls),
                peers: peers.clone(),
                orders,
                max_connections: DEFAULT_CONNECTIONS,
                facts,
            },
            &registry,
        )?;
        // Set once, here.
        let _ = api_later.set(Arc::downgrade(&api));
        let settings = session::Settings {
            tls: certificate.clone(),
            profiles: config.profiles.clone(),
            routes: Routes::default(),
            peers,
            allowed_origins: current_origins,
            sign_in: current_sign_in,
            token_param: config.token_param.clone(),
            plain_http: config.plain_http.then(|| plain_http(api.clone())),
            heartbeats: config.heartbeats.clone(),
            client_documents: config.device_client_actions.then(|| client_documents(devices.clone())),
            hooks: webhook.clone().map(|webhook| webhook as Arc<dyn Hooks>),
            escape_html: config.method_escape_html,
            idle_timeouts: config.idle_timeouts,
            closed: ws_closes,
        };
        let sessions = Sessions::new(hub.clone(), cluster.clone(), limits, settings, &registry)?;
        let last_reload = LastReload::new(&registry)?;

        let mut tasks = JoinSet::new();
        let mut background = JoinSet::new();
        if let Some(certificate) = certificate.clone() {
            background.spawn(certificate.follow());
        }
        let surface = Surface::Full(config.shared_port.then(|| upgrade(sessions.clone())));
        tasks.spawn(api.clone().serve(http, surface, http_closes.clone()));
        if let Some(unix_socket) = unix_socket {
            tasks.spawn(unix_socket.serve(devices, http_closes.clone()));
        }
        if let Some(metrics) = metrics {
            tasks.spawn(api.clone().serve(metrics, Surface::Operations, http_closes.clone()));
        }
        let manager_address = manager.as_ref().zip(config.manager);
        let manager_address = manager_address.map(|(listener, told)| local_address(listener, told.ip(), told.port()));
        if let Some(manager) = manager {
            let surface = Surface::Management(manage(api.clone(), http_closes.clone()));
            tasks.spawn(api.clone().managed(http_closes.clone()));
            tasks.spawn(api.serve(manager, surface, http_closes));
        }
        if let Some(ws) = ws {
            tasks.spawn(session::serve(ws, sessions.clone()));
        }
        let node = Self {
            config,
            hub,
            cluster,
            ws_address,
            http_address,
            manager_address,
            draining,
            ws_closed,
            http_closed,
            secrets,
            sign_in,
            allowed_origins,
            cors_origins,
            webhook_secret,
            webhook,
            sessions,
            certificate,
            last_reload,
            log,
            tasks,
            _background: background,
        };
        node.announce(node_id);
        Ok(node)
    }

    /// Where WebSocket clients connect.
    pub fn ws_address(&self) -> SocketAddr {
        self.ws_address
    }

    /// Where backends connect.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    fn announce(&self, id: NodeId) {
        for warning in &self.config.warnings {
            tracing::warn!("{warning}");
        }
        tracing::info!(
            ws = %self.ws_address,
            http = %self.http_address,
            manager = self.manager_address.map(tracing::field::display),
            node = %id,
            version = env!("CARGO_PKG_VERSION"),
            state = if self.config.redis.is_some() { "redis" } else { "embedded" },
            "listening"
        );
    }

    /// Runs until it is told to stop and has drained, or two signals have told it so. Without anybody who could give orders
    /// (the sender is gone) it stops as well.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut signalled = loop {
            match orders.recv().await {
                Some(Order::Reload(waiting)) => {
                    let reloaded = self.reload();
                    self.last_reload.was(&reloaded);
                    if let Err(why) = &reloaded {
                        tracing::error!("configuration not reloaded: {why}");
                    }
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

    /// Reads the environment's files again, and takes over what can change while the node runs: all of it or, where it has
    /// faults, nothing. Only the certificate is taken or refused by itself, as it is when its files change.
    fn reload(&self) -> Reloaded {
        let fresh = Config::from_env()
            .map_err(|faults| format!("it has faults, everything stays as it is: {faults}"))?
            .reloadable;
        let Secrets { api, metrics } = self.secrets.borrow().clone();
        if (fresh.secrets.api.is_open() && !api.is_open())
            || (fresh.secrets.metrics.is_open() && !metrics.is_open())
            || self.sign_in.borrow().would_open(&fresh.sign_in)
        {
            return Err("a token, a key or PRIVATE_CHANNELS was set and is gone, which would open what it guards to everybody; \
                        a file that is being written may be empty for a moment, else restart without it"
                .to_owned());
        }
        if fresh.webhook_secret.is_none() && self.webhook_secret.borrow().is_some() {
            return Err("WEBHOOK_SECRET is gone, so requests would not be signed any more".to_owned());
        }
        if let Some(log) = &self.log {
            log.set(&fresh.log).map_err(|error| error.to_string())?;
        }
        let webhook = take_over(&self.webhook_secret, fresh.webhook_secret);
        let secrets = take_over(&self.secrets, fresh.secrets);
        let sign_in = take_over(&self.sign_in, fresh.sign_in);
        let origins = take_over(&self.allowed_origins, fresh.allowed_origins);
        let cors = take_over(&self.cors_origins, fresh.cors_origins);
        let changed = secrets || sign_in || origins || cors || webhook;
        tracing::info!(changed, "configuration read again");
        match (&self.certificate, fresh.tls) {
            (Some(certificate), Some(sources)) => certificate.reload(sources).map_err(|why| {
                format!("all but the tls certificate is taken over, the one before stays in use: {why}")
            }),
            (None, None) => Ok(()),
            (Some(_), None) | (None, Some(_)) => {
                Err("all is taken over but whether there is TLS, which takes a restart".to_owned())
            }
        }
    }

    /// Not ready but still accepting for `DRAIN_DELAY`; then nobody new, and everybody closed over `DRAIN_PERIOD`; then
    /// out of the cluster; HTTP answers until the end. Without sockets there is nothing to wait for.
    async fn drain(&mut self) {
        let connections = self.hub.count();
        tracing::info!(connections, delay = ?self.config.drain_delay, period = ?self.config.drain_period, "stopping");
        self.draining.send_replace(true);
        let delay = Instant::now() + self.config.drain_delay;
        while self.hub.held() > 0 && Instant::now() < delay {
            sleep(DRAIN_SLICE.min(delay - Instant::now())).await;
        }
        self.ws_closed.send_replace(true);
        self.close_sockets().await;
        let last_bytes = Instant::now() + LAST_BYTES;
        while (self.hub.held() > 0 || self.sessions.count() > 0) && Instant::now() < last_bytes {
            sleep(DRAIN_SLICE / 10).await;
        }
        if let (Some(webhook), Some(config)) = (&self.webhook, &self.config.webhook) {
            webhook.drain(config.timeout).await;
        }
        self.cluster.leave().await;
        self.http_closed.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }

    /// Closes all sockets, a slice at a time, so that their clients don't all come back to the other nodes at once.
    async fn close_sockets(&self) {
        let end = Instant::now() + self.config.drain_period;
        loop {
            let open = self.hub.connections();
            if open.is_empty() {
                return;
            }
            let slices_left = end.saturating_duration_since(Instant::now()).as_millis() / DRAIN_SLICE.as_millis();
            let slice = open.len().div_ceil(slices_left as usize + 1);
            self.hub.close_each(&open[..slice], 1001, "node is stopping", CloseReason::GoingAway);
            if slice == open.len() {
                return;
            }
            sleep(DRAIN_SLICE).await;
        }
    }
}

/// Whether the value is another one now.
fn take_over<T: PartialEq>(current: &watch::Sender<T>, fresh: T) -> bool {
    current.send_if_modified(|current| {
        let differs = *current != fresh;
        *current = fresh;
        differs
    })
}

/// This node's figures, from those who have them.
fn counters(hub: Arc<Hub>, api: Arc<OnceLock<Weak<Api>>>) -> Arc<dyn Fn() -> NodeCounters + Send + Sync> {
    let runtime = Handle::current().metrics();
    Arc::new(move || {
        let api = api.get().and_then(Weak::upgrade);
        let (requests, requests_active) = api.map_or((0, 0), |api| api.requests());
        NodeCounters {
            workers: runtime.num_workers() as u64,
            tasks: runtime.num_alive_tasks() as u64,
            requests,
            requests_active,
            ..hub.counters()
        }
    })
}

/// How WebSocket handshakes are answered that come in on the HTTP port.
fn upgrade(sessions: Arc<Sessions>) -> Upgrade {
    Arc::new(move |request, peer| {
        let sessions = sessions.clone();
        Box::pin(async move { session::upgrade(request, peer, &sessions).await.map(Into::into) })
    })
}

/// How requests on the management port are answered.
fn manage(api: Arc<Api>, closed: watch::Receiver<bool>) -> Upgrade {
    Arc::new(move |request, peer| Box::pin(api.clone().manage(request, peer, closed.clone())))
}

/// How documents that WebSocket clients send are carried out.
fn client_documents(devices: Arc<DeviceSocket>) -> ClientDocuments {
    Arc::new(move |messages, may_join| {
        let devices = devices.clone();
        Box::pin(async move { devices.carry_out_messages(messages, &*may_join).await })
    })
}

async fn listen_at(config: &SocketConfig) -> Result<DeviceListener, StartError> {
    DeviceListener::bind(config)
        .await
        .map_err(|error| StartError::UnixSocket { path: config.path.display().to_string(), error })
}

/// How other requests are answered that come in on the WebSocket port: by the events API, for this node alone.
fn plain_http(api: Arc<Api>) -> PlainHttp {
    Arc::new(move |request, _peer| {
        let api = api.clone();
        Box::pin(async move { api.node_events(request).await.map(BodyExt::boxed_unsync) })
    })
}

/// With the time for what is owed to be delivered, before another node may try, that a request to the application may take.
fn patient(redis: RedisConfig, webhook: Option<&WebhookConfig>) -> RedisConfig {
    let longest = webhook.map_or(Duration::ZERO, |webhook| webhook.timeout.saturating_mul(3));
    RedisConfig { redeliver_after: redis.redeliver_after.max(longest), ..redis }
}

fn listen(variable: &'static str, host: IpAddr, port: u16) -> Result<TcpListener, StartError> {
    let address = SocketAddr::from((host, port));
    let open = || {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|error| StartError::Listen { variable, address, error })
}

/// What the system gave, as port 0 asks it to choose.
fn local_address(listener: &TcpListener, host: IpAddr, port: u16) -> SocketAddr {
    listener.local_addr().unwrap_or_else(|_| SocketAddr::from((host, port)))
}
