//! What the cluster owes to somebody outside: that a channel got its first member or lost its last, and the `close` of
//! connections whose node died before it could tell.
//!
//! Decided exactly once for the whole cluster, delivered at least once: a [`Sink`] may be given the same [`Owed`] again, by
//! this or another node, with the same [`Owed::id`]. What concerns one channel is delivered in order but for such
//! repetitions, which the version tells.

use crate::metrics::Register;
use crate::model::{ConnectionId, HexId, Name, NodeId};
use async_trait::async_trait;
use prometheus::{IntCounter, IntCounterVec, Registry};
use std::sync::Arc;
use std::time::Duration;

/// The pauses between attempts to deliver: from the first to the longest, each twice as long as the one before.
pub(super) const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// One thing that somebody is to be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Owed {
    /// The channel had no member in the cluster and has one now.
    Occupied {
        /// Which channel.
        channel: Name,
        /// Rises with each change of the channel; below 2^53.
        version: u64,
    },
    /// The channel's last member in the cluster is gone.
    Vacated {
        /// Which channel.
        channel: Name,
        /// Rises with each change of the channel; below 2^53.
        version: u64,
    },
    /// A connection that was to be reported closed ended with its node, which can't report it any more.
    Closed {
        /// Which connection.
        connection: ConnectionId,
        /// The life that it belonged to.
        node: NodeId,
        /// What the directory kept of it, as compact JSON: see [`Details`](super::Details).
        details: Arc<str>,
        /// When its node was found to be dead, in milliseconds since 1970.
        found: u64,
    },
}

impl Owed {
    /// The event's name.
    pub const fn event(&self) -> &'static str {
        match self {
            Self::Occupied { .. } => EVENTS[0],
            Self::Vacated { .. } => EVENTS[1],
            Self::Closed { .. } => EVENTS[2],
        }
    }

    /// The delivery's id: the same each time that this very thing is delivered, and of nothing else.
    pub fn id(&self) -> String {
        match self {
            Self::Occupied { channel, version } | Self::Vacated { channel, version } => format!("{version}:{channel}"),
            Self::Closed { connection, node, .. } => Self::close_id(HexId::new(node.tag(), *connection)),
        }
    }

    /// The delivery id of a connection's `close`, whoever delivers it: a node that lives tells of its own connections itself,
    /// and may be killed before it knows whether that was taken.
    pub fn close_id(connection: HexId) -> String {
        format!("{connection}-close")
    }
}

/// The names of the events, in the order of [`Owed`]'s variants.
const EVENTS: [&str; 3] = ["channel_occupied", "channel_vacated", "close"];

/// Why a sink did not take something; it is offered again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotTaken(pub String);

/// Changes of channels that somebody may be told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChannelEvents {
    /// That a channel has its first member in the cluster.
    pub occupied: bool,
    /// That a channel has lost its last.
    pub vacated: bool,
}

impl ChannelEvents {
    /// Both.
    pub const ALL: Self = Self { occupied: true, vacated: true };

    /// Whether there is any.
    pub const fn any(self) -> bool {
        self.occupied || self.vacated
    }
}

/// Where what is owed is delivered to.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Which changes of channels of this node it wants to be told of, by whichever node. Where it is none nothing is kept track of
    /// for that.
    fn channel_events(&self) -> ChannelEvents {
        ChannelEvents::ALL
    }

    /// Delivers one thing; also what only another node's sink wants, as while the nodes' configuration is being changed. `Ok` where it was taken, or is given up for good: it is not offered again. After an error it is,
    /// after a pause; so it is where this takes so long that another node has to take over. May be cancelled at any await.
    async fn deliver(&self, owed: &Owed) -> Result<(), NotTaken>;
}

/// Whether anybody is told, and who.
#[derive(Clone)]
pub struct Owing {
    /// Who is told. Without anybody nothing is kept track of.
    pub(super) sink: Option<Arc<dyn Sink>>,
    pub(super) metrics: Arc<OwedMetrics>,
}

impl Owing {
    /// Which changes of channels somebody is told of.
    pub(super) fn channel_events(&self) -> ChannelEvents {
        self.sink.as_ref().map(|sink| sink.channel_events()).unwrap_or_default()
    }

    /// To be told to `sink`; with `None` to nobody.
    ///
    /// # Errors
    /// A metric of the same name is registered already.
    pub fn new(sink: Option<Arc<dyn Sink>>, registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self { sink, metrics: Arc::new(OwedMetrics::new(registry)?) })
    }
}

/// What is counted of it.
pub(super) struct OwedMetrics {
    /// Changes that this node's calls decided.
    pub(super) decided: IntCounter,
    /// Closes of dead nodes' connections that this node found owed.
    pub(super) closes: IntCounter,
    delivered: IntCounterVec,
    /// Attempts that the sink did not take.
    pub(super) refused: IntCounter,
    /// Given up, as more waits than there is room for, or as it can't be read.
    pub(super) dropped: IntCounter,
}

impl OwedMetrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name, help| registry.counter(name, help);
        let help = "Channel events and owed closes taken, by event.";
        let delivered = registry.counters("carillon_owed_delivered_total", help, &["event"])?;
        for event in EVENTS {
            delivered.with_label_values(&[event]);
        }
        Ok(Self {
            decided: counter(
                "carillon_channel_events_total",
                "Channels occupied or vacated, as this node's calls found.",
            )?,
            closes: counter("carillon_owed_closes_total", "Closes owed by dead nodes that this node collected.")?,
            delivered,
            refused: counter("carillon_owed_refused_total", "Attempts to deliver an event that were not taken.")?,
            dropped: counter("carillon_owed_dropped_total", "Events given up: too many waited, or it was unreadable.")?,
        })
    }

    /// Counts what was taken.
    pub(super) fn taken(&self, owed: &Owed) {
        self.delivered.with_label_values(&[owed.event()]).inc();
    }

    /// Counts what had to be given up, and says so.
    pub(super) fn give_up(&self, count: u64, why: &'static str) {
        if count > 0 {
            self.dropped.inc_by(count);
            tracing::warn!(
                count,
                why,
                "channel events or closes are given up: their receiver has to catch up by itself"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Seq;

    #[test]
    fn no_two_things_have_one_id() {
        let channel = |name: &str| Name::new(name).unwrap();
        let (node, connection) = (NodeId::random().unwrap(), ConnectionId::new(Seq::EMBEDDED, 7));
        let all = [
            Owed::Occupied { channel: channel("a"), version: 1 },
            Owed::Vacated { channel: channel("a"), version: 2 },
            Owed::Occupied { channel: channel("1:a"), version: 1 },
            Owed::Occupied { channel: channel("a"), version: 11 },
            Owed::Closed { connection, node, details: "{}".into(), found: 1 },
        ];
        let ids: std::collections::BTreeSet<String> = all.iter().map(Owed::id).collect();
        assert_eq!(ids.len(), all.len());
        let again = Owed::Closed { connection, node, details: "{\"user\":\"ann\"}".into(), found: 2 };
        assert!(ids.contains(&again.id()));
    }
}
