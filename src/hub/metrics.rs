//! The hub's metrics.

use super::Hub;
use super::socket::CloseReason;
use crate::metrics::Register;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, Registry};

/// Push-to-socket latencies worth telling apart: from a tenth of a millisecond to the seconds of a node in trouble.
const LATENCY_BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

pub(super) struct HubMetrics {
    pub(super) open: IntGauge,
    pub(super) accepted: IntCounter,
    pub(super) closed: IntCounterVec,
    pub(super) audiences: IntGauge,
    pub(super) memberships: IntGauge,
    pub(super) joins: IntCounter,
    pub(super) hits: IntCounter,
    pub(super) misses: IntCounter,
    pub(super) deliveries: IntCounter,
    pub(super) heartbeats: IntCounter,
    pub(super) bytes: IntCounter,
    pub(super) writes: IntCounter,
    pub(super) messages_per_write: Histogram,
    pub(super) unsent: IntGauge,
    pub(super) queued: IntGauge,
    pub(super) journal: IntGauge,
    pub(super) slow_consumers: IntCounter,
    pub(super) latency: Histogram,
    pub(super) gaps: IntCounter,
    pub(super) dropped: IntCounter,
}

impl HubMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name, help| registry.counter(name, help);
        let gauge = |name, help| registry.gauge(name, help);
        let help = "WebSocket connections closed, by reason.";
        let closed = registry.counters("carillon_connections_closed_total", help, &["reason"])?;
        for reason in CloseReason::ALL {
            closed.with_label_values(&[reason.as_str()]);
        }
        Ok(Self {
            open: gauge("carillon_connections_open", "WebSocket connections open now.")?,
            accepted: counter("carillon_connections_accepted_total", "WebSocket connections taken in.")?,
            closed,
            audiences: gauge("carillon_audiences", "Audiences with members on this node.")?,
            memberships: gauge("carillon_memberships", "Memberships of this node's connections in audiences.")?,
            joins: counter("carillon_joins_total", "Memberships made.")?,
            hits: counter("carillon_audience_hits_total", "Pushes to an audience that found members on this node.")?,
            misses: counter("carillon_audience_misses_total", "Pushes to an audience that found nobody on this node.")?,
            deliveries: counter("carillon_deliveries_total", "Messages given to a socket, or to its unsent buffer.")?,
            heartbeats: counter("carillon_heartbeats_total", "Heartbeats given to sockets.")?,
            bytes: counter("carillon_sent_bytes_total", "Bytes of WebSocket frames given to the kernel.")?,
            writes: counter("carillon_writes_total", "Write calls on WebSocket connections.")?,
            messages_per_write: registry.histogram(
                "carillon_messages_per_write",
                "Messages that one write call carried, observed once for each batch of a shard.",
                &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0],
            )?,
            unsent: gauge("carillon_unsent_bytes", "Bytes that sockets are owed and the kernel has not taken yet.")?,
            queued: gauge("carillon_hub_queue_bytes", "Bytes of pushes that wait in the hub for its shards.")?,
            journal: gauge(
                "carillon_registration_queue_changes",
                "Changes that wait to be written to Redis; beyond 65536 they are dropped and everything is written anew.",
            )?,
            slow_consumers: counter(
                "carillon_slow_consumers_total",
                "Connections closed because they did not read what they were sent.",
            )?,
            latency: registry.histogram(
                "carillon_push_to_socket_seconds",
                "Time from taking a push, on whatever node, to the last write of a shard's sockets here.",
                LATENCY_BUCKETS,
            )?,
            gaps: counter("carillon_bus_gaps_total", "Connections that may have missed a push.")?,
            dropped: counter("carillon_hub_dropped_total", "Pushes dropped because the hub's queue was full.")?,
        })
    }
}

/// What a node's sockets carry: two gauges, and counters that only grow while the node lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// WebSocket connections open now.
    pub connections: u64,
    /// Bytes that sockets are owed and the kernel has not taken yet.
    pub unsent_bytes: u64,
    /// Messages given to a socket, or to its unsent buffer.
    pub deliveries: u64,
    /// Bytes of WebSocket frames given to the kernel.
    pub sent_bytes: u64,
    /// Connections closed because they did not read what they were sent.
    pub slow_consumers: u64,
}

impl Hub {
    /// The figures of this node's sockets as they are now. Reads a few atomics, nothing else.
    pub fn traffic(&self) -> Traffic {
        let metrics = &self.inner.metrics;
        let gauge = |gauge: &IntGauge| u64::try_from(gauge.get()).unwrap_or(0);
        Traffic {
            connections: gauge(&metrics.open),
            unsent_bytes: gauge(&metrics.unsent),
            deliveries: metrics.deliveries.get(),
            sent_bytes: metrics.bytes.get(),
            slow_consumers: metrics.slow_consumers.get(),
        }
    }
}
