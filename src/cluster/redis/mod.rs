//! The cluster over Redis: a single server, Sentinel or Cluster, Redis 7 and later or Valkey.
//!
//! Every node writes one *registration* ([`registrar`], one ordered queue) and keeps a lease on it ([`lease`]); the
//! others watch that lease ([`watch`]) and write down a death, after which nothing of the registration counts, and one
//! of them removes it ([`reaper`]). Reads ([`reading`], [`looking`], [`listing`]) ask `leases` first. Pushes ([`publishing`]) and requests
//! ([`acting`], [`requests`]) travel by pub/sub in a small binary form ([`envelope`]); what arrives comes over links ([`subscriber`],
//! [`link`], [`pump`]). What the node may promise meanwhile is one value ([`health`]). Channel events and what
//! dead nodes owe are [`owed`]'s. Connections ([`wire`], [`lanes`],
//! [`pool`]) never reconnect and never send twice by themselves; [`topology`] says which server has which slot.

mod acting;
mod batch;
mod clock;
mod connect;
mod core;
mod counters;
mod envelope;
mod health;
mod keys;
mod lanes;
mod lease;
mod leases;
mod link;
mod listing;
mod looking;
mod metrics;
mod owed;
mod pool;
mod publishing;
mod pump;
mod reading;
mod reaper;
mod registrar;
mod requests;
mod scripts;
mod subscriber;
mod topology;
mod watch;
mod wire;

use self::connect::{Connector, Kind, Purpose};
use self::core::{Core, Own};
use self::health::Health;
use self::keys::Keys;
use self::metrics::RedisMetrics;
use self::registrar::Registrar;
use self::subscriber::Subscriber;
use self::topology::Topology;
use self::wire::{Command, Fault};
use super::owed::Owing;
use super::{
    About, Act, Answer, Cluster, Life, NamedPages, NodeSummary, Outcome, Pages, Published, Question, State, StoreInfo,
};
use crate::hub::Hub;
use crate::model::{Audience, AudienceKind, ConnectionId, Error, Name, NodeId, Push, Result, Seq};
use async_trait::async_trait;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch as watch_channel;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Where Redis is, and how it is used.
#[derive(Clone)]
pub struct RedisConfig {
    /// `REDIS_URL`: `redis://`, `redis-sentinel://` or `redis-cluster://`, each with `rediss` for TLS. It may hold a
    /// password, and is never logged.
    pub url: String,
    /// `REDIS_PREFIX`: what all keys and pub/sub names begin with.
    pub prefix: String,
    /// `REDIS_CA`: certificates to trust in place of the system's.
    pub ca: Option<PathBuf>,
    /// `NODE_LEASE`: a node whose lease has not moved for so long is dead.
    pub node_lease: Duration,
    /// Whether a Redis that deletes keys when its memory is full will do; members are lost unseen then.
    pub allow_eviction: bool,
    /// Connections in the pool for reads, to each server.
    pub pool_size: u32,
    /// How long one node may take to deliver an event, or what else is owed, before it is handed to another.
    pub redeliver_after: Duration,
    /// Time between a registration's death and the removal of its keys. Longer than a listing may take (4 s).
    pub reap_delay: Duration,
}

impl std::fmt::Debug for RedisConfig {
    /// Everything but the URL, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url: _, prefix, ca, node_lease, allow_eviction, pool_size, redeliver_after, reap_delay } = self;
        f.debug_struct("RedisConfig")
            .field("prefix", prefix)
            .field("ca", ca)
            .field("node_lease", node_lease)
            .field("allow_eviction", allow_eviction)
            .field("pool_size", pool_size)
            .field("redeliver_after", redeliver_after)
            .field("reap_delay", reap_delay)
            .finish_non_exhaustive()
    }
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379".to_owned(),
            prefix: "carillon:".to_owned(),
            ca: None,
            node_lease: Duration::from_secs(10),
            allow_eviction: false,
            pool_size: 8,
            redeliver_after: Duration::from_secs(30),
            reap_delay: Duration::from_secs(5),
        }
    }
}

/// The shortest lease: others look four times a second and must see it move.
pub const SHORTEST_LEASE: Duration = Duration::from_secs(2);

/// How long the last changes of a node that stops may take to be written.
const LAST_CHANGES: Duration = Duration::from_secs(1);

/// Why Redis can't be used as it is configured. No text holds the URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The URL's scheme is none that is known.
    #[error("REDIS_URL must begin with redis://, redis-sentinel:// or redis-cluster:// (with TLS rediss://, rediss-…)")]
    Scheme,
    /// The URL can't be read.
    #[error("REDIS_URL can't be read: {0}")]
    Url(String),
    /// The prefix would change which keys share a slot.
    #[error("REDIS_PREFIX {0:?} must not hold braces: they would change which keys lie together")]
    Prefix(String),
    /// The lease is shorter than others can watch it.
    #[error("NODE_LEASE of {} ms is shorter than {} ms", .0.as_millis(), SHORTEST_LEASE.as_millis())]
    Lease(Duration),
    /// The file of certificates can't be used.
    #[error("REDIS_CA {}: {}", .0.display(), .1)]
    Ca(PathBuf, String),
    /// The system's certificates can't be used.
    #[error("the system's certificates can't be read: {0}")]
    SystemCa(String),
    /// The server is too old.
    #[error("redis {0:?} is older than 7, which has the pub/sub that is needed")]
    Version(String),
    /// The server deletes keys when its memory is full.
    #[error("redis has maxmemory-policy {0}, which deletes members unseen: set noeviction, or allow it by name")]
    Eviction(String),
    /// The server is part of a Cluster and the URL says it isn't, or the other way round.
    #[error("redis runs in mode {0:?}, and REDIS_URL names another")]
    Mode(String),
    /// The server gave no answer that can be used.
    #[error("{0}")]
    Redis(#[source] Refusal),
    /// A metric of the same name is registered already.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The operating system gave no random numbers.
    #[error("no random number from the operating system: {0}")]
    Random(getrandom::Error),
}

impl From<getrandom::Error> for StartError {
    fn from(error: getrandom::Error) -> Self {
        Self::Random(error)
    }
}

/// What Redis, or the way to it, had against a command.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Refusal(#[from] Fault);

/// One node of a cluster over Redis.
pub struct RedisCluster {
    core: Arc<Core>,
    tasks: Mutex<JoinSet<()>>,
}

impl RedisCluster {
    /// Begins to join the cluster and returns at once; the state says when it has. Redis may be away for now: it is
    /// tried until it is there. To be called on a tokio runtime, before the hub has its first connection: the node's
    /// number is chosen here. `owing`: who is told of channel events and of what dead nodes owe, if anybody is.
    ///
    /// # Errors
    /// What is wrong with the configuration itself. What is wrong with the server is in the state and in the log.
    pub fn start(
        config: RedisConfig,
        hub: Arc<Hub>,
        about: About,
        owing: Owing,
        registry: &prometheus::Registry,
    ) -> Result<Arc<Self>, StartError> {
        if config.prefix.contains(['{', '}']) {
            return Err(StartError::Prefix(config.prefix));
        }
        if config.node_lease < SHORTEST_LEASE {
            return Err(StartError::Lease(config.node_lease));
        }
        let metrics = Arc::new(RedisMetrics::new(registry)?);
        let connector = Arc::new(Connector::new(&config, metrics.clone())?);
        let topology = Topology::new(&connector);
        let keys = Keys::new(&config.prefix);
        let sharded = connector.kind == Kind::Cluster;
        let subscriber = Subscriber::new(keys.clone(), sharded, topology.clone(), metrics.clone());
        let mut first_request = [0; 8];
        getrandom::fill(&mut first_request)?;
        let core = Arc::new(Core {
            lanes: lanes::Lanes::new(connector.clone(), topology.clone()),
            pools: Arc::new(pool::Pools::new(connector.clone(), topology.clone(), config.pool_size)),
            health: Health::new(subscriber.watch_hears(), metrics.clone()),
            requests: requests::Requests::new(u64::from_be_bytes(first_request)),
            clock: clock::ClusterClock::default(),
            leases: leases::Leases::default(),
            own: Own::default(),
            outgoing: publishing::Outgoing::default(),
            life_ids: acting::LifeIds::default(),
            owed: owed::Owed::new(owing),
            config,
            about,
            keys,
            hub,
            metrics,
            connector,
            topology,
            subscriber,
        });
        core.hub.start_journal();
        core.choose_seq()?;
        let mut tasks = JoinSet::new();
        let each = |core: &Arc<Core>| core.clone();
        tasks.spawn(watched(each(&core), "the slot map", {
            let core = each(&core);
            async move { core.topology.keep(&core.lanes, |fault| core.trouble(fault)).await }
        }));
        tasks.spawn(watched(each(&core), "the subscriber", subscriber::keep_links(each(&core))));
        tasks.spawn(watched(each(&core), "the registration", {
            let core = each(&core);
            async move {
                core.topology.known().await;
                Registrar::new(core).run().await;
            }
        }));
        tasks.spawn(watched(each(&core), "the lease's renewal", {
            let core = each(&core);
            async move {
                core.topology.known().await;
                core.keep_lease().await;
            }
        }));
        tasks.spawn(watched(each(&core), "the watch of the other nodes", {
            let core = each(&core);
            async move {
                core.topology.known().await;
                core.keep_watch().await;
            }
        }));
        tasks.spawn(watched(each(&core), "the removal of dead registrations", each(&core).keep_reaping()));
        tasks.spawn(watched(each(&core), "the channels' holding", {
            let core = each(&core);
            async move {
                core.topology.known().await;
                core.keep_holding().await;
            }
        }));
        tasks.spawn(watched(each(&core), "the delivery of events", {
            let core = each(&core);
            async move {
                core.topology.known().await;
                core.keep_delivering().await;
            }
        }));
        tasks.spawn(watched(each(&core), "the state's clock", {
            let core = each(&core);
            async move {
                loop {
                    tokio::time::sleep(health::TICK).await;
                    core.health.tick();
                }
            }
        }));
        Ok(Arc::new(Self { core, tasks: Mutex::new(tasks) }))
    }
}

/// Runs a task of the backend. All of them are to run until the node leaves: one that panics takes the node out of
/// service, as nobody does its work any more.
async fn watched(core: Arc<Core>, part: &'static str, task: impl Future<Output = ()>) {
    // What a panic may leave half done is refused to callers from here on.
    if AssertUnwindSafe(task).catch_unwind().await.is_err() {
        tracing::error!(part, "a task has panicked: this node takes no part in the cluster until it is restarted");
        core.health.is_broken(part);
    }
}

impl Core {
    /// See [`Cluster::settle`].
    pub(super) async fn settle(&self, audiences: &[Audience]) -> Result<()> {
        // While Redis is away nothing is written, and nobody has to queue up for it.
        self.health.present().await;
        let mark = self.hub.mark();
        let written = async {
            mark.await.map_err(|_| Error::Unavailable("this node is stopping".to_owned()))?;
            // What was written to a registration that others have declared dead meanwhile is in nobody's answers. A
            // renewal that began afterwards shows that this registration stood then, or that a new one does, which
            // holds all that the hub has.
            let moment = Instant::now();
            self.own.renew.notify_one();
            self.health.lease_written_after(moment).await;
            Ok(())
        };
        let (written, ()) = tokio::join!(written, self.subscriber.ensure(audiences));
        written?;
        // The link that acknowledged may have broken while the directory was waited for.
        self.subscriber.ensure(audiences).await;
        Ok(())
    }

    async fn resign(&self) -> Result<(), Fault> {
        let Some(registration) = self.own.current() else { return Ok(()) };
        self.own.switched(None);
        let command = Command::script(&scripts::RESIGN, &[self.keys.leases(), self.keys.reaping()])
            .arg(registration.to_string())
            .arg(self.config.reap_delay.as_secs_f64());
        self.lanes.run(&command, Purpose::Control).await?;
        // What has to wait is in `reaping`, for another node.
        self.reap(&registration).await.map(drop)
    }
}

#[async_trait]
impl Cluster for RedisCluster {
    fn node_id(&self) -> NodeId {
        self.core.about.id
    }

    fn seq(&self) -> Seq {
        self.core.hub.seq()
    }

    fn state(&self) -> watch_channel::Receiver<State> {
        self.core.health.state()
    }

    async fn settle(&self, audiences: &[Audience]) -> Result<()> {
        self.core.settle(audiences).await
    }

    async fn publish(&self, push: Push) -> Result<Published> {
        self.core.health.admit().await?;
        self.core.push(push).await
    }

    async fn request(&self, act: Act, timeout: Duration) -> Result<Outcome> {
        self.core.health.admit().await?;
        self.core.ask(act, timeout).await
    }

    async fn lives(&self) -> Result<Vec<Life>> {
        self.core.health.admit().await?;
        self.core.lives().await
    }

    async fn life(&self, seq: Seq) -> Result<Option<Life>> {
        self.core.health.admit().await?;
        self.core.life(seq).await
    }

    async fn look(&self, lives: &[Life], questions: &[Question]) -> Result<Vec<Vec<Answer>>> {
        self.core.health.admit().await?;
        self.core.look_at(lives, questions).await
    }

    async fn act(&self, lives: &[Life], acts: &[Act], timeout: Duration) -> Vec<Vec<Outcome>> {
        self.core.act(lives, acts, timeout).await
    }

    async fn nodes(&self) -> Result<Vec<NodeSummary>> {
        self.core.health.admit().await?;
        self.core.nodes().await
    }

    async fn store(&self) -> Result<StoreInfo> {
        self.core.health.admit().await?;
        self.core.store().await
    }

    async fn exists(&self, connection: ConnectionId) -> Result<bool> {
        self.core.health.admit().await?;
        self.core.exists(connection).await
    }

    async fn count_connections(&self) -> Result<u64> {
        self.core.health.admit().await?;
        self.core.count_connections().await
    }

    async fn count_members(&self, audience: &Audience) -> Result<u64> {
        self.core.health.admit().await?;
        self.core.count_members(audience).await
    }

    async fn audiences(&self, kind: AudienceKind) -> Result<Vec<(Name, u64)>> {
        self.core.health.admit().await?;
        self.core.audiences(kind).await
    }

    async fn connections(&self) -> Result<Pages> {
        self.core.health.admit().await?;
        self.core.connections().await
    }

    async fn members(&self, audience: &Audience) -> Result<Pages> {
        self.core.health.admit().await?;
        self.core.members(audience).await
    }

    async fn listing(&self, kind: AudienceKind, names: Option<Vec<Name>>) -> Result<NamedPages> {
        self.core.health.admit().await?;
        self.core.listing(kind, names).await
    }

    async fn leave(&self) {
        self.core.health.leave();
        // What has ended is written first: a close that was told by this node is not owed by it.
        if tokio::time::timeout(LAST_CHANGES, self.core.hub.mark()).await.is_err() {
            tracing::debug!("stopping before all changes were written");
        }
        self.core.owed.let_go_of_deliveries().await;
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
        if let Err(fault) = self.core.resign().await {
            // The others see the lease stand still, and clean up.
            tracing::warn!(%fault, "this node could not leave the cluster in order");
        }
    }
}
