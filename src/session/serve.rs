//! The WebSocket port.

use super::{Sessions, upgrade};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Bytes of a request's head; a bigger one is answered with 431. This holds the longest URL that is read at all, 64 KiB,
/// so that the default of 1,000 channels fits with names of some forty bytes, and 8 KiB of headers. It is not reserved:
/// a usual handshake takes 8 KiB, for as long as it lasts.
const MAX_HEAD: usize = 72 << 10;

/// How long nothing is accepted after the system could not give another socket. Those who wait are in its backlog.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts WebSocket clients until [`Settings::closed`](super::Settings::closed) is true (or its sender gone). Handshakes
/// that are under way then are dropped; sessions go on, as closing them is the hub's business.
pub async fn serve(listener: TcpListener, sessions: Arc<Sessions>) {
    let mut shutdown = sessions.settings.closed.clone();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped(&mut shutdown) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                failing = false;
                let (sessions, mut shutdown) = (sessions.clone(), shutdown.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = handshake(stream, peer, &sessions) => {}
                        _ = stopped(&mut shutdown) => {}
                    }
                });
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                // Once for as long as it lasts: it is tried ten times a second.
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(%error, "no websocket connection can be accepted; trying again");
                }
                tokio::select! {
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                    _ = stopped(&mut shutdown) => return,
                }
            }
        }
    }
}

async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error: whoever could have said it is gone.
    let _ = shutdown.wait_for(|stopped| *stopped).await;
}

/// Whether the connection failed that would have been accepted, and not accepting itself.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Speaks HTTP with a client until its stream is handed over to a session, or refused.
async fn handshake(stream: TcpStream, peer: SocketAddr, sessions: &Arc<Sessions>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "client gone before its handshake");
        return;
    }
    let service =
        service_fn(async |request| Ok::<_, Infallible>(upgrade(request, peer, sessions).await.map(Full::new)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(sessions.limits.handshake_timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%peer, %error, "websocket handshake failed");
    }
}
