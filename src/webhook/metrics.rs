//! What is counted of an application, and logged of its failures.

use super::backend::Failure;
use crate::log::Seldom;
use crate::metrics::Register;
use prometheus::{HistogramVec, IntCounterVec, IntGauge, Registry};
use std::time::Duration;

/// From a millisecond, a backend on the same machine, to a minute, beyond which no limit of time should be.
const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// The outcome of a request that was answered.
const ANSWERED: &str = "answered";

/// What a request tells; a label of the metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told {
    Open,
    Message,
    Close,
    Occupied,
    Vacated,
}

impl Told {
    const ALL: [Self; 5] = [Self::Open, Self::Message, Self::Close, Self::Occupied, Self::Vacated];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Message => "message",
            Self::Close => "close",
            Self::Occupied => "channel_occupied",
            Self::Vacated => "channel_vacated",
        }
    }
}

/// What came of an operation; a label of the metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// Done.
    Done,
    /// There is no such connection.
    Nobody,
    /// It can't be read.
    Wrong,
    /// A limit stands against it, or the cluster could not do it.
    Failed,
    /// The answer's operations took longer than they may.
    Late,
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Done, Self::Nobody, Self::Wrong, Self::Failed, Self::Late];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Nobody => "nobody",
            Self::Wrong => "wrong",
            Self::Failed => "failed",
            Self::Late => "late",
        }
    }
}

/// Why a `close` event was given up; a label of the metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum GivenUp {
    /// It is older than it may become.
    Age,
    /// More of them waited than may: it was the oldest.
    Overflow,
    /// The node has stopped, and there is no cluster that could go on.
    Stopping,
}

impl GivenUp {
    const ALL: [Self; 3] = [Self::Age, Self::Overflow, Self::Stopping];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Overflow => "overflow",
            Self::Stopping => "stopping",
        }
    }
}

/// The figures, which are there without a webhook as well.
pub struct WebhookMetrics {
    calls: IntCounterVec,
    seconds: HistogramVec,
    in_flight: IntGauge,
    operations: IntCounterVec,
    pub(super) closes_waiting: IntGauge,
    given_up: IntCounterVec,
    calls_log: Seldom,
    operations_log: Seldom,
    closes_log: Seldom,
}

/// A request under way.
pub(super) struct Flying<'a>(&'a IntGauge);

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl WebhookMetrics {
    /// The metrics in `registry`; an error where one of that name is in it.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            calls: registry.counters(
                "carillon_webhook_calls_total",
                "Requests to the application, by event and outcome; each attempt is one.",
                &["event", "outcome"],
            )?,
            seconds: registry.histograms(
                "carillon_webhook_seconds",
                "Time from an event to its answer, waiting included, by event.",
                &["event"],
                SECONDS,
            )?,
            in_flight: registry.gauge("carillon_webhook_in_flight", "Requests to the application under way now.")?,
            operations: registry.counters(
                "carillon_webhook_operations_total",
                "Operations in the application's answers, by outcome.",
                &["outcome"],
            )?,
            closes_waiting: registry
                .gauge("carillon_webhook_closes_waiting", "Close events that the application has not taken yet.")?,
            given_up: registry.counters(
                "carillon_webhook_closes_given_up_total",
                "Close events that the application never took, by reason.",
                &["reason"],
            )?,
            calls_log: Seldom::default(),
            operations_log: Seldom::default(),
            closes_log: Seldom::default(),
        };
        for told in Told::ALL {
            metrics.seconds.with_label_values(&[told.as_str()]);
            for outcome in Failure::LABELS.into_iter().chain([ANSWERED]) {
                metrics.calls.with_label_values(&[told.as_str(), outcome]);
            }
        }
        for outcome in Outcome::ALL {
            metrics.operations.with_label_values(&[outcome.as_str()]);
        }
        for reason in GivenUp::ALL {
            metrics.given_up.with_label_values(&[reason.as_str()]);
        }
        Ok(metrics)
    }

    pub(super) fn flying(&self) -> Flying<'_> {
        self.in_flight.inc();
        Flying(&self.in_flight)
    }

    pub(super) fn called(&self, told: Told, took: Duration, failure: Option<&Failure>) {
        let outcome = failure.map_or(ANSWERED, Failure::label);
        self.calls.with_label_values(&[told.as_str(), outcome]).inc();
        self.seconds.with_label_values(&[told.as_str()]).observe(took.as_secs_f64());
        if let Some(failure) = failure
            && let Some(others) = self.calls_log.line()
        {
            tracing::warn!(event = told.as_str(), others, "webhook: {failure}");
        }
    }

    /// `why` is for the log, of what is the application's fault or the cluster's.
    pub(super) fn operated(&self, outcome: Outcome, why: &str) {
        self.operations.with_label_values(&[outcome.as_str()]).inc();
        let worth_a_line = !matches!(outcome, Outcome::Done | Outcome::Nobody);
        if worth_a_line && let Some(others) = self.operations_log.line() {
            tracing::warn!(others, "webhook: not carried out: {why}");
        }
    }

    pub(super) fn given_up(&self, reason: GivenUp, delivery: &str) {
        self.given_up.with_label_values(&[reason.as_str()]).inc();
        if let Some(others) = self.closes_log.line() {
            tracing::error!(others, delivery, reason = reason.as_str(), "webhook: close event given up");
        }
    }
}
