//! A WebSocket server in a program of one's own, on the engine that the `carillon` binary runs on.
//!
//! ```
//! use carillon::{Handshake, Outcome, Server};
//!
//! async fn greet(handshake: Handshake) -> Outcome {
//!     let mut connection = handshake.accept().await?;
//!     while let Some(message) = connection.recv().await? {
//!         let name = message.as_text().unwrap_or("whoever you are");
//!         connection.push(format!("hello, {name}")).await?;
//!     }
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::builder().handle("/greet", greet).listen(([127, 0, 0, 1], 0)).start().await?;
//! println!("listening on ws://{}/greet", server.address());
//! # let stop = std::future::ready(());
//! server.run_until(stop).await;
//! # Ok(())
//! # }
//! ```

mod builder;
mod client;
mod connection;
mod controllers;
mod handle;
mod hooks;
mod message;
mod middleware;
mod profile;
mod program;
mod request;
mod settings;
mod signals;

pub use crate::session::hooks::Wanted;
pub use builder::{BuildError, Builder};
pub use client::{Client, close_key};
pub use connection::Connection;
pub use controllers::{Call, Called, Controller, Reply};
pub use handle::Handle;
pub use hooks::{Entry, Heard, Hooks};
pub use message::{Closed, Message, PushError, RecvError};
pub use middleware::{Handler, HttpHandler, Middleware, Next, Outcome};
pub use profile::Profile;
pub use request::{Accept, Asking, BodyError, Handshake, NotAccepted, Request, Response};

use crate::config::{Config, Faults};
use crate::log::LogLevel;
use crate::model::{Audience, Name, NameError};
use crate::node::{Extras, Node};
use crate::operator::Order;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Orders that may wait; more of the same kind say nothing new.
const ORDERS: usize = 4;

/// The channel of this name.
///
/// # Errors
/// [`NameError`]: it is empty, longer than 200 bytes, or has control characters.
pub fn channel(name: &str) -> Result<Audience, NameError> {
    Name::new(name).map(Audience::channel)
}

/// The group of this name.
///
/// # Errors
/// As for [`channel`].
pub fn group(name: &str) -> Result<Audience, NameError> {
    Name::new(name).map(Audience::group)
}

/// All connections of this user.
///
/// # Errors
/// As for [`channel`].
pub fn user(name: &str) -> Result<Audience, NameError> {
    Name::new(name).map(Audience::user)
}

/// A server whose ports are open. It serves its clients from then on; [`run_until`](Self::run_until) is what ends it in order.
/// Dropped without that it closes its ports and its connections (1001), and nobody waits for anything.
pub struct Server {
    node: Node,
    handle: Handle,
    orders: mpsc::Sender<Order>,
    received: mpsc::Receiver<Order>,
    /// Passed on since before the ports were open.
    signals: Option<JoinSet<()>>,
}

impl Server {
    /// A server to be put together.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.node.ws_address()
    }

    /// Where backends reach the HTTP APIs, if they do.
    pub fn api_address(&self) -> Option<SocketAddr> {
        self.node.http_address()
    }

    /// The cluster that the server is a node of.
    pub fn cluster(&self) -> &Handle {
        &self.handle
    }

    /// Runs until `stop` is ready, and then stops in this order: nobody new is let in, all connections are closed (1001), their
    /// handlers come to their end ([`Builder::handler_grace`]), hooks and the webhook hear of them, the server leaves the cluster.
    /// If the future is dropped it is as where the server is dropped.
    pub async fn run_until(self, stop: impl Future<Output = ()>) {
        let Self { node, orders, received, .. } = self;
        let told = async move {
            stop.await;
            // An error: it has ended by itself.
            let _ = orders.send(Order::Stop).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = node.run(received) => {}
            () = told => {}
        }
    }

    /// Runs until SIGTERM or SIGINT, as [`run_until`](Self::run_until); a second one ends it at once.
    ///
    /// # Errors
    /// Signals can't be received.
    pub async fn run(self) -> std::io::Result<()> {
        let Self { node, orders, received, signals, .. } = self;
        let _signals = match signals {
            Some(signals) => signals,
            None => signals::pass_on(&orders, false)?,
        };
        node.run(received).await;
        Ok(())
    }

    /// A server by the whole configuration of a node, which is read again at SIGHUP: what the `carillon` binary is.
    ///
    /// # Errors
    /// [`BuildError`].
    #[doc(hidden)]
    pub async fn configured(config: Config, log: LogLevel) -> Result<Self, BuildError> {
        let (orders, received) = mpsc::channel(ORDERS);
        // Before the ports are open, so that no signal of somebody who saw them open is missed.
        let signals = signals::pass_on(&orders, true).map_err(BuildError::Signals)?;
        let service = Arc::new(OnceLock::new());
        let handle = Handle(service.clone());
        let configuration: Option<fn() -> Result<Config, Faults>> = Some(Config::from_env);
        let extras = Extras { log: Some(log), configuration, service, ..Extras::default() };
        let node = Node::start(config, extras, orders.clone()).await?;
        Ok(Self { node, handle, orders, received, signals: Some(signals) })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, api_address) = (self.address(), self.api_address());
        let mut shown = f.debug_struct("Server");
        shown.field("address", &address).field("api_address", &api_address).finish_non_exhaustive()
    }
}
