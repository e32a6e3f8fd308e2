//! From Redis to the sink. A bucket's entries are handed out to one node at a time, which delivers them in order. What it
//! can't deliver it gives back, to whoever asks next; where it has ended with them they are handed out again after a while. An
//! entry is taken out only after the sink took it.

use super::bucket::BUCKETS;
use super::estate::owe;
use crate::cluster::owed::{Owed, PAUSES, Sink};
use crate::cluster::redis::connect::Purpose;
use crate::cluster::redis::core::Core;
use crate::cluster::redis::keys::Keys;
use crate::cluster::redis::scripts;
use crate::cluster::redis::wire::{Command, Fault};
use crate::model::Name;
use fred::types::Value;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// Between two looks at all buckets: for what a node left undone, what was put there by one that has nobody to tell, and for
/// whether Redis still has what was told to it. What this node puts into a bucket it looks at at once.
const LOOK: Duration = Duration::from_secs(2);

/// How long a node that could not deliver leaves a bucket to the others: each of them looks at it meanwhile.
const REST: Duration = Duration::from_secs(5);

/// Entries handed out at once.
const MOST_ENTRIES: usize = 16;

/// How often a close is offered before it goes behind all others of its bucket.
const ATTEMPTS: u32 = 3;

/// Buckets that are delivered from at once: as many deliveries are in flight.
const MOST_BUCKETS: usize = 16;

/// The consumer group. All nodes are one consumer in it: a name for each would be left behind by each life.
const GROUP: &str = "carillon";

/// That consumer.
const CONSUMER: &str = "node";

/// What a bucket had.
pub(super) struct Handed {
    pub(super) born: String,
    /// The number of the caller's registration's last call.
    pub(super) number: u64,
    /// Each with its id in the stream; `None`: it can't be read.
    pub(super) entries: Vec<(String, Option<Owed>)>,
}

/// Asks for what a bucket has to deliver. What is handed out is handed out again after `again_after`.
pub(super) fn next(keys: &Keys, bucket: usize, registration: &str, again_after: Duration) -> Command {
    Command::script(&scripts::NEXT, &[keys.state(bucket), keys.calls(bucket), keys.out(bucket)])
        .arg(registration.to_owned())
        .arg(GROUP)
        .arg(CONSUMER)
        .arg(again_after.as_millis() as i64)
        .arg(MOST_ENTRIES as i64)
}

/// Takes out what was delivered.
pub(super) fn taken(keys: &Keys, bucket: usize, ids: &[String]) -> Command {
    let mut command = Command::script(&scripts::TAKEN, &[keys.out(bucket)]).arg(GROUP);
    ids.iter().for_each(|id| command.push(id.as_str()));
    command
}

/// Gives back what could not be delivered: anybody gets it who asks now.
fn back(keys: &Keys, bucket: usize, ids: &[String], again_after: Duration) -> Command {
    let mut command = Command::keyed("XCLAIM", &keys.out(bucket)).arg(GROUP).arg(CONSUMER).arg("0");
    ids.iter().for_each(|id| command.push(id.as_str()));
    command.arg("IDLE").arg(again_after.as_millis() as i64).arg("JUSTID")
}

impl Handed {
    pub(super) fn parse(answer: Value) -> Option<Self> {
        let Value::Array(parts) = answer else { return None };
        let [born, number, Value::Array(entries)] = &parts[..] else { return None };
        let entries = entries.iter().map(entry).collect::<Option<_>>()?;
        Some(Self { born: born.as_string()?, number: number.as_u64()?, entries })
    }
}

fn entry(value: &Value) -> Option<(String, Option<Owed>)> {
    let Value::Array(parts) = value else { return None };
    let [id, Value::Array(fields)] = &parts[..] else { return None };
    let pairs = fields.chunks_exact(2).filter_map(|pair| Some((pair[0].as_string()?, pair[1].as_string()?)));
    Some((id.as_string()?, owed(&pairs.collect())))
}

fn owed(fields: &HashMap<String, String>) -> Option<Owed> {
    let field = |name: &str| fields.get(name).map(String::as_str);
    let change = || Some((Name::new(field("channel")?).ok()?, field("version")?.parse().ok()?));
    match field("event")? {
        "occupied" => change().map(|(channel, version)| Owed::Occupied { channel, version }),
        "vacated" => change().map(|(channel, version)| Owed::Vacated { channel, version }),
        "close" => Some(Owed::Closed {
            connection: field("connection")?.parse().ok()?,
            node: field("node")?.parse().ok()?,
            details: field("details")?.into(),
            found: field("found")?.parse().ok()?,
        }),
        _ => None,
    }
}

impl Core {
    /// Delivers what all nodes owe, for as long as it is polled.
    pub(in crate::cluster::redis) async fn keep_delivering(self: Arc<Self>) {
        let Some(sink) = self.owed.owing.sink.clone() else { return std::future::pending().await };
        let leaving = self.owed.leaving.subscribe();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waiting: BTreeSet<usize> = BTreeSet::new();
        let mut busy: BTreeSet<usize> = BTreeSet::new();
        let mut resting: HashMap<usize, Instant> = HashMap::new();
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(ended) = under_way.next() => {
                    let (bucket, delivered): (usize, bool) = ended;
                    busy.remove(&bucket);
                    if !delivered {
                        resting.insert(bucket, Instant::now() + REST);
                    }
                }
                () = self.owed.rung.notified() => {
                    let ringing = self.owed.ringing.swap(0, Ordering::Relaxed);
                    waiting.extend((0..BUCKETS).filter(|bucket| ringing & (1 << bucket) != 0));
                }
                _ = looks.tick() => waiting.extend(0..BUCKETS),
            }
            resting.retain(|_, until| *until > Instant::now());
            waiting.retain(|bucket| !resting.contains_key(bucket));
            if *leaving.borrow() {
                waiting.clear();
            }
            self.owed.in_hand.send_replace(busy.len());
            while busy.len() < MOST_BUCKETS
                && let Some(bucket) = waiting.iter().copied().find(|bucket| !busy.contains(bucket))
            {
                waiting.remove(&bucket);
                busy.insert(bucket);
                self.owed.in_hand.send_replace(busy.len());
                under_way.push(self.deliver_from(bucket, &*sink));
            }
        }
    }

    /// Delivers what a bucket has, until there is nothing left; the bucket, and false where something could not be delivered.
    async fn deliver_from(&self, bucket: usize, sink: &dyn Sink) -> (usize, bool) {
        loop {
            match self.deliver_some(bucket, sink).await {
                Ok(Some(true)) if *self.owed.leaving.borrow() => return (bucket, true),
                Ok(Some(true)) => {}
                Ok(None) => return (bucket, true),
                Ok(Some(false)) => return (bucket, false),
                Err(fault) => {
                    tracing::debug!(%fault, bucket, "no events could be fetched or taken out");
                    return (bucket, true);
                }
            }
        }
    }

    /// Whether all that was handed out was delivered; `None` where there was nothing.
    async fn deliver_some(&self, bucket: usize, sink: &dyn Sink) -> Result<Option<bool>, Fault> {
        // Two thirds of the time after which another node may have them; the rest is for the ways to Redis.
        let deadline = Instant::now() + self.config.redeliver_after * 2 / 3;
        let registration = self.owed.table().registration();
        let text = registration.as_ref().map(ToString::to_string).unwrap_or_default();
        let command = next(&self.keys, bucket, &text, self.config.redeliver_after);
        let answer = self.lanes.run(&command, Purpose::Events).await?;
        let Handed { born, number, entries } = Handed::parse(answer).ok_or(Fault::Unexpected("what is owed"))?;
        if let Some(registration) = registration
            && self.owed.table().seen(bucket, &registration, &born, number)
        {
            self.owed.changed.notify_one();
        }
        if entries.is_empty() {
            return Ok(None);
        }
        let (mut done, mut again) = (Vec::new(), Vec::new());
        for (id, owed) in &entries {
            let Some(owed) = owed else {
                self.owed.owing.metrics.give_up(1, "it can't be read: of another version or program");
                done.push(id.clone());
                continue;
            };
            let attempts = match owed {
                Owed::Occupied { .. } | Owed::Vacated { .. } => None,
                Owed::Closed { .. } if again.is_empty() => Some(ATTEMPTS),
                // One that failed is its own fault, or its receiver's, which will be the same with this one.
                Owed::Closed { .. } => Some(1),
            };
            if self.deliver(owed, sink, deadline, attempts).await {
                self.owed.owing.metrics.taken(owed);
            } else if let Owed::Closed { connection, node, details, found } = owed
                && Instant::now() < deadline
                && !*self.owed.leaving.borrow()
            {
                // It goes to the end: nothing is ordered by it, and nothing shall wait for it.
                let close = (*connection, &**details, Some(*found));
                again.push(owe(&self.keys, bucket, &node.to_string(), std::iter::once(close)));
            } else {
                break;
            }
            done.push(id.clone());
        }
        for owe in &again {
            let given_up = self.lanes.run(owe, Purpose::Events).await?.as_u64().unwrap_or(0);
            self.owed.owing.metrics.give_up(given_up, "more waited than fits");
        }
        if !done.is_empty() {
            self.lanes.run(&taken(&self.keys, bucket, &done), Purpose::Events).await?;
        }
        let left: Vec<String> = entries.into_iter().skip(done.len()).map(|(id, _)| id).collect();
        if !left.is_empty() {
            self.lanes.run(&back(&self.keys, bucket, &left, self.config.redeliver_after), Purpose::Events).await?;
        }
        Ok(Some(left.is_empty() && again.is_empty()))
    }

    /// Whether the sink took it in time, and within so many attempts.
    async fn deliver(&self, owed: &Owed, sink: &dyn Sink, deadline: Instant, attempts: Option<u32>) -> bool {
        let mut pause = PAUSES.0;
        let mut leaving = self.owed.leaving.subscribe();
        let mut left = attempts.unwrap_or(u32::MAX);
        while Instant::now() < deadline && !*leaving.borrow() {
            match timeout_at(deadline, sink.deliver(owed)).await {
                Ok(Ok(())) => return true,
                Ok(Err(why)) => {
                    tracing::debug!(%why, id = owed.id(), "an event was not taken; trying again");
                    self.owed.owing.metrics.refused.inc();
                }
                Err(_) => {
                    self.owed.owing.metrics.refused.inc();
                    break;
                }
            }
            left -= 1;
            if left == 0 {
                break;
            }
            // Until the pause or the time is over, or the node leaves.
            let _ = timeout_at(deadline.min(Instant::now() + pause), leaving.wait_for(|leaving| *leaving)).await;
            pause = (pause * 2).min(PAUSES.1);
        }
        tracing::debug!(id = owed.id(), "an event was not taken in time; it is handed out again");
        false
    }
}
