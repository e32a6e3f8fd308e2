//! What is measured: real processes on ports of their own, which end when their value is dropped.

mod carillon;
mod certificates;
mod child;
mod floor;
mod nchan;
mod redis;

use crate::load::{Listen, PushRequest};
use anyhow::Result;
use clap::ValueEnum;
use rustls::ClientConfig;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

pub use carillon::{Node, Pages};
pub use child::{Child, free_address};
pub use redis::Redis;

/// Bytes of every message: some chat line or price.
pub const MESSAGE_LEN: usize = 80;

/// The programs that are measured.
pub struct Programs {
    /// The server.
    pub carillon: PathBuf,
    /// A program on the server's library.
    pub handler: PathBuf,
    /// The bare loop.
    pub floor: PathBuf,
    /// Redis's server.
    pub redis: PathBuf,
    /// nginx, with nchan's module where Debian puts it.
    pub nginx: PathBuf,
}

/// The servers that can be measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Kind {
    /// The least that a server can do: a bare loop of send(2)
    Floor,
    /// One node with its state embedded
    Embedded,
    /// The same, with TLS on its WebSocket port
    Tls,
    /// A program on the library, embedded, whose handler waits for what its client says
    Handler,
    /// One node and a Redis of its own
    Redis,
    /// nginx with nchan, for comparison
    Nchan,
}

impl Kind {
    /// Starts it.
    pub fn start(self, programs: &Programs) -> Result<Server> {
        self.start_with(programs, Pages::AsDeployed)
    }

    /// Starts it; only Carillon heeds what its memory shall be made of.
    pub fn start_with(self, programs: &Programs, pages: Pages) -> Result<Server> {
        match self {
            Self::Floor => floor::start(&programs.floor),
            Self::Embedded => Ok(Node::start(&programs.carillon, None, pages)?.into_server("Carillon, embedded", None)),
            Self::Tls => Ok(Node::start_with_tls(&programs.carillon, pages)?.into_server("Carillon, TLS", None)),
            Self::Handler => Ok(Node::start_handler(&programs.handler, pages)?.into_server("library, a handler", None)),
            Self::Redis => {
                let redis = Redis::start(&programs.redis)?;
                let node = Node::start(&programs.carillon, Some(redis.url()), pages)?;
                Ok(node.into_server("Carillon on Redis", Some(redis)))
            }
            Self::Nchan => nchan::start(&programs.nginx),
        }
    }
}

/// A running push server, seen from outside.
pub struct Server {
    /// What it is called in a table.
    pub name: &'static str,
    /// The process whose CPU time and memory count.
    pub process: Child,
    /// Where WebSocket clients connect.
    pub listen: SocketAddr,
    /// What their handshake asks for to be subscribed to the one channel of the benchmark.
    pub target: String,
    /// With what its WebSocket clients speak TLS, where it does.
    pub tls: Option<Arc<ClientConfig>>,
    /// Where its HTTP API is.
    pub push: SocketAddr,
    /// A push to the channel.
    pub request: PushRequest,
    /// The Redis it uses; it ends after the server.
    pub redis: Option<Redis>,
}

impl Server {
    /// So many clients of the channel, of whom every so-manieth has its latencies taken.
    pub fn listeners(&self, clients: usize, sample_every: usize) -> Listen {
        /// Handshakes under way at once: enough for batches to form, few enough for every listener's backlog.
        const IN_FLIGHT: usize = 64;
        Listen {
            address: self.listen,
            target: self.target.clone(),
            tls: self.tls.clone(),
            clients,
            in_flight: IN_FLIGHT,
            sample_every,
        }
    }
}
