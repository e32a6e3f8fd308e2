//! What a dead registration leaves to others: channels to let go, and closes that its node can't tell any more.
//!
//! Any step may be the last of its reaper, and is done again by the next one. A close may be put among what is to be delivered
//! twice by that, with one id and one content.

use super::bucket::{BUCKETS, bucket_of, bucket_of_close};
use super::holding::Answer;
use super::table::Went;
use super::{MOST_BEFORE_CLOSES, MOST_WAITING, REMEMBER_DEAD, YOUTH};
use crate::cluster::details::OWES_CLOSE;
use crate::cluster::redis::connect::Purpose;
use crate::cluster::redis::core::Core;
use crate::cluster::redis::keys::{Keys, Registration};
use crate::cluster::redis::scripts;
use crate::cluster::redis::wire::{Command, Fault, fields};
use crate::model::{ConnectionId, Name};
use fred::types::Value;
use futures_util::future::try_join_all;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// The fact that a registration may hold channels and owe closes: which changes of channels its node wants told, as
/// [`told`](super::told) has it.
pub(super) const OWING: &str = "owing";

/// The figure that says how far a registration's channels are held.
pub(super) const EXTENT: &str = "holds";

/// Which of its node's registrations one is, in the order of time.
pub(in crate::cluster::redis) const ORDINAL: &str = "ordinal";

/// Connections that one step of collecting closes looks at, so that no script keeps Redis busy for long.
const CONNECTIONS: i64 = 100;

/// Steps in a row that find closes and room for none of them, after which it is tried again later.
const MOST_IN_VAIN: u32 = 8;

/// What is kept of a registration's node.
pub(super) type Facts = HashMap<String, String>;

/// The fact that says since when a registration is known to be dead, in milliseconds since 1970.
pub(in crate::cluster::redis) const DIED: &str = "died";

/// What has come after a registration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Succession {
    /// Nothing: its node has ended with it.
    None,
    /// A newer registration of the same life, which has stood, and holds its channels where it stands now.
    Newer,
    /// There is one of which it is not known yet what it holds.
    Unknown,
}

impl Succession {
    /// What another registration of the same number says of it: the facts of the two, and whether the other one is live.
    pub(super) fn by(facts: &Facts, others: &Facts, is_live: bool) -> Self {
        let ordinal = |facts: &Facts| facts.get(ORDINAL).and_then(|text| text.parse::<u64>().ok());
        if others.get("id") != facts.get("id") || ordinal(others) <= ordinal(facts) {
            return Self::None;
        }
        match others.get(EXTENT).map_or("", String::as_str) {
            "" => Self::Unknown,
            "part" if is_live => Self::Unknown,
            _ => Self::Newer,
        }
    }
}

/// How a reaping went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::cluster::redis) enum Reaped {
    /// Nothing is left.
    Whole,
    /// It has to wait: for the node to hold its channels with a newer registration, for a bucket that is young, or for room among
    /// what is to be delivered.
    Later,
}

impl Core {
    /// Settles what a registration owes that is dead and fenced; `facts` are those of its node. Nothing of it may be removed
    /// before this has said that it is whole.
    pub(in crate::cluster::redis) async fn settle_estate(
        &self,
        registration: &Registration,
        facts: &Facts,
    ) -> Result<Reaped, Fault> {
        let Some(told) = facts.get(OWING) else { return Ok(Reaped::Whole) };
        // First: a node that comes back from here on finds it noted, or is found below.
        if let Some(node) = facts.get("id") {
            self.lanes.run(&over(&self.keys, registration, node), Purpose::Events).await?;
        }
        let reaped = match self.succession(registration, facts).await? {
            Succession::None => self.collect_closes(registration, facts).await?,
            // That one was written from all that the node had and had not told; what is not in it is told.
            Succession::Newer => Reaped::Whole,
            Succession::Unknown => return Ok(Reaped::Later),
        };
        self.run_all((0..BUCKETS).map(|bucket| fence(&self.keys, bucket, registration)).collect()).await?;
        let list = self.keys.holding(registration);
        let mut cursor = "0".to_owned();
        loop {
            let (next, names) = self.scan("SSCAN", &list, &cursor).await?;
            let names = names.iter().filter_map(Value::as_string).filter_map(|name| Name::new(&name).ok()).collect();
            if self.let_go(registration, names, told).await? == Reaped::Later {
                return Ok(Reaped::Later);
            }
            self.go_on(registration).await?;
            if next == "0" {
                return Ok(reaped);
            }
            cursor = next;
        }
    }

    /// What is known of the registrations of the same life that came after this one.
    async fn succession(&self, registration: &Registration, facts: &Facts) -> Result<Succession, Fault> {
        let live = self.read_leases().await?;
        let reaping = self.pools.run(&Command::keyed("ZRANGE", &self.keys.reaping()).arg("0").arg("-1")).await?;
        let Value::Array(reaping) = reaping else { return Err(Fault::Unexpected("ZRANGE")) };
        let reaping = reaping.iter().filter_map(Value::as_string).filter_map(|text| Registration::parse(&text));
        let all = live.registrations().cloned().chain(reaping);
        let mut succession = Succession::None;
        for other in all.filter(|other| other.seq == registration.seq && other != registration) {
            let theirs = fields(self.pools.run(&Command::keyed("HGETALL", &self.keys.node(&other))).await?);
            succession = succession.max(Succession::by(facts, &theirs, live.0.contains_key(&other)));
        }
        Ok(succession)
    }

    /// Lets channels go for a dead registration.
    async fn let_go(&self, registration: &Registration, names: Vec<Name>, told: &str) -> Result<Reaped, Fault> {
        let mut buckets: BTreeMap<usize, Vec<Name>> = BTreeMap::new();
        names.into_iter().for_each(|name| buckets.entry(bucket_of(&name)).or_default().push(name));
        let of_bucket =
            |(bucket, names): (&usize, &Vec<Name>)| let_go(&self.keys, *bucket, registration, names, YOUTH, told);
        let answers = self.run_all(buckets.iter().map(of_bucket).collect()).await?;
        let mut reaped = Reaped::Whole;
        for (bucket, answer) in buckets.keys().zip(&answers) {
            let answer = Answer::parse(answer)?;
            if answer.changes > 0 {
                self.owed.owing.metrics.decided.inc_by(answer.changes);
                self.owed.ring(*bucket);
            }
            self.owed.owing.metrics.give_up(answer.given_up, "more waited than fits");
            if answer.went == Went::Young {
                reaped = Reaped::Later;
            }
        }
        Ok(reaped)
    }

    /// Puts the closes that the registration owes among what is to be delivered: of connections that have ended, and of those that
    /// its death has ended. Those that there is no room for stay where they are.
    async fn collect_closes(&self, registration: &Registration, facts: &Facts) -> Result<Reaped, Fault> {
        let Some(estate) = Estate::new(registration, facts) else { return Ok(Reaped::Whole) };
        let mut reaped = Reaped::Whole;
        for of in [Of::Ended, Of::Open] {
            if self.collect_closes_of(&estate, of).await? == Reaped::Later {
                reaped = Reaped::Later;
            }
        }
        Ok(reaped)
    }

    async fn collect_closes_of(&self, estate: &Estate<'_>, of: Of) -> Result<Reaped, Fault> {
        let (mut cursor, mut in_vain) = ("0".to_owned(), 0);
        let mut reaped = Reaped::Whole;
        loop {
            let found = self.pools.run(&estate.closes(&self.keys, of, &cursor)).await?;
            let Closes { next, closes } = Closes::parse(found)?;
            let mut buckets: BTreeMap<usize, Vec<(u32, String)>> = BTreeMap::new();
            for (counter, details) in closes {
                let connection = ConnectionId::new(estate.registration.seq, counter);
                buckets.entry(bucket_of_close(connection)).or_default().push((counter, details));
            }
            let calls =
                buckets.iter().map(|(bucket, closes)| estate.owe(&self.keys, *bucket, closes, MOST_BEFORE_CLOSES));
            let answers = self.run_all(calls.collect()).await?;
            let mut collected = Vec::new();
            for ((bucket, closes), answer) in buckets.iter().zip(&answers) {
                let taken = answer.as_u64().map_or(0, |taken| taken as usize).min(closes.len());
                collected.extend(closes[..taken].iter().map(|(counter, _)| *counter));
                if taken > 0 {
                    self.owed.ring(*bucket);
                }
                if taken < closes.len() {
                    reaped = Reaped::Later;
                }
            }
            if !collected.is_empty() {
                for command in estate.collected(&self.keys, &collected) {
                    self.pools.run(&command).await?;
                }
                self.owed.owing.metrics.closes.inc_by(collected.len() as u64);
                self.go_on(estate.registration).await?;
                in_vain = 0;
            } else if !buckets.is_empty() {
                in_vain += 1;
            }
            if next == "0" || in_vain == MOST_IN_VAIN {
                return Ok(reaped);
            }
            cursor = next;
        }
    }

    async fn run_all(&self, commands: Vec<Command>) -> Result<Vec<Value>, Fault> {
        try_join_all(commands.iter().map(|command| self.lanes.run(command, Purpose::Events))).await
    }
}

/// Which connections' closes are collected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Of {
    /// Those that had ended before, whose end was not told yet.
    Ended,
    /// Those that were open.
    Open,
}

/// Whose closes are collected.
pub(super) struct Estate<'a> {
    registration: &'a Registration,
    node: &'a str,
    died: &'a str,
}

/// What one step of collecting closes found.
pub(super) struct Closes {
    /// Where the next step begins; "0" at the end.
    pub(super) next: String,
    /// Counters and details.
    pub(super) closes: Vec<(u32, String)>,
}

impl Closes {
    pub(super) fn parse(answer: Value) -> Result<Self, Fault> {
        let Value::Array(found) = answer else { return Err(Fault::Unexpected("closes")) };
        let mut found = found.into_iter().map(|value| value.into_string().unwrap_or_default());
        let next = found.next().ok_or(Fault::Unexpected("closes"))?;
        let mut closes = Vec::new();
        while let (Some(counter), Some(details)) = (found.next(), found.next()) {
            closes.extend(counter.parse().ok().map(|counter| (counter, details)));
        }
        Ok(Self { next, closes })
    }
}

impl<'a> Estate<'a> {
    /// `None` where the facts are gone.
    pub(super) fn new(registration: &'a Registration, facts: &'a Facts) -> Option<Self> {
        Some(Self { registration, node: facts.get("id")?, died: facts.get(DIED)? })
    }

    /// One step of looking for closes. A connection that has ended may still be among those that are open, as the two are written
    /// one after the other.
    pub(super) fn closes(&self, keys: &Keys, of: Of, cursor: &str) -> Command {
        let (open, ended) = (keys.connections(self.registration), keys.untold(self.registration));
        let hashes = match of {
            Of::Ended => vec![ended],
            Of::Open => vec![open, ended],
        };
        Command::script(&scripts::CLOSES, &hashes).arg(cursor.to_owned()).arg(CONNECTIONS).arg(OWES_CLOSE)
    }

    /// Puts closes among what a bucket has to deliver, if there are fewer than so many entries in it; the answer says how many.
    pub(super) fn owe(&self, keys: &Keys, bucket: usize, closes: &[(u32, String)], room: usize) -> Command {
        let mut command =
            Command::script(&scripts::OWE, &[keys.out(bucket)]).arg(room as i64).arg(self.node).arg(self.died);
        for (counter, details) in closes {
            command.push(ConnectionId::new(self.registration.seq, *counter).to_string());
            command.push(details.as_str());
        }
        command
    }

    /// Strikes off what is among that, so that a reaper that takes over does not put it there again.
    pub(super) fn collected(&self, keys: &Keys, counters: &[u32]) -> [Command; 2] {
        // In this order: one that has ended must not be found as one that was open.
        [keys.connections(self.registration), keys.untold(self.registration)].map(|hash| {
            let mut strike = Command::keyed("HDEL", &hash);
            counters.iter().for_each(|counter| strike.push(counter.to_string()));
            strike
        })
    }
}

/// Notes that the life of a dead registration's node is over, unless the node has a live one.
pub(super) fn over(keys: &Keys, registration: &Registration, node: &str) -> Command {
    Command::script(&scripts::OVER, &[keys.leases(), keys.seqs()])
        .arg(registration.seq.to_string())
        .arg(node.to_owned())
}

/// Keeps a dead registration from holding anything in a bucket.
pub(super) fn fence(keys: &Keys, bucket: usize, registration: &Registration) -> Command {
    Command::script(&scripts::FENCE, &[keys.calls(bucket), keys.dead(bucket)])
        .arg(registration.to_string())
        .arg(REMEMBER_DEAD.as_secs() as i64)
}

/// Lets channels of a bucket go for a registration that is fenced there.
pub(super) fn let_go(
    keys: &Keys,
    bucket: usize,
    registration: &Registration,
    names: &[Name],
    youth: Duration,
    told: &str,
) -> Command {
    let channels = names.iter().map(Name::as_str);
    let mut command = Command::script(&scripts::OCCUPY, &keys.of_channels(bucket, channels))
        .arg(registration.to_string())
        .arg("")
        .arg("0")
        .arg("")
        .arg(youth.as_millis() as i64)
        .arg(MOST_WAITING as i64)
        .arg(told.to_owned());
    for name in names {
        command.push("-");
        command.push(name.as_str());
    }
    command
}
