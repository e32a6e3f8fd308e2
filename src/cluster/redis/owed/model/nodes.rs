//! The model's nodes: their connections, what they write, and how they come and go.

use super::{CHANNELS, World, channel, later};
use crate::cluster::redis::batch::{self, Listing};
use crate::cluster::redis::keys::Registration;
use crate::cluster::redis::owed::bucket::{BUCKETS, bucket_of};
use crate::cluster::redis::owed::estate::{EXTENT, ORDINAL, OWING};
use crate::cluster::redis::owed::holding::Answer;
use crate::cluster::redis::owed::table::{Call, Table, Went};
use crate::cluster::redis::registrar::{Announced, announce, claim, enlist};
use crate::cluster::redis::scripts;
use crate::cluster::redis::wire::Command;
use crate::cluster::{Details, Owed};
use crate::hub::{Change, Snapshot};
use crate::model::{Audience, ConnectionId, HexId, Name, NodeId, Seq};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Buckets that the closes of the model's connections wait in: few, so that each gets its share.
pub(super) const CLOSE_BUCKETS: usize = 3;

/// The events that are told.
pub(in crate::cluster::redis::owed) const TOLD: &str = " occupied vacated ";

/// What a node knows of its registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It is in `leases`, as far as the node knows.
    Live,
    /// It was taken for dead, which the node does not know yet, or can't change.
    Dead,
    /// It is written whole, to be enlisted with this due time.
    Coming(i64),
}

/// One node: what it knows, and what is true of it.
pub(super) struct Node {
    life: NodeId,
    registration: Registration,
    ordinal: u32,
    pub(super) standing: Standing,
    /// Those that it had before and that may still stand.
    old: Vec<Registration>,
    batch: u64,
    pub(super) table: Table,
    /// The channels that have members here.
    pub(super) members: BTreeSet<Name>,
    /// Connections that are open.
    open: BTreeSet<u32>,
    /// Those that a registration has that does not stand yet.
    written: Vec<String>,
    /// Connections that have ended, whose end is not told.
    untold: BTreeMap<u32, Arc<str>>,
    connections: usize,
    /// What is not written yet.
    changes: Vec<Change>,
    pub(super) calls: Vec<Call>,
}

fn details(counter: u32) -> String {
    Details::owing_close(&format!(r#"{{"user":"{counter}"}}"#))
}

impl Node {
    fn id_of(&self, counter: u32) -> String {
        let connection = ConnectionId::new(self.registration.seq, counter);
        Owed::close_id(HexId::new(self.life.tag(), connection))
    }

    /// The ids under which the ends of its open connections will be told.
    pub(super) fn open_ids(&self) -> impl Iterator<Item = String> {
        self.open.iter().map(|counter| self.id_of(*counter))
    }

    fn one_ends(&mut self, counter: u32) {
        self.open.remove(&counter);
        let untold: Arc<str> = details(counter).replace('}', r#","address":"ended"}"#).into();
        self.untold.insert(counter, untold.clone());
        self.changes.push(Change::Closed { counter, untold: Some(untold) });
    }
}

impl World {
    pub(super) async fn node_starts(&mut self) {
        let seq = Seq::new(self.next_seq).unwrap();
        self.next_seq += 1;
        self.nodes.push(Node {
            life: NodeId::random().unwrap(),
            registration: Registration::new(seq).unwrap(),
            ordinal: 0,
            standing: Standing::Dead,
            old: Vec::new(),
            batch: 0,
            table: Table::new(),
            members: BTreeSet::new(),
            open: BTreeSet::new(),
            written: Vec::new(),
            untold: BTreeMap::new(),
            connections: 0,
            changes: Vec::new(),
            calls: Vec::new(),
        });
        let at = self.nodes.len() - 1;
        self.writes_whole(at).await;
        self.stands(at).await;
    }

    /// Writes a new registration, up to where it could be enlisted.
    pub(super) async fn writes_whole(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let (life, registration) = (node.life, Registration::new(node.registration.seq).unwrap());
        node.registration = registration.clone();
        node.ordinal += 1;
        node.calls.clear();
        assert_eq!(self.run(&claim(&self.keys, registration.seq, life)).await.as_i64(), Some(1));
        let announced = self.run(&announce(&self.keys, &registration, life)).await;
        let Announced { due, over } = Announced::parse(&announced).unwrap();
        let node = &mut self.nodes[at];
        if over {
            for counter in node.open.clone() {
                node.one_ends(counter);
            }
        }
        node.changes.clear();
        node.written = node.open_ids().collect();
        let audiences = node.members.iter().map(|name| (Audience::channel(name.clone()), vec![1])).collect();
        let connections = node.open.iter().map(|counter| (*counter, details(*counter).into())).collect();
        let untold = node.untold.iter().map(|(counter, details)| (*counter, details.clone())).collect();
        let snapshot = Snapshot { audiences, connections, untold, ..Snapshot::default() };
        let listed = node.table.begin(&snapshot);
        let batches = batch::of_snapshot(&snapshot, &listed, &self.keys, &registration);
        node.batch = batches.len() as u64;
        node.standing = Standing::Coming(due);
        let mut begin = Command::keyed("HSET", &self.keys.node(&registration)).arg("batch").arg("0");
        for (name, value) in [
            ("id", life.to_string()),
            (ORDINAL, node.ordinal.to_string()),
            (OWING, TOLD.to_owned()),
            (EXTENT, String::new()),
        ] {
            begin = begin.arg(name).arg(value);
        }
        self.run(&begin).await;
        for (number, batch) in (1..).zip(&batches) {
            self.run(&batch.command(&self.keys, &registration, number)).await;
        }
    }

    /// A registration that is written whole comes to stand, and those before it are out by that.
    pub(super) async fn stands(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Standing::Coming(due) = node.standing else { return };
        let mut command = enlist(&self.keys, &node.registration, due, "1", Duration::from_secs(3600), node.life);
        let old = std::mem::take(&mut node.old);
        old.iter().for_each(|old| command.push(old.to_string()));
        assert_eq!(self.run(&command).await.as_i64(), Some(1));
        let node = &mut self.nodes[at];
        node.standing = Standing::Live;
        node.table.stands(node.registration.clone());
        self.settled.extend(std::mem::take(&mut self.nodes[at].written));
        for registration in old {
            self.reap(registration);
        }
    }

    pub(super) async fn registers_anew(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        match node.standing {
            Standing::Live | Standing::Dead => {
                node.old.push(node.registration.clone());
                self.writes_whole(at).await;
            }
            Standing::Coming(_) => self.stands(at).await,
        }
    }

    /// The others take it for dead. It may come back.
    pub(super) async fn is_taken_for_dead(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.standing == Standing::Live {
            node.standing = Standing::Dead;
            let registration = node.registration.clone();
            self.die(&registration).await;
        }
    }

    pub(super) async fn ends(&mut self, at: usize) {
        let node = self.nodes.swap_remove(at);
        for call in &node.calls {
            if self.random.one_in(2) {
                self.late.push(call.command(&self.keys, self.youth, TOLD));
            }
        }
        for registration in node.old.iter().chain([&node.registration]) {
            self.die(registration).await;
        }
        self.node_starts().await;
    }

    /// A registration's death is written.
    async fn die(&mut self, registration: &Registration) {
        let keys = [self.keys.leases(), self.keys.reaping()];
        self.run(&Command::script(&scripts::RESIGN, &keys).arg(registration.to_string()).arg("0")).await;
        self.reap(registration.clone());
    }

    /// Writes what has changed; false where the node ends in the midst of it.
    pub(super) async fn write(&mut self, at: usize, may_end: bool) -> bool {
        let node = &mut self.nodes[at];
        if node.standing != Standing::Live {
            return true;
        }
        let changes = std::mem::take(&mut node.changes);
        let listing = Listing { off: node.table.strike(100, later()), on: Table::to_list(&changes) };
        let batches = batch::of_changes(&changes, &listing, &self.keys, &node.registration);
        let registration = node.registration.clone();
        for batch in &batches {
            if may_end && self.random.one_in(100) {
                return false;
            }
            self.nodes[at].batch += 1;
            let command = batch.command(&self.keys, &registration, self.nodes[at].batch);
            assert_eq!(self.run(&command).await.as_i64(), Some(1), "a batch is refused");
        }
        if may_end && self.random.one_in(100) {
            return false;
        }
        self.nodes[at].table.follow(&changes);
        self.settled.extend(self.nodes[at].open_ids());
        let compare = Command::script(&scripts::CHECK, &[self.keys.node(&registration)]);
        let (batch, extent) = (self.nodes[at].batch.to_string(), self.nodes[at].table.extent());
        assert_eq!(self.run(&compare.arg(batch).arg(EXTENT).arg(extent)).await.as_i64(), Some(1));
        true
    }

    // ---- what happens to clients ----

    pub(super) fn joins_or_leaves(&mut self, at: usize) {
        let name = channel(self.random.below(CHANNELS));
        let node = &mut self.nodes[at];
        let audience = Audience::channel(name.clone());
        if node.members.remove(&name) {
            node.changes.push(Change::Left { counter: 1, audience, members: 0 });
        } else if self.random.one_in(3) {
            // Fewer members than not, or channels would hardly ever become vacant.
            node.members.insert(name);
            node.changes.push(Change::Joined { counter: 1, audience, members: 1 });
        }
    }

    pub(super) fn opens_or_closes(&mut self, at: usize) {
        let choice = self.random.below(10);
        let node = &mut self.nodes[at];
        if let Some(counter) = node.open.iter().copied().nth(choice) {
            node.one_ends(counter);
        } else {
            let counter = (node.connections * BUCKETS + node.connections % CLOSE_BUCKETS) as u32;
            node.connections += 1;
            node.open.insert(counter);
            node.changes.push(Change::Opened { counter, details: details(counter).into() });
        }
    }

    /// The node tells an end itself; false where it ends before it has noted that.
    pub(super) fn tells(&mut self, at: usize, may_end: bool) -> bool {
        let node = &mut self.nodes[at];
        let Some((counter, details)) = node.untold.first_key_value() else { return true };
        let (counter, details) = (*counter, details.clone());
        self.closes.push((node.id_of(counter), details));
        if may_end && self.random.one_in(20) {
            return false;
        }
        node.untold.remove(&counter);
        node.changes.push(Change::Told { counter });
        true
    }

    /// Whether there is anything that it has not done yet.
    pub(super) fn is_busy(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        node.standing != Standing::Live || !node.untold.is_empty() || !node.changes.is_empty()
    }

    // ---- calls ----

    pub(super) fn calls(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let called = (0..CHANNELS).filter_map(|number| node.table.call(bucket_of(&channel(number)), later()));
        let called: Vec<Call> = called.collect();
        node.calls.extend(called);
    }

    pub(super) async fn call_ends(&mut self, at: usize, surely: bool) {
        if self.nodes[at].calls.is_empty() {
            return;
        }
        let which = self.random.below(self.nodes[at].calls.len());
        let call = self.nodes[at].calls.swap_remove(which);
        let command = call.command(&self.keys, self.youth, TOLD);
        let (mut went, mut born) = (Went::Unknown, String::new());
        match if surely { 9 } else { self.random.below(10) } {
            // Not sent.
            0 => {}
            1 | 2 => self.late.push(command),
            // The answer is lost.
            3 | 4 => drop(self.run(&command).await),
            _ => {
                let answer = Answer::parse(&self.run(&command).await).unwrap();
                (went, born) = (answer.went, answer.born);
            }
        }
        self.nodes[at].table.went(&call, went, &born, Instant::now());
    }

    /// The registrations that stand.
    pub(super) fn live(&self) -> BTreeSet<String> {
        self.nodes.iter().map(|node| node.registration.to_string()).collect()
    }
}
