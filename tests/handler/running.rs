//! A server for one test, and connections in the hands of the test itself.

use crate::support::DEADLINE;
use crate::support::raw::Raw;
use carillon::{Accept, Builder, Connection, Handle, Handler, Handshake, Limits, Server};
use prometheus::Registry;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Limits with no pings, which would stand between the frames that a test expects.
pub(crate) fn quiet() -> Limits {
    Limits { ping_interval: Duration::ZERO, ..Limits::default() }
}

/// A server that is told to stop when this is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) api: Option<SocketAddr>,
    pub(crate) cluster: Handle,
    pub(crate) registry: Registry,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<()>,
}

impl Running {
    /// Starts it; when it stops it closes its connections at once.
    pub(crate) async fn start(builder: Builder) -> Self {
        let registry = Registry::new();
        let builder = builder.registry(registry.clone()).drain(Duration::ZERO, Duration::ZERO);
        let server = builder.start().await.unwrap();
        let (address, api, cluster) = (server.address(), server.api_address(), server.cluster().clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(server.run_until(async {
            let _ = stopped.await;
        }));
        Self { address, api, cluster, registry, stop: Some(stop), ended }
    }

    /// Tells it to stop.
    pub(crate) fn stop(&mut self) {
        self.stop = None;
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) async fn stopped(mut self) {
        self.stop();
        timeout(DEADLINE, &mut self.ended).await.expect("the server does not stop").unwrap();
    }

    /// What a metric without labels stands at.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap_or_else(|| panic!("no {name}"));
        let metric = &family.get_metric()[0];
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    }
}

/// A server whose connections are lent to the test, which does with them what a handler would.
pub(crate) struct Lending {
    pub(crate) server: Running,
    lent: mpsc::Receiver<Connection>,
}

impl Lending {
    pub(crate) async fn start(limits: Limits) -> Self {
        Self::with(Server::builder().limits(limits), Accept::new()).await
    }

    /// With everything at `/` let in so.
    pub(crate) async fn with(builder: Builder, accept: Accept) -> Self {
        let (handler, lent) = lender(accept);
        Self { server: Running::start(builder.handle("/", handler)).await, lent }
    }

    /// The connection that was let in last.
    pub(crate) async fn lent(&mut self) -> Connection {
        timeout(DEADLINE, self.lent.recv()).await.expect("no connection is let in").unwrap()
    }

    /// A client and its connection.
    pub(crate) async fn raw(&mut self) -> (Raw, Connection) {
        let raw = Raw::upgraded(self.server.address, "/").await;
        (raw, self.lent().await)
    }
}

/// A handler that lets everybody in and hands the connection on.
pub(crate) fn lender(accept: Accept) -> (impl Handler, mpsc::Receiver<Connection>) {
    let (sender, lent) = mpsc::channel(16);
    let handler = move |handshake: Handshake| {
        let (sender, accept) = (sender.clone(), accept.clone());
        async move {
            let connection = handshake.accept_with(accept).await?;
            // An error: the test is over.
            let _ = sender.send(connection).await;
            Ok(())
        }
    };
    (handler, lent)
}
