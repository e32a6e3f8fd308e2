//! Putting a node together.

use super::listen::{StartError, listen, listen_at, local_address};
use super::{Extras, GRACE, HttpPort, Node};
use crate::api::device::DeviceSocket;
use crate::api::{Api, ApiConfig, DEFAULT_CONNECTIONS, NodeFacts, Surface, Upgrade};
use crate::cluster::embedded::Embedded;
use crate::cluster::redis::{RedisCluster, RedisConfig};
use crate::cluster::{About, Cluster, Owing, Sink};
use crate::config::Config;
use crate::hub::Hub;
use crate::model::{NodeCounters, NodeId};
use crate::operator::{LastReload, Order};
use crate::service::Service;
use crate::session::hooks::Hooks;
use crate::session::{self, ClientDocuments, PlainHttp, Sessions};
use crate::tls::Certificate;
use crate::webhook::{OwedSink, Webhook, WebhookConfig, WebhookMetrics};
use http_body_util::BodyExt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

impl Node {
    /// Opens the ports and joins the cluster. With Redis away this returns as well: the node says over HTTP that it is
    /// not ready, and goes on trying. `orders` is the other end of what [`run`](Self::run) gets.
    pub async fn start(config: Config, extras: Extras, orders: mpsc::Sender<Order>) -> Result<Self, StartError> {
        let Extras {
            log,
            configuration,
            registry,
            ws,
            http,
            routes,
            hooks: overlay,
            service: service_there,
            api: api_there,
            grace,
        } = extras;
        let limits = Arc::new(config.limits.clone());
        let hub = Hub::start(limits.clone(), config.gap.clone(), config.shards, &registry)?;

        let certificate = match &config.reloadable.tls {
            Some(sources) => Some(Certificate::load(sources.clone(), &registry)?),
            None => None,
        };
        let http = match http {
            HttpPort::Configured => Some(listen("HTTP_PORT", config.http_host, config.http_port)?),
            HttpPort::Given(listener) => Some(listener),
            HttpPort::None => None,
        };
        let ws = match ws {
            None if config.shared_port => None,
            None => Some(listen("WS_PORT", config.ws_host, config.ws_port)?),
            given => given,
        };
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
        let http_address = http.as_ref().map(|http| local_address(http, config.http_host, config.http_port));
        let ws_address = ws.as_ref().map(|ws| local_address(ws, config.ws_host, config.ws_port));
        // One of the two is there.
        let unknown = SocketAddr::from((config.ws_host, config.ws_port));
        let ws_address = ws_address.or(http_address).unwrap_or(unknown);

        let api_later = Arc::new(OnceLock::new());
        let about = About {
            id: NodeId::random()?,
            address: http_address.unwrap_or(ws_address).to_string(),
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
        let webhook_sink = owed.clone().map(|owed| owed as Arc<dyn Sink>);
        let sink = match &overlay {
            Some(overlay) => Some(overlay.sink(webhook_sink)),
            None => webhook_sink,
        };
        let owing = Owing::new(sink, &registry)?;
        let cluster: Arc<dyn Cluster> = match &config.redis {
            None => Embedded::owing(hub.clone(), about, owing),
            Some(redis) => {
                let longest = overlay.as_ref().map_or(Duration::ZERO, |overlay| overlay.patience());
                let redis = patient(redis.clone(), config.webhook.as_ref(), longest);
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
        // Each is set once, here, before the first client comes.
        let _ = service_there.set(service.clone());
        let webhook = webhook.map(|webhook| webhook as Arc<dyn Hooks>);
        let hooks = match &overlay {
            Some(overlay) => Some(overlay.over(webhook)),
            None => webhook,
        };
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
        let _ = api_later.set(Arc::downgrade(&api));
        let _ = api_there.set(api.clone());
        let settings = session::Settings {
            tls: certificate.clone(),
            profiles: config.profiles.clone(),
            routes,
            peers,
            allowed_origins: current_origins,
            sign_in: current_sign_in,
            token_param: config.token_param.clone(),
            plain_http: config.plain_http.then(|| plain_http(api.clone())),
            heartbeats: config.heartbeats.clone(),
            client_documents: config.device_client_actions.then(|| client_documents(devices.clone())),
            hooks: hooks.clone(),
            escape_html: config.method_escape_html,
            idle_timeouts: config.idle_timeouts,
            closed: ws_closes,
            grace: grace.unwrap_or(GRACE),
        };
        let sessions = Sessions::new(hub.clone(), cluster.clone(), limits, settings, &registry)?;
        let last_reload = LastReload::new(&registry)?;

        let mut tasks = JoinSet::new();
        let mut background = JoinSet::new();
        if let Some(certificate) = certificate.clone() {
            background.spawn(certificate.follow());
        }
        let surface = Surface::Full(config.shared_port.then(|| upgrade(sessions.clone())));
        if let Some(http) = http {
            tasks.spawn(api.clone().serve(http, surface, http_closes.clone()));
        }
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
            hooks,
            sessions,
            certificate,
            last_reload,
            log,
            configuration,
            tasks,
            _background: background,
        };
        node.announce(node_id);
        Ok(node)
    }
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

/// How other requests are answered that come in on the WebSocket port: by the events API, for this node alone.
fn plain_http(api: Arc<Api>) -> PlainHttp {
    Arc::new(move |request, _peer| {
        let api = api.clone();
        Box::pin(async move { api.node_events(request).await.map(BodyExt::boxed_unsync) })
    })
}

/// With the time for what is owed to be delivered, before another node may try, that a request to the application and the program's
/// own hooks may take.
fn patient(redis: RedisConfig, webhook: Option<&WebhookConfig>, hooks: Duration) -> RedisConfig {
    let webhook = webhook.map_or(Duration::ZERO, |webhook| webhook.timeout);
    let longest = webhook.saturating_add(hooks).saturating_mul(3);
    RedisConfig { redeliver_after: redis.redeliver_after.max(longest), ..redis }
}
