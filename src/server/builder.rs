//! Putting a server together.

use super::controllers::{Controller, Controllers};
use super::handle::Handle;
use super::hooks::Hooks;
use super::middleware::{Handler, HttpHandler, Middleware, Mounted};
use super::program::{Over, Program, Told};
use super::request::{Reading, Request};
use super::settings::{FOR_EVER, check, countable};
use super::{ORDERS, Profile, Server};
use crate::api::{Api, Tokens};
use crate::cluster::redis::RedisConfig;
use crate::config::{Config, Faults};
use crate::model::Limits;
use crate::node::{Extras, HttpPort, Node, Overlay, StartError};
use crate::session::PlainHttp;
use crate::session::handler::Routes;
use crate::tls::{Source, TlsConfig};
use http_body_util::{BodyExt, Full};
use prometheus::Registry;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// How long handlers may go on when the server stops, unless the program says otherwise.
const HANDLER_GRACE: Duration = Duration::from_secs(10);

/// How long a call of a hook or a controller may take, unless the program says otherwise.
const HOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// What was set can't be.
    #[error("{0}")]
    Faults(#[from] Faults),
    /// A port can't be opened, or something that the server needs is not to be had.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A listener can't be used.
    #[error("listener can't be used: {0}")]
    Listener(#[from] std::io::Error),
    /// No variable of the binary has this name.
    #[error("variable {0:?} is unknown: `carillon config` lists them")]
    Variable(String),
    /// This variable says nothing to a server that is put together by a program: the builder has a method for it, or it is about
    /// the binary's own process.
    #[error("variable {0:?} is the binary's alone: see the builder's methods")]
    OwnMethod(String),
    /// This was set, and there is nothing in it, as where a program has not found what it looked for. What a key or token guards
    /// would be open to everybody.
    #[error("{0} is empty: leave it out where there is none")]
    Empty(String),
    /// A controller can't have this name.
    #[error("controller {0:?} is not of the form Module.Controller")]
    Controller(String),
    /// The HTTP APIs are [mounted](Builder::mount_api) where clients connect, at this address, and there is no token.
    #[error("the http apis are mounted without a token, so that everybody who reaches {0} could push")]
    OpenApi(SocketAddr),
    /// Signals can't be received.
    #[error("signals can't be received: {0}")]
    Signals(std::io::Error),
}

/// A server that is being put together; see [`Server::builder`]. Nothing is checked before [`start`](Self::start), and nothing is
/// read from the environment. Times have no upper limit: `Duration::MAX` is for ever.
#[must_use]
pub struct Builder {
    limits: Limits,
    redis: Option<RedisConfig>,
    listen: SocketAddr,
    listener: Option<std::net::TcpListener>,
    api: Option<ApiPort>,
    token: Option<String>,
    tls: Option<TlsConfig>,
    trusted_proxies: Option<String>,
    idle_timeout: Duration,
    drain_delay: Duration,
    drain_period: Duration,
    grace: Duration,
    registry: Registry,
    around: Vec<Arc<dyn Middleware>>,
    routes: Vec<(String, Leads)>,
    hooks: Option<Arc<dyn Hooks>>,
    hook_timeout: Duration,
    controllers: Vec<(String, Arc<dyn Controller>)>,
    variables: Vec<(String, String)>,
}

enum ApiPort {
    At(SocketAddr),
    Given(std::net::TcpListener),
}

/// What a path leads to.
enum Leads {
    Handler(Arc<dyn Handler>),
    Profile(Profile),
    Http(Arc<dyn HttpHandler>),
    Api,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            limits: Limits::default(),
            redis: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            listener: None,
            api: None,
            token: None,
            tls: None,
            trusted_proxies: None,
            idle_timeout: Duration::ZERO,
            drain_delay: Duration::ZERO,
            drain_period: Duration::from_secs(20),
            grace: HANDLER_GRACE,
            registry: Registry::new(),
            around: Vec::new(),
            routes: Vec::new(),
            hooks: None,
            hook_timeout: HOOK_TIMEOUT,
            controllers: Vec::new(),
            variables: Vec::new(),
        }
    }

    /// Clients connect to this address; port 0 takes a free one. The default is a free port of this machine's loopback.
    pub fn listen(mut self, address: impl Into<SocketAddr>) -> Self {
        self.listen = address.into();
        self
    }

    /// Clients connect to this socket.
    pub fn listener(mut self, listener: std::net::TcpListener) -> Self {
        self.listener = Some(listener);
        self
    }

    /// The server speaks TLS 1.2 and 1.3 with its clients: the certificate with its chain, and the private key, each as PEM or as the
    /// path of a file, which is read again when it changes.
    pub fn tls(mut self, certificate: impl Into<String>, key: impl Into<String>) -> Self {
        self.tls = Some(TlsConfig { certificate: Source::new(certificate.into()), key: Source::new(key.into()) });
        self
    }

    /// The server is a node of the cluster on this Redis: `redis://`, `rediss://`, `redis-sentinel://` or `redis-cluster://`.
    /// Without it the server is alone and keeps its state itself.
    pub fn redis(self, url: impl Into<String>) -> Self {
        self.redis_config(RedisConfig { url: url.into(), ..RedisConfig::default() })
    }

    /// The same with all that there is to say about it.
    pub fn redis_config(mut self, config: RedisConfig) -> Self {
        self.redis = Some(config);
        self
    }

    /// What clients and publishers may do: bytes of a message, connections, pings and so on.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Whose word about a client's address counts (`X-Real-IP`, `X-Forwarded-For`): the addresses and networks (CIDR) of proxies, with
    /// commas between them, or `none`. The default is this machine's own.
    pub fn trusted_proxies(mut self, addresses: impl Into<String>) -> Self {
        self.trusted_proxies = Some(addresses.into());
        self
    }

    /// Clients of handlers that send no message for so long are closed with 4010; zero, the default, is for ever.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = limit;
        self
    }

    /// When the server stops it goes on accepting for `delay`, for load balancers to notice that it is not ready, and then closes
    /// its connections spread over `period`. The defaults are zero and 20 seconds.
    pub fn drain(mut self, delay: Duration, period: Duration) -> Self {
        (self.drain_delay, self.drain_period) = (delay, period);
        self
    }

    /// How long handlers may go on when the server stops, from when all its connections are over: [`Connection::recv`] has said so,
    /// and what they still publish goes out. HTTP handlers have as long for their answers, from when nobody new is let in. The default
    /// is 10 seconds. Then a handler for requests is dropped; one for connections is left behind, and what it publishes refused.
    ///
    /// [`Connection::recv`]: super::Connection::recv
    pub fn handler_grace(mut self, limit: Duration) -> Self {
        self.grace = limit;
        self
    }

    /// Whoever pushes through the HTTP APIs has to show this token. It can't be empty.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Backends reach the HTTP APIs, `/metrics`, `/livez`, `/readyz` and the console at this address. Without a
    /// [`token`](Self::token) that should be one of this machine's own: a warning is logged where it isn't.
    pub fn api(mut self, address: impl Into<SocketAddr>) -> Self {
        self.api = Some(ApiPort::At(address.into()));
        self
    }

    /// The same on this socket.
    pub fn api_listener(mut self, listener: std::net::TcpListener) -> Self {
        self.api = Some(ApiPort::Given(listener));
        self
    }

    /// The server's metrics go into this registry of the program's.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// WebSocket connections to paths that begin with `prefix` are served by `handler`. Upper and lower case are one, the longest
    /// prefix wins, and `/` is for all others; a path with no handler is answered with 404. A prefix is the beginning of a text:
    /// `/room` is for `/roommates` as well, `/room/` is not.
    pub fn handle(self, prefix: &str, handler: impl Handler) -> Self {
        self.leads(prefix, Leads::Handler(Arc::new(handler)))
    }

    /// WebSocket connections to these paths have one of the binary's profiles.
    pub fn profile(self, prefix: &str, profile: Profile) -> Self {
        self.leads(prefix, Leads::Profile(profile))
    }

    /// Requests to these paths that are no WebSocket handshakes are answered by `handler`; so are handshakes where there is no
    /// handler for them.
    pub fn handle_http(self, prefix: &str, handler: impl HttpHandler) -> Self {
        self.leads(prefix, Leads::Http(Arc::new(handler)))
    }

    /// Requests to these paths are calls of the two HTTP APIs, as on a port of their own: see [`api`](Self::api). Clients reach them
    /// too, so that they need a [`token`](Self::token) unless the server listens to this machine alone.
    pub fn mount_api(self, prefix: &str) -> Self {
        self.leads(prefix, Leads::Api)
    }

    /// Something stands before all handlers of WebSocket connections; the first one that is added is the outermost.
    pub fn middleware(mut self, middleware: impl Middleware) -> Self {
        self.around.push(Arc::new(middleware));
        self
    }

    /// The program is told of clients of the [profiles](Self::profile); see [`Hooks`]. In place of others that were given before.
    /// What fails is counted: `carillon_hooks_failed_total` and others beginning like this are among the server's metrics.
    pub fn hooks(mut self, hooks: impl Hooks) -> Self {
        self.hooks = Some(Arc::new(hooks));
        self
    }

    /// How long one call of a hook or a controller may take; the default is 10 seconds. What takes longer is ended, and has failed.
    pub fn hook_timeout(mut self, limit: Duration) -> Self {
        self.hook_timeout = limit;
        self
    }

    /// Clients of [`Profile::Method`] that call `Module.Controller.method` are served by this controller, of the name
    /// `Module.Controller`, or `Controller` in the module `Index`. Upper and lower case are one. A call of another controller
    /// goes to the [webhook](Self::webhook) if there is one; else its client is told 404 `controllerNotFound`, but for
    /// `index.index.index`, which is built in.
    pub fn controller(mut self, name: &str, controller: impl Controller) -> Self {
        self.controllers.push((name.to_owned(), Arc::new(controller)));
        self
    }

    /// An application behind this `http` or `https` URL is told of clients of the [profiles](Self::profile) by requests that are signed
    /// with `secret`, and answers with what is to be done, as it is with the binary. More about it is said by
    /// [`variable`](Self::variable)s: `WEBHOOK_EVENTS`, `WEBHOOK_TIMEOUT` and so on.
    pub fn webhook(self, url: impl Into<String>, secret: impl Into<String>) -> Self {
        self.variable("WEBHOOK_URL", url).variable("WEBHOOK_SECRET", secret)
    }

    /// Clients sign in with Triple DES tokens by this key of at most 24 bytes, those of [`Profile::Method`] have to. What a token
    /// says is in [`Asking::claims`](super::Asking::claims) and [`Client::claims`](super::Client::claims); its `id` becomes the
    /// connection's user, its `code` its group. For those who have such tokens; see [`jwt_secret`](Self::jwt_secret).
    pub fn auth_key(self, key: impl Into<String>) -> Self {
        self.variable("AUTH_KEY", key)
    }

    /// The same with JSON Web Tokens (HS256) by this secret of at least 32 bytes. Both forms may be in use; for public keys and
    /// further rules there are [`variable`](Self::variable)s: `JWT_PUBLIC_KEY`, `JWT_ISSUER`, `AUTH_REQUIRED`, `AUTH_MAX_AGE` and so on.
    pub fn jwt_secret(self, secret: impl Into<String>) -> Self {
        self.variable("JWT_SECRET", secret)
    }

    /// Anything else by which the binary is configured, as its variable (`carillon config` lists them) and value. What has a method
    /// of its own here, ports, Redis, TLS, limits, the APIs' token, is refused, and so is an empty value.
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    fn leads(mut self, prefix: &str, leads: Leads) -> Self {
        self.routes.push((prefix.to_owned(), leads));
        self
    }

    /// Opens the ports and joins the cluster. With Redis away this succeeds as well: clients are refused until it is there.
    ///
    /// # Errors
    /// [`BuildError`].
    pub async fn start(self) -> Result<Server, BuildError> {
        check(&self.variables)?;
        for (what, set) in [("token", &self.token), ("trusted_proxies", &self.trusted_proxies)] {
            if set.as_ref().is_some_and(String::is_empty) {
                return Err(BuildError::Empty(what.to_owned()));
            }
        }
        let ws = self.listener.map(taken).transpose()?;
        let mounts_api = self.routes.iter().any(|(_, leads)| matches!(leads, Leads::Api));
        if mounts_api && Tokens::new(self.token.as_deref(), None).is_open() {
            let address = ws.as_ref().map_or(Ok(self.listen), TcpListener::local_addr)?;
            if !address.ip().is_loopback() {
                return Err(BuildError::OpenApi(address));
            }
        }
        let (service, api) = (Arc::new(OnceLock::new()), Arc::new(OnceLock::new()));
        let handle = Handle(service.clone());
        let trusted = self.trusted_proxies.map(|addresses| ("TRUSTED_PROXIES".to_owned(), addresses));
        let mut config = Config::from_variables(self.variables.into_iter().chain(trusted))?;
        config.ws_host = self.listen.ip();
        config.ws_port = self.listen.port();
        config.shared_port = false;
        config.limits = countable(self.limits);
        config.redis = self.redis;
        config.drain_delay = self.drain_delay.min(FOR_EVER);
        config.drain_period = self.drain_period.min(FOR_EVER);
        config.idle_timeouts.handlers = self.idle_timeout;
        config.reloadable.secrets.api = Tokens::new(self.token.as_deref(), None);
        config.reloadable.tls = self.tls;
        let http = match self.api {
            Some(ApiPort::At(address)) => {
                (config.http_host, config.http_port) = (address.ip(), address.port());
                HttpPort::Configured
            }
            Some(ApiPort::Given(listener)) => HttpPort::Given(taken(listener)?),
            None => HttpPort::None,
        };
        let api_at = match &http {
            HttpPort::Configured => Some(config.http_host),
            HttpPort::Given(listener) => Some(listener.local_addr()?.ip()),
            HttpPort::None => None,
        };
        if let Some(host) = api_at.filter(|host| self.token.is_none() && !host.is_loopback()) {
            config.warnings.push(format!("the HTTP API is open to everybody who reaches {host}: it has no token"));
        }
        let reading = Reading {
            peers: Arc::new(config.peers.clone()),
            limits: Arc::new(config.limits.clone()),
            handle: handle.clone(),
        };
        let around: Arc<[Arc<dyn Middleware>]> = self.around.into();
        let mut routes = Routes::alone();
        for (prefix, leads) in self.routes {
            match leads {
                Leads::Handler(handler) => {
                    let (around, handle) = (around.clone(), handle.clone());
                    routes.handle(&prefix, Arc::new(Mounted { around, handler, handle }));
                }
                Leads::Profile(profile) => routes.profile(&prefix, profile.into()),
                Leads::Http(handler) => routes.http(&prefix, answered_by(handler, reading.clone())),
                Leads::Api => routes.http(&prefix, answered_by_api(api.clone())),
            }
        }
        let mut controllers = Controllers::default();
        for (name, controller) in self.controllers {
            if !controllers.insert(&name, controller) {
                return Err(BuildError::Controller(name));
            }
        }
        let told = Told { hooks: self.hooks, controllers, limit: self.hook_timeout, kept: config.redis.is_some() };
        let hooks = if told.is_nobody() {
            None
        } else {
            let program = Program::new(told, handle.clone(), &self.registry).map_err(StartError::from)?;
            Some(Arc::new(Over(program)) as Arc<dyn Overlay>)
        };
        let grace = Some(self.grace.min(FOR_EVER));
        let extras =
            Extras { registry: self.registry, ws, http, routes, hooks, service, api, grace, ..Extras::default() };
        let (orders, received) = mpsc::channel(ORDERS);
        let node = Node::start(config, extras, orders.clone()).await?;
        Ok(Server { node, handle, orders, received, signals: None })
    }
}

fn taken(listener: std::net::TcpListener) -> std::io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn answered_by(handler: Arc<dyn HttpHandler>, reading: Reading) -> PlainHttp {
    Arc::new(move |request, peer| {
        let request = Request::new(request, peer, &reading.peers, &reading.limits, reading.handle.clone());
        let answer = handler.answer(request);
        Box::pin(
            async move { answer.await.0.map(|bytes| Full::new(bytes).map_err(|never| match never {}).boxed_unsync()) },
        )
    })
}

fn answered_by_api(api: Arc<OnceLock<Arc<Api>>>) -> PlainHttp {
    Arc::new(move |request, peer| {
        let api = api.get().cloned();
        Box::pin(async move {
            match api {
                Some(api) => api.mounted(request, peer).await.map(BodyExt::boxed_unsync),
                None => {
                    let not_yet = super::Response::from(hyper::StatusCode::SERVICE_UNAVAILABLE).0;
                    not_yet.map(|bytes| Full::new(bytes).map_err(|never| match never {}).boxed_unsync())
                }
            }
        })
    })
}
