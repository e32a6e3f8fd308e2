//! What a dead registration leaves to others: channels to let go, and closes that its node can't tell any more.
//!
//! Any step may be the last of its reaper, and is done again by the next one. A close may be put among what is to be delivered
//! twice by that, with one id.

use super::bucket::{BUCKETS, bucket_of, bucket_of_close};
use super::holding::Answer;
use super::table::Went;
use super::{MOST_WAITING, REMEMBER_DEAD, YOUTH};
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

/// The fact that a registration may hold channels and owe closes.
pub(super) const OWING: &str = "owing";

/// The figure that says how far a registration's channels are held.
pub(super) const EXTENT: &str = "holds";

/// Which of its node's registrations one is, in the order of time.
pub(in crate::cluster::redis) const ORDINAL: &str = "ordinal";

/// Connections that one step of collecting closes looks at, so that no script keeps Redis busy for long.
const CONNECTIONS: i64 = 100;

/// How a reaping went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::cluster::redis) enum Reaped {
    /// Nothing is left.
    Whole,
    /// It has to wait: for the node to hold its channels with a newer registration, or for a bucket that is young.
    Later,
}

impl Core {
    /// Settles what a registration owes that is dead and fenced; `facts` are those of its node. Nothing of it may be removed
    /// before this has said that it is whole.
    pub(in crate::cluster::redis) async fn settle_estate(
        &self,
        registration: &Registration,
        facts: &HashMap<String, String>,
    ) -> Result<Reaped, Fault> {
        if !facts.contains_key(OWING) {
            return Ok(Reaped::Whole);
        }
        let Some(newer) = self.newer(registration, facts).await? else { return Ok(Reaped::Later) };
        self.collect_closes(registration, facts, &newer).await?;
        self.run_all((0..BUCKETS).map(|bucket| fence(&self.keys, bucket, registration)).collect()).await?;
        let list = self.keys.holding(registration);
        let mut cursor = "0".to_owned();
        loop {
            let (next, names) = self.scan("SSCAN", &list, &cursor).await?;
            let names = names.iter().filter_map(Value::as_string).filter_map(|name| Name::new(&name).ok()).collect();
            if self.let_go(registration, names).await? == Reaped::Later {
                return Ok(Reaped::Later);
            }
            self.go_on(registration).await?;
            if next == "0" {
                return Ok(Reaped::Whole);
            }
            cursor = next;
        }
    }

    /// The registrations of the same life that came after this one; `None` while there is one of which it is not known yet what
    /// it holds.
    async fn newer(
        &self,
        registration: &Registration,
        facts: &HashMap<String, String>,
    ) -> Result<Option<Vec<Registration>>, Fault> {
        let live = self.read_leases().await?;
        let reaping = self.pools.run(&Command::keyed("ZRANGE", &self.keys.reaping()).arg("0").arg("-1")).await?;
        let Value::Array(reaping) = reaping else { return Err(Fault::Unexpected("ZRANGE")) };
        let reaping = reaping.iter().filter_map(Value::as_string).filter_map(|text| Registration::parse(&text));
        let all = live.registrations().cloned().chain(reaping);
        let ordinal = |facts: &HashMap<String, String>| facts.get(ORDINAL).and_then(|text| text.parse::<u64>().ok());
        let mut newer = Vec::new();
        for other in all.filter(|other| other.seq == registration.seq && other != registration) {
            let theirs = fields(self.pools.run(&Command::keyed("HGETALL", &self.keys.node(&other))).await?);
            if theirs.get("id") != facts.get("id") || ordinal(&theirs) <= ordinal(facts) {
                continue;
            }
            let is_live = live.0.contains_key(&other);
            match theirs.get(EXTENT).map_or("", String::as_str) {
                "" => return Ok(None),
                "part" if is_live => return Ok(None),
                _ => newer.push(other),
            }
        }
        Ok(Some(newer))
    }

    /// Lets channels go for a dead registration.
    async fn let_go(&self, registration: &Registration, names: Vec<Name>) -> Result<Reaped, Fault> {
        let mut buckets: BTreeMap<usize, Vec<Name>> = BTreeMap::new();
        names.into_iter().for_each(|name| buckets.entry(bucket_of(&name)).or_default().push(name));
        let of_bucket = |(bucket, names): (&usize, &Vec<Name>)| let_go(&self.keys, *bucket, registration, names, YOUTH);
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
    /// its death has ended.
    async fn collect_closes(
        &self,
        registration: &Registration,
        facts: &HashMap<String, String>,
        newer: &[Registration],
    ) -> Result<(), Fault> {
        let Some(node) = facts.get("id") else { return Ok(()) };
        let hashes = |of: &Registration| [self.keys.connections(of), self.keys.untold(of)];
        let newer: Vec<String> = newer.iter().flat_map(hashes).collect();
        for from in hashes(registration) {
            self.collect_closes_from(from, registration, node, &newer).await?;
        }
        Ok(())
    }

    /// The same of those in one hash, but of such as are in one of the others.
    async fn collect_closes_from(
        &self,
        from: String,
        registration: &Registration,
        node: &str,
        newer: &[String],
    ) -> Result<(), Fault> {
        let keys: Vec<String> = std::iter::once(&from).chain(newer).cloned().collect();
        let mut cursor = "0".to_owned();
        loop {
            let step = Command::script(&scripts::CLOSES, &keys).arg(cursor).arg(CONNECTIONS).arg(OWES_CLOSE);
            let Value::Array(found) = self.pools.run(&step).await? else { return Err(Fault::Unexpected("closes")) };
            let mut found = found.into_iter().map(|value| value.into_string().unwrap_or_default());
            cursor = found.next().ok_or(Fault::Unexpected("closes"))?;
            let mut buckets: BTreeMap<usize, Vec<(ConnectionId, String)>> = BTreeMap::new();
            let mut collected = Command::keyed("HDEL", &from);
            let mut count = 0;
            while let (Some(counter), Some(details)) = (found.next(), found.next()) {
                let Ok(number) = counter.parse() else { continue };
                let connection = ConnectionId::new(registration.seq, number);
                buckets.entry(bucket_of_close(connection)).or_default().push((connection, details));
                collected.push(counter);
                count += 1;
            }
            if count > 0 {
                self.owe(node, &buckets).await?;
                // So that a reaper that takes over does not put them there again.
                self.pools.run(&collected).await?;
                self.owed.owing.metrics.closes.inc_by(count);
                self.go_on(registration).await?;
            }
            if cursor == "0" {
                return Ok(());
            }
        }
    }

    async fn owe(&self, node: &str, buckets: &BTreeMap<usize, Vec<(ConnectionId, String)>>) -> Result<(), Fault> {
        let mut calls = Vec::new();
        for (bucket, closes) in buckets {
            let closes = closes.iter().map(|(connection, details)| (*connection, details.as_str(), None));
            calls.push(owe(&self.keys, *bucket, node, closes));
        }
        let given_up = self.run_all(calls).await?.iter().filter_map(Value::as_u64).sum();
        self.owed.owing.metrics.give_up(given_up, "more waited than fits");
        buckets.keys().for_each(|bucket| self.owed.ring(*bucket));
        Ok(())
    }

    async fn run_all(&self, commands: Vec<Command>) -> Result<Vec<Value>, Fault> {
        try_join_all(commands.iter().map(|command| self.lanes.run(command, Purpose::Events))).await
    }
}

/// Puts closes of a dead node's connections among what a bucket has to deliver: each connection's details, and when it was found to
/// be owed, if not now.
pub(super) fn owe<'a>(
    keys: &Keys,
    bucket: usize,
    node: &str,
    closes: impl Iterator<Item = (ConnectionId, &'a str, Option<u64>)>,
) -> Command {
    let mut command = Command::script(&scripts::OWE, &[keys.out(bucket)]).arg(MOST_WAITING as i64).arg(node.to_owned());
    for (connection, details, found) in closes {
        command.push(connection.to_string());
        command.push(details);
        command.push(found.map(|found| found.to_string()).unwrap_or_default());
    }
    command
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
) -> Command {
    let channels = names.iter().map(Name::as_str);
    let mut command = Command::script(&scripts::OCCUPY, &keys.of_channels(bucket, channels))
        .arg(registration.to_string())
        .arg("")
        .arg("0")
        .arg("")
        .arg(youth.as_millis() as i64)
        .arg(MOST_WAITING as i64);
    for name in names {
        command.push("-");
        command.push(name.as_str());
    }
    command
}
