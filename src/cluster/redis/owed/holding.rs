//! Holding channels and letting them go: one call at a time to each bucket, to all buckets at once.

use super::bucket::BUCKETS;
use super::table::{Call, Operation, Went};
use super::{MOST_WAITING, YOUTH, told};
use crate::cluster::redis::connect::Purpose;
use crate::cluster::redis::core::Core;
use crate::cluster::redis::keys::Keys;
use crate::cluster::redis::scripts;
use crate::cluster::redis::wire::{Command, Fault};
use fred::types::Value;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// What a call's script answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) went: Went,
    pub(super) born: String,
    /// Changes that it decided.
    pub(super) changes: u64,
    /// Entries that were given up for them.
    pub(super) given_up: u64,
}

impl Call {
    /// The script for it; the events that are to be told as [`told`] has them.
    pub(super) fn command(&self, keys: &Keys, youth: Duration, told: &'static str) -> Command {
        let channels = self.operations.iter().map(|(_, name)| name.as_str());
        let mut command = Command::script(&scripts::OCCUPY, &keys.of_channels(self.bucket, channels))
            .arg(self.registration.to_string())
            .arg(self.number.to_string())
            .arg(self.acknowledged.to_string())
            .arg(self.born.as_str())
            .arg(youth.as_millis() as i64)
            .arg(MOST_WAITING as i64)
            .arg(told);
        for (operation, name) in &self.operations {
            command.push(match operation {
                Operation::Hold => "+",
                Operation::HoldAgain => "=",
                Operation::LetGo => "-",
            });
            command.push(name.as_str());
        }
        command
    }
}

impl Answer {
    pub(super) fn parse(answer: &Value) -> Result<Self, Fault> {
        let unexpected = Fault::Unexpected("a call to hold channels");
        let Value::Array(parts) = answer else { return Err(unexpected) };
        let [how, born, changes, given_up] = &parts[..] else { return Err(unexpected) };
        let went = match how.as_str().as_deref() {
            Some("done") => Went::Done,
            Some("young") => Went::Young,
            Some("dead") => Went::Dead,
            Some("lost") => Went::Lost,
            Some("late") => Went::Unknown,
            _ => return Err(unexpected),
        };
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let born = born.as_string().unwrap_or_default();
        Ok(Self { went, born, changes: number(changes), given_up: number(given_up) })
    }
}

impl Core {
    /// Keeps the channels held that have members here, for as long as it is polled.
    pub(in crate::cluster::redis) async fn keep_holding(self: Arc<Self>) {
        if !self.owed.is_on() {
            return std::future::pending().await;
        }
        let mut under_way = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            for bucket in 0..BUCKETS {
                let call = self.owed.table().call(bucket, now);
                under_way.extend(call.map(|call| self.hold(call)));
            }
            let due = self.owed.table().due();
            let pause = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(()) = under_way.next() => {}
                () = self.owed.changed.notified() => {}
                () = pause => {}
            }
        }
    }

    async fn hold(&self, call: Call) {
        let command = call.command(&self.keys, YOUTH, told(self.owed.events));
        let answer = self.lanes.run(&command, Purpose::Events).await;
        let (went, born) = match answer.and_then(|answer| Answer::parse(&answer)) {
            Ok(answer) => {
                if answer.changes > 0 {
                    self.owed.owing.metrics.decided.inc_by(answer.changes);
                    self.owed.ring(call.bucket);
                }
                self.owed.owing.metrics.give_up(answer.given_up, "more waited than fits");
                (answer.went, answer.born)
            }
            Err(fault) => {
                tracing::debug!(%fault, bucket = call.bucket, "channels could not be held or let go; trying again");
                (Went::Unknown, String::new())
            }
        };
        if went == Went::Lost {
            tracing::warn!(bucket = call.bucket, "redis has lost who holds channels: holding them again");
        }
        self.owed.table().went(&call, went, &born, Instant::now());
    }
}
