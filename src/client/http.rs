//! HTTP and TLS for all commands: one request, one answer, one limit of time.

use super::failure::{Failure, root_cause};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use url::Url;

/// Bytes of an answer that are read at most: a listing of ten million connections fits.
const MAX_ANSWER: usize = 256 << 20;

/// A client for one server.
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
}

impl Http {
    /// A client that speaks TLS if `secure` is set, trusting the system's certificate authorities (or those that
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` name). Each request and each body must be there within `timeout`.
    pub(super) fn new(secure: bool, timeout: Duration) -> Result<Self, Failure> {
        Ok(Self::with(tls_config(secure)?, timeout))
    }

    /// A client for a node of this machine, with TLS or without: the node's certificate has the name that clients know, not
    /// this address. It has to be the one given. Without one any is taken, as a check of its health has to survive a wrong
    /// one; nothing secret may be sent then.
    pub(super) fn to_this_machine(
        timeout: Duration,
        certificate: Option<CertificateDer<'static>>,
    ) -> Result<Self, Failure> {
        let mut tls = tls_config(false)?;
        let algorithms = tls.crypto_provider().signature_verification_algorithms;
        tls.dangerous().set_certificate_verifier(Arc::new(ThisMachine { certificate, algorithms }));
        Ok(Self::with(tls, timeout))
    }

    fn with(tls: ClientConfig, timeout: Duration) -> Self {
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        Self { client: Client::builder(TokioExecutor::new()).build(connector), timeout }
    }

    /// Sends a request for `url` and waits for the head of the answer.
    pub(super) async fn send(&self, url: &Url, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        match timeout(self.timeout, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Failure::Unreachable {
                message: format!("can't reach {}: {}", shown(url), root_cause(&error)),
                advice: match is_tls(&error) {
                    true => Some("SSL_CERT_FILE names a file with the certificate authorities to trust (PEM)"),
                    false => error.is_connect().then_some(
                        "is a node running there? `carillon` starts one; --api and --url (of listen) name another",
                    ),
                },
            }),
            Err(_) => Err(self.too_late(url)),
        }
    }

    /// Reads the body of an answer from `url` to its end.
    pub(super) async fn body(&self, url: &Url, body: Incoming) -> Result<Bytes, Failure> {
        match timeout(self.timeout, Limited::new(body, MAX_ANSWER).collect()).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) => {
                Err(Failure::unreachable(format!("the answer of {} broke off: {}", shown(url), root_cause(&*error))))
            }
            Err(_) => Err(self.too_late(url)),
        }
    }

    fn too_late(&self, url: &Url) -> Failure {
        Failure::Unreachable {
            message: format!("{} did not answer within {} s", shown(url), self.timeout.as_secs_f64()),
            advice: Some("--timeout gives it more time"),
        }
    }
}

/// A URL as messages may show it: without user, password and query, which may hold secrets.
pub(super) fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// What an answer says in plain text: its first line, cut to a readable length. A page made for browsers, or bytes of
/// another kind, say nothing that belongs on a terminal.
pub(super) fn said(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let line = String::from_utf8_lossy(body).lines().next()?.chars().take(200).collect();
    is(headers, "text/plain").then_some(line)
}

/// Whether a body is of that media type, whatever its parameters.
pub(super) fn is(headers: &HeaderMap, media_type: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media_type)
}

/// Whether it was encryption, not the network, that failed.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let mut error = Some(error);
    while let Some(layer) = error {
        // The source of an io error is that of the error within it, which would be passed over.
        let inner = layer.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        error = layer.source();
    }
    false
}

/// Takes one certificate, or any, if the server has its key.
#[derive(Debug)]
struct ThisMachine {
    certificate: Option<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ThisMachine {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.certificate {
            Some(certificate) if certificate != shown => {
                Err(rustls::Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure))
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn tls_config(secure: bool) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    // Reading a system's certificates takes milliseconds, so it is left out where nothing will be encrypted.
    if secure {
        let found = rustls_native_certs::load_native_certs();
        let (trusted, _) = roots.add_parsable_certificates(found.certs);
        if trusted == 0 {
            return Err(Failure::Usage(
                "no certificate authorities found on this system; name a file with them in SSL_CERT_FILE".into(),
            ));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Usage(format!("can't use tls: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_keeps_no_secrets() {
        let url = Url::parse("https://me:secret@example.org:8443/api/?token=secret#secret").unwrap();
        assert_eq!(shown(&url), "https://example.org:8443/api/");
        assert_eq!(shown(&Url::parse("ws://[::1]:8090/live").unwrap()), "ws://[::1]:8090/live");
    }

    #[test]
    fn only_plain_text_is_quoted_and_only_its_first_line() {
        let of = |media_type: &str, body: &str| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, media_type.parse().unwrap())]);
            said(&headers, body.as_bytes())
        };
        assert_eq!(of("text/plain; charset=utf-8", "ready\nmore").as_deref(), Some("ready"));
        assert_eq!(of("Text/Plain", "ready").as_deref(), Some("ready"));
        assert_eq!(of("text/plain", "").as_deref(), None);
        assert_eq!(of("text/html", "<html>").as_deref(), None);
        assert_eq!(said(&HeaderMap::new(), b"ready"), None);
    }
}
