//! The backend's metrics.

use super::connect::Purpose;
use super::link::Loss;
use crate::metrics::Register;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, Registry};
use std::time::Duration;

/// From a loopback round trip to a command's timeout.
const COMMAND_BUCKETS: &[f64] = &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0];

/// Changes in one batch of the registration.
const BATCH_BUCKETS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0];

/// From a push's time on a loopback to a subscriber that Redis is about to cut off.
const LAG_BUCKETS: &[f64] = &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0];

/// What the backend counts.
pub(super) struct RedisMetrics {
    /// By purpose; failed ones included.
    commands: Vec<(Purpose, Histogram, IntCounter)>,
    /// 2 ready, 1 recovering, 0 away.
    pub(super) state: IntGauge,
    pub(super) nodes: IntGauge,
    pub(super) registrations: IntCounter,
    pub(super) batches: Histogram,
    pub(super) deaths: IntCounter,
    pub(super) reaped: IntCounter,
    pub(super) received: IntCounter,
    /// From a push's publishing, on whatever node, to its arrival here.
    pub(super) lag: Histogram,
    pub(super) published: IntCounter,
    pub(super) unreadable: IntCounter,
    pub(super) lagged: IntCounter,
    pub(super) link_losses: IntCounterVec,
    pub(super) topics: IntGauge,
    pub(super) acts_refused: IntCounter,
}

impl RedisMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name, help| registry.counter(name, help);
        let gauge = |name, help| registry.gauge(name, help);
        let seconds = registry.histograms(
            "carillon_redis_command_seconds",
            "Time from a Redis command to its answer, by connection.",
            &["connection"],
            COMMAND_BUCKETS,
        )?;
        let errors = registry.counters(
            "carillon_redis_errors_total",
            "Redis commands that failed or were refused, by connection.",
            &["connection"],
        )?;
        let of = |purpose: Purpose| {
            let label = [purpose.as_str()];
            (purpose, seconds.with_label_values(&label), errors.with_label_values(&label))
        };
        let help = "Subscriber connections lost or given up, by reason.";
        let losses = registry.counters("carillon_bus_link_losses_total", help, &["reason"])?;
        for why in Loss::ALL {
            losses.with_label_values(&[why.as_str()]);
        }
        Ok(Self {
            commands: Purpose::ALL.into_iter().map(of).collect(),
            state: gauge("carillon_redis_state", "Redis as this node sees it: 2 ready, 1 recovering, 0 away.")?,
            nodes: gauge("carillon_node_leases", "Live nodes, as this node last saw them.")?,
            registrations: counter("carillon_registrations_total", "Times this node wrote itself to Redis anew.")?,
            batches: registry.histogram(
                "carillon_registration_batch_changes",
                "Changes written to Redis in one batch.",
                BATCH_BUCKETS,
            )?,
            deaths: counter("carillon_node_deaths_total", "Other nodes' deaths that this node wrote to Redis.")?,
            reaped: counter("carillon_registrations_reaped_total", "Dead registrations that this node cleaned up.")?,
            received: counter("carillon_bus_received_total", "Messages received from the bus.")?,
            lag: registry.histogram(
                "carillon_bus_lag_seconds",
                "Time from taking a push, on whatever node, to its arrival here, by Redis's clock.",
                LAG_BUCKETS,
            )?,
            published: counter("carillon_bus_published_total", "Messages that the bus took from this node.")?,
            unreadable: counter("carillon_bus_unreadable_total", "Messages skipped as of another version or program.")?,
            lagged: counter(
                "carillon_bus_lagged_total",
                "Messages dropped because they came faster than they were read.",
            )?,
            link_losses: losses,
            topics: gauge("carillon_bus_topics", "Pub/sub names this node is or wants to be subscribed to.")?,
            acts_refused: counter("carillon_bus_acts_refused_total", "Requests not carried out: late, or too many.")?,
        })
    }

    /// Counts a command.
    pub(super) fn command(&self, purpose: Purpose, took: Duration, answered: bool) {
        if let Some((_, seconds, errors)) = self.commands.iter().find(|(of, ..)| *of == purpose) {
            seconds.observe(took.as_secs_f64());
            if !answered {
                errors.inc();
            }
        }
    }
}
