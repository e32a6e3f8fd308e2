//! The model's reapers. Each step may be the last of one of them, and there may be two at once.

use super::World;
use super::nodes::TOLD;
use crate::cluster::redis::keys::Registration;
use crate::cluster::redis::owed::bucket::{BUCKETS, bucket_of, bucket_of_close};
use crate::cluster::redis::owed::estate::{Closes, Estate, Facts, Of, Succession, fence, let_go, over};
use crate::cluster::redis::owed::holding::Answer;
use crate::cluster::redis::owed::table::Went;
use crate::cluster::redis::reaper::{begin, reaped, remove};
use crate::cluster::redis::wire::{Command, fields};
use crate::model::{AudienceKind, ConnectionId, Name};
use std::collections::BTreeMap;

/// What is to be done next.
#[derive(Clone, Debug)]
enum Phase {
    Begin,
    Over,
    Succession,
    Collect(Of, String),
    /// What was collected is struck off, then it goes on.
    Strike(Vec<u32>, Box<Phase>),
    Fence(usize),
    LetGo,
    Remove,
    End,
}

/// A registration that is dead, and how far somebody is with its reaping.
#[derive(Clone, Debug)]
pub(super) struct Reaping {
    registration: Registration,
    phase: Phase,
    facts: Facts,
    /// There was no room for all of its closes.
    incomplete: bool,
}

impl World {
    pub(super) fn reap(&mut self, registration: Registration) {
        self.reapings.push(Reaping { registration, phase: Phase::Begin, facts: Facts::new(), incomplete: false });
    }

    /// One step of a reaping; its reaper may be another one from then on, which begins anew.
    pub(super) async fn reaper_goes_on(&mut self, which: usize, may_stop: bool) {
        if may_stop && self.random.one_in(20) {
            // The first one has hung, and may go on all the same.
            let hung = self.reapings[which].clone();
            self.reapings[which].phase = Phase::Begin;
            if self.random.one_in(2) {
                self.reapings.push(hung);
            }
        }
        let Reaping { registration, phase, facts, .. } = self.reapings[which].clone();
        let next = match phase {
            Phase::Begin => {
                let facts = fields(self.run(&begin(&self.keys, &registration)).await);
                self.reapings[which].incomplete = false;
                let next = if facts.is_empty() { Phase::Remove } else { Phase::Over };
                self.reapings[which].facts = facts;
                next
            }
            Phase::Over => {
                self.run(&over(&self.keys, &registration, &facts["id"])).await;
                Phase::Succession
            }
            Phase::Succession => match self.succession(&registration, &facts).await {
                Succession::None => Phase::Collect(Of::Ended, "0".to_owned()),
                Succession::Newer => Phase::Fence(0),
                Succession::Unknown => Phase::Begin,
            },
            Phase::Collect(of, cursor) => self.collect(which, of, &cursor).await,
            Phase::Strike(counters, next) => {
                let estate = Estate::new(&registration, &facts).unwrap();
                for command in estate.collected(&self.keys, &counters) {
                    self.run(&command).await;
                }
                *next
            }
            Phase::Fence(bucket) => {
                for bucket in bucket..bucket + 16 {
                    self.run(&fence(&self.keys, bucket, &registration)).await;
                }
                if bucket + 16 < BUCKETS { Phase::Fence(bucket + 16) } else { Phase::LetGo }
            }
            Phase::LetGo => {
                let listed = self.run(&Command::keyed("SMEMBERS", &self.keys.holding(&registration))).await;
                let names = listed.into_array().into_iter().filter_map(|name| Name::new(&name.into_string()?).ok());
                let mut buckets: BTreeMap<usize, Vec<Name>> = BTreeMap::new();
                names.for_each(|name| buckets.entry(bucket_of(&name)).or_default().push(name));
                for (bucket, names) in buckets {
                    if may_stop && self.random.one_in(5) {
                        self.reapings[which].phase = Phase::Begin;
                        return;
                    }
                    let command = let_go(&self.keys, bucket, &registration, &names, self.youth, TOLD);
                    assert_eq!(Answer::parse(&self.run(&command).await).unwrap().went, Went::Done);
                }
                if self.reapings[which].incomplete { Phase::Begin } else { Phase::Remove }
            }
            Phase::Remove => {
                let index = Command::keyed("HKEYS", &self.keys.index(&registration, AudienceKind::Channel));
                for name in self.texts(&index).await {
                    let members = self.keys.members(&registration, AudienceKind::Channel, &name);
                    self.run(&Command::keyed("UNLINK", &members)).await;
                }
                self.run(&remove(&self.keys, &registration)).await;
                Phase::End
            }
            Phase::End => {
                let life = facts.get("id").map_or("", String::as_str);
                self.run(&reaped(&self.keys, &registration, life)).await;
                self.reapings.swap_remove(which);
                return;
            }
        };
        self.reapings[which].phase = next;
    }

    async fn succession(&self, registration: &Registration, facts: &Facts) -> Succession {
        let live = self.texts(&Command::keyed("HKEYS", &self.keys.leases())).await;
        let dead = self.texts(&Command::keyed("ZRANGE", &self.keys.reaping()).arg("0").arg("-1")).await;
        let mut succession = Succession::None;
        for (text, is_live) in live.iter().map(|text| (text, true)).chain(dead.iter().map(|text| (text, false))) {
            let other = Registration::parse(text).unwrap();
            if other.seq == registration.seq && other != *registration {
                let theirs = fields(self.run(&Command::keyed("HGETALL", &self.keys.node(&other))).await);
                succession = succession.max(Succession::by(facts, &theirs, is_live));
            }
        }
        succession
    }

    /// One step of collecting closes; now and then there is little room.
    async fn collect(&mut self, which: usize, of: Of, cursor: &str) -> Phase {
        let Reaping { registration, facts, .. } = self.reapings[which].clone();
        let estate = Estate::new(&registration, &facts).unwrap();
        let Closes { next, closes } = Closes::parse(self.run(&estate.closes(&self.keys, of, cursor)).await).unwrap();
        let mut buckets: BTreeMap<usize, Vec<(u32, String)>> = BTreeMap::new();
        for (counter, details) in closes {
            let bucket = bucket_of_close(ConnectionId::new(registration.seq, counter));
            buckets.entry(bucket).or_default().push((counter, details));
        }
        let mut collected = Vec::new();
        for (bucket, closes) in buckets {
            let room = if self.random.one_in(3) { 2 } else { 1000 };
            let taken = self.run(&estate.owe(&self.keys, bucket, &closes, room)).await.as_u64().unwrap() as usize;
            self.reapings[which].incomplete |= taken < closes.len();
            collected.extend(closes[..taken].iter().map(|(counter, _)| *counter));
        }
        let next = match (next.as_str(), of) {
            ("0", Of::Ended) => Phase::Collect(Of::Open, "0".to_owned()),
            ("0", Of::Open) => Phase::Fence(0),
            (next, of) => Phase::Collect(of, next.to_owned()),
        };
        if collected.is_empty() { next } else { Phase::Strike(collected, Box::new(next)) }
    }
}
