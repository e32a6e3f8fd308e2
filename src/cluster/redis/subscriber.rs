//! What this node is subscribed to: one table for all links.
//!
//! A name is acknowledged only by the link that serves its slot *now*: each link has an epoch of its own, and an
//! acknowledgement of an earlier one counts for nothing. So a connection that broke, or a slot that moved, can't leave a name
//! behind that is believed to be heard.

mod table;

use super::core::Core;
use super::keys::Keys;
use super::link;
use super::metrics::RedisMetrics;
use super::topology::{Place, SlotMap, Topology};
use crate::hub::{Change, Hub};
use crate::model::{Audience, Seq};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use table::{LinkState, Table};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long an audience without local members stays subscribed: page reloads leave and join within it.
const LINGER: Duration = Duration::from_secs(2);

/// Between two looks at who has lingered long enough.
const SWEEP: Duration = Duration::from_millis(500);

/// What a name is subscribed for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Topic {
    /// Pushes to an audience, and requests to close it.
    Audience(Audience),
    /// Requests and answers for this node, and pushes to its single connections.
    Inbox,
    /// Pushes to everybody and to several audiences.
    All,
    /// This node's own messages to itself.
    Probe,
}

/// What a link has to do next.
#[derive(Default)]
pub(super) struct Work {
    pub(super) subscribe: Vec<Arc<str>>,
    pub(super) unsubscribe: Vec<Arc<str>>,
    /// With nothing left to do: what is heard again, whose pushes in between may have been missed.
    pub(super) regained: Vec<Topic>,
}

/// The subscriptions of this node.
pub(super) struct Subscriber {
    keys: Keys,
    sharded: bool,
    topology: Arc<Topology>,
    table: Mutex<Table>,
    hears: watch::Sender<bool>,
    metrics: Arc<RedisMetrics>,
}

impl Subscriber {
    pub(super) fn new(keys: Keys, sharded: bool, topology: Arc<Topology>, metrics: Arc<RedisMetrics>) -> Self {
        let subscriber =
            Self { keys, sharded, topology, table: Mutex::default(), hears: watch::Sender::new(false), metrics };
        let map = subscriber.topology.map();
        subscriber.lock().want(subscriber.keys.all_topic().into(), Topic::All, &map);
        subscriber
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table and the slot map. The map is read under the lock: whoever puts a name in by an older one is seen by
    /// [`moved`](Self::moved), which takes the lock after every new map.
    fn table(&self) -> (MutexGuard<'_, Table>, Arc<SlotMap>) {
        let table = self.lock();
        (table, self.topology.map())
    }

    /// Whether names are subscribed to with `SSUBSCRIBE`.
    pub(super) fn is_sharded(&self) -> bool {
        self.sharded
    }

    /// Whether every server has a link on which all that was wanted is acknowledged, the inbox included.
    pub(super) fn hears(&self) -> bool {
        *self.hears.borrow()
    }

    /// The same, to wait for.
    pub(super) fn watch_hears(&self) -> watch::Receiver<bool> {
        self.hears.subscribe()
    }

    /// The links' ids at their servers, each with the server's life, for whoever has to end them when this node can't.
    pub(super) fn clients(&self) -> String {
        let table = self.lock();
        let clients = table.links.values().map(|link| format!("{}@{}", link.client.0, link.client.1));
        clients.collect::<Vec<_>>().join(",")
    }

    // ---- what is wanted ----

    /// Sets the node's number, and with it its inbox.
    pub(super) fn set_inbox(&self, seq: Seq) {
        let (mut table, map) = self.table();
        let name: Arc<str> = self.keys.inbox_topic(seq).into();
        if let Some(old) = table.inbox.replace(name.clone()) {
            table.drop_name(&old, &map);
        }
        table.want(name, Topic::Inbox, &map);
        self.review(&table, &map);
    }

    /// Waits until the inbox is subscribed.
    pub(super) async fn inbox_ready(&self) {
        loop {
            let inbox = self.lock().inbox.clone();
            let Some(inbox) = inbox else { return };
            if self.acknowledged(&[(inbox, Topic::Inbox)]).await {
                return;
            }
        }
    }

    /// Waits until the node is subscribed to all of them. To be asked again after every other wait.
    pub(super) async fn ensure(&self, audiences: &[Audience]) {
        let name = |audience: &Audience| self.keys.audience_topic(audience).into();
        let names: Vec<_> = audiences.iter().map(|a| (name(a), Topic::Audience(a.clone()))).collect();
        while !self.acknowledged(&names).await {}
    }

    /// True where all were acknowledged at once; else it waits for those that were not, and somebody has to look again.
    async fn acknowledged(&self, names: &[(Arc<str>, Topic)]) -> bool {
        let waiting: Vec<oneshot::Receiver<()>> = {
            let (mut table, map) = self.table();
            let mut waiting = Vec::new();
            for (name, topic) in names {
                table.want(name.clone(), topic.clone(), &map);
                if table.entries.get(name).is_some_and(|entry| table.is_acknowledged(entry, &map)) {
                    continue;
                }
                if let Some(entry) = table.entries.get_mut(name) {
                    let (acknowledged, wait) = oneshot::channel();
                    // Whoever gave up leaves nothing behind.
                    entry.waiters.retain(|waiter| !waiter.is_closed());
                    entry.waiters.push(acknowledged);
                    waiting.push(wait);
                }
            }
            waiting
        };
        for wait in waiting {
            // An error: the name was dropped. That is for the next look.
            let _ = wait.await;
        }
        self.all_acknowledged(names)
    }

    fn all_acknowledged(&self, names: &[(Arc<str>, Topic)]) -> bool {
        let (table, map) = self.table();
        names.iter().all(|(name, _)| table.entries.get(name).is_some_and(|entry| table.is_acknowledged(entry, &map)))
    }

    /// Follows the hub: subscribes for a first local member, lets go some time after the last.
    pub(super) fn follow(&self, changes: &[Change]) {
        let map = self.topology.map();
        for change in changes {
            match change {
                Change::Joined { audience, members: 1, .. } => {
                    let name = self.keys.audience_topic(audience).into();
                    self.lock().want(name, Topic::Audience(audience.clone()), &map);
                }
                Change::Left { audience, members: 0, .. } => {
                    self.lock().linger(self.keys.audience_topic(audience).into());
                }
                Change::Joined { .. }
                | Change::Left { .. }
                | Change::Opened { .. }
                | Change::Described { .. }
                | Change::Closed { .. }
                | Change::Told { .. } => {}
            }
        }
    }

    /// The hub's changes up to now were thrown away, and with them who left: looks at all audiences.
    pub(super) fn linger_all(&self) {
        let mut table = self.lock();
        let audiences = table.entries.iter().filter(|(_, entry)| matches!(entry.topic, Topic::Audience(_)));
        let names: Vec<Arc<str>> = audiences.map(|(name, _)| name.clone()).collect();
        names.into_iter().for_each(|name| table.linger(name));
    }

    /// Lets go what has lingered. Whether it is wanted again is seen under the lock that `ensure` takes.
    fn sweep(&self, hub: &Hub) {
        let map = self.topology.map();
        let now = Instant::now();
        let mut table = self.lock();
        while table.lingering.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, name)) = table.lingering.pop_front() else { break };
            // One that was dropped and wanted again stands in the queue twice; a look too many does no harm.
            let Some(entry) = table.entries.get_mut(&name) else { continue };
            entry.lingering = false;
            if let Topic::Audience(audience) = &entry.topic
                && hub.local_members(audience) == 0
            {
                table.drop_name(&name, &map);
            }
        }
        self.metrics.topics.set(table.entries.len() as i64);
    }

    // ---- for links ----

    /// A link to `place` begins: everything that its server has to tell this node is to be subscribed.
    pub(super) fn link_begins(&self, place: &Place, client: (i64, Arc<str>), hub: &Hub) -> (u64, Arc<Notify>) {
        let (mut table, map) = self.table();
        for audience in hub.local_audiences() {
            table.want(self.keys.audience_topic(&audience).into(), Topic::Audience(audience), &map);
        }
        table.epoch += 1;
        let (epoch, wake) = (table.epoch, Arc::new(Notify::new()));
        let here = table.entries.iter().filter(|(_, entry)| map.place(entry.slot) == Some(place));
        let dirty = here.map(|(name, _)| name.clone()).collect();
        let state =
            LinkState { epoch, dirty, held: 0, complete: false, regained: Vec::new(), client, wake: wake.clone() };
        table.links.insert(place.clone(), state);
        self.review(&table, &map);
        (epoch, wake)
    }

    /// A link has ended: what it acknowledged counts no more, and is missed until another link acknowledges it.
    pub(super) fn link_ended(&self, place: &Place, epoch: u64) {
        let (mut table, map) = self.table();
        if table.links.get(place).is_some_and(|link| link.epoch == epoch) {
            table.links.remove(place);
        }
        for entry in table.entries.values_mut().filter(|entry| entry.acknowledged == epoch) {
            entry.acknowledged = 0;
            entry.missed = true;
        }
        self.review(&table, &map);
    }

    /// What the link has to do next, at most `at_most` names; the node's inbox first.
    pub(super) fn next_work(&self, place: &Place, epoch: u64, at_most: usize) -> Work {
        let (mut table, map) = self.table();
        let table = &mut *table;
        let mut work = Work::default();
        let Some(link) = table.links.get_mut(place).filter(|link| link.epoch == epoch) else { return work };
        let mut names: Vec<Arc<str>> = Vec::new();
        names.extend(table.inbox.as_ref().and_then(|inbox| link.dirty.take(inbox)));
        while names.len() < at_most
            && let Some(name) = link.dirty.iter().next().cloned()
        {
            link.dirty.remove(&name);
            names.push(name);
        }
        for name in names {
            match table.entries.get(&name) {
                Some(entry) if map.place(entry.slot) == Some(place) => work.subscribe.push(name),
                // Its slot has moved, and Redis has unsubscribed it by itself.
                Some(_) => {}
                None => work.unsubscribe.push(name),
            }
        }
        if work.subscribe.is_empty() && work.unsubscribe.is_empty() && link.dirty.is_empty() {
            link.complete = true;
            work.regained = std::mem::take(&mut link.regained);
            self.review(table, &map);
        }
        work
    }

    /// The server has acknowledged these names on the link with this epoch.
    pub(super) fn acknowledge(&self, place: &Place, epoch: u64, names: &[Arc<str>]) {
        let (mut table, map) = self.table();
        let table = &mut *table;
        let Some(link) = table.links.get_mut(place).filter(|link| link.epoch == epoch) else { return };
        for name in names {
            let Some(entry) = table.entries.get_mut(name) else { continue };
            if map.place(entry.slot) != Some(place) {
                // Its slot has moved in the meantime: only the link that has it now can speak for it.
                continue;
            }
            if std::mem::replace(&mut entry.acknowledged, epoch) != epoch {
                link.held += 1;
            }
            if std::mem::take(&mut entry.missed) {
                link.regained.push(entry.topic.clone());
            }
            for waiter in entry.waiters.drain(..) {
                // Whoever waited may have given up.
                let _ = waiter.send(());
            }
        }
        self.review(table, &map);
    }

    /// Has the link try these names again.
    pub(super) fn try_again(&self, place: &Place, epoch: u64, names: impl IntoIterator<Item = Arc<str>>) {
        let mut table = self.lock();
        if let Some(link) = table.links.get_mut(place).filter(|link| link.epoch == epoch) {
            link.dirty.extend(names);
            link.wake.notify_one();
        }
    }

    /// How many names the server should count for this link; `None` while that is changing.
    pub(super) fn held(&self, place: &Place, epoch: u64) -> Option<usize> {
        let table = self.lock();
        let link = table.links.get(place).filter(|link| link.epoch == epoch)?;
        link.dirty.is_empty().then_some(link.held)
    }

    /// What a name is subscribed for; `None` where it is not (any more).
    pub(super) fn topic(&self, name: &str) -> Option<Topic> {
        self.lock().entries.get(name).map(|entry| entry.topic.clone())
    }

    /// Puts the link's probe in, and its last one out.
    pub(super) fn set_probe(&self, name: &Arc<str>, instead_of: Option<&Arc<str>>) {
        let (mut table, map) = self.table();
        if let Some(old) = instead_of {
            table.drop_name(old, &map);
        }
        table.want(name.clone(), Topic::Probe, &map);
    }

    /// Which life of the server this node writes to. Without a Cluster it is the one to be subscribed at.
    pub(super) fn served_by(&self, run_id: &Arc<str>) {
        let (mut table, map) = self.table();
        if !self.sharded && table.life.as_ref() != Some(run_id) {
            table.life = Some(run_id.clone());
            self.review(&table, &map);
        }
    }

    /// The slot map has changed: names whose server is another one now are for that one's link.
    fn moved(&self) {
        let (mut table, map) = self.table();
        let table = &mut *table;
        let epochs: HashMap<u64, Place> = table.links.iter().map(|(place, link)| (link.epoch, place.clone())).collect();
        for (name, entry) in &mut table.entries {
            let place = map.place(entry.slot);
            let before = epochs.get(&entry.acknowledged);
            if before.is_some() && before == place {
                continue;
            }
            if let Some(link) = before.and_then(|place| table.links.get_mut(place)) {
                link.held -= 1;
                entry.missed = true;
            }
            entry.acknowledged = 0;
            if let Some(link) = place.and_then(|place| table.links.get_mut(place)) {
                link.dirty.insert(name.clone());
                link.wake.notify_one();
            }
        }
        self.review(table, &map);
    }

    /// Looks whether the node hears everything.
    fn review(&self, table: &Table, map: &SlotMap) {
        // A link to a server that was replaced may stand for a while, and hears nothing of what is pushed now.
        let current = |link: &LinkState| table.life.as_ref().is_none_or(|life| *life == link.client.1);
        let linked = |place: &Place| table.links.get(place).is_some_and(|link| link.complete && current(link));
        let inbox = table.inbox.as_ref().and_then(|inbox| table.entries.get(inbox));
        let hears = !map.places.is_empty()
            && map.places.iter().all(linked)
            && inbox.is_some_and(|inbox| table.is_acknowledged(inbox, map));
        self.hears.send_if_modified(|known| std::mem::replace(known, hears) != hears);
    }
}

/// Keeps a link to every server that has slots, for as long as it is polled.
pub(super) async fn keep_links(core: Arc<Core>) {
    let mut map = core.topology.changes();
    let mut links: HashMap<Place, tokio::task::AbortHandle> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut sweep = tokio::time::interval(SWEEP);
    let mut hears = core.subscriber.watch_hears();
    core.subscriber.moved();
    loop {
        let places = map.borrow_and_update().places.clone();
        links.retain(|place, task| {
            let stays = places.contains(place);
            if !stays {
                task.abort();
            }
            stays
        });
        for place in places {
            if !links.contains_key(&place) {
                links.insert(place.clone(), tasks.spawn(link::keep(core.clone(), place)));
            }
        }
        tokio::select! {
            changed = map.changed() => match changed {
                Ok(()) => core.subscriber.moved(),
                Err(_) => return,
            },
            _ = hears.changed() => core.own.renew.notify_one(),
            _ = sweep.tick() => core.subscriber.sweep(&core.hub),
            // A link's task ends by being aborted; or by a panic, and then it is to be made again.
            Some(ended) = tasks.join_next_with_id() => {
                let id = match ended {
                    Ok((id, ())) => id,
                    Err(error) => {
                        if error.is_panic() {
                            tracing::error!("a subscriber's link has panicked: subscribing anew");
                        }
                        error.id()
                    }
                };
                links.retain(|_, task| task.id() != id);
            }
        }
    }
}

#[cfg(test)]
mod tests;
