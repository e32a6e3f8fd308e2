//! The protocol against a real Redis: random steps of several nodes and reapers, of which any may be the last of whoever takes
//! it, and answers and calls that are lost or come late. When everything has come to rest each channel's events must tell its
//! story, and end with the truth.

use super::bucket::{BUCKETS, bucket_of};
use super::delivery::{Handed, next, taken};
use super::estate::{fence, let_go};
use super::holding::Answer;
use super::table::{Call, Table, Went};
use crate::cluster::owed::Owed;
use crate::cluster::redis::batch::{self, Listing};
use crate::cluster::redis::connect::{Connector, Purpose};
use crate::cluster::redis::keys::{Keys, Registration};
use crate::cluster::redis::metrics::RedisMetrics;
use crate::cluster::redis::wire::{Command, Wire};
use crate::cluster::redis::{RedisConfig, topology};
use crate::hub::{Change, Snapshot};
use crate::model::{Audience, Name, Seq};
use fred::types::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

#[path = "../../../../tests/support/redis.rs"]
pub(super) mod server;
use server::RedisServer;

/// Channels of the model: few, so that nodes meet in them.
const CHANNELS: usize = 5;

const NODES: usize = 3;

/// Random steps before everything is brought to rest.
const STEPS: usize = 500;

/// Runs, each with the number of its run as seed.
const RUNS: u64 = 40;

/// A small repeatable generator (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % limit
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

/// One node: what it knows, and what is true of it.
struct Node {
    registration: Registration,
    batch: u64,
    table: Table,
    /// The channels that have members here.
    members: BTreeSet<Name>,
    /// What is not written yet.
    changes: Vec<Change>,
    calls: Vec<Call>,
}

/// A registration that is dead, on its way out.
struct Reaping {
    registration: Registration,
    /// The node that may hold its channels with a newer one.
    node: Option<Seq>,
    fenced: usize,
}

struct World {
    wire: Arc<Wire>,
    keys: Keys,
    youth: Duration,
    random: Random,
    next_seq: u32,
    nodes: Vec<Node>,
    reapings: Vec<Reaping>,
    /// Calls that nobody waits for, still on their way.
    late: Vec<Command>,
    /// What was delivered, in order, repetitions included.
    delivered: Vec<Owed>,
}

pub(super) async fn connect(server: &RedisServer) -> Arc<Wire> {
    let config = RedisConfig { url: server.url(), ..RedisConfig::default() };
    let metrics = Arc::new(RedisMetrics::new(&prometheus::Registry::new()).unwrap());
    let connector = Connector::new(&config, metrics).unwrap();
    let place = topology::Place::parse(&format!("127.0.0.1:{}", server.port())).unwrap();
    connector.connect(&place, Purpose::Events).await.unwrap()
}

fn channel(number: usize) -> Name {
    Name::new(&format!("channel {{{number}}}")).unwrap()
}

/// A time at which no pause lasts any more.
fn later() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

impl World {
    async fn new(wire: Arc<Wire>, prefix: &str, seed: u64, youth: Duration) -> Self {
        let random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let keys = Keys::new(prefix);
        let (nodes, reapings, late, delivered) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut world = Self { wire, keys, youth, random, next_seq: 1, nodes, reapings, late, delivered };
        for _ in 0..NODES {
            world.node_starts().await;
        }
        world
    }

    async fn run(&self, command: &Command) -> Value {
        self.wire.run(command).await.unwrap()
    }

    // ---- nodes ----

    async fn node_starts(&mut self) {
        let seq = Seq::new(self.next_seq).unwrap();
        self.next_seq += 1;
        let registration = Registration::new(seq).unwrap();
        let (members, changes, calls) = (BTreeSet::new(), Vec::new(), Vec::new());
        let node = Node { registration, batch: 0, table: Table::new(), members, changes, calls };
        self.nodes.push(node);
        let at = self.nodes.len() - 1;
        self.write_whole(at).await;
        let node = &mut self.nodes[at];
        node.table.stands(node.registration.clone());
    }

    async fn write_whole(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.changes.clear();
        let audiences = node.members.iter().map(|name| (Audience::channel(name.clone()), vec![1])).collect();
        let snapshot = Snapshot { audiences, ..Snapshot::default() };
        let listed = node.table.begin(&snapshot);
        let batches = batch::of_snapshot(&snapshot, &listed, &self.keys, &node.registration);
        node.batch = batches.len() as u64;
        let registration = node.registration.clone();
        self.run(&Command::keyed("HSET", &self.keys.node(&registration)).arg("batch").arg("0")).await;
        for (number, batch) in (1..).zip(&batches) {
            self.run(&batch.command(&self.keys, &registration, number)).await;
        }
    }

    /// Writes what has changed; false where the node ends in the midst of it.
    async fn write(&mut self, at: usize, may_end: bool) -> bool {
        let node = &mut self.nodes[at];
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
        true
    }

    fn joins_or_leaves(&mut self, at: usize) {
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

    fn calls(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let called = (0..CHANNELS).filter_map(|number| node.table.call(bucket_of(&channel(number)), later()));
        let called: Vec<Call> = called.collect();
        node.calls.extend(called);
    }

    async fn call_ends(&mut self, at: usize, surely: bool) {
        if self.nodes[at].calls.is_empty() {
            return;
        }
        let which = self.random.below(self.nodes[at].calls.len());
        let call = self.nodes[at].calls.swap_remove(which);
        let command = call.command(&self.keys, self.youth);
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

    async fn registers_anew(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let new = Registration::new(node.registration.seq).unwrap();
        let old = std::mem::replace(&mut node.registration, new);
        node.calls.clear();
        self.write_whole(at).await;
        if self.random.one_in(5) {
            // It ends before the new one stands.
            self.reap(old, false);
            self.ends(at).await;
            return;
        }
        let node = &mut self.nodes[at];
        node.table.stands(node.registration.clone());
        self.reap(old, true);
    }

    async fn ends(&mut self, at: usize) {
        let node = self.nodes.swap_remove(at);
        for call in &node.calls {
            if self.random.one_in(2) {
                self.late.push(call.command(&self.keys, self.youth));
            }
        }
        self.reap(node.registration, false);
        self.node_starts().await;
    }

    // ---- reapers ----

    fn reap(&mut self, registration: Registration, has_newer: bool) {
        let node = has_newer.then_some(registration.seq);
        self.reapings.push(Reaping { registration, node, fenced: 0 });
    }

    /// One step of a reaping; its reaper may be another one from then on, which begins anew.
    async fn reaper_goes_on(&mut self, which: usize, may_stop: bool) {
        let Reaping { registration, node, fenced } = &self.reapings[which];
        let newer = self.nodes.iter().find(|newer| Some(newer.registration.seq) == *node);
        if newer.is_some_and(|newer| newer.table.extent() != "whole") {
            return;
        }
        let registration = registration.clone();
        if *fenced < BUCKETS {
            let some = (*fenced..BUCKETS.min(*fenced + 16)).map(|bucket| fence(&self.keys, bucket, &registration));
            for command in some.collect::<Vec<_>>() {
                self.run(&command).await;
            }
            self.reapings[which].fenced += 16;
        } else {
            let listed = self.run(&Command::keyed("SMEMBERS", &self.keys.holding(&registration))).await;
            let names = listed.into_array().into_iter().filter_map(|name| Name::new(&name.into_string()?).ok());
            let mut buckets: BTreeMap<usize, Vec<Name>> = BTreeMap::new();
            names.for_each(|name| buckets.entry(bucket_of(&name)).or_default().push(name));
            for (bucket, names) in buckets {
                if may_stop && self.random.one_in(3) {
                    self.reapings[which].fenced = 0;
                    return;
                }
                let command = let_go(&self.keys, bucket, &registration, &names, self.youth);
                assert_eq!(Answer::parse(&self.run(&command).await).unwrap().went, Went::Done);
            }
            self.run(&Command::keyed("DEL", &self.keys.holding(&registration))).await;
            self.reapings.swap_remove(which);
        }
    }

    // ---- delivery ----

    async fn deliver(&mut self, bucket: usize, at: usize, surely: bool) -> bool {
        // Now and then whoever had something has had it for too long.
        let again_after = if surely || self.random.one_in(4) { Duration::ZERO } else { Duration::from_secs(60) };
        let registration = self.nodes[at].table.registration().unwrap();
        let answer = self.run(&next(&self.keys, bucket, &registration.to_string(), again_after)).await;
        let Handed { born, number, entries } = Handed::parse(answer).unwrap();
        self.nodes[at].table.seen(bucket, &registration, &born, number);
        let some = if surely { entries.len() } else { self.random.below(entries.len() + 1) };
        let ids: Vec<String> = entries.iter().take(some).map(|(id, _)| id.clone()).collect();
        self.delivered.extend(entries.into_iter().take(some).map(|(_, owed)| owed.unwrap()));
        // Delivered, and not taken out: it comes again.
        if !ids.is_empty() && (surely || !self.random.one_in(4)) {
            self.run(&taken(&self.keys, bucket, &ids)).await;
        }
        some > 0
    }

    // ---- the whole ----

    async fn step(&mut self) {
        let at = self.random.below(self.nodes.len());
        match self.random.below(100) {
            0 => self.registers_anew(at).await,
            1 => self.ends(at).await,
            2..22 => self.joins_or_leaves(at),
            22..36 => {
                if !self.write(at, true).await {
                    self.ends(at).await;
                }
            }
            36..52 => self.calls(at),
            52..76 => self.call_ends(at, false).await,
            76..86 if !self.reapings.is_empty() => {
                let which = self.random.below(self.reapings.len());
                self.reaper_goes_on(which, true).await;
            }
            86..89 if !self.late.is_empty() => {
                let which = self.random.below(self.late.len());
                let command = self.late.swap_remove(which);
                self.run(&command).await;
            }
            _ => {
                let bucket = bucket_of(&channel(self.random.below(CHANNELS)));
                self.deliver(bucket, at, false).await;
            }
        }
    }

    /// Lets everything that is under way come to its end.
    async fn settle(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let mut moved = !self.reapings.is_empty();
            for at in 0..self.nodes.len() {
                assert!(self.write(at, false).await);
                self.calls(at);
                while !self.nodes[at].calls.is_empty() {
                    moved = true;
                    self.call_ends(at, true).await;
                }
            }
            for which in (0..self.reapings.len()).rev() {
                self.reaper_goes_on(which, false).await;
            }
            for bucket in 0..CHANNELS {
                moved |= self.deliver(bucket_of(&channel(bucket)), 0, true).await;
            }
            if !moved {
                return;
            }
            assert!(Instant::now() < deadline, "it does not come to rest");
        }
    }

    /// Each channel's events, by version, each once.
    fn stories(&self) -> BTreeMap<Name, BTreeMap<u64, &'static str>> {
        let mut stories: BTreeMap<Name, BTreeMap<u64, &'static str>> = BTreeMap::new();
        for owed in &self.delivered {
            let (Owed::Occupied { channel, version } | Owed::Vacated { channel, version }) = owed else {
                panic!("{owed:?}")
            };
            let story = stories.entry(channel.clone()).or_default();
            assert!(
                story.get(version).is_none_or(|event| *event == owed.event()),
                "version {version} of {channel} is two things"
            );
            assert!(
                story.contains_key(version) || story.keys().all(|known| known < version),
                "{channel}: version {version} comes for the first time after a higher one"
            );
            story.insert(*version, owed.event());
        }
        stories
    }

    async fn check(&self) {
        let stories = self.stories();
        for number in 0..CHANNELS {
            let name = channel(number);
            let story: Vec<&str> = stories.get(&name).into_iter().flatten().map(|(_, event)| *event).collect();
            let alternating = ["channel_occupied", "channel_vacated"].into_iter().cycle().take(story.len());
            assert_eq!(story, alternating.collect::<Vec<_>>(), "{name}");
            let occupied = self.nodes.iter().any(|node| node.members.contains(&name));
            assert_eq!(story.len() % 2 == 1, occupied, "{name}: {story:?}");
        }
        let mut decided = 0;
        for bucket in (0..CHANNELS).map(|number| bucket_of(&channel(number))).collect::<BTreeSet<_>>() {
            let added = Command::at(0, "XINFO").arg("STREAM").arg(self.keys.out(bucket));
            if let Ok(info) = self.wire.run(&added).await {
                let info = crate::cluster::redis::wire::fields(info);
                decided += info.get("entries-added").and_then(|text| text.parse::<usize>().ok()).unwrap();
                assert_eq!(info.get("length").map(String::as_str), Some("0"), "something is left to deliver");
            }
        }
        assert_eq!(
            stories.values().map(BTreeMap::len).sum::<usize>(),
            decided,
            "not all that was decided was delivered"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_story_is_told_whole_whatever_ends_whenever() {
    let server = RedisServer::start().await;
    let wire = connect(&server).await;
    let mut events = 0;
    for seed in 0..RUNS {
        // The seed of a failure.
        eprintln!("run {seed}");
        let mut world = World::new(wire.clone(), &format!("run{seed}:"), seed, Duration::ZERO).await;
        for _ in 0..STEPS {
            world.step().await;
        }
        world.settle().await;
        world.check().await;
        // What comes now comes too late to change anything.
        for command in std::mem::take(&mut world.late) {
            world.run(&command).await;
        }
        world.settle().await;
        world.check().await;
        events += world.stories().values().map(BTreeMap::len).sum::<usize>();
    }
    assert!(events > 10 * RUNS as usize, "only {events} events: the model does not do enough");
}
