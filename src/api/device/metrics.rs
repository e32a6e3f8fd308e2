//! What the device socket counts, and what it logs of what was wrong.

use super::document::Action;
use super::refusal::Refusal;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The shortest time between two lines of log about refused documents: a backend can write thousands of them a second.
const BETWEEN_LINES: Duration = Duration::from_secs(1);

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
    documents_log: Log,
    connections_log: Log,
}

impl DeviceMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let done = IntCounterVec::new(
            Opts::new("carillon_device_actions_total", "Documents of the device socket that were carried out."),
            &["source", "action"],
        )?;
        let refused = IntCounterVec::new(
            Opts::new(
                "carillon_device_documents_refused_total",
                "Documents of the device socket that were not carried out, by reason, answered with ERR or not.",
            ),
            &["source", "reason"],
        )?;
        let connections =
            IntGauge::new("carillon_device_socket_connections", "Connections of backends to the unix socket.")?;
        let connections_refused = IntCounter::new(
            "carillon_device_socket_connections_refused_total",
            "Connections to the unix socket that were refused because there were as many as there may be.",
        )?;
        registry.register(Box::new(done.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        registry.register(Box::new(connections.clone()))?;
        registry.register(Box::new(connections_refused.clone()))?;
        for source in Source::ALL {
            for action in Action::NAMES {
                done.with_label_values(&[source.as_str(), action]);
            }
            for reason in Refusal::LABELS {
                refused.with_label_values(&[source.as_str(), reason]);
            }
        }
        let (documents_log, connections_log) = (Log::default(), Log::default());
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

/// Lines of log about one thing, at most one in a while.
#[derive(Default)]
struct Log(Mutex<(Option<Instant>, u64)>);

impl Log {
    /// Whether it is time for a line; with it, how many there would have been since the last.
    fn line(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, left_out) = &mut *state;
        if last.is_some_and(|last| last.elapsed() < BETWEEN_LINES) {
            *left_out += 1;
            return None;
        }
        *last = Some(Instant::now());
        Some(std::mem::take(left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_of_log_are_one_a_second_and_tell_how_many_were_left_out() {
        let log = Log::default();
        assert_eq!([log.line(), log.line(), log.line()], [Some(0), None, None]);
        tokio::time::advance(BETWEEN_LINES).await;
        assert_eq!([log.line(), log.line()], [Some(2), None]);
    }
}
