//! The WebSocket port.

use super::plain::{UNREAD, whole};
use super::{Sessions, upgrade};
use crate::accept::Failures;
use crate::peer::Peer;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// Bytes of a request's head; a bigger one is answered with 431. This holds the longest URL that is read at all, 64 KiB,
/// so that the default of 1,000 channels fits with names of some forty bytes, and 8 KiB of headers. It is not reserved:
/// a usual handshake takes 8 KiB, for as long as it lasts.
const MAX_HEAD: usize = 72 << 10;

/// Accepts WebSocket clients until [`Settings::closed`](super::Settings::closed) is true (or its sender gone). Handshakes
/// that are under way then are dropped, other requests have [`Settings::grace`](super::Settings::grace) to be answered before
/// this returns; sessions go on, as closing them is the hub's business.
pub async fn serve(listener: TcpListener, sessions: Arc<Sessions>) {
    let (open, mut all_ended) = mpsc::channel(1);
    accept(listener, &sessions, &open).await;
    drop(open);
    // Nothing is ever sent: this ends with the last connection that is HTTP yet.
    let _ = all_ended.recv().await;
}

async fn accept(listener: TcpListener, sessions: &Arc<Sessions>, open: &mpsc::Sender<Infallible>) {
    let mut shutdown = sessions.settings.closed.clone();
    let mut failures = Failures::new("websocket connection");
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped(&mut shutdown) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (sessions, open) = (sessions.clone(), open.clone());
                tokio::spawn(async move {
                    welcome(stream, peer, &sessions).await;
                    drop(open);
                });
            }
            Err(error) => {
                tokio::select! {
                    () = failures.wait(&error) => {}
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

/// Makes a connection ready: finds out whose it is, where a proxy has to say that first, and does the TLS handshake where
/// the port speaks TLS. Then speaks HTTP over it.
async fn welcome(mut stream: TcpStream, peer: SocketAddr, sessions: &Arc<Sessions>) {
    let mut shutdown = sessions.settings.closed.clone();
    let limit = sessions.limits.handshake_timeout;
    let arrived = tokio::select! {
        arrived = sessions.settings.peers.arrived(&mut stream, peer, limit) => arrived,
        _ = stopped(&mut shutdown) => return,
    };
    let client = match arrived {
        Ok(client) => client,
        Err(error) => return tracing::debug!(%peer, %error, "connection of a trusted proxy is of no use"),
    };
    // Without the limit of unread bytes where only handshakes are answered: their answers are short.
    let unread = sessions.has_plain_http().then_some(UNREAD);
    let limited = unread.map_or(Ok(()), |unread| SockRef::from(&stream).set_tcp_user_timeout(Some(unread)));
    if let Err(error) = limited.and_then(|()| stream.set_nodelay(true)) {
        return tracing::debug!(peer = %client, %error, "client gone before its handshake");
    }
    let Some(certificate) = &sessions.settings.tls else {
        return speak_http(stream, client, sessions).await;
    };
    let accepted = tokio::select! {
        accepted = certificate.accept(stream, limit) => accepted,
        _ = stopped(&mut shutdown) => return,
    };
    match accepted {
        // Boxed, as it is larger than all that follows.
        Ok(stream) => Box::pin(speak_http(stream, client, sessions)).await,
        Err(error) => tracing::debug!(peer = %client, %error, "tls handshake failed"),
    }
}

/// Speaks HTTP with a client until its stream is handed over to a session, or ends.
async fn speak_http<S>(stream: S, peer: Peer, sessions: &Arc<Sessions>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    // Whether the request that came last is no handshake.
    let is_plain = AtomicBool::new(false);
    let service = service_fn(async |request| {
        let plain = sessions.plain_http(&request);
        is_plain.store(plain.is_some(), Ordering::Relaxed);
        Ok::<_, Infallible>(match plain {
            Some(answer) => answer(request, peer).await,
            None => whole(upgrade(request, peer, sessions).await),
        })
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also the longest that a connection may be idle between two requests.
        .header_read_timeout(sessions.limits.handshake_timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut shutdown = sessions.settings.closed.clone();
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopped(&mut shutdown) => {
            if !is_plain.load(Ordering::Relaxed) {
                return;
            }
            connection.as_mut().graceful_shutdown();
            match timeout(sessions.settings.grace, connection).await {
                Ok(ended) => ended,
                Err(_) => return tracing::warn!(%peer, "request not answered in time before the node stops"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "http on the websocket port ended with an error");
    }
}
