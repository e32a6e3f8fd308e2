//! The node's ports, and why there may be none.

use crate::api::device::{BindError, DeviceListener, SocketConfig};
use std::net::{IpAddr, SocketAddr};
use tokio::net::TcpListener;

/// Connections that may wait to be accepted; the system's own limit (`net.core.somaxconn`) is lower or equal.
const BACKLOG: i32 = 4096;

/// Why a node could not start. What a text names in capitals is a variable of the binary, or the builder's method of that meaning:
/// `WS_PORT` is where clients connect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address can't be listened on.
    #[error("{variable}: can't listen on {address}: {error}")]
    Listen {
        /// The variable that names the port.
        variable: &'static str,
        /// What was tried.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// The device socket can't be offered.
    #[error("UNIX_SOCKET: can't listen at {path}: {error}")]
    UnixSocket {
        /// Its path.
        path: String,
        /// Why not.
        error: BindError,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// Two metrics have one name, or a name that can't be.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The certificate can't be used.
    #[error(transparent)]
    Tls(#[from] crate::tls::StartError),
    /// The cluster's configuration can't work.
    #[error(transparent)]
    Cluster(#[from] crate::cluster::redis::StartError),
    /// The application can't be spoken to.
    #[error("WEBHOOK_URL: {0}")]
    Webhook(#[from] crate::webhook::StartError),
}

pub(super) async fn listen_at(config: &SocketConfig) -> Result<DeviceListener, StartError> {
    DeviceListener::bind(config)
        .await
        .map_err(|error| StartError::UnixSocket { path: config.path.display().to_string(), error })
}

pub(super) fn listen(variable: &'static str, host: IpAddr, port: u16) -> Result<TcpListener, StartError> {
    let address = SocketAddr::from((host, port));
    let open = || {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|error| StartError::Listen { variable, address, error })
}

/// What the system gave, as port 0 asks it to choose.
pub(super) fn local_address(listener: &TcpListener, host: IpAddr, port: u16) -> SocketAddr {
    listener.local_addr().unwrap_or_else(|_| SocketAddr::from((host, port)))
}
