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

/// How long a node must be without a subscriber, and its counter stand still, to be dead by that: several renewals of its
/// lease would have to be late at once.
const SILENCE: Duration = Duration::from_millis(400);

/// A longer time between two looks is a break: this process, or Redis, was not there.
const BREAK: Duration = Duration::from_secs(1);

/// How long silence proves nothing after a break, at the most: by then whoever lives has subscribed again, or moves its
/// lease. A lease of many minutes is no reason to keep a killed node for as long.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// What was seen of one registration.
struct Seen {
    value: String,
    since: Instant,
    /// The connection by which its inbox was looked at.
    server: u64,
    /// Until then silence proves nothing: the node may only be about to subscribe again.
    silence_counts_from: Instant,
    /// When its inbox was first seen without a subscriber while the value stayed the same.
    silent_since: Option<Instant>,
}

/// The series of looks up to now.
struct Series {
    seen: HashMap<Registration, Seen>,
    last: Option<Instant>,
    /// The connection by which the leases were read: with another one the series begins anew.
    server: u64,
    silence_counts_from: Instant,
}

/// What one look saw.
struct Look {
    leases: Arc<LeaseTable>,
    server: u64,
    inboxes: HashMap<Registration, Inbox>,
}

/// A node's inbox as one look saw it.
#[derive(Clone, Copy)]
struct Inbox {
    server: u64,
    silent: bool,
}

impl Core {
    /// Looks at the leases, for as long as it is polled.
    pub(super) async fn keep_watch(&self) {
        let lease = self.config.node_lease;
        let mut series = Series::begin(Instant::now(), lease);
        loop {
            tokio::time::sleep(LOOK).await;
            // Known before the look, so that one which is not in it is truly missing.
            let (began, own) = (Instant::now(), self.own.current());
            match self.look().await {
                Ok(look) => {
                    self.metrics.nodes.set(look.leases.0.len() as i64);
                    self.is_in(&look.leases, own.as_ref());
                    self.health.looked(&look.leases, own.as_ref(), began);
                    for (dead, value) in series.judge(look, Instant::now(), lease, self.own.current().as_ref()) {
                        self.bury(&dead, &value).await;
                    }
                }
                Err(fault) => {
                    tracing::debug!(%fault, "a look at the leases failed");
                    series = Series::begin(Instant::now(), lease);
                }
            }
        }
    }

    async fn look(&self) -> Result<Look, Fault> {
        // Taken before the look: a connection that is replaced meanwhile shows in the next one.
        let server = self.lanes.wire_of(slot(&self.keys.leases()), Purpose::Control).await?.serial;
        let leases = self.read_leases().await?;
        let mut servers: BTreeMap<u64, (Arc<Wire>, Vec<&Registration>)> = BTreeMap::new();
        for registration in leases.registrations() {
            let wire = self.lanes.wire_of(slot(&self.keys.inbox_topic(registration.seq)), Purpose::Control).await?;
            servers.entry(wire.serial).or_insert_with(|| (wire, Vec::new())).1.push(registration);
        }
        let mut inboxes = HashMap::new();
        for (server, (wire, registrations)) in servers {
            let numsub = if self.subscriber.is_sharded() { "SHARDNUMSUB" } else { "NUMSUB" };
            let mut command = Command::at(0, "PUBSUB").arg(numsub);
            registrations.iter().for_each(|registration| command.push(self.keys.inbox_topic(registration.seq)));
            let counts = subscribers(wire.run(&command).await?);
            for registration in registrations {
                let silent = counts.get(&self.keys.inbox_topic(registration.seq)).is_none_or(|count| *count == 0);
                if silent {
                    // A server that has not got the slot answers 0 to the question above, and refuses this one.
                    if let Err(fault) = wire.run(&Command::keyed("EXISTS", &self.keys.node(registration))).await {
                        self.topology.is_stale();
                        return Err(fault);
                    }
                }
                inboxes.insert(registration.clone(), Inbox { server, silent });
            }
        }
        Ok(Look { leases, server, inboxes })
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
    /// A series of looks that begins now.
    fn begin(now: Instant, lease: Duration) -> Self {
        let silence_counts_from = now + lease.min(LONGEST_REST);
        Self { seen: HashMap::new(), last: None, server: 0, silence_counts_from }
    }

    /// Takes a look in; who is dead by it, with the lease's value that shows it.
    fn judge(
        &mut self,
        look: Look,
        now: Instant,
        lease: Duration,
        own: Option<&Registration>,
    ) -> Vec<(Registration, String)> {
        let broken = self.last.is_some_and(|last| now - last >= BREAK || self.server != look.server);
        if broken {
            *self = Self::begin(now, lease);
        }
        self.last = Some(now);
        self.server = look.server;
        self.seen.retain(|registration, _| look.leases.0.contains_key(registration));
        let mut dead = Vec::new();
        for (registration, value) in &look.leases.0 {
            if Some(registration) == own {
                continue;
            }
            let Some(inbox) = look.inboxes.get(registration).copied() else { continue };
            let seen = self.seen.entry(registration.clone()).or_insert_with(|| Seen {
                value: value.clone(),
                since: now,
                server: inbox.server,
                silence_counts_from: self.silence_counts_from,
                silent_since: None,
            });
            if seen.value != *value {
                seen.value.clone_from(value);
                seen.since = now;
                seen.silent_since = None;
            }
            if seen.server != inbox.server {
                seen.server = inbox.server;
                seen.silence_counts_from = now + lease.min(LONGEST_REST);
                seen.silent_since = None;
            }
            if !inbox.silent {
                seen.silent_since = None;
            } else if now >= seen.silence_counts_from {
                seen.silent_since.get_or_insert(now);
            }
            let still = now - seen.since >= lease;
            let silent = seen.silent_since.is_some_and(|since| now - since >= SILENCE);
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

    const LEASE: Duration = Duration::from_secs(10);

    fn look(leases: &[(&str, &str)], silent: &[&str]) -> Look {
        let registration = |name: &str| Registration::parse(name).unwrap();
        let table = leases.iter().map(|(name, value)| (registration(name), (*value).to_owned())).collect();
        let inbox = |name: &str| (registration(name), Inbox { server: 1, silent: silent.contains(&name) });
        let inboxes = leases.iter().map(|(name, _)| inbox(name)).collect();
        Look { leases: Arc::new(LeaseTable(table)), server: 1, inboxes }
    }

    /// A series, and the time by which it goes.
    struct Run {
        series: Series,
        now: Instant,
    }

    impl Run {
        fn new() -> Self {
            let now = Instant::now();
            Self { series: Series::begin(now, LEASE), now }
        }

        /// Looks every quarter of a second for so long; how many looks it took until somebody was dead.
        fn looks_until_death(&mut self, seconds: u64, at: impl Fn(u32) -> Look) -> Option<u32> {
            (0..(seconds * 4) as u32).find(|number| {
                self.now += LOOK;
                !self.series.judge(at(*number), self.now, LEASE, None).is_empty()
            })
        }
    }

    #[test]
    fn a_counter_that_stands_still_for_the_lease_is_a_death() {
        assert_eq!(Run::new().looks_until_death(20, |_| look(&[("7:a", "1")], &[])), Some(40));
    }

    #[test]
    fn a_counter_that_moves_is_a_life_whoever_listens() {
        let moving = |number: u32| look(&[("7:a", &number.to_string())], &["7:a"]);
        assert_eq!(Run::new().looks_until_death(60, moving), None);
    }

    #[test]
    fn silence_and_a_still_counter_are_a_death_at_the_third_look() {
        let mut run = Run::new();
        let heard = |number: u32| look(&[("7:a", &(number / 4).to_string())], &[]);
        assert_eq!(run.looks_until_death(30, heard), None);
        assert_eq!(run.looks_until_death(5, |_| look(&[("7:a", "killed")], &["7:a"])), Some(2));
    }

    #[test]
    fn silence_proves_nothing_after_a_break() {
        let mut run = Run::new();
        let heard = |number: u32| look(&[("7:a", &(number / 4).to_string())], &[]);
        assert_eq!(run.looks_until_death(30, heard), None);
        run.now += BREAK;
        let silent = |number: u32| look(&[("7:a", &(number / 4).to_string())], &["7:a"]);
        assert_eq!(run.looks_until_death(9, silent), None);
        assert!(run.looks_until_death(2, silent).is_some());
    }

    #[test]
    fn silence_proves_nothing_after_the_inbox_changed_its_server() {
        let mut run = Run::new();
        let heard = |number: u32| look(&[("7:a", &(number / 4).to_string())], &[]);
        assert_eq!(run.looks_until_death(30, heard), None);
        let moved = |number: u32| {
            let mut look = look(&[("7:a", &(number / 4).to_string())], &["7:a"]);
            look.inboxes.values_mut().for_each(|inbox| inbox.server = 2);
            look
        };
        assert_eq!(run.looks_until_death(9, moved), None);
        assert!(run.looks_until_death(2, moved).is_some());
    }

    #[test]
    fn nobody_buries_himself() {
        let mut run = Run::new();
        let own = Registration::parse("7:a").unwrap();
        for _ in 0..100 {
            run.now += LOOK;
            let dead = run.series.judge(look(&[("7:a", "1")], &["7:a"]), run.now, LEASE, Some(&own));
            assert_eq!(dead, []);
        }
    }
}
