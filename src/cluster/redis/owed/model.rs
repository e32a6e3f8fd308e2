//! The protocol against a real Redis: random steps of several nodes and reapers, of which any may be the last of whoever takes
//! it, and answers and calls that are lost or come late. When everything has come to rest each channel's events must tell its
//! story, and end with the truth; the end of each connection that had been there must be told, and of none that is there; and nothing
//! is left in Redis of those that are gone.

pub(super) mod nodes;
mod reapers;

use super::bucket::bucket_of;
use super::delivery::{Handed, again, next, taken};
use crate::cluster::owed::Owed;
use crate::cluster::redis::connect::{Connector, Purpose};
use crate::cluster::redis::keys::Keys;
use crate::cluster::redis::metrics::RedisMetrics;
use crate::cluster::redis::wire::{Command, Wire, fields};
use crate::cluster::redis::{RedisConfig, topology};
use crate::model::Name;
use fred::types::Value;
use nodes::{CLOSE_BUCKETS, Node, Standing};

use reapers::Reaping;
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
const STEPS: usize = 800;

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
    /// The channels' events that were delivered, in order, repetitions included.
    delivered: Vec<Owed>,
    /// The closes that were told, by whomever: id and details.
    closes: Vec<(String, Arc<str>)>,
    /// How many of them by a node whose they were not.
    delivered_closes: usize,
    /// The ids of the connections that have been there for everybody to see.
    settled: BTreeSet<String>,
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
        let (closes, settled) = (Vec::new(), BTreeSet::new());
        let mut world = Self {
            wire,
            keys,
            youth,
            random,
            next_seq: 1,
            nodes,
            reapings,
            late,
            delivered,
            closes,
            settled,
            delivered_closes: 0,
        };
        for _ in 0..NODES {
            world.node_starts().await;
        }
        world
    }

    async fn run(&self, command: &Command) -> Value {
        self.wire.run(command).await.unwrap()
    }

    async fn texts(&self, command: &Command) -> Vec<String> {
        self.run(command).await.into_array().into_iter().filter_map(Value::into_string).collect()
    }

    // ---- delivery ----

    async fn deliver(&mut self, bucket: usize, at: usize, surely: bool) -> bool {
        // Now and then whoever had something has had it for too long.
        let again_after = if surely || self.random.one_in(4) { Duration::ZERO } else { Duration::from_secs(60) };
        let registration = self.nodes[at].table.registration();
        let text = registration.as_ref().map(ToString::to_string).unwrap_or_default();
        let answer = self.run(&next(&self.keys, bucket, &text, again_after)).await;
        let Handed { born, number, entries } = Handed::parse(answer).unwrap();
        if let Some(registration) = registration {
            self.nodes[at].table.seen(bucket, &registration, &born, number);
        }
        let some = if surely { entries.len() } else { self.random.below(entries.len() + 1) };
        let (mut done, mut refused) = (Vec::new(), Vec::new());
        for (id, owed) in entries.into_iter().take(some) {
            let owed = owed.unwrap();
            let Owed::Closed { details, .. } = &owed else {
                self.delivered.push(owed);
                done.push(id);
                continue;
            };
            if !surely && self.random.one_in(3) {
                refused.push(id);
                continue;
            }
            let there = |node: &Node| node.standing == Standing::Live && node.open_ids().any(|open| open == owed.id());
            assert!(!self.nodes.iter().any(there), "{} is told and there", owed.id());
            self.closes.push((owed.id(), details.clone()));
            self.delivered_closes += 1;
            done.push(id);
        }
        // Delivered, and not taken out: it comes again.
        if !done.is_empty() && (surely || !self.random.one_in(4)) {
            self.run(&taken(&self.keys, bucket, &done)).await;
        }
        if !refused.is_empty() && !self.random.one_in(4) {
            self.run(&again(&self.keys, bucket, &refused)).await;
        }
        some > 0
    }

    fn buckets() -> impl Iterator<Item = usize> {
        let of_channels = (0..CHANNELS).map(|number| bucket_of(&channel(number)));
        of_channels.chain(0..CLOSE_BUCKETS).collect::<BTreeSet<_>>().into_iter()
    }

    // ---- the whole ----

    async fn step(&mut self) {
        let at = self.random.below(self.nodes.len());
        match self.random.below(120) {
            0 => self.is_taken_for_dead(at).await,
            1 => self.ends(at).await,
            2 | 3 => self.registers_anew(at).await,
            4..22 => self.joins_or_leaves(at),
            22..36 => {
                if !self.write(at, true).await {
                    self.ends(at).await;
                }
            }
            36..50 => self.calls(at),
            50..70 => self.call_ends(at, false).await,
            70..74 if self.nodes[at].standing != Standing::Live => self.registers_anew(at).await,
            70..86 if !self.reapings.is_empty() => {
                let which = self.random.below(self.reapings.len());
                self.reaper_goes_on(which, true).await;
            }
            86..89 if !self.late.is_empty() => {
                let which = self.random.below(self.late.len());
                let command = self.late.swap_remove(which);
                self.run(&command).await;
            }
            89..99 => self.opens_or_closes(at),
            99..103 => {
                if !self.tells(at, true) {
                    self.ends(at).await;
                }
            }
            _ => {
                let buckets: Vec<usize> = Self::buckets().collect();
                let bucket = buckets[self.random.below(buckets.len())];
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
                if self.nodes[at].standing != Standing::Live {
                    self.registers_anew(at).await;
                }
                moved |= self.is_busy(at);
                self.tells(at, false);
                assert!(self.write(at, false).await);
                self.calls(at);
                while !self.nodes[at].calls.is_empty() {
                    moved = true;
                    self.call_ends(at, true).await;
                }
            }
            // Enough to come to an end where nothing has to be waited for.
            for _ in 0..20 {
                for which in (0..self.reapings.len()).rev() {
                    self.reaper_goes_on(which, false).await;
                }
            }
            for bucket in Self::buckets() {
                moved |= self.deliver(bucket, 0, true).await;
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

    fn check_closes(&self) {
        let told: BTreeSet<&String> = self.closes.iter().map(|(id, _)| id).collect();
        let open: BTreeSet<String> = self.nodes.iter().flat_map(Node::open_ids).collect();
        for id in &open {
            assert!(!told.contains(id), "{id} is open, and told to be closed");
        }
        for id in self.settled.difference(&open) {
            assert!(told.contains(id), "the end of {id} is not told");
        }
    }

    /// Nothing is there but what stands, and the buckets' own.
    async fn check_keys(&self) {
        let live = self.live();
        let prefix = self.keys.leases().replace("{nodes}:leases", "");
        for key in self.texts(&Command::at(0, "KEYS").arg(format!("{prefix}*"))).await {
            let name = &key[prefix.len()..];
            if name == "{nodes}:leases" {
                let leases: BTreeSet<String> = self.texts(&Command::keyed("HKEYS", &key)).await.into_iter().collect();
                assert_eq!(leases, live);
            } else if name.starts_with("{nodes}:") {
                assert_eq!(name, "{nodes}:seqs", "it is left behind");
            } else if let Some((seq, rest)) = name.strip_prefix("{n").and_then(|rest| rest.split_once("}:")) {
                let (registration, what) = rest.split_once(':').unwrap();
                assert!(live.contains(&format!("{seq}:{registration}")), "{key} is left behind");
                assert_ne!(what, "untold", "all is told");
            } else if name.ends_with(":calls") {
                let calls = self.texts(&Command::keyed("HKEYS", &key)).await;
                assert!(calls.iter().all(|who| live.contains(who)), "{key}: {calls:?}");
            }
        }
    }

    async fn check(&self) {
        self.check_closes();
        self.check_keys().await;
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
                let info = fields(info);
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
    let (mut events, mut closes) = (0, 0);
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
        closes += world.delivered_closes;
    }
    assert!(events > 5 * RUNS as usize, "only {events} events: the model does not do enough");
    assert!(closes > 5 * RUNS as usize, "only {closes} closes of dead nodes: the model does not do enough");
}
