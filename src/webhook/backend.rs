//! One request to the application, and the bytes of its answer.

use super::signature::Secret;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::ring::default_provider;
use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Bytes of an answer that are read. An answer is a list of operations, not a place for files.
const MAX_ANSWER: usize = 1 << 20;

/// How long a connection without a request is kept. Shorter than the five seconds after which many servers close theirs, as a
/// request that meets such an end is lost.
const KEPT: Duration = Duration::from_secs(4);

const TIMESTAMP: &str = "carillon-timestamp";
const SIGNATURE: &str = "carillon-signature";
const DELIVERY: &str = "carillon-delivery";

/// Why there is no answer that can be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Failure {
    /// As many events wait as may.
    #[error("too many events wait for the application")]
    Overflow,
    /// Its time was over, the waiting for its turn included.
    #[error("application did not answer in time")]
    Late,
    /// It could not be reached, or the connection broke.
    #[error("application can't be reached: {0}")]
    Unreachable(String),
    /// Another status than 2xx.
    #[error("application answered with status {0}")]
    Status(u16),
    /// The answer is longer than it may be.
    #[error("application's answer is longer than {MAX_ANSWER} bytes")]
    TooLong,
    /// The answer is not what it has to be.
    #[error("application's answer can't be read: {0}")]
    Garbage(String),
}

impl Failure {
    /// What [`label`](Self::label) can be.
    pub(super) const LABELS: [&'static str; 6] =
        ["overflow", "timeout", "unreachable", "status", "too_long", "garbage"];

    /// The word for it in metrics.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Late => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Status(_) => "status",
            Self::TooLong => "too_long",
            Self::Garbage(_) => "garbage",
        }
    }
}

/// Why the application can't be spoken to at all.
#[derive(Debug, thiserror::Error)]
#[error("no certificate authorities to check https servers by: {0}")]
pub struct StartError(#[from] std::io::Error);

/// The client.
pub(super) struct Backend {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: Uri,
    secret: watch::Receiver<Option<Secret>>,
}

impl Backend {
    pub(super) fn new(url: Uri, secret: watch::Receiver<Option<Secret>>) -> Result<Self, StartError> {
        let builder = HttpsConnectorBuilder::new();
        let connector = if url.scheme_str() == Some("https") {
            builder.with_provider_and_native_roots(default_provider())?.https_only().enable_http1().build()
        } else {
            // Reading a system's certificates takes milliseconds, so it is left out where nothing will be encrypted.
            let none = rustls::ClientConfig::builder_with_provider(default_provider().into())
                .with_safe_default_protocol_versions()
                .map_err(std::io::Error::other)?
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
            builder.with_tls_config(none).https_or_http().enable_http1().build()
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEPT)
            .build(connector);
        Ok(Self { client, url, secret })
    }

    /// Sends an event; what the application answers with a status of 2xx. Whoever calls limits the time.
    pub(super) async fn post(&self, delivery: &str, body: Bytes) -> Result<Bytes, Failure> {
        let unreachable = |error: &(dyn Error + 'static)| Failure::Unreachable(root_cause(error));
        let request = self.request(delivery, body).map_err(|error| unreachable(&error))?;
        let response = self.client.request(request).await.map_err(|error| unreachable(&error))?;
        if !response.status().is_success() {
            return Err(Failure::Status(response.status().as_u16()));
        }
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(Bytes::new());
        }
        match Limited::new(response.into_body(), MAX_ANSWER).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(Failure::TooLong),
            Err(error) => Err(unreachable(&*error)),
        }
    }

    fn request(&self, delivery: &str, body: Bytes) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let signature = self.secret.borrow().as_ref().map(|secret| secret.sign(timestamp, &body));
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("carillon/", env!("CARGO_PKG_VERSION")))
            .header(DELIVERY, delivery)
            .header(TIMESTAMP, HeaderValue::from(timestamp));
        if let Some(signature) = signature {
            request = request.header(SIGNATURE, signature);
        }
        request.body(Full::new(body))
    }
}

/// The innermost reason, which is the one that says something.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
