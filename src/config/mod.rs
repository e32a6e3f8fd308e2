//! The configuration: read once from the environment, all faults reported at once, plain values from then on.
//!
//! This is the only reader of the environment. An empty variable is an unset one, and every variable `X` may be given
//! as `X_FILE`, the path of a file with the value (without its trailing line break). Files are followed while the node runs.

mod devices;
mod locale;
mod parse;
mod sign_in;
mod supervisor;
mod variables;
mod webhook;

use crate::api::device::SocketConfig;
use crate::api::{CorsOrigins, Secrets, Tokens};
use crate::cluster::redis::RedisConfig;
use crate::hub::{GapPolicy, frame};
use crate::model::{Limits, Opcode};
use crate::peer::{AddressHeader, Peers, TrustedProxies};
use crate::session::origins::AllowedOrigins;
use crate::session::profile::Profile;
use crate::session::profiles::Profiles;
use crate::session::sign_in::SignIn;
use crate::session::{IdleTimeouts, ProfileHeartbeats};
use crate::tls::TlsConfig;
use crate::webhook::{Secret, WebhookConfig};
use envconfig::Envconfig;
use parse::Reader;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use variables::Raw;
use webhook::RawWebhook;

pub use locale::locale;
pub use parse::Faults;
pub use supervisor::notify_socket;
pub(crate) use variables::names;
pub use variables::{VARIABLES, Variable, table};

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What may change while the node runs: when its files change, and on SIGHUP. It comes from the variables of `RELOADABLE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloadable {
    /// What opens the HTTP APIs and `/metrics`.
    pub secrets: Secrets,
    /// Who has to show a token at the handshake, and what it opens.
    pub sign_in: Arc<SignIn>,
    /// Which web pages may connect.
    pub allowed_origins: AllowedOrigins,
    /// Which web pages may call the HTTP APIs.
    pub cors_origins: CorsOrigins,
    /// What requests to the application are signed with.
    pub webhook_secret: Option<Secret>,
    /// Where the certificate is; whether there is one can't change.
    pub tls: Option<TlsConfig>,
    /// What is logged: a level, or a list of `module=level`.
    pub log: String,
}

/// Everything a node is told from outside.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address of the WebSocket port.
    pub ws_host: IpAddr,
    /// The WebSocket port; 0 takes a free one.
    pub ws_port: u16,
    /// Address of the HTTP port.
    pub http_host: IpAddr,
    /// The HTTP port; 0 takes a free one. May be the WebSocket port.
    pub http_port: u16,
    /// Whether the two are one port; they have the same address then.
    pub shared_port: bool,
    /// What an operator should know of these settings, for the log.
    pub warnings: Vec<String>,
    /// Whether the HTTP port speaks TLS as well.
    pub http_tls: bool,
    /// A port of its own for `/metrics`, `/livez` and `/readyz`, on the HTTP port's address.
    pub metrics_port: Option<u16>,
    /// The management port and its address.
    pub manager: Option<SocketAddr>,
    /// Name of the query parameter that holds the token.
    pub token_param: String,
    /// Which profile a path has.
    pub profiles: Profiles,
    /// Whether the WebSocket port answers requests that are no handshake: it has paths with the profile `center`, is not the
    /// HTTP port as well, and is guarded by a token or reached from this machine alone.
    pub plain_http: bool,
    /// Who is believed about where clients are.
    pub peers: Peers,
    /// What clients of each profile are sent again and again.
    pub heartbeats: ProfileHeartbeats,
    /// The device socket; none: there is none.
    pub unix_socket: Option<SocketConfig>,
    /// Whether clients of the profile `device` may send documents as to the device socket.
    pub device_client_actions: bool,
    /// How long clients of each profile may be silent.
    pub idle_timeouts: IdleTimeouts,
    /// Whether strings in messages of the profile `method` are escaped for HTML.
    pub method_escape_html: bool,
    /// The application that is told of connections; none: nobody is.
    pub webhook: Option<WebhookConfig>,
    /// Limits of clients and backends.
    pub limits: Limits,
    /// What is done about a gap.
    pub gap: GapPolicy,
    /// The cluster's Redis; none: the state is embedded.
    pub redis: Option<RedisConfig>,
    /// Time between being told to stop and closing sockets, for load balancers to notice.
    pub drain_delay: Duration,
    /// Time over which sockets are closed.
    pub drain_period: Duration,
    /// Worker threads of the runtime.
    pub workers: usize,
    /// Shards of the hub.
    pub shards: usize,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What may change while the node runs.
    pub reloadable: Reloadable,
    /// What else came by files: if that is another one later, it takes a restart.
    pub fixed: Fixed,
}

/// Values that came by files and can't change while the node runs, by their variables: a hash of each, as they may be secrets.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Fixed(BTreeMap<String, u64>);

impl Fixed {
    fn note(&mut self, variable: &str, value: &str) {
        if !variables::is_reloadable(variable) {
            let mut hasher = DefaultHasher::new();
            value.hash(&mut hasher);
            self.0.insert(variable.to_owned(), hasher.finish());
        }
    }

    /// The variables whose values are others now, or gone, or new.
    pub fn changes<'a>(&'a self, now: &'a Self) -> Vec<&'a str> {
        let names: BTreeSet<_> = self.0.keys().chain(now.0.keys()).collect();
        names.into_iter().filter(|name| self.0.get(*name) != now.0.get(*name)).map(String::as_str).collect()
    }
}

impl Config {
    /// Reads the environment of this process.
    pub fn from_env() -> Result<Self, Faults> {
        Self::from_variables(std::env::vars_os().filter_map(|(name, value)| {
            // A value that isn't Unicode is kept, changed, so that its variable is reported if it is one of ours.
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        }))
    }

    /// Reads variables from anywhere, for tests and for programs that have their own.
    pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let (values, fixed) = resolve(variables.into_iter().collect(), &mut faults);
        // Every field is an optional string, so this can't fail; what it finds is parsed below, every fault of it.
        let raw = match Raw::init_from_hashmap(&values) {
            Ok(raw) => raw,
            Err(error) => {
                faults.add("environment", "", &error.to_string());
                return Err(faults);
            }
        };
        Self::parse(raw, &values, fixed, faults)
    }

    fn parse(mut raw: Raw, values: &HashMap<String, String>, fixed: Fixed, faults: Faults) -> Result<Self, Faults> {
        let mut read = Reader { faults };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let defaults = Limits::default();
        let redis = RedisConfig::default();
        let sign_in = Arc::new(sign_in::sign_in(&mut read, &mut raw, values));

        let secrets = Secrets {
            api: Tokens::new(raw.http_token.as_deref(), raw.token.as_deref()),
            metrics: Tokens::new(raw.metrics_token.as_deref(), None),
        };
        let any: IpAddr = IpAddr::from([0, 0, 0, 0]);
        let default_http_host = if secrets.api.is_open() { IpAddr::from([127, 0, 0, 1]) } else { any };
        let http_host = read.address("HTTP_HOST", raw.http_host, default_http_host);
        let http_port = read.port("HTTP_PORT", raw.http_port, 8080);
        let mut warnings = Vec::new();
        if let (Some(port), Some(ws_port)) = (&raw.port, &raw.ws_port)
            && port != ws_port
        {
            warnings.push(format!("both PORT ({port}) and WS_PORT ({ws_port}) are set: PORT wins"));
        }
        // Both are read, as a fault is one in a value that doesn't count as well.
        let ws_port = read.port("WS_PORT", raw.ws_port, 8090);
        let ws_port = read.port("PORT", raw.port, ws_port);
        for (name, value) in [
            ("REGISTER_CENTER_PORT", raw.register_center_port),
            ("OTHER_REGISTER_CENTER_PORT", raw.other_register_center_port),
        ] {
            if value.is_some() {
                warnings.push(format!(
                    "{name} is ignored: there are no registration centres, nodes find each other by REDIS_URL"
                ));
            }
        }
        let shared_port = ws_port == http_port && http_port != 0;
        // Whoever shares the port shares its address, and that of the API is the one to be careful with.
        let ws_host = match raw.ws_host {
            Some(host) if shared_port => read.same_address("WS_HOST", host, http_host),
            None if shared_port => http_host,
            host => read.address("WS_HOST", host, any),
        };
        if secrets.api.is_open() && !http_host.is_loopback() {
            warnings.push(format!(
                "the HTTP API is open to everybody who reaches {http_host}: set HTTP_TOKEN, or HTTP_HOST=127.0.0.1"
            ));
        }
        let profiles = read.value("CLIENT_PROFILES", raw.client_profiles, Profiles::default());
        // The HTTP API without a token is for this machine alone, and the WebSocket port is usually for everybody.
        let plain_http = profiles.have(Profile::Center) && !shared_port;
        let guarded = !secrets.api.is_open() || ws_host.is_loopback();
        if plain_http && !guarded {
            warnings.push(format!(
                "events are not answered on the WebSocket port, as everybody who reaches {ws_host} could send them: set TOKEN"
            ));
        }
        let device_client_actions = read.flag("DEVICE_CLIENT_ACTIONS", raw.device_client_actions);
        if device_client_actions && profiles.have(Profile::Device) {
            warnings.push(
                "DEVICE_CLIENT_ACTIONS is set: every client of the profile device can push to everybody and have any device \
                 subscribed to any channel, to private ones where its own token allows them"
                    .to_owned(),
            );
        }
        let metrics_port = raw.metrics_port.map(|port| read.other_port("METRICS_PORT", port, &[ws_port, http_port]));
        let tls = read.tls(raw.tls_cert, raw.tls_key);
        let http_tls = match raw.http_tls {
            Some(text) if tls.is_none() && read.flag("HTTP_TLS", Some(text.clone())) => {
                read.faults.add("HTTP_TLS", &text, "true only with TLS_CERT and TLS_KEY");
                false
            }
            // One port speaks one protocol.
            text => read.flag("HTTP_TLS", text) || shared_port && tls.is_some(),
        };
        let manager_host = read.address("MANAGER_HOST", raw.manager_host, IpAddr::from([127, 0, 0, 1]));
        let others = [ws_port, http_port, metrics_port.unwrap_or(0)];
        let manager_port = raw.manager_port.map(|port| read.other_port("MANAGER_PORT", port, &others));
        let manager = manager_port.map(|port| SocketAddr::new(manager_host, port));
        let limits = Limits {
            max_message: read.bytes("MAX_MESSAGE", raw.max_message, defaults.max_message, 1),
            max_push: read.bytes("MAX_PUSH", raw.max_push, defaults.max_push, 1),
            max_body: read.bytes("MAX_BODY", raw.max_body, defaults.max_body, 1),
            handshake_timeout: read.duration("HANDSHAKE_TIMEOUT", raw.handshake_timeout, defaults.handshake_timeout),
            max_channels: read.number("MAX_CHANNELS", raw.max_channels, defaults.max_channels, 1..=1_000_000),
            max_groups: read.number("MAX_GROUPS", raw.max_groups, defaults.max_groups, 1..=1_000_000),
            max_unsent: read.bytes("MAX_UNSENT", raw.max_unsent, defaults.max_unsent, 0),
            max_connections: read.number("MAX_CONNECTIONS", raw.max_connections, 0, 0..=usize::MAX),
            max_connections_per_address: read.number(
                "MAX_CONNECTIONS_PER_ADDRESS",
                raw.max_connections_per_address,
                0,
                0..=usize::MAX,
            ),
            ping_interval: read.interval("PING_INTERVAL", raw.ping_interval, defaults.ping_interval),
            hub_queue: read.bytes("HUB_QUEUE", raw.hub_queue, defaults.hub_queue, 1 << 16),
            act_timeout: read.duration("ACT_TIMEOUT", raw.act_timeout, defaults.act_timeout),
            connect_timeout: read.duration("CONNECT_TIMEOUT", raw.connect_timeout, defaults.connect_timeout),
        };
        let gap = match (read.flag("GAP_CLOSE", raw.gap_close), raw.gap_message) {
            (true, None) => GapPolicy::Close,
            (false, Some(message)) => GapPolicy::Tell(frame::message(Opcode::Text, message.as_bytes())),
            (false, None) => GapPolicy::Count,
            (true, Some(message)) => {
                read.faults.add("GAP_MESSAGE", &message, "nothing, as GAP_CLOSE is set: one of the two");
                GapPolicy::Count
            }
        };
        // All of it is read without REDIS_URL as well: a fault is one all the same.
        let redis_url = raw.redis_url.map(|url| read.redis_url("REDIS_URL", url));
        let redis = RedisConfig {
            url: String::new(),
            prefix: read.prefix("REDIS_PREFIX", raw.redis_prefix, &redis.prefix),
            ca: raw.redis_ca.and_then(|path| read.file("REDIS_CA", path)),
            node_lease: read.lease("NODE_LEASE", raw.node_lease, redis.node_lease),
            allow_eviction: read.flag("REDIS_ALLOW_EVICTION", raw.redis_allow_eviction),
            pool_size: read.number("REDIS_POOL", raw.redis_pool, redis.pool_size, 1..=1000),
            redeliver_after: redis.redeliver_after,
            reap_delay: redis.reap_delay,
        };
        if profiles.have(Profile::Method) && !sign_in.required.contains(&Profile::Method) {
            warnings.push(
                "clients of the profile method need no token, so its messages have no auth: set AUTH_KEY or a key for JWTs"
                    .to_owned(),
            );
        }
        let raw_webhook = RawWebhook {
            url: raw.webhook_url,
            ca: raw.webhook_ca,
            events: raw.webhook_events,
            timeout: raw.webhook_timeout,
            concurrency: raw.webhook_concurrency,
            queue: raw.webhook_queue,
            close_max_age: raw.webhook_close_max_age,
            open_required: raw.webhook_open_required,
        };
        let webhook = webhook::webhook(&mut read, raw_webhook, values);
        let webhook_secret = raw.webhook_secret.map(Secret::new);
        if webhook.is_some() && webhook_secret.is_none() {
            warnings.push(
                "requests to WEBHOOK_URL are not signed, so anybody could send such: set WEBHOOK_SECRET".to_owned(),
            );
        }
        let config = Self {
            ws_host,
            ws_port,
            http_host,
            http_port,
            shared_port,
            warnings,
            http_tls,
            metrics_port,
            manager,
            token_param: read.parameter("HTTP_PARAM", raw.http_param, "token"),
            profiles,
            plain_http: plain_http && guarded,
            peers: Peers {
                trusted: read.value("TRUSTED_PROXIES", raw.trusted_proxies, TrustedProxies::default()),
                header: read.choice(
                    "CLIENT_ADDRESS_HEADER",
                    raw.client_address_header,
                    &[
                        ("auto", AddressHeader::Auto),
                        ("x-real-ip", AddressHeader::RealIp),
                        ("x-forwarded-for", AddressHeader::ForwardedFor),
                        ("none", AddressHeader::Ignored),
                    ],
                ),
                proxy_protocol: read.flag("PROXY_PROTOCOL", raw.proxy_protocol),
            },
            heartbeats: devices::heartbeats(&mut read, raw.heartbeat_interval, raw.heartbeat_message, values),
            unix_socket: devices::unix_socket(&mut read, raw.unix_socket, raw.unix_socket_mode, raw.unix_socket_strict),
            device_client_actions,
            idle_timeouts: webhook::idle_timeouts(&mut read, raw.idle_timeout, values),
            method_escape_html: read.flag("METHOD_ESCAPE_HTML", raw.method_escape_html),
            webhook,
            limits,
            gap,
            redis: redis_url.map(|url| RedisConfig { url, ..redis }),
            drain_delay: read.duration("DRAIN_DELAY", raw.drain_delay, Duration::ZERO),
            drain_period: read.duration("DRAIN_PERIOD", raw.drain_period, Duration::from_secs(20)),
            workers: read.number("WORKERS", raw.workers, cores, 1..=1024),
            shards: read.number("HUB_SHARDS", raw.hub_shards, cores, 1..=1024),
            log_format: read.choice(
                "LOG_FORMAT",
                raw.log_format,
                &[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)],
            ),
            reloadable: Reloadable {
                secrets,
                tls,
                sign_in,
                allowed_origins: read.value("ALLOWED_ORIGINS", raw.allowed_origins, AllowedOrigins::default()),
                cors_origins: read.value("CORS_ORIGINS", raw.cors_origins, CorsOrigins::default()),
                webhook_secret,
                log: read.filter("LOG", raw.log, "info"),
            },
            fixed,
        };
        if read.faults.is_empty() { Ok(config) } else { Err(read.faults) }
    }
}

/// Empty is unset, and `X_FILE` is the file with the value of `X`.
fn resolve(mut variables: HashMap<String, String>, faults: &mut Faults) -> (HashMap<String, String>, Fixed) {
    let mut fixed = Fixed::default();
    variables.retain(|_, value| !value.is_empty());
    for name in variables::names() {
        let file_name = format!("{name}_FILE");
        let Some(path) = variables.remove(&file_name) else { continue };
        if variables.contains_key(&name) {
            faults.add(&file_name, &path, &format!("nothing, as {name} is set: one of the two"));
            continue;
        }
        match std::fs::read_to_string(Path::new(&path)) {
            Ok(value) => {
                let value = value.trim_end_matches(['\r', '\n']);
                fixed.note(&name, value);
                if !value.is_empty() {
                    variables.insert(name, value.to_owned());
                }
            }
            Err(error) => faults.add(&file_name, &path, &format!("the path of a readable text file ({error})")),
        }
    }
    (variables, fixed)
}
