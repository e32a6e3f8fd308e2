//! What the device socket counts, and what it logs of what was wrong.

use super::document::Action;
use super::refusal::Refusal;
use crate::log::Seldom;
use crate::metrics::Register;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

/// Where a document came from; a label of the metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// The unix socket.
    Unix,
    /// A WebSocket client of the profile `device`.
    Client,
}

impl Source {
    const ALL: [Self; 2] = [Self::Unix, Self::Client];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Unix => "unix",
            Self::Client => "client",
        }
    }
}

/// The figures, and the log.
pub(super) struct DeviceMetrics {
    done: IntCounterVec,
    refused: IntCounterVec,
    pub(super) connections: IntGauge,
    connections_refused: IntCounter,
    documents_log: Seldom,
    connections_log: Seldom,
}

impl DeviceMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let done = registry.counters(
            "carillon_device_actions_total",
            "Documents of the device socket that were carried out.",
            &["source", "action"],
        )?;
        let refused = registry.counters(
            "carillon_device_documents_refused_total",
            "Documents of the device socket that were not carried out, by reason, answered with ERR or not.",
            &["source", "reason"],
        )?;
        let connections =
            registry.gauge("carillon_device_socket_connections", "Connections of backends to the unix socket.")?;
        let connections_refused = registry.counter(
            "carillon_device_socket_connections_refused_total",
            "Connections to the unix socket that were refused because there were as many as there may be.",
        )?;
        for source in Source::ALL {
            for action in Action::NAMES {
                done.with_label_values(&[source.as_str(), action]);
            }
            for reason in Refusal::LABELS {
                refused.with_label_values(&[source.as_str(), reason]);
            }
        }
        let (documents_log, connections_log) = (Seldom::default(), Seldom::default());
        Ok(Self { done, refused, connections, connections_refused, documents_log, connections_log })
    }

    pub(super) fn done(&self, source: Source, action: &str) {
        self.done.with_label_values(&[source.as_str(), action]).inc();
    }

    pub(super) fn refused(&self, source: Source, refusal: &Refusal) {
        self.refused.with_label_values(&[source.as_str(), refusal.label()]).inc();
        match source {
            Source::Client => tracing::debug!("document of a websocket client not carried out: {refusal}"),
            Source::Unix => {
                if let Some(others) = self.documents_log.line() {
                    tracing::warn!(others, "document on the unix socket not carried out: {refusal}");
                }
            }
        }
    }

    pub(super) fn connection_refused(&self, limit: usize) {
        self.connections_refused.inc();
        if let Some(others) = self.connections_log.line() {
            tracing::warn!(others, limit, "connection to the unix socket refused: there are as many as there may be");
        }
    }
}
