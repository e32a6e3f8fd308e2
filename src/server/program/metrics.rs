//! What is counted of a program's hooks and controllers.

use crate::log::Seldom;
use crate::metrics::Register;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

/// What is told; a label of the metrics.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Open,
    Message,
    Close,
}

impl Event {
    const ALL: [Self; 3] = [Self::Open, Self::Message, Self::Close];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Message => "message",
            Self::Close => "close",
        }
    }
}

/// The figures, which are there where a program has hooks or controllers.
pub(super) struct Metrics {
    pub(super) failed: IntCounterVec,
    pub(super) closes_waiting: IntGauge,
    pub(super) given_up: IntCounter,
    failed_log: Seldom,
    given_up_log: Seldom,
}

impl Metrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let failed = registry.counters(
            "carillon_hooks_failed_total",
            "Calls of the program's hooks and controllers that failed, panicked or took too long, by event.",
            &["event"],
        )?;
        for event in Event::ALL {
            failed.with_label_values(&[event.as_str()]);
        }
        let closes_waiting =
            registry.gauge("carillon_hooks_closes_waiting", "Ends of connections that hooks are not told of yet.")?;
        let given_up = registry.counter(
            "carillon_hooks_closes_given_up_total",
            "Ends of connections that hooks were never told of: too many waited, or each attempt failed.",
        )?;
        Ok(Self { failed, closes_waiting, given_up, failed_log: Seldom::default(), given_up_log: Seldom::default() })
    }

    pub(super) fn failed(&self, event: Event, why: &str) {
        self.failed.with_label_values(&[event.as_str()]).inc();
        if let Some(others) = self.failed_log.line() {
            tracing::error!(event = event.as_str(), others, "hook failed: {why}");
        }
    }

    pub(super) fn given_up(&self, why: &str) {
        self.given_up.inc();
        if let Some(others) = self.given_up_log.line() {
            tracing::error!(others, "on_close given up: {why}");
        }
    }
}
