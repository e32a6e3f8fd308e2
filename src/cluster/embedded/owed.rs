//! Channel events of a node alone: its hub's first and last members, told in order, each until it is taken.
//!
//! Nothing outlives the node, so a `close` is never owed.

use crate::cluster::owed::{ChannelEvents, Owed, Owing, PAUSES, Sink};
use crate::hub::{Change, Changes, Hub};
use crate::model::{Audience, AudienceKind, Name};
use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Changes taken from the hub at once.
const BATCH: usize = 1000;

/// Deliveries in flight; a channel's events all go the same way, so that they stay in order.
const LANES: usize = 16;

/// Events that may wait in one lane; with more the oldest is given up.
const MOST_WAITING: usize = 8192;

/// Events that wait for their turn.
#[derive(Default)]
struct Lane {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Owed>,
    /// No more will come.
    closed: bool,
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an older one had to be given up for it.
    fn push(&self, owed: Owed) -> bool {
        let mut waiting = self.lock();
        let full = waiting.events.len() >= MOST_WAITING;
        if full {
            waiting.events.pop_front();
        }
        waiting.events.push_back(owed);
        drop(waiting);
        self.filled.notify_one();
        full
    }

    fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// `None` when there is nothing left and no more will come.
    async fn next(&self) -> Option<Owed> {
        loop {
            {
                let mut waiting = self.lock();
                if let Some(owed) = waiting.events.pop_front() {
                    return Some(owed);
                }
                if waiting.closed {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }
}

/// Tells a sink what happens to the channels of a hub.
struct Teller {
    hub: Arc<Hub>,
    owing: Owing,
    /// What the sink wants to be told.
    told: ChannelEvents,
    occupied: HashSet<Name>,
    version: u64,
    lanes: Vec<Arc<Lane>>,
}

/// Tells `owing`'s sink of the hub's channels, until the node leaves; then what has happened by then is told and this returns.
/// The hub's journal is on.
pub(super) async fn tell(hub: Arc<Hub>, owing: Owing, leaves: Arc<Notify>) {
    let Some(sink) = owing.sink.clone() else { return };
    let lanes: Vec<Arc<Lane>> = (0..LANES).map(|_| Arc::default()).collect();
    let mut deliveries = JoinSet::new();
    for lane in &lanes {
        deliveries.spawn(deliver(lane.clone(), sink.clone(), owing.clone()));
    }
    let told = sink.channel_events();
    let mut teller = Teller { hub, owing, told, occupied: HashSet::new(), version: 0, lanes };
    let mut left = false;
    while !left {
        tokio::select! {
            biased;
            () = leaves.notified() => left = true,
            () = teller.hub.changed() => {}
        }
        while teller.take() {}
    }
    teller.lanes.iter().for_each(|lane| lane.close());
    while deliveries.join_next().await.is_some() {}
}

impl Teller {
    /// Whether there was something to take.
    fn take(&mut self) -> bool {
        match self.hub.take_changes(BATCH) {
            Changes::Some { changes, .. } if changes.is_empty() => return false,
            Changes::Some { changes, .. } => self.follow(changes),
            Changes::Overflow => self.compare(),
        }
        true
    }

    fn follow(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Joined { audience, members: 1, .. } => self.is(audience, true),
                Change::Left { audience, members: 0, .. } => self.is(audience, false),
                _ => {}
            }
        }
    }

    /// More changed than the journal holds: what differs from before counts as one change.
    fn compare(&mut self) {
        let now: HashSet<Audience> = self.hub.snapshot().audiences.into_iter().map(|(audience, _)| audience).collect();
        let gone = self.occupied.iter().cloned().map(Audience::channel).filter(|channel| !now.contains(channel));
        let gone: Vec<Audience> = gone.collect();
        gone.into_iter().for_each(|channel| self.is(channel, false));
        now.into_iter().for_each(|audience| self.is(audience, true));
    }

    fn is(&mut self, audience: Audience, occupied: bool) {
        let Audience { kind: AudienceKind::Channel, name: channel } = audience else { return };
        let news = if occupied { self.occupied.insert(channel.clone()) } else { self.occupied.remove(&channel) };
        if !news {
            return;
        }
        // The clock, so that versions rise over restarts as well.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
        self.version = now.max(self.version + 1);
        let version = self.version;
        self.owing.metrics.decided.inc();
        if !(if occupied { self.told.occupied } else { self.told.vacated }) {
            return;
        }
        let mut hasher = DefaultHasher::new();
        channel.hash(&mut hasher);
        let lane = &self.lanes[hasher.finish() as usize % LANES];
        let owed = if occupied { Owed::Occupied { channel, version } } else { Owed::Vacated { channel, version } };
        if lane.push(owed) {
            self.owing.metrics.give_up(1, "more waited than fits");
        }
    }
}

async fn deliver(lane: Arc<Lane>, sink: Arc<dyn Sink>, owing: Owing) {
    while let Some(owed) = lane.next().await {
        let mut pause = PAUSES.0;
        while let Err(why) = sink.deliver(&owed).await {
            tracing::debug!(%why, id = owed.id(), "an event was not taken; trying again");
            owing.metrics.refused.inc();
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
        owing.metrics.taken(&owed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{GapPolicy, Opening};
    use crate::model::Limits;
    use prometheus::Registry;

    fn name() -> Name {
        Name::new("news").unwrap()
    }

    #[tokio::test]
    async fn when_the_journal_ran_over_what_differs_is_told() {
        let told = ChannelEvents::ALL;
        let hub = Hub::start(Arc::new(Limits::default()), GapPolicy::Count, 1, &Registry::new()).unwrap();
        let owing = Owing::new(None, &Registry::new()).unwrap();
        let lanes = (0..LANES).map(|_| Arc::default()).collect();
        let mut teller = Teller { hub: hub.clone(), owing, told, occupied: HashSet::new(), version: 0, lanes };
        let audiences = vec![Audience::channel(name()), Audience::user(name())];
        let id = hub.open(Opening { details: "{}".into(), audiences, ..Opening::default() }, |_| Vec::new()).unwrap();
        teller.compare();
        teller.compare();
        hub.close(id, 1000, "");
        teller.compare();
        let events: Vec<Owed> = teller.lanes.iter().flat_map(|lane| std::mem::take(&mut lane.lock().events)).collect();
        let [Owed::Occupied { version: first, .. }, Owed::Vacated { channel, version }] = &events[..] else {
            panic!("{events:?}");
        };
        assert!(*channel == name() && version > first, "{events:?}");
    }

    #[tokio::test]
    async fn a_lane_gives_the_oldest_up_where_too_many_wait() {
        let lane = Lane::default();
        let owed = |version| Owed::Occupied { channel: name(), version };
        let given_up = (0..MOST_WAITING as u64 + 2).filter(|version| lane.push(owed(*version))).count();
        assert_eq!((given_up, lane.next().await), (2, Some(owed(2))));
        lane.close();
        for _ in 1..MOST_WAITING {
            assert!(lane.next().await.is_some());
        }
        assert_eq!(lane.next().await, None);
    }
}
