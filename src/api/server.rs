//! Accepting HTTP connections: their limits, and how they end.

use super::metrics::Active;
use super::{Api, Surface};
use crate::accept::Failures;
use crate::peer::Peer;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// Bytes of a request's line and headers. hyper takes a URL of up to 64 KiB, which is what a push by GET may need.
const MAX_HEAD: usize = 96 << 10;

/// How long a connection may be idle between two requests. Load balancers and clients keep theirs for 60 s (nginx, AWS) to 90 s
/// (Go): who closes an idle connection has to be who sends the next request, as one that crosses the close is lost, and nobody knows
/// whether it was.
const IDLE: Duration = Duration::from_secs(120);

/// How long data may stay unacknowledged before the kernel gives a connection up: a client that asks for a long listing
/// and doesn't read it.
const UNREAD: Duration = Duration::from_secs(30);

/// What a connection over the limit is told. It is not read from, so that it costs nothing else.
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

impl Api {
    /// Serves what `surface` offers until `shutdown` is true (or its sender gone): no new connection is accepted from then
    /// on, requests under way are answered, idle connections closed. Returns when the last one has ended.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, surface: Surface, mut shutdown: watch::Receiver<bool>) {
        // What is not sent may wait for ever on a WebSocket, whose unread bytes have limits of their own.
        let unread = match surface {
            Surface::Full(Some(_)) => None,
            Surface::Full(None) | Surface::Operations | Surface::Management(_) => Some(UNREAD),
        };
        // Each listener has a limit of its own, so that probes on a port of their own get through when the API's is full.
        let permits = Arc::new(Semaphore::new(self.max_connections as usize));
        let mut failures = Failures::new("http connection");
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = told_to_stop(&mut shutdown) => break,
            };
            match accepted {
                Ok((stream, peer)) => match permits.clone().try_acquire_owned() {
                    Ok(permit) => {
                        prepare(&stream, unread);
                        let connection = self.clone().welcome(stream, peer, surface.clone(), shutdown.clone());
                        tokio::spawn(async move {
                            connection.await;
                            drop(permit);
                        });
                    }
                    Err(_) => {
                        self.http.refused.inc();
                        // Whether all of it fits in the socket's buffer is the client's luck.
                        let _ = stream.try_write(BUSY);
                    }
                },
                Err(error) => {
                    self.http.accept_errors.inc();
                    tokio::select! {
                        () = failures.wait(&error) => {}
                        () = told_to_stop(&mut shutdown) => break,
                    }
                }
            }
        }
        drop(listener);
        // An error would mean that the semaphore is closed, which it never is.
        let _ = permits.acquire_many(self.max_connections).await;
    }

    /// Finds out whose the connection is, where a proxy has to say that first, and does the TLS handshake where there is one
    /// to do.
    async fn welcome(
        self: Arc<Self>,
        mut stream: TcpStream,
        peer: SocketAddr,
        surface: Surface,
        mut shutdown: watch::Receiver<bool>,
    ) {
        // A port for probes and orders is not behind the proxies of clients, and speaks no TLS.
        if !matches!(surface, Surface::Full(_)) {
            return self.connection(stream, Peer::direct(peer), surface, shutdown).await;
        }
        let limit = self.service.limits().handshake_timeout;
        let arrived = tokio::select! {
            arrived = self.peers.arrived(&mut stream, peer, limit) => arrived,
            () = told_to_stop(&mut shutdown) => return,
        };
        let client = match arrived {
            Ok(client) => client,
            Err(error) => return tracing::debug!(%peer, %error, "connection of a trusted proxy is of no use"),
        };
        let Some(certificate) = self.tls.clone() else {
            return self.connection(stream, client, surface, shutdown).await;
        };
        let accepted = tokio::select! {
            accepted = certificate.accept(stream, limit) => accepted,
            () = told_to_stop(&mut shutdown) => return,
        };
        match accepted {
            // Boxed, as it is larger than all that follows.
            Ok(stream) => Box::pin(self.connection(stream, client, surface, shutdown)).await,
            Err(error) => tracing::debug!(peer = %client, %error, "tls handshake failed"),
        }
    }

    async fn connection<S>(
        self: Arc<Self>,
        stream: S,
        peer: Peer,
        surface: Surface,
        mut shutdown: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let _open = Active::new(&self.http.connections);
        let asked = AtomicBool::new(false);
        let service = service_fn(|request| {
            asked.store(true, Ordering::Relaxed);
            let (api, surface) = (&self, &surface);
            async move { Ok::<_, Infallible>(api.handle(request, peer, surface).await) }
        });
        let limit = self.service.limits().handshake_timeout;
        // Who has asked for nothing yet has less time than who has.
        let nothing_asked = async {
            tokio::time::sleep(limit).await;
            if asked.load(Ordering::Relaxed) {
                pending::<()>().await;
            }
        };
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            // From the end of one request on: it is the longest that a connection may be idle, too.
            .header_read_timeout(limit.max(IDLE))
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut served = pin!(served);
        let ended = tokio::select! {
            ended = served.as_mut() => ended,
            () = told_to_stop(&mut shutdown) => {
                served.as_mut().graceful_shutdown();
                served.await
            }
            () = nothing_asked => return tracing::debug!(%peer, "http connection without a request in time"),
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "http connection ended with an error");
        }
    }
}

pub(super) async fn told_to_stop(shutdown: &mut watch::Receiver<bool>) {
    // An error means that nobody is left to tell.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

fn prepare(stream: &TcpStream, unread: Option<Duration>) {
    // Without these an answer is late, or a dead client is noticed late: no reason to refuse the connection.
    let options = stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_user_timeout(unread));
    if let Err(error) = options {
        tracing::debug!(%error, "setting options of an http connection failed");
    }
}
