//! The table of what is wanted and who hears it: plain data, to be changed under one lock.

use super::{LINGER, Topic};
use crate::cluster::redis::keys::slot;
use crate::cluster::redis::topology::{Place, SlotMap};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// One name that is wanted.
pub(super) struct Entry {
    pub(super) topic: Topic,
    pub(super) slot: u16,
    /// Epoch of the link that acknowledged it; 0: none.
    pub(super) acknowledged: u64,
    /// It is in the queue of those to be looked at.
    pub(super) lingering: bool,
    /// It was acknowledged once, and by nobody since: pushes may have passed by, and the hub has not been told.
    pub(super) missed: bool,
    pub(super) waiters: Vec<oneshot::Sender<()>>,
}

/// One link, as the table sees it.
pub(super) struct LinkState {
    pub(super) epoch: u64,
    /// Names to look at: to subscribe where they are in the table, to unsubscribe where not.
    pub(super) dirty: HashSet<Arc<str>>,
    /// Names that the server should count for this link.
    pub(super) held: usize,
    /// Everything that was wanted when it began has been acknowledged.
    pub(super) complete: bool,
    /// What it hears again, to be told to the hub when it has nothing left to subscribe.
    pub(super) regained: Vec<Topic>,
    /// Its id at the server, and the server's life.
    pub(super) client: (i64, Arc<str>),
    pub(super) wake: Arc<Notify>,
}

/// All names, and the links that hear them.
#[derive(Default)]
pub(super) struct Table {
    pub(super) entries: HashMap<Arc<str>, Entry>,
    pub(super) links: HashMap<Place, LinkState>,
    pub(super) epoch: u64,
    pub(super) lingering: VecDeque<(Instant, Arc<str>)>,
    pub(super) inbox: Option<Arc<str>>,
    /// The life of the server that is written to; not known in a Cluster, which has several.
    pub(super) life: Option<Arc<str>>,
}

impl Table {
    pub(super) fn is_acknowledged(&self, entry: &Entry, map: &SlotMap) -> bool {
        let link = map.place(entry.slot).and_then(|place| self.links.get(place));
        link.is_some_and(|link| entry.acknowledged == link.epoch)
    }

    /// Has the name's link look at it.
    pub(super) fn touch(&mut self, name: &Arc<str>, slot: u16, map: &SlotMap) {
        if let Some(link) = map.place(slot).and_then(|place| self.links.get_mut(place)) {
            link.dirty.insert(name.clone());
            link.wake.notify_one();
        }
    }

    /// Puts a name in if it isn't. Whether an audience's stays is decided when it has lingered: whoever wanted it may be
    /// gone by then.
    pub(super) fn want(&mut self, name: Arc<str>, topic: Topic, map: &SlotMap) {
        if self.entries.contains_key(&name) {
            return;
        }
        let slot = slot(&name);
        let audience = matches!(topic, Topic::Audience(_));
        let entry = Entry { topic, slot, acknowledged: 0, lingering: false, missed: false, waiters: Vec::new() };
        self.entries.insert(name.clone(), entry);
        self.touch(&name, slot, map);
        if audience {
            self.linger(name);
        }
    }

    /// Has somebody look a while later whether the name has members.
    pub(super) fn linger(&mut self, name: Arc<str>) {
        if let Some(entry) = self.entries.get_mut(&name)
            && !std::mem::replace(&mut entry.lingering, true)
        {
            self.lingering.push_back((Instant::now() + LINGER, name));
        }
    }

    pub(super) fn drop_name(&mut self, name: &Arc<str>, map: &SlotMap) {
        let Some(entry) = self.entries.remove(name) else { return };
        // By epoch, not by slot: the map may be newer than what the table knows of it.
        if let Some(link) = self.links.values_mut().find(|link| link.epoch == entry.acknowledged) {
            link.held -= 1;
        }
        self.touch(name, entry.slot, map);
    }
}
