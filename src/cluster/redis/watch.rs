//! Watching the other nodes' leases: who is dead is written down, once, by whoever sees it first.
//!
//! Only this node's own monotonic clock counts, and only what it saw in an unbroken series of looks: after a look that
//! failed, a connection that was made anew or a server that is another one, the watch starts over.

use super::connect::Purpose;
use super::core::Core;
use super::keys::{Registration, slot};
use super::leases::LeaseTable;
use super::scripts;
use super::wire::{Command, Fault, Wire};
use fred::types::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// A longer time between two looks is a break: this process, or Redis, was not there.
const BREAK: Duration = Duration::from_secs(1);

/// What was seen of one registration.
struct Seen {
    value: String,
    since: Instant,
    /// When its inbox was first seen without a subscriber while the value stayed the same.
    silent_since: Option<Instant>,
}

/// The series of looks up to now.
struct Series {
    seen: HashMap<Registration, Seen>,
    last: Option<Instant>,
    /// The connections that were asked: to another one, or to a new one, the series does not go on.
    asked: Vec<Arc<Wire>>,
    /// Until then silence proves nothing: the nodes may only be about to subscribe again.
    silence_counts_from: Instant,
}

/// What one look saw.
struct Look {
    leases: Arc<LeaseTable>,
    /// Registrations whose node's inbox has no subscriber.
    silent: Vec<Registration>,
    asked: Vec<Arc<Wire>>,
}

impl Core {
    /// Looks at the leases, for as long as it is polled.
    pub(super) async fn keep_watch(&self) {
        let rest = self.config.node_lease;
        let mut series = Series::new(rest);
        loop {
            tokio::time::sleep(LOOK).await;
            match self.look().await {
                Ok(look) => {
                    self.metrics.nodes.set(look.leases.0.len() as i64);
                    self.health.looked(&look.leases, self.hub.seq());
                    if let Some(own) = self.own.current()
                        && !look.leases.0.contains_key(&own)
                        && self.own.missing(&own)
                    {
                        tracing::warn!(registration = %own, "redis has lost this node's registration: writing it anew");
                        self.health.registration_lost();
                    }
                    for (dead, value) in series.judge(look, rest, self.own.current().as_ref()) {
                        self.bury(&dead, &value).await;
                    }
                }
                Err(fault) => {
                    tracing::debug!(%fault, "a look at the leases failed");
                    series = Series::new(rest);
                }
            }
        }
    }

    async fn look(&self) -> Result<Look, Fault> {
        // Taken before the look: a connection that is replaced meanwhile shows in the next one.
        let mut asked = vec![self.lanes.wire_of(slot(&self.keys.leases()), Purpose::Control).await?];
        let leases = self.read_leases().await?;
        let mut servers: BTreeMap<i64, (Arc<Wire>, Vec<Registration>)> = BTreeMap::new();
        for registration in leases.registrations() {
            let topic = self.keys.inbox_topic(registration.seq);
            // The slot's primary: any other server of a Cluster answers 0.
            let wire = self.lanes.wire_of(slot(&topic), Purpose::Control).await?;
            let key = Arc::as_ptr(&wire) as usize as i64;
            servers.entry(key).or_insert_with(|| (wire, Vec::new())).1.push(registration.clone());
        }
        let mut silent = Vec::new();
        for (wire, registrations) in servers.into_values() {
            let mut command =
                Command::at(0, "PUBSUB").arg(if self.subscriber.is_sharded() { "SHARDNUMSUB" } else { "NUMSUB" });
            registrations.iter().for_each(|registration| command.push(self.keys.inbox_topic(registration.seq)));
            let counts = subscribers(wire.run(&command).await?);
            let nobody = |registration: &Registration| {
                counts.get(&self.keys.inbox_topic(registration.seq)).is_none_or(|count| *count == 0)
            };
            silent.extend(registrations.into_iter().filter(nobody));
            asked.push(wire);
        }
        Ok(Look { leases, silent, asked })
    }

    async fn bury(&self, registration: &Registration, value: &str) {
        let keys = [self.keys.leases(), self.keys.reaping()];
        let command = Command::script(&scripts::BURY, &keys)
            .arg(registration.to_string())
            .arg(value)
            .arg(self.config.reap_delay.as_secs_f64());
        match self.lanes.run(&command, Purpose::Control).await {
            Ok(Value::Integer(1)) => {
                self.metrics.deaths.inc();
                tracing::warn!(%registration, "a node is dead: its connections are out of every answer");
            }
            Ok(_) => {}
            Err(fault) => tracing::debug!(%registration, %fault, "a death could not be written"),
        }
    }
}

/// Reads the answer to `PUBSUB NUMSUB`: names and numbers in turn.
fn subscribers(answer: Value) -> HashMap<String, i64> {
    match answer {
        Value::Array(all) => {
            all.chunks_exact(2).filter_map(|pair| Some((pair[0].as_string()?, pair[1].as_i64()?))).collect()
        }
        Value::Map(map) => {
            map.inner().into_iter().filter_map(|(name, count)| Some((name.into_string()?, count.as_i64()?))).collect()
        }
        _ => HashMap::new(),
    }
}

impl Series {
    fn new(rest: Duration) -> Self {
        let silence_counts_from = Instant::now() + rest;
        Self { seen: HashMap::new(), last: None, asked: Vec::new(), silence_counts_from }
    }

    /// Takes a look in; who is dead by it, with the lease's value that shows it.
    fn judge(&mut self, look: Look, rest: Duration, own: Option<&Registration>) -> Vec<(Registration, String)> {
        let now = Instant::now();
        let known = |wire: &Arc<Wire>| self.asked.iter().any(|asked| Arc::ptr_eq(asked, wire));
        let unbroken = self.last.is_some_and(|last| now - last < BREAK);
        // More servers than before is no break by itself, as new nodes have inboxes elsewhere; but one that was asked
        // before and is not now has been replaced, and so has the one with the leases, which comes first.
        let same = self.asked.is_empty()
            || look.asked.first().is_some_and(known)
                && self
                    .asked
                    .iter()
                    .all(|asked| !asked.is_dead() && look.asked.iter().any(|wire| Arc::ptr_eq(asked, wire)));
        if !unbroken || !same {
            *self = Self::new(rest);
        }
        self.last = Some(now);
        self.asked = look.asked;
        self.seen.retain(|registration, _| look.leases.0.contains_key(registration));
        let mut dead = Vec::new();
        for (registration, value) in &look.leases.0 {
            if Some(registration) == own {
                continue;
            }
            let seen = self.seen.entry(registration.clone()).or_insert_with(|| Seen {
                value: value.clone(),
                since: now,
                silent_since: None,
            });
            if seen.value != *value {
                *seen = Seen { value: value.clone(), since: now, silent_since: None };
            }
            if !look.silent.contains(registration) {
                seen.silent_since = None;
            } else if now >= self.silence_counts_from {
                seen.silent_since.get_or_insert(now);
            }
            let still = now - seen.since >= rest;
            let silent = seen.silent_since.is_some_and(|since| now - since >= LOOK);
            if still || silent {
                dead.push((registration.clone(), value.clone()));
            }
        }
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(10);

    fn look(leases: &[(&str, &str)], silent: &[&str]) -> Look {
        let table =
            leases.iter().map(|(name, value)| (Registration::parse(name).unwrap(), (*value).to_owned())).collect();
        let silent = silent.iter().map(|name| Registration::parse(name).unwrap()).collect();
        Look { leases: Arc::new(LeaseTable(table)), silent, asked: Vec::new() }
    }

    /// Looks every quarter of a second for so long; how many looks it took until somebody was dead.
    async fn looks_until_death(series: &mut Series, seconds: u64, at: impl Fn(u32) -> Look) -> Option<u32> {
        for number in 0..(seconds * 4) as u32 {
            tokio::time::advance(LOOK).await;
            if !series.judge(at(number), REST, None).is_empty() {
                return Some(number);
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_counter_that_stands_still_for_the_lease_is_a_death() {
        let mut series = Series::new(REST);
        let death = looks_until_death(&mut series, 20, |_| look(&[("7:a", "1")], &[])).await;
        assert_eq!(death, Some(40));
    }

    #[tokio::test(start_paused = true)]
    async fn a_counter_that_moves_is_a_life_whoever_listens() {
        let mut series = Series::new(REST);
        let moving = |number: u32| look(&[("7:a", &number.to_string())], &["7:a"]);
        assert_eq!(looks_until_death(&mut series, 60, moving).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_a_still_counter_are_a_death_at_the_second_look() {
        let mut series = Series::new(REST);
        let heard = |number: u32| look(&[("7:a", &(number / 4).to_string())], &[]);
        assert_eq!(looks_until_death(&mut series, 30, heard).await, None);
        let death = looks_until_death(&mut series, 5, |_| look(&[("7:a", "killed")], &["7:a"])).await;
        assert_eq!(death, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_proves_nothing_after_a_break() {
        let mut series = Series::new(REST);
        let moving = |number: u32| look(&[("7:a", &(number / 4).to_string())], &[]);
        assert_eq!(looks_until_death(&mut series, 30, moving).await, None);
        tokio::time::advance(BREAK).await;
        let silent = |number: u32| look(&[("7:a", &(number / 4).to_string())], &["7:a"]);
        assert_eq!(looks_until_death(&mut series, 9, silent).await, None);
        assert!(looks_until_death(&mut series, 2, silent).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_buries_himself() {
        let mut series = Series::new(REST);
        let own = Registration::parse("7:a").unwrap();
        for _ in 0..100 {
            tokio::time::advance(LOOK).await;
            assert!(series.judge(look(&[("7:a", "1")], &["7:a"]), REST, Some(&own)).is_empty());
        }
    }
}
