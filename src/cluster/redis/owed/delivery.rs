//! From Redis to the sink. A bucket's entries are handed out to one node at a time, which delivers what happens to channels in
//! order, and closes, which nothing is ordered by, several at once. What it can't deliver it gives back, to whoever asks next;
//! where it has ended with them they are handed out again after a while. An entry is taken out only after the sink took it.

use super::bucket::BUCKETS;
use super::turns::Turns;
use crate::cluster::owed::{Owed, PAUSES, Sink};
use crate::cluster::redis::connect::Purpose;
use crate::cluster::redis::core::Core;
use crate::cluster::redis::keys::Keys;
use crate::cluster::redis::scripts;
use crate::cluster::redis::wire::{Command, Fault};
use crate::model::Name;
use fred::types::Value;
use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use std::collections::HashMap;
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

/// Closes of one bucket that are offered at once. With all buckets that have their turn it is more than an application has under way
/// by default, so that the application's own limit decides.
const CLOSES_AT_ONCE: usize = 4;

/// The consumer group. All nodes are one consumer in it: a name for each would be left behind by each life.
const GROUP: &str = "carillon";

/// That consumer.
const CONSUMER: &str = "node";

/// What came of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// The sink took it, or nobody ever will.
    Taken,
    /// The sink did not take it.
    Refused,
    /// Its time was over.
    Left,
}

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

/// Puts what was refused behind everything else in its bucket.
pub(super) fn again(keys: &Keys, bucket: usize, ids: &[String]) -> Command {
    let mut command = Command::script(&scripts::AGAIN, &[keys.out(bucket)]).arg(GROUP);
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
        let mut turns = Turns::default();
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(ended) = under_way.next() => {
                    let (bucket, delivered): (usize, bool) = ended;
                    turns.ended(bucket, (!delivered).then(|| Instant::now() + REST));
                }
                () = self.owed.rung.notified() => {
                    let ringing = self.owed.ringing.swap(0, Ordering::Relaxed);
                    turns.ask((0..BUCKETS).filter(|bucket| ringing & (1 << bucket) != 0), Instant::now());
                }
                _ = looks.tick() => turns.ask(0..BUCKETS, Instant::now()),
            }
            if *leaving.borrow() {
                turns.dismiss();
            }
            self.owed.in_hand.send_replace(turns.busy());
            while let Some(bucket) = turns.next() {
                self.owed.in_hand.send_replace(turns.busy());
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

    /// Whether it is worth to go on at once; `None` where there was nothing.
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
        let (mut changes, mut closes) = (Vec::new(), Vec::new());
        for (at, (_, owed)) in entries.iter().enumerate() {
            match owed {
                Some(Owed::Closed { .. }) => closes.push(at),
                Some(Owed::Occupied { .. } | Owed::Vacated { .. }) => changes.push(at),
                None => self.owed.owing.metrics.give_up(1, "it can't be read: of another version or program"),
            }
        }
        let entries = &entries;
        let offer = |at: usize| async move {
            let fate = match &entries[at].1 {
                Some(owed) => self.offer(owed, sink, deadline).await,
                None => Fate::Taken,
            };
            (at, fate)
        };
        let of_closes = stream::iter(closes.into_iter().map(offer)).buffer_unordered(CLOSES_AT_ONCE);
        let (of_changes, of_closes) = tokio::join!(
            self.deliver_in_order(entries, changes, sink, deadline),
            of_closes.collect::<Vec<(usize, Fate)>>(),
        );
        let mut fates = vec![Fate::Taken; entries.len()];
        of_changes.into_iter().chain(of_closes).for_each(|(at, fate)| fates[at] = fate);
        let ids = |wanted: Fate| -> Vec<String> {
            entries.iter().zip(&fates).filter(|(_, fate)| **fate == wanted).map(|((id, _), _)| id.clone()).collect()
        };
        let [done, refused, left] = [Fate::Taken, Fate::Refused, Fate::Left].map(ids);
        for (ids, command) in [
            (&done, taken(&self.keys, bucket, &done)),
            (&refused, again(&self.keys, bucket, &refused)),
            (&left, back(&self.keys, bucket, &left, self.config.redeliver_after)),
        ] {
            if !ids.is_empty() {
                self.lanes.run(&command, Purpose::Events).await?;
            }
        }
        // Where some closes are refused and others not, it is not the receiver that has to be waited for.
        Ok(Some(left.is_empty() && (refused.is_empty() || !done.is_empty())))
    }

    /// Delivers those at these places one after the other, each until it is taken; what is behind one that isn't is left with it.
    async fn deliver_in_order(
        &self,
        entries: &[(String, Option<Owed>)],
        places: Vec<usize>,
        sink: &dyn Sink,
        deadline: Instant,
    ) -> Vec<(usize, Fate)> {
        let mut fate = Fate::Taken;
        let mut fates = Vec::with_capacity(places.len());
        for at in places {
            if fate == Fate::Taken
                && let Some(owed) = &entries[at].1
                && !self.deliver(owed, sink, deadline).await
            {
                tracing::debug!(id = owed.id(), "an event was not taken in time; it is handed out again");
                fate = Fate::Left;
            }
            fates.push((at, fate));
        }
        fates
    }

    /// Whether the sink took it in time.
    async fn deliver(&self, owed: &Owed, sink: &dyn Sink, deadline: Instant) -> bool {
        let mut pause = PAUSES.0;
        let mut leaving = self.owed.leaving.subscribe();
        loop {
            match self.offer(owed, sink, deadline).await {
                Fate::Taken => return true,
                Fate::Refused => {}
                Fate::Left => return false,
            }
            // Until the pause or the time is over, or the node leaves.
            let _ = timeout_at(deadline.min(Instant::now() + pause), leaving.wait_for(|leaving| *leaving)).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// What comes of one attempt; none is made where the time is over or the node leaves.
    async fn offer(&self, owed: &Owed, sink: &dyn Sink, deadline: Instant) -> Fate {
        if Instant::now() >= deadline || *self.owed.leaving.borrow() {
            return Fate::Left;
        }
        match timeout_at(deadline, sink.deliver(owed)).await {
            Ok(Ok(())) => {
                self.owed.owing.metrics.taken(owed);
                return Fate::Taken;
            }
            Ok(Err(why)) => tracing::debug!(%why, id = owed.id(), "an event was not taken; it is offered again"),
            Err(_) => tracing::debug!(id = owed.id(), "an event was not taken in time; it is offered again"),
        }
        self.owed.owing.metrics.refused.inc();
        Fate::Refused
    }
}
