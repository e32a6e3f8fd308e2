//! From `REDIS_URL` to connections: which servers, with TLS or without, and what makes a server unfit.

use super::metrics::RedisMetrics;
use super::topology::Place;
use super::wire::{Fault, Wire};
use super::{RedisConfig, StartError};
use fred::rustls::pki_types::CertificateDer;
use fred::rustls::pki_types::pem::PemObject;
use fred::rustls::{ClientConfig, RootCertStore};
use fred::types::RespVersion;
use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, Server, ServerConfig, TcpConfig, TlsConfig, TlsConnector,
};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a connection may take until it is ready for commands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long any single command may take. None of ours keeps Redis busy for more than a few milliseconds, so this is
/// about networks and hung servers; what was not answered by then ends its connection.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// Commands that may wait to be written to one connection; more are refused.
pub(super) const MAX_COMMANDS_WAITING: usize = 16_384;

/// Messages that may wait between a subscriber's connection and the hub; more are a gap. Covers some ten milliseconds in
/// which the pump, which waits for nothing else, is not scheduled. fred gives this capacity to eight channels of which we
/// use one, 3 MB together. It counts messages, not bytes: full of pushes of the default limit of 1 MiB it would hold 4 GiB,
/// which takes seconds in which the link is read and the pump never runs.
const SUBSCRIBER_BUFFER: usize = 4096;

/// For clients that listen to nothing.
const NO_SUBSCRIBER_BUFFER: usize = 8;

/// The policies under which Redis deletes what we wrote, and says nothing.
const FIT_POLICY: &str = "noeviction";

/// The oldest Redis with sharded pub/sub, which reports what the subscriber's checks need.
const OLDEST_REDIS: u32 = 7;

/// What kind of Redis the URL names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// One server, always at the same address.
    Single,
    /// The primary that Sentinels name.
    Sentinel,
    /// Primaries that share the slots.
    Cluster,
}

/// Makes connections.
pub(super) struct Connector {
    pub(super) kind: Kind,
    /// The servers that the URL names: where a Cluster's slot map is asked for first.
    pub(super) seeds: Vec<Place>,
    template: Config,
    /// The name to check certificates against where the slot map has bare addresses.
    tls_name: Option<String>,
    allow_eviction: bool,
    metrics: Arc<RedisMetrics>,
}

/// What a connection is for; its name at the server, as `CLIENT LIST` shows it, and a label in metrics.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Purpose {
    Control,
    Registration,
    Publishing,
    Subscriber,
    /// Holding channels and delivering events: behind nothing of it does a lease or a push wait.
    Events,
    Pool,
}

impl Purpose {
    pub(super) const ALL: [Purpose; 6] =
        [Self::Control, Self::Registration, Self::Publishing, Self::Subscriber, Self::Events, Self::Pool];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Registration => "registration",
            Self::Publishing => "publishing",
            Self::Subscriber => "subscriber",
            Self::Events => "events",
            Self::Pool => "pool",
        }
    }
}

impl Connector {
    /// Reads the URL. The text of an error never holds the URL, which may hold a password.
    pub(super) fn new(config: &RedisConfig, metrics: Arc<RedisMetrics>) -> Result<Self, StartError> {
        let scheme = config.url.split("://").next().unwrap_or_default();
        let (kind, tls) = match scheme {
            "redis" => (Kind::Single, false),
            "rediss" => (Kind::Single, true),
            "redis-sentinel" => (Kind::Sentinel, false),
            "rediss-sentinel" => (Kind::Sentinel, true),
            "redis-cluster" => (Kind::Cluster, false),
            "rediss-cluster" => (Kind::Cluster, true),
            _ => return Err(StartError::Scheme),
        };
        // fred would load the system's certificates for a TLS URL before we can say which to trust.
        let plain = match config.url.strip_prefix("rediss") {
            Some(rest) => format!("redis{rest}"),
            None => config.url.clone(),
        };
        let mut template = Config::from_url(&plain).map_err(|error| StartError::Url(error.details().to_owned()))?;
        template.version = RespVersion::RESP3;
        template.fail_fast = true;
        template.tls = if tls { Some(tls_config(config.ca.as_deref())?) } else { None };
        let seeds: Vec<Place> = template.server.hosts().iter().map(Place::from).collect();
        let name = seeds.iter().map(|seed| &*seed.host).find(|host| host.parse::<IpAddr>().is_err());
        Ok(Self {
            kind,
            tls_name: name.filter(|_| tls).map(str::to_owned),
            seeds,
            template,
            allow_eviction: config.allow_eviction,
            metrics,
        })
    }

    /// A new connection to `place` (to the primary that the Sentinels name, where the URL names Sentinels).
    pub(super) async fn connect(&self, place: &Place, purpose: Purpose) -> Result<Arc<Wire>, Fault> {
        let mut config = self.template.clone();
        if self.kind != Kind::Sentinel {
            let mut server = Server::new(&*place.host, place.port);
            if place.host.parse::<IpAddr>().is_ok() {
                server.tls_server_name = self.tls_name.as_deref().map(Into::into);
            }
            config.server = ServerConfig::Centralized { server };
        }
        let performance = PerformanceConfig {
            default_command_timeout: COMMAND_TIMEOUT,
            broadcast_channel_capacity: match purpose {
                Purpose::Subscriber => SUBSCRIBER_BUFFER,
                Purpose::Control | Purpose::Registration | Purpose::Publishing | Purpose::Events | Purpose::Pool => {
                    NO_SUBSCRIBER_BUFFER
                }
            },
            ..PerformanceConfig::default()
        };
        let connection = ConnectionConfig {
            connection_timeout: CONNECT_TIMEOUT,
            internal_command_timeout: CONNECT_TIMEOUT,
            // What was written once is never written again by itself: it may have been done.
            max_command_attempts: 1,
            max_command_buffer_len: MAX_COMMANDS_WAITING,
            disable_cluster_health_check: true,
            tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
            ..ConnectionConfig::default()
        };
        let sharded = self.kind == Kind::Cluster;
        let connecting = Wire::open(config, performance, connection, purpose, sharded, self.metrics.clone());
        // Boxed: it is large, and would make every future that may have to connect as large.
        match tokio::time::timeout(CONNECT_TIMEOUT, Box::pin(connecting)).await {
            Ok(wire) => wire,
            Err(_) => Err(Fault::Unreachable(format!("no connection within {} ms", CONNECT_TIMEOUT.as_millis()))),
        }
    }

    /// Whether a server may hold the cluster's state; the error says what an operator has to change.
    pub(super) async fn check(&self, wire: &Wire) -> Result<(), StartError> {
        let info = wire.info().await.map_err(|fault| StartError::Redis(fault.into()))?;
        let version = info.get("redis_version").unwrap_or_default();
        let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
        if major < OLDEST_REDIS {
            return Err(StartError::Version(version.to_owned()));
        }
        let policy = info.get("maxmemory_policy").unwrap_or(FIT_POLICY);
        if policy != FIT_POLICY && !self.allow_eviction {
            return Err(StartError::Eviction(policy.to_owned()));
        }
        let mode = info.get("redis_mode").unwrap_or("standalone");
        if (mode == "cluster") != (self.kind == Kind::Cluster) {
            return Err(StartError::Mode(mode.to_owned()));
        }
        Ok(())
    }
}

/// Trusts the certificates of `ca`, or the system's where there is none.
fn tls_config(ca: Option<&Path>) -> Result<TlsConfig, StartError> {
    let unusable = |path: &Path, why: String| StartError::Ca(path.to_owned(), why);
    let Some(path) = ca else {
        let connector = TlsConnector::default_rustls();
        return connector.map(TlsConfig::from).map_err(|error| StartError::SystemCa(error.details().to_owned()));
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(path, error.to_string()))? {
        let certificate = certificate.map_err(|error| unusable(path, error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(path, error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable(path, "no certificate in it".to_owned()));
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConfig::from(TlsConnector::from(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connector(url: &str) -> Result<Connector, StartError> {
        let config = RedisConfig { url: url.to_owned(), ..RedisConfig::default() };
        Connector::new(&config, Arc::new(RedisMetrics::new(&prometheus::Registry::new()).unwrap()))
    }

    #[test]
    fn the_scheme_says_what_kind_of_redis_it_is() {
        let sentinel = "redis-sentinel://a:1?sentinelServiceName=s&node=b:2";
        for (url, kind, seeds) in [
            ("redis://u:p@host:6380/3", Kind::Single, 1),
            ("redis-cluster://a:1?node=b:2&node=c:3", Kind::Cluster, 3),
            (sentinel, Kind::Sentinel, 2),
        ] {
            let connector = connector(url).unwrap();
            assert_eq!((connector.kind, connector.seeds.len()), (kind, seeds), "{url}");
        }
    }

    #[test]
    fn only_the_scheme_is_rewritten() {
        let rediss = "rediss";
        for url in [format!("redis://u:{rediss}@{rediss}:1"), format!("redis-cluster://u:{rediss}@{rediss}:1")] {
            let connector = connector(&url).unwrap();
            assert_eq!(connector.template.password.as_deref(), Some(rediss), "{url}");
            assert_eq!(&*connector.seeds[0].host, rediss, "{url}");
        }
    }

    #[test]
    fn a_bad_url_is_refused_without_its_password() {
        for url in ["http://secret@host", "secret", "redis://:secret@host:99999", "redis-sentinel://:secret@a:1"] {
            let error = connector(url).err().expect(url).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
