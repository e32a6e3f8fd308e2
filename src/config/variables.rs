//! Every environment variable, once: its name, its default and what it means.
//!
//! The table in the README is made from here (`carillon config`).

use crate::session::profile::Profile;
use envconfig::Envconfig;

/// One variable of the environment.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Its default, as one would write it.
    pub default: &'static str,
    /// What it means, with its unit.
    pub meaning: &'static str,
}

/// Variables that a profile may have a value of its own for: that one's name has the profile's at its end.
const OF_PROFILES: [&str; 5] =
    ["AUTH_REQUIRED", "HEARTBEAT_INTERVAL", "HEARTBEAT_MESSAGE", "IDLE_TIMEOUT", "WEBHOOK_EVENTS"];

/// Variables whose values are taken over while the node runs, when their files change.
const RELOADABLE: [&str; 20] = [
    "HTTP_TOKEN",
    "TOKEN",
    "METRICS_TOKEN",
    "TLS_CERT",
    "TLS_KEY",
    "AUTH_REQUIRED",
    "AUTH_PARAM",
    "JWT_SECRET",
    "JWT_PUBLIC_KEY",
    "JWT_JWKS",
    "JWT_ISSUER",
    "JWT_AUDIENCE",
    "AUTH_KEY",
    "AUTH_MAX_AGE",
    "AUTH_LEEWAY",
    "PRIVATE_CHANNELS",
    "WEBHOOK_SECRET",
    "ALLOWED_ORIGINS",
    "CORS_ORIGINS",
    "LOG",
];

/// Whether a variable's value can be another one while the node runs, a single profile's included.
pub(super) fn is_reloadable(name: &str) -> bool {
    let is = |of: &&str| {
        name == *of || OF_PROFILES.contains(of) && name.strip_prefix(*of).is_some_and(|end| end.starts_with('_'))
    };
    RELOADABLE.iter().any(is)
}

/// The name of the variable for one profile's own value.
pub(super) fn of_profile(name: &str, profile: Profile) -> String {
    format!("{name}_{}", profile.as_str().to_ascii_uppercase())
}

/// The names of all variables that a node reads, those of single profiles too.
pub(crate) fn names() -> impl Iterator<Item = String> {
    let of_profiles = OF_PROFILES.iter().flat_map(|name| Profile::ALL.map(|profile| of_profile(name, profile)));
    VARIABLES.iter().map(|variable| variable.name.to_owned()).chain(of_profiles)
}

/// The meaning, with the names for single profiles where there are such.
fn explained(name: &str, meaning: &str) -> String {
    if !OF_PROFILES.contains(&name) {
        return meaning.to_owned();
    }
    let own: Vec<String> = Profile::ALL.iter().map(|profile| format!("`{}`", of_profile(name, *profile))).collect();
    format!("{meaning} A profile's own value: {}.", own.join(", "))
}

/// All variables for people: lines, or the README's table. A mark is on those that are followed while the node runs.
pub fn table(markdown: bool) -> String {
    let mut table = String::new();
    if markdown {
        table.push_str("| variable | default | meaning |\n|---|---|---|\n");
    }
    for Variable { name, default, meaning } in VARIABLES {
        let meaning = explained(name, meaning);
        let mark = if is_reloadable(name) { " ↻" } else { "" };
        if markdown {
            let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
            table.push_str(&format!("| `{name}`{mark} | {default} | {meaning} |\n"));
        } else {
            let default = if default.is_empty() { String::new() } else { format!(" [{default}]") };
            table.push_str(&format!("{name}{mark}{default}\n    {}\n", meaning.replace('`', "")));
        }
    }
    table
}

macro_rules! variables {
    ($($name:literal $field:ident $default:literal $meaning:literal)*) => {
        /// The variables as they were found, none of them looked at yet.
        #[derive(Envconfig)]
        pub(super) struct Raw {
            $(#[envconfig(from = $name)] pub(super) $field: Option<String>,)*
        }

        /// Every variable that a node reads, in the order of the README's table.
        pub const VARIABLES: &[Variable] =
            &[$(Variable { name: $name, default: $default, meaning: $meaning },)*];
    };
}

variables! {
    "WS_HOST" ws_host "0.0.0.0" "Address that the WebSocket port listens on; that of the HTTP port where they are one port."
    "WS_PORT" ws_port "8090" "The WebSocket port. It may be the HTTP port too; 0 takes a free one."
    "PORT" port "" "Another name for `WS_PORT`; it wins if both are set."
    "REGISTER_CENTER_PORT" register_center_port "" "Ignored, with a warning: what registration centres were for is `REDIS_URL`."
    "OTHER_REGISTER_CENTER_PORT" other_register_center_port "" "Ignored in the same way."
    "HTTP_HOST" http_host "127.0.0.1 without a token, 0.0.0.0 with one" "Address that the HTTP port listens on."
    "HTTP_PORT" http_port "8080" "The HTTP port: the API that backends use, metrics and health; 0 takes a free one."
    "HTTP_TOKEN" http_token "" "A token that opens the HTTP API, taken whole. Without any the API is open."
    "TOKEN" token "" "Further tokens that open the HTTP API, separated by commas."
    "HTTP_PARAM" http_param "token" "Name of the query parameter that holds the token. `Authorization: Bearer` is taken as well."
    "METRICS_PORT" metrics_port "" "A port of its own for `/metrics`, `/livez` and `/readyz`."
    "METRICS_TOKEN" metrics_token "" "The bearer token that `/metrics` asks for. Without it the page is open."
    "TLS_CERT" tls_cert "" "The WebSocket port's certificate with its chain, PEM: the path of a file, or the PEM itself. Connections stay when it changes."
    "TLS_KEY" tls_key "" "The certificate's private key, PEM: the path of a file, or the PEM itself."
    "HTTP_TLS" http_tls "false" "Whether the HTTP port speaks TLS as well, with the same certificate. `METRICS_PORT` never does."
    "MANAGER_PORT" manager_port "" "A port for operators: a WebSocket that takes `{\"method\":\"status\"}`, and `reload`, `stop` and `say`. Without it the `carillon` command uses the HTTP port."
    "MANAGER_HOST" manager_host "127.0.0.1" "Address that the management port listens on. Without a token of the HTTP API only operators of this machine are heard there."
    "TRUSTED_PROXIES" trusted_proxies "127.0.0.0/8,::1" "Proxies whose word about their clients' addresses counts: IP addresses and networks (`10.0.0.0/8`), separated by commas, or `none`."
    "CLIENT_ADDRESS_HEADER" client_address_header "auto" "The header that they name a client in: `x-real-ip`, `x-forwarded-for`, `none`, or `auto`: X-Real-IP, and X-Forwarded-For where that is missing. It has to be one that they set themselves."
    "PROXY_PROTOCOL" proxy_protocol "false" "Whether connections of trusted proxies to the WebSocket port and the HTTP port begin with a header of the PROXY protocol (version 1 or 2); they must then."
    "CLIENT_PROFILES" client_profiles "/=channel" "Which profile WebSocket clients have, by path prefix (`/app=center,/=channel`); the longest prefix wins, on whole path segments. Known are `channel`, `center`, `device` and `method`."
    "AUTH_REQUIRED" auth_required "false, with profile method true once there is a key" "Whether clients have to show a token at the handshake; those without one get 403. Needs a key."
    "AUTH_PARAM" auth_param "auth" "Name of the query parameter that holds a client's token. `Authorization: Bearer` is taken as well."
    "JWT_SECRET" jwt_secret "" "The secret of clients' tokens with HS256, at least 32 bytes."
    "JWT_PUBLIC_KEY" jwt_public_key "" "The public key (PEM) of clients' tokens: RSA for RS256, P-256 for ES256, Ed25519 for EdDSA."
    "JWT_JWKS" jwt_jwks "" "A file with a JWK Set: further keys, chosen by a token's `kid`."
    "JWT_ISSUER" jwt_issuer "" "The `iss` that a JWT has to have. Without it any will do."
    "JWT_AUDIENCE" jwt_audience "" "The `aud` that a JWT has to have, alone or among others. Without it one that has any is refused."
    "AUTH_KEY" auth_key "" "The key of clients' tokens in the older form, Triple DES; up to 24 bytes."
    "AUTH_MAX_AGE" auth_max_age "0" "Seconds after its `ctime` (or `iat`) that a token is taken, whatever its `exp`. 0 is no limit."
    "AUTH_LEEWAY" auth_leeway "10" "Seconds by which the clock of who made a token may differ."
    "PRIVATE_CHANNELS" private_channels "" "Channels (`staff,room:*`) that clients may subscribe to with a token that allows it only, separated by commas; others get 403."
    "HEARTBEAT_INTERVAL" heartbeat_interval "0, with profile device 60s" "Time between two heartbeats to a client, spread so that not all have theirs at once. 0 sends none, else at least 500ms."
    "HEARTBEAT_MESSAGE" heartbeat_message "{\"action\":\"hb\"}" "The text of a heartbeat."
    "IDLE_TIMEOUT" idle_timeout "0, with profile method 60s" "How long a client may send neither a message nor a part of one before it is closed with 4010; pongs and pushes don't count. 0 is for ever."
    "METHOD_ESCAPE_HTML" method_escape_html "false" "Whether `& < > \"` in the strings of messages of the profile `method` are escaped for HTML before anybody is told them."
    "WEBHOOK_URL" webhook_url "" "The application that is told of connections and messages: an `http` or `https` URL. Without it nobody is."
    "WEBHOOK_SECRET" webhook_secret "" "The secret that requests to it are signed with. Without it they are not signed."
    "WEBHOOK_CA" webhook_ca "" "File with the certificates (PEM) that an `https` application's must be signed by, instead of the system's."
    "WEBHOOK_EVENTS" webhook_events "open,message,close" "What it is told, separated by commas, or `none`; `channel_occupied` and `channel_vacated` are told where they are named here, for all profiles alike. Where it is told of messages its answers take the place of the profile's."
    "WEBHOOK_TIMEOUT" webhook_timeout "5s" "Time that a request to it may take, waiting for its turn included; at least 100ms."
    "WEBHOOK_CONCURRENCY" webhook_concurrency "64" "Requests to it under way at once; `close` events take half of them at most."
    "WEBHOOK_QUEUE" webhook_queue "16MiB" "Events that may wait for it; beyond it messages fail and handshakes are refused with 503. `close` events may take as much again, beyond which the oldest are given up."
    "WEBHOOK_CLOSE_MAX_AGE" webhook_close_max_age "1h" "How long a `close` event is sent again until it is taken."
    "WEBHOOK_OPEN_REQUIRED" webhook_open_required "true" "Whether a connection is refused with 503 where the application can't be asked about it."
    "UNIX_SOCKET" unix_socket "" "Path of the device socket, a unix socket that backends write JSON documents to. Without it there is none."
    "UNIX_SOCKET_MODE" unix_socket_mode "0660" "Permission bits of the device socket's file, octal: who may write may push."
    "UNIX_SOCKET_STRICT" unix_socket_strict "false" "Whether a document that asks for nothing that can be done is answered with `ERR` and the reason, not with `OK`."
    "DEVICE_CLIENT_ACTIONS" device_client_actions "false" "Whether clients of the profile `device` may send documents as to the device socket. Then each of them can push to everybody, and have any device subscribed to any channel that it might be subscribed to itself."
    "ALLOWED_ORIGINS" allowed_origins "" "Origins (`https://example.org`) that browsers may connect from, separated by commas. Without any, all."
    "CORS_ORIGINS" cors_origins "" "Origins whose pages may call the HTTP APIs, separated by commas, or `*` for all. Without any, all may call the events API and none the actions API."
    "REDIS_URL" redis_url "" "The cluster's Redis: `redis://`, `redis-sentinel://` or `redis-cluster://`, with TLS `rediss://`, `rediss-sentinel://` or `rediss-cluster://`. Without it the node runs alone, its state embedded."
    "REDIS_PREFIX" redis_prefix "carillon:" "In front of every key and pub/sub channel; two clusters on one Redis need two."
    "REDIS_CA" redis_ca "" "File with the certificates (PEM) that the Redis server's must be signed by, instead of the system's."
    "REDIS_POOL" redis_pool "8" "Redis connections for reads and housekeeping, beside those for registration, publishing and subscriptions."
    "REDIS_ALLOW_EVICTION" redis_allow_eviction "false" "Whether a Redis that evicts keys under memory pressure is put up with: it loses members unseen."
    "NODE_LEASE" node_lease "10s" "How long a node may be silent before the others take it for dead; at least 2s."
    "MAX_CONNECTIONS" max_connections "0" "WebSocket connections of this node; more are refused with 503. 0 is no limit."
    "MAX_CONNECTIONS_PER_ADDRESS" max_connections_per_address "0" "WebSocket connections of this node from one client address (of IPv6, from one /64); more are refused with 429. 0 is no limit."
    "MAX_CHANNELS" max_channels "1000" "Channels of one connection; more are refused with 400."
    "MAX_GROUPS" max_groups "1000" "Groups of one connection; joining more is refused."
    "MAX_MESSAGE" max_message "2MiB" "Size of a client's message, fragments together; more closes the connection with 1009."
    "MAX_PUSH" max_push "1MiB" "Size of a push; more is refused."
    "MAX_BODY" max_body "8MiB" "Size of an HTTP request's body; more is refused."
    "MAX_UNSENT" max_unsent "1MiB" "What a connection may be owed beyond the frame being written; more closes it with 4008."
    "HUB_QUEUE" hub_queue "64MiB" "Pushes that may wait in this node for their sockets; beyond it they are dropped and counted as a gap."
    "GAP_MESSAGE" gap_message "" "A text that is sent to connections that may have missed a push."
    "GAP_CLOSE" gap_close "false" "Whether connections that may have missed a push are closed with 4009."
    "PING_INTERVAL" ping_interval "25s" "Time between two pings to a client; one that is silent for two more is dead. 0 sends none, else at least 500ms."
    "HANDSHAKE_TIMEOUT" handshake_timeout "10s" "Time a client has for sending its request's headers."
    "CONNECT_TIMEOUT" connect_timeout "5s" "How long a new connection waits for Redis to take it before it is refused with 503."
    "ACT_TIMEOUT" act_timeout "2s" "How long a call waits for another node's answer."
    "DRAIN_DELAY" drain_delay "0s" "Time between being told to stop and closing sockets, for load balancers to notice."
    "DRAIN_PERIOD" drain_period "20s" "Time over which the sockets are closed (1001) when the node stops."
    "WORKERS" workers "the number of cores" "Worker threads."
    "HUB_SHARDS" hub_shards "the number of cores" "Shards that the sockets are divided into; each is written to by one task."
    "LOG" log "info" "What is logged: `error`, `warn`, `info`, `debug`, `trace`, or by module (`info,carillon::cluster=debug`)."
    "LOG_FORMAT" log_format "auto" "`text`, `json`, or `auto`: text on a terminal, JSON otherwise."
}
