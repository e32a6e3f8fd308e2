//! Connections to the application that remember whether they were answered on.
//!
//! A request that fails on one that was may have met the end of a connection that was idle; on a new one it has not.

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::{Response, Uri};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tower_service::Service;

/// A connection's mark, set once a request was answered on it.
#[derive(Clone, Default)]
pub(super) struct Mark(Arc<AtomicBool>);

impl Mark {
    /// Marks the connection that this came over.
    pub(super) fn set<B>(response: &Response<B>) {
        if let Some(Self(mark)) = response.extensions().get() {
            mark.store(true, Ordering::Relaxed);
        }
    }

    /// Whether this connection is marked.
    pub(super) fn is_set(connected: &Connected) -> bool {
        let mut extensions = hyper::http::Extensions::new();
        connected.get_extras(&mut extensions);
        extensions.get().is_some_and(|Self(mark)| mark.load(Ordering::Relaxed))
    }
}

/// Makes connections with a mark.
#[derive(Clone)]
pub(super) struct Marking(HttpsConnector<HttpConnector>);

impl Marking {
    pub(super) fn new(connector: HttpsConnector<HttpConnector>) -> Self {
        Self(connector)
    }
}

impl Service<Uri> for Marking {
    type Response = Marked;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Marked, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::poll_ready(&mut self.0, context)
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let connecting = self.0.call(url);
        Box::pin(async { Ok(Marked { stream: connecting.await?, mark: Mark::default() }) })
    }
}

/// A connection.
pub(super) struct Marked {
    stream: MaybeHttpsStream<TokioIo<TcpStream>>,
    mark: Mark,
}

impl Connection for Marked {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.mark.clone())
    }
}

impl Read for Marked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Marked {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}
