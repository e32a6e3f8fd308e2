//! WebSocket sessions, from the first byte of a handshake to the last of a connection.
//!
//! | file | what it is about |
//! |---|---|
//! | [`serve`](self::serve()) | the port: accepting connections, reading request heads |
//! | `refusal` | why a handshake is refused, and how that is answered |
//! | [`handshake`] | a request becomes a member of the hub and the cluster, or a refusal; *101 means subscribed* |
//! | `reader` | the task of one connection: reads, answers, ends it |
//! | `decoder`, `frame`, `message` | a client's bytes as events: bytes first, frames after |
//! | `details` | what the directory is told of a connection, its connect query without tokens |
//! | `device` | the stable id that a device may bring, and documents that it may send |
//! | [`handler`] | connections that a program's own code serves |
//! | [`hooks`] | what an application, elsewhere or in this program, is told of connections, and what it may answer |
//! | `steps`, `method` | what a client's bytes bring about, in order; the rules of the profile `method` |
//! | `idle` | clients that are silent for too long |
//! | `heartbeats` | which heartbeat the clients of each profile get |
//! | [`sign_in`] | who has to show a token, and what it opens |
//! | `plain` | requests on this port that are no handshake, where the node answers them |
//! | [`profile`], [`profiles`] | what a client's messages mean, and which client has which rules |
//! | [`origins`] | which web pages may connect |
//! | [`close`] | violations and their close codes |
//!
//! Only the hub writes to a connection; a session reads, and hands what it has to say to the hub.

pub mod close;
mod decoder;
mod details;
mod device;
mod frame;
pub mod handler;
pub mod handshake;
mod heartbeats;
pub mod hooks;
mod idle;
mod member;
pub mod message;
pub(crate) mod method;
pub mod origins;
mod plain;
pub mod profile;
pub mod profiles;
mod reader;
mod refusal;
mod serve;
pub mod sign_in;
mod steps;

use crate::auth::Rejection;
use crate::cluster::Cluster;
use crate::hub::Hub;
use crate::metrics::Register;
use crate::model::{ConnectionId, HexId, Limits};
use crate::peer::{Peers, Places};
use crate::tls::Certificate;
use handler::Routes;
use heartbeats::Heartbeats;
use hooks::{Hooks, Wanted};
use idle::Idle;
use origins::AllowedOrigins;
use profile::Profile;
use profiles::Profiles;
use prometheus::{IntCounter, IntCounterVec, Registry};
use sign_in::SignIn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;

pub use device::{ClientDocuments, MayJoin};
pub use handshake::upgrade;
pub use heartbeats::ProfileHeartbeats;
pub use idle::IdleTimeouts;
pub use plain::{PlainHttp, PortAnswer};
pub use refusal::Refusal;
pub use serve::serve;

/// What the operator decides about WebSocket clients.
#[derive(Clone)]
pub struct Settings {
    /// Which path has which profile.
    pub profiles: Profiles,
    /// Who is believed about where clients are.
    pub peers: Arc<Peers>,
    /// Which web pages may connect, as it is at each handshake.
    pub allowed_origins: watch::Receiver<AllowedOrigins>,
    /// Who has to show a token, as it is at each handshake.
    pub sign_in: watch::Receiver<Arc<SignIn>>,
    /// The configured name of the query parameter that holds the HTTP API's token, which the directory is not told.
    pub token_param: String,
    /// Who answers requests on the WebSocket port that are no handshake, where the path's profile is `center`; none: they are
    /// refused as everywhere else.
    pub plain_http: Option<PlainHttp>,
    /// Which path leads to which handler; without any, profiles decide alone.
    pub routes: Routes,
    /// What clients of each profile are sent again and again.
    pub heartbeats: ProfileHeartbeats,
    /// Who carries out the documents that clients of the profile `device` send; none: they are ignored.
    pub client_documents: Option<ClientDocuments>,
    /// Who is told of connections; none: nobody.
    pub hooks: Option<Arc<dyn Hooks>>,
    /// Whether strings in messages of the profile `method` are escaped for HTML before anybody is told them.
    pub escape_html: bool,
    /// How long clients of each profile may be silent.
    pub idle_timeouts: IdleTimeouts,
    /// The certificate of the WebSocket port; without one it speaks plain TCP.
    pub tls: Option<Arc<Certificate>>,
    /// Whether the node takes no more clients, as it is about to stop.
    pub closed: watch::Receiver<bool>,
    /// How long handlers, and requests that are no handshake, may go on when the node stops.
    pub grace: Duration,
}

/// What all sessions of a node share.
pub struct Sessions {
    hub: Arc<Hub>,
    cluster: Arc<dyn Cluster>,
    limits: Arc<Limits>,
    settings: Settings,
    /// What PHP makes of the token parameter's name.
    token_param: String,
    places: Arc<Places>,
    heartbeats: Heartbeats,
    idle: Arc<Idle>,
    /// Connections that are not quite over: what has to be told of their end is not told yet.
    members: AtomicUsize,
    /// Handlers at work.
    handlers: Arc<AtomicUsize>,
    refused: IntCounterVec,
    tokens_refused: IntCounterVec,
    received: IntCounter,
}

impl Sessions {
    /// The sessions of this hub and cluster, with their metrics in `registry`; an error where one of that name is in it.
    pub fn new(
        hub: Arc<Hub>,
        cluster: Arc<dyn Cluster>,
        limits: Arc<Limits>,
        settings: Settings,
        registry: &Registry,
    ) -> prometheus::Result<Arc<Self>> {
        let help = "WebSocket handshakes refused, by reason.";
        let refused = registry.counters("carillon_connections_refused_total", help, &["reason"])?;
        for label in Refusal::LABELS {
            refused.with_label_values(&[label]);
        }
        let tokens_refused = registry.counters(
            "carillon_tokens_refused_total",
            "WebSocket handshakes refused because of their token, by what was wrong with it.",
            &["reason"],
        )?;
        for label in Rejection::LABELS.into_iter().chain([refusal::NO_TOKEN]) {
            tokens_refused.with_label_values(&[label]);
        }
        let received = registry.counter(
            "carillon_received_bytes_total",
            "Bytes read from WebSocket connections, their handshakes left out.",
        )?;
        let token_param = crate::query::plain_name(&settings.token_param);
        let places = Places::new(limits.max_connections_per_address);
        let heartbeats = Heartbeats::set(&hub, &settings.heartbeats);
        let idle = Idle::start(settings.idle_timeouts, &hub);
        let (members, handlers) = (AtomicUsize::new(0), Arc::default());
        Ok(Arc::new(Self {
            hub,
            cluster,
            limits,
            settings,
            token_param,
            places,
            heartbeats,
            idle,
            members,
            handlers,
            refused,
            tokens_refused,
            received,
        }))
    }

    /// Number of connections whose sessions are not quite over.
    pub fn count(&self) -> usize {
        self.members.load(Ordering::Acquire)
    }

    /// Number of handlers that have not come to their end.
    pub fn handlers(&self) -> usize {
        self.handlers.load(Ordering::Acquire)
    }

    /// See [`Settings::grace`].
    pub fn grace(&self) -> Duration {
        self.settings.grace
    }

    /// What the hooks want to be told of such connections.
    fn wanted(&self, profile: Profile) -> Wanted {
        self.settings.hooks.as_ref().map_or(Wanted::NOTHING, |hooks| hooks.wanted(profile))
    }

    /// A connection's id as its client is told it, in this life of the node.
    fn spelled(&self, connection: ConnectionId) -> HexId {
        HexId::new(self.cluster.node_id().tag(), connection)
    }
}
