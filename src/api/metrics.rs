//! `/metrics`: Prometheus' text format 0.0.4.
//!
//! What a node counts by itself is in the registry that it was built with. Two kinds of figures are read when they are
//! asked for: those of the runtime, and those of the whole cluster, which every node shows alike.

use super::answer::{self, Answer, Content};
use super::health::Health;
use super::memory;
use crate::metrics::Register;
use crate::release;
use crate::service::Service;
use bytes::Bytes;
use hyper::StatusCode;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGauge, Registry, TextEncoder};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// How long the figures of the cluster are good for: they cost a list of channel names from each node.
const CLUSTER_AGE: Duration = Duration::from_secs(10);

/// How long they are waited for; without them the rest is shown.
const CLUSTER_PATIENCE: Duration = Duration::from_secs(2);

/// The HTTP server's own figures.
pub(super) struct HttpMetrics {
    requests: IntCounter,
    active: IntGauge,
    pub(super) connections: IntGauge,
    pub(super) refused: IntCounter,
    pub(super) accept_errors: IntCounter,
}

impl HttpMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            requests: registry
                .counter("carillon_http_requests_total", "HTTP requests taken, WebSocket handshakes left out.")?,
            active: registry.gauge("carillon_http_requests_active", "HTTP requests being answered now.")?,
            connections: registry.gauge("carillon_http_connections", "HTTP connections open now.")?,
            refused: registry.counter(
                "carillon_http_connections_refused_total",
                "HTTP connections answered 503 because there were as many as there may be.",
            )?,
            accept_errors: registry.counter(
                "carillon_http_accept_errors_total",
                "Errors of accept on the HTTP port, such as too many open files.",
            )?,
        })
    }

    /// Counts a request, and as active until what is returned is dropped.
    pub(super) fn request(&self) -> Active<'_> {
        self.requests.inc();
        Active::new(&self.active)
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.get()
    }

    pub(super) fn active(&self) -> u64 {
        u64::try_from(self.active.get()).unwrap_or(0)
    }
}

/// One more in a gauge until it is dropped.
pub(super) struct Active<'a>(&'a IntGauge);

impl<'a> Active<'a> {
    pub(super) fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Everything that `/metrics` shows.
pub(super) struct Metrics {
    registry: Registry,
    ready: IntGauge,
    draining: IntGauge,
    workers: IntGauge,
    tasks: IntGauge,
    memory_limit: IntGauge,
    service: Arc<Service>,
    /// Held while the cluster is asked, so that scrapes at the same time ask once.
    cluster: Mutex<ClusterMetrics>,
}

impl Metrics {
    pub(super) fn new(registry: &Registry, service: Arc<Service>) -> prometheus::Result<Self> {
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let help = "Which program this is; its value is always 1.";
        let build = registry.gauges("carillon_build_info", help, &["version", "commit"])?;
        build.with_label_values(&[release::VERSION, release::COMMIT.unwrap_or("unknown")]).set(1);
        Ok(Self {
            ready: registry.gauge("carillon_ready", "1 where /readyz says so, else 0.")?,
            draining: registry.gauge("carillon_draining", "1 from the order to stop to the end, else 0.")?,
            workers: registry.gauge("carillon_worker_threads", "Worker threads of the runtime.")?,
            tasks: registry.gauge("carillon_tasks", "Tasks alive in the runtime.")?,
            memory_limit: registry.gauge(
                "carillon_memory_limit_bytes",
                "Memory that this process may use: the least of the machine's and its control groups' limits.",
            )?,
            service,
            cluster: Mutex::new(ClusterMetrics::new()?),
            registry: registry.clone(),
        })
    }

    pub(super) async fn answer(&self, health: &Health) -> Answer {
        let runtime = Handle::current().metrics();
        self.ready.set(i64::from(health.unready().is_none()));
        self.draining.set(i64::from(health.is_draining()));
        self.workers.set(signed(runtime.num_workers() as u64));
        self.tasks.set(signed(runtime.num_alive_tasks() as u64));
        self.memory_limit.set(memory::limit().map_or(0, signed));
        let mut families = self.registry.gather();
        families.extend(self.cluster.lock().await.gather(&self.service).await);
        match TextEncoder::new().encode_to_string(&families) {
            Ok(text) => answer::typed("text/plain; version=0.0.4; charset=utf-8", Content::from(Bytes::from(text))),
            Err(error) => {
                answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("metrics can't be written: {error}\n"))
            }
        }
    }
}

/// What the directory and its store know of the whole cluster; in a registry of their own, as they are shown only while
/// they are true.
struct ClusterMetrics {
    registry: Registry,
    nodes: IntGauge,
    channels: IntGauge,
    memory: IntGauge,
    hits: IntCounter,
    misses: IntCounter,
    start_time: IntGauge,
    /// When they were read.
    read: Option<Instant>,
}

impl ClusterMetrics {
    fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let gauge = |name, help| registry.gauge(name, help);
        let counter = |name, help| registry.counter(name, help);
        Ok(Self {
            nodes: gauge("carillon_cluster_nodes", "Live nodes of the cluster.")?,
            channels: gauge("carillon_cluster_channels", "Channels with members anywhere in the cluster.")?,
            memory: gauge("carillon_store_memory_bytes", "Memory that the store behind the directory uses.")?,
            hits: counter("carillon_store_hits_total", "Look-ups of keys that were there, by the store's own count.")?,
            misses: counter(
                "carillon_store_misses_total",
                "Look-ups of keys that were not there, by the store's own count.",
            )?,
            start_time: gauge("carillon_store_start_time_seconds", "When the store started, in seconds since 1970.")?,
            read: None,
            registry,
        })
    }

    async fn gather(&mut self, service: &Service) -> Vec<MetricFamily> {
        if self.read.is_none_or(|read| read.elapsed() >= CLUSTER_AGE) {
            self.read = None;
            match timeout(CLUSTER_PATIENCE, service.stats()).await {
                Ok(Ok(stats)) => {
                    self.nodes.set(signed(stats.nodes.len() as u64));
                    self.channels.set(signed(stats.channels.len() as u64));
                    self.memory.set(signed(stats.store.memory));
                    show(&self.hits, stats.store.hits);
                    show(&self.misses, stats.store.misses);
                    self.start_time.set(signed(stats.store.start_time));
                    self.read = Some(Instant::now());
                }
                Ok(Err(error)) => tracing::debug!(%error, "metrics without the cluster's figures"),
                Err(_) => tracing::debug!("metrics without the cluster's figures: no answer in time"),
            }
        }
        if self.read.is_some() { self.registry.gather() } else { Vec::new() }
    }
}

/// Shows what somebody else has counted. Nobody gathers in between.
fn show(counter: &IntCounter, total: u64) {
    counter.reset();
    counter.inc_by(total);
}

fn signed(figure: u64) -> i64 {
    i64::try_from(figure).unwrap_or(i64::MAX)
}
