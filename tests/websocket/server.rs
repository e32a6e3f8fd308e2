//! A server for one test.

use crate::client::{DEADLINE, Raw, eventually};
use crate::gate::{Gate, Settling};
use carillon::cluster::Cluster;
use carillon::hub::{GapPolicy, Hub};
use carillon::model::{Audience, Limits, Name, Push, Target};
use carillon::session::origins::AllowedOrigins;
use carillon::session::profiles::Profiles;
use carillon::session::{IdleTimeouts, PlainHttp, ProfileHeartbeats, Sessions, Settings, serve};
use prometheus::Registry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) hub: Arc<Hub>,
    pub(crate) cluster: Arc<Gate>,
    registry: Registry,
    pub(crate) allowed_origins: watch::Sender<AllowedOrigins>,
    closed: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        Self::with_profiles(limits, Profiles::default()).await
    }

    pub(crate) async fn with_profiles(limits: Limits, profiles: Profiles) -> Self {
        Self::with_plain_http(limits, profiles, None).await
    }

    pub(crate) async fn with_plain_http(limits: Limits, profiles: Profiles, plain_http: Option<PlainHttp>) -> Self {
        // No pings: they would stand between the frames that a test expects.
        let limits = Arc::new(Limits { ping_interval: Duration::ZERO, ..limits });
        let registry = Registry::new();
        let hub = Hub::start(limits.clone(), GapPolicy::Count, 2, &registry).unwrap();
        let cluster = Gate::new(hub.clone());
        let (allowed_origins, current_origins) = watch::channel(AllowedOrigins::default());
        let (closed, closes) = watch::channel(false);
        let settings = Settings {
            profiles,
            routes: Default::default(),
            peers: Default::default(),
            allowed_origins: current_origins,
            sign_in: watch::channel(Arc::default()).1,
            token_param: "key".to_owned(),
            tls: None,
            plain_http,
            heartbeats: ProfileHeartbeats::default(),
            client_documents: None,
            hooks: None,
            escape_html: false,
            idle_timeouts: IdleTimeouts::default(),
            closed: closes,
            grace: DEADLINE,
        };
        let sessions = Sessions::new(hub.clone(), cluster.clone(), limits, settings, &registry).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(serve(listener, sessions));
        Self { address, hub, cluster, registry, allowed_origins, closed, task }
    }

    /// A client whose handshake was answered with 101.
    pub(crate) async fn client(&self, query: &str) -> Raw {
        let mut client = self.connect().await;
        client.upgrade(query).await;
        client
    }

    /// A TCP connection that has said nothing yet.
    pub(crate) async fn connect(&self) -> Raw {
        Raw::connect(self.address).await
    }

    pub(crate) async fn push(&self, channel: &str, text: &str) {
        let target = Target::Audience(Audience::channel(Name::new(channel).unwrap()));
        self.cluster.publish(Push::text(target, text)).await.unwrap();
    }

    pub(crate) fn settling(&self, settling: Settling) {
        self.cluster.settling.send_replace(settling);
    }

    /// Waits until the hub has so many connections.
    pub(crate) async fn has(&self, connections: u64) {
        eventually(|| self.hub.count() == connections).await;
    }

    /// How many connections ended, or handshakes were refused, for this reason.
    pub(crate) fn counted(&self, metric: &str, reason: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == metric).expect(metric);
        let labelled = |m: &&prometheus::proto::Metric| m.get_label().iter().any(|label| label.value() == reason);
        family.get_metric().iter().find(labelled).expect(reason).get_counter().get_value()
    }

    /// A figure without labels.
    pub(crate) fn figure(&self, metric: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == metric).expect(metric);
        let metric = &family.get_metric()[0];
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    }

    /// Waits until one connection has ended for this reason.
    pub(crate) async fn has_closed(&self, reason: &str) {
        eventually(|| self.counted("carillon_connections_closed_total", reason) == 1.0).await;
    }

    /// Stops accepting and waits until the port's task is over.
    pub(crate) async fn stop(self) -> Arc<Hub> {
        self.closed.send_replace(true);
        timeout(DEADLINE, self.task).await.expect("the port's task ends").unwrap();
        self.hub
    }
}
