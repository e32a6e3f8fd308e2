//! One request to the application, and the bytes of its answer.

use super::marked::{Mark, Marking};
use super::signature::Secret;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{ConfigBuilderExt, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;
use std::io::{self, ErrorKind};
use std::iter::successors;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Bytes of an answer that are read. An answer is a list of operations, not a place for files.
const MAX_ANSWER: usize = 1 << 20;

/// How long a connection without a request is kept. Shorter than the five seconds after which many servers close theirs, so that
/// few requests meet such an end.
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

    /// What a client may know of it: nothing of where the application is, and how it is reached.
    pub(super) fn to_strangers(&self) -> String {
        match self {
            Self::Unreachable(_) => "application can't be reached".to_owned(),
            Self::Garbage(_) => "application's answer can't be read".to_owned(),
            Self::Overflow | Self::Late | Self::Status(_) | Self::TooLong => self.to_string(),
        }
    }
}

/// Why the application can't be spoken to at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The system's certificate authorities can't be used.
    #[error("no certificate authorities to check https servers by: {0}")]
    SystemCa(std::io::Error),
    /// The file of certificates can't be used.
    #[error("WEBHOOK_CA {}: {}", .0.display(), .1)]
    Ca(PathBuf, String),
    /// TLS itself can't be used.
    #[error("can't use tls: {0}")]
    Tls(#[from] rustls::Error),
}

/// The client.
pub(super) struct Backend {
    client: Client<Marking, Full<Bytes>>,
    url: Uri,
    secret: watch::Receiver<Option<Secret>>,
}

impl Backend {
    /// For requests to `url`, over TLS where that says so: it has to show a certificate signed by one of `ca`, or where there is
    /// none of the system's.
    pub(super) fn new(
        url: Uri,
        ca: Option<&Path>,
        secret: watch::Receiver<Option<Secret>>,
    ) -> Result<Self, StartError> {
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls_config(&url, ca)?);
        let connector =
            if url.scheme_str() == Some("https") { connector.https_only() } else { connector.https_or_http() };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEPT)
            .build(Marking::new(connector.enable_http1().build()));
        Ok(Self { client, url, secret })
    }

    /// Sends an event; what the application answers with a status of 2xx. Whoever calls limits the time.
    pub(super) async fn post(&self, delivery: &str, body: Bytes) -> Result<Bytes, Failure> {
        let unreachable = |error: &(dyn Error + 'static)| Failure::Unreachable(root_cause(error));
        let request = || self.request(delivery, body.clone()).map_err(|error| unreachable(&error));
        let mut answered = self.client.request(request()?).await;
        if answered.as_ref().is_err_and(met_its_end) {
            answered = self.client.request(request()?).await;
        }
        let response = answered.map_err(|error| unreachable(&error))?;
        Mark::set(&response);
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

/// Whether a request came to a connection that had answered before, and that ended without a word. The application has most
/// likely closed it while it was idle, and never read the request; if it did, the delivery's id tells it so.
fn met_its_end(error: &legacy::Error) -> bool {
    let ended = |error: &(dyn Error + 'static)| {
        let incomplete = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message);
        let broken = error.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe)
        });
        incomplete || broken
    };
    let mut causes = successors(error.source(), |error| (**error).source());
    error.connect_info().is_some_and(Mark::is_set) && causes.any(ended)
}

fn tls_config(url: &Uri, ca: Option<&Path>) -> Result<ClientConfig, StartError> {
    let provider = Arc::new(default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let unusable = |path: &Path, why: String| StartError::Ca(path.to_owned(), why);
    let mut roots = RootCertStore::empty();
    match ca {
        // Reading certificates takes milliseconds, so it is left out where nothing will be encrypted.
        _ if url.scheme_str() != Some("https") => {}
        None => return Ok(builder.with_native_roots().map_err(StartError::SystemCa)?.with_no_client_auth()),
        Some(path) => {
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(path, error.to_string()))? {
                let certificate = certificate.map_err(|error| unusable(path, error.to_string()))?;
                roots.add(certificate).map_err(|error| unusable(path, error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(unusable(path, "no certificate in it".to_owned()));
            }
        }
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The innermost reason, which is the one that says something.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
