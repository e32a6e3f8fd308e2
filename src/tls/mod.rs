//! TLS on the node's own ports: the certificate, its exchange while the node runs, and accepting.
//!
//! [`pair`] reads a chain and its key, [`Certificate`] holds the configuration that handshakes are answered with and
//! follows its files. Connections that are there keep what they were accepted with.

mod pair;

use crate::metrics::Register;
use crate::model::shown_path;
use pair::Pair;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

pub use pair::TlsError;

/// How often the files are looked at. By their content, as a mounted secret changes by the exchange of a link.
const LOOK: Duration = Duration::from_secs(5);

/// Where PEM is: in a file, or given itself.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// The path of a file.
    Path(PathBuf),
    /// The PEM.
    Pem(String),
}

impl Source {
    /// What has a PEM block in it, or several lines, is no path: tools write attributes in front of keys (RFC 7468, section 5.2),
    /// and a path is shown where it can't be read, a key never.
    pub fn new(value: String) -> Self {
        if value.contains("-----BEGIN ") || value.trim_end().contains('\n') {
            Self::Pem(value)
        } else {
            Self::Path(value.into())
        }
    }
}

impl Source {
    /// What it is, before anything was read from it: a path, or that there is PEM. Either may be a private key.
    fn shown(&self) -> String {
        match self {
            Self::Path(path) => shown_path(&path.to_string_lossy()),
            Self::Pem(_) => "(PEM)".to_owned(),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl fmt::Display for Source {
    /// For what was read from it: what could be, under a path, is a file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Pem(_) => f.write_str("its value"),
        }
    }
}

/// Where the certificate and its key are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsConfig {
    /// The certificate with its chain, the server's own first (`TLS_CERT`).
    pub certificate: Source,
    /// Its private key: PKCS#8, PKCS#1 or SEC1 (`TLS_KEY`).
    pub key: Source,
}

/// What has become of an attempt to exchange the certificate; the label `result` of `carillon_tls_reloads_total`.
const RESULTS: [&str; 2] = ["taken", "refused"];

struct Metrics {
    expiry: IntGauge,
    reloads: IntCounterVec,
    successful: IntGauge,
    failed: IntCounter,
}

/// The certificate that handshakes are answered with, and everything that goes with it.
pub struct Certificate {
    /// Held while they are read: who looks later has looked at what is newer.
    sources: Mutex<TlsConfig>,
    /// What was read last, taken or refused: the same again is no news.
    read: Mutex<Result<Pair, TlsError>>,
    current: watch::Sender<Arc<rustls::ServerConfig>>,
    metrics: Metrics,
}

impl Certificate {
    /// Reads certificate and key; their metrics in `registry`.
    ///
    /// # Errors
    /// What is wrong with the files, or with the pair.
    pub fn load(sources: TlsConfig, registry: &Registry) -> Result<Arc<Self>, StartError> {
        let pair = Pair::read(&sources)?;
        let metrics = Metrics {
            expiry: registry.gauge(
                "carillon_tls_certificate_expiry_timestamp_seconds",
                "When the certificate in use expires, in seconds since 1970.",
            )?,
            reloads: registry.counters(
                "carillon_tls_reloads_total",
                "Changed certificates, taken or refused because of a fault.",
                &["result"],
            )?,
            successful: registry.gauge(
                "carillon_tls_last_reload_successful",
                "1 where the certificate in use is the one in the files, 0 where that has a fault.",
            )?,
            failed: registry.counter(
                "carillon_tls_handshakes_failed_total",
                "TLS handshakes that did not come to an end: of clients that speak no TLS, an old version of it, or too slowly.",
            )?,
        };
        for result in RESULTS {
            metrics.reloads.with_label_values(&[result]);
        }
        metrics.expiry.set(pair.expiry);
        metrics.successful.set(1);
        tracing::info!(certificate = %sources.certificate, expires = pair.expiry, "tls certificate loaded");
        pair.warn_of_expiry();
        Ok(Arc::new(Self {
            current: watch::Sender::new(pair.config.clone()),
            read: Mutex::new(Ok(pair)),
            sources: Mutex::new(sources),
            metrics,
        }))
    }

    /// Takes other sources over, which may be the old ones with another content.
    ///
    /// # Errors
    /// What is wrong with the pair that is there; the one before stays in use.
    pub fn reload(&self, sources: TlsConfig) -> Result<(), String> {
        let mut current = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        *current = sources;
        self.look(&current);
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.as_ref().map(|_| ()).map_err(TlsError::to_string)
    }

    /// Follows the files for ever. What is half written is refused and looked at again.
    pub async fn follow(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let certificate = self.clone();
            // Reading files may block.
            let looked = tokio::task::spawn_blocking(move || {
                let sources = certificate.sources.lock().unwrap_or_else(PoisonError::into_inner);
                certificate.look(&sources);
            })
            .await;
            if let Err(error) = looked {
                tracing::error!(%error, "the tls certificate could not be looked at");
            }
        }
    }

    fn look(&self, sources: &TlsConfig) {
        let fresh = Pair::read(sources);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if match (&*read, &fresh) {
            (Ok(old), Ok(new)) => old.is_same(new),
            (Err(old), Err(new)) => old.to_string() == new.to_string(),
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
        } {
            return;
        }
        self.metrics.successful.set(i64::from(fresh.is_ok()));
        match &fresh {
            Ok(pair) => {
                self.current.send_replace(pair.config.clone());
                self.metrics.expiry.set(pair.expiry);
                self.metrics.reloads.with_label_values(&["taken"]).inc();
                tracing::info!(certificate = %sources.certificate, expires = pair.expiry, "tls certificate exchanged");
                pair.warn_of_expiry();
            }
            Err(error) => {
                self.metrics.reloads.with_label_values(&["refused"]).inc();
                tracing::error!(%error, "changed tls certificate not taken: the one before stays in use");
            }
        }
        *read = fresh;
    }

    /// Does the TLS handshake of a connection that was accepted (TLS 1.2 or 1.3), which may take so long.
    ///
    /// # Errors
    /// What the client did wrong, or what became of its connection.
    pub async fn accept(&self, stream: TcpStream, within: Duration) -> io::Result<TlsStream<TcpStream>> {
        let config = self.current.borrow().clone();
        let accepted = timeout(within, tokio_rustls::TlsAcceptor::from(config).accept(stream)).await;
        let accepted = accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if accepted.is_err() {
            self.metrics.failed.inc();
        }
        accepted
    }
}

/// Why TLS can't be had.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificate or its key.
    #[error(transparent)]
    Pair(#[from] TlsError),
    /// A metric of the same name is registered already.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_with_attributes_in_front_of_it_is_no_path_that_could_be_shown() {
        let key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
        for value in
            [key.to_owned(), format!("\n{key}"), format!("Bag Attributes\n  friendlyName: x\n{key}"), "a\nb".into()]
        {
            let source = Source::new(value);
            assert!(matches!(source, Source::Pem(_)), "{source:?}");
            assert!(!format!("{source} {source:?}").contains("c2Vj"));
        }
        for path in ["/etc/tls/tls.key", "tls.key\n", "-----"] {
            assert_eq!(Source::new(path.to_owned()), Source::Path(path.into()));
        }
    }
}
