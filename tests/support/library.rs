//! Servers that a test itself is the program of.

use carillon::{Builder, Handle};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server that runs until the test is over, or stops it.
pub struct Running {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Its cluster.
    pub cluster: Handle,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl Running {
    /// Starts what was put together.
    pub async fn start(builder: Builder) -> Self {
        let server = builder.drain(Duration::ZERO, Duration::ZERO).start().await.unwrap();
        let (address, cluster) = (server.address(), server.cluster().clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(server.run_until(async {
            // An error: the test is over.
            let _ = stopped.await;
        }));
        Self { address, cluster, stop, ended }
    }

    /// Stops it in order.
    pub async fn stop(self) {
        drop(self.stop);
        self.ended.await.unwrap();
    }
}
