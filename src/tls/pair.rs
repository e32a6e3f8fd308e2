//! A certificate chain and its private key, read and found to belong together.

use super::{Source, TlsConfig};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer, X509Certificate};

/// A file that is longer is no certificate.
const MAX_PEM: u64 = 1 << 20;

/// Why a certificate or its key can't be used. The key's content is in none of the texts.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{variable} {source_of}: {why}")]
    Unreadable {
        /// The variable that names it.
        variable: &'static str,
        /// Where it was looked for.
        source_of: String,
        /// What stood against it.
        why: String,
    },
    /// There is no certificate in what was read.
    #[error("TLS_CERT {0}: no certificate in PEM form is in there")]
    NoCertificate(String),
    /// There is no key in what was read.
    #[error("TLS_KEY {0}: no private key in PEM form (PKCS#8, PKCS#1 or SEC1, not encrypted) is in there")]
    NoKey(String),
    /// The first certificate can't be read.
    #[error("TLS_CERT {0}: not a certificate: {1}")]
    Certificate(String, String),
    /// Certificate and key are no pair, or of a kind that is not supported.
    #[error("TLS_CERT {certificate} and TLS_KEY {key} can't be used together: {why}")]
    Pair {
        /// Where the certificate is.
        certificate: String,
        /// Where the key is.
        key: String,
        /// What stands against it.
        why: String,
    },
}

/// A usable pair.
pub(super) struct Pair {
    /// What handshakes are answered with.
    pub(super) config: Arc<ServerConfig>,
    /// When the certificate expires, in seconds since 1970.
    pub(super) expiry: i64,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Pair {
    /// Reads and checks both.
    pub(super) fn read(sources: &TlsConfig) -> Result<Self, TlsError> {
        let chain = chain(sources)?;
        let key = read("TLS_KEY", &sources.key)?;
        let (of_certificate, of_key) = (sources.certificate.to_string(), sources.key.to_string());
        let Some(own) = chain.first() else { return Err(TlsError::NoCertificate(of_certificate)) };
        let expiry = X509Certificate::from_der(own)
            .map_err(|error| TlsError::Certificate(of_certificate.clone(), error.to_string()))?
            .1
            .validity()
            .not_after
            .timestamp();
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| TlsError::NoKey(of_key.clone()))?;
        let pair = |error: rustls::Error| TlsError::Pair {
            certificate: of_certificate.clone(),
            key: of_key.clone(),
            why: error.to_string(),
        };
        // Both versions that are safe: 1.2 and 1.3 (RFC 8996 retires those before).
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(pair)?;
        let mut config =
            builder.with_no_client_auth().with_single_cert(chain.clone(), key.clone_key()).map_err(pair)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A client that comes back shows a ticket (RFC 8446, section 4.6.1; RFC 5077) and needs no signature, however many
        // come back at once; a memory of sessions on our side would forget most of them.
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(pair)?;
        // A client opens one connection when it comes back, and is given another ticket on it.
        config.send_tls13_tickets = 1;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { config: Arc::new(config), expiry, chain, key })
    }

    /// Says so where the certificate has expired: clients will refuse it, and only they.
    pub(super) fn warn_of_expiry(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        if self.expiry < now {
            tracing::warn!(expired = self.expiry, "the tls certificate has expired: clients refuse it, renew TLS_CERT");
        }
    }

    /// Whether it is the same certificate with the same key.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.chain == other.chain && self.key == other.key
    }
}

/// The certificates, the server's own first.
fn chain(sources: &TlsConfig) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificate = read("TLS_CERT", &sources.certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate).collect();
    chain.map_err(|error| TlsError::Certificate(sources.certificate.to_string(), error.to_string()))
}

impl TlsConfig {
    /// The server's own certificate, by which this machine's commands know their node.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn own_certificate(&self) -> Result<CertificateDer<'static>, TlsError> {
        let mut chain = chain(self)?.into_iter();
        chain.next().ok_or_else(|| TlsError::NoCertificate(self.certificate.to_string()))
    }
}

fn read(variable: &'static str, source: &Source) -> Result<Vec<u8>, TlsError> {
    let path = match source {
        Source::Pem(pem) => return Ok(pem.clone().into_bytes()),
        Source::Path(path) => path,
    };
    let unreadable = |why: String| TlsError::Unreadable { variable, source_of: source.shown(), why };
    let size = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if size > MAX_PEM {
        return Err(unreadable(format!("{size} bytes are more than a certificate or key has")));
    }
    std::fs::read(path).map_err(|error| unreadable(error.to_string()))
}
