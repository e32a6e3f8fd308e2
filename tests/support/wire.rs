//! An application behind HTTP whose every byte a test writes itself.

use super::DEADLINE;
use super::certificates::Certificates;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// What requests come over.
trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A connection of a node's.
pub struct Line(BufStream<Box<dyn Transport>>);

/// A request that came over it.
pub struct Asked {
    /// Names (lower case) and values.
    pub headers: Vec<(String, String)>,
    /// The event.
    pub event: Value,
}

impl Asked {
    /// The header of that (lower case) name.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    /// A member of the message's data, where it calls a method.
    pub fn said(&self, member: &str) -> Value {
        let message = self.event["message"].as_str().unwrap_or("null");
        serde_json::from_str::<Value>(message).unwrap()[member].clone()
    }
}

impl Line {
    /// The next request; `None` where the node has hung up.
    pub async fn request(&mut self) -> Option<Asked> {
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some((name, value)) => headers.push((name.to_lowercase(), value.to_owned())),
                None if line.trim_end().is_empty() => break,
                None => {}
            }
        }
        let mut asked = Asked { headers, event: Value::Null };
        let mut body = vec![0; asked.header("content-length").parse().ok()?];
        self.0.read_exact(&mut body).await.ok()?;
        asked.event = serde_json::from_slice(&body).ok()?;
        Some(asked)
    }

    /// Writes bytes; whether the node still takes them.
    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.write_all(bytes.as_ref()).await.is_ok() && self.0.flush().await.is_ok()
    }

    /// An answer of 200 with this body; the connection stays.
    pub async fn answer(&mut self, body: &str) -> bool {
        self.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await
    }

    /// Waits until the node hangs up.
    pub async fn is_left(&mut self) {
        let left = timeout(DEADLINE, self.0.read_to_end(&mut Vec::new())).await;
        let _ = left.expect("the node hangs up");
    }
}

/// The application.
pub struct Wire {
    address: SocketAddr,
    scheme: &'static str,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Wire {
    /// Serves each connection by `serve`, which is told how many there were before it.
    pub async fn start<T>(serve: impl Fn(usize, Line) -> T + Send + Sync + 'static) -> Self
    where
        T: Future<Output = ()> + Send + 'static,
    {
        Self::run(None, serve).await
    }

    /// The same over TLS, with the certificate `server`.
    pub async fn start_tls<T>(
        certificates: &Certificates,
        serve: impl Fn(usize, Line) -> T + Send + Sync + 'static,
    ) -> Self
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let chain = vec![CertificateDer::from_pem_file(certificates.path("server.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(certificates.path("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
        Self::run(Some(TlsAcceptor::from(Arc::new(config))), serve).await
    }

    async fn run<T>(tls: Option<TlsAcceptor>, serve: impl Fn(usize, Line) -> T + Send + Sync + 'static) -> Self
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, serve) = (Arc::new(AtomicUsize::new(0)), Arc::new(serve));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let count = accepted.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst);
                let (tls, serve) = (tls.clone(), serve.clone());
                tokio::spawn(async move {
                    let stream: Box<dyn Transport> = match tls {
                        None => Box::new(stream),
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => Box::new(stream),
                            // The node does not trust it.
                            Err(_) => return,
                        },
                    };
                    serve(number, Line(BufStream::new(stream))).await;
                });
            }
        });
        Self { address, scheme, accepted, task }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("{}://localhost:{}/hooks", self.scheme, self.address.port())
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}
