//! Removing what dead registrations left behind. Housekeeping: nobody reads it any more.
//!
//! A reaping may stop anywhere, with its reaper: another node takes it over when its time is up, and begins anew. So every
//! step can be done twice, the index keys go after what they lead to, and the entry in `reaping` goes last.

use super::core::Core;
use super::keys::{Keys, Registration};
use super::owed::{DIED, Reaped};
use super::scripts;
use super::wire::{Command, Fault, fields};
use crate::model::AudienceKind;
use fred::types::Value;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks at what is due.
const LOOK: Duration = Duration::from_secs(1);

/// How long a reaper has until another one may take over; put off with each batch.
const TAKE_OVER: Duration = Duration::from_secs(30);

/// When a reaping is tried again that has to wait for something.
const LATER: Duration = Duration::from_secs(2);

/// How long a dead node's number is given to nobody.
const KEEP_NUMBER: Duration = Duration::from_secs(24 * 3600);

/// Fences a dead registration and asks what is kept of its node.
pub(super) fn begin(keys: &Keys, registration: &Registration) -> Command {
    Command::script(&scripts::ESTATE, &[keys.node(registration)]).arg(DIED)
}

/// Removes a registration's keys, the sets of audiences left out, which go before.
pub(super) fn remove(keys: &Keys, registration: &Registration) -> Command {
    let mut unlink = Command::keyed("UNLINK", &keys.connections(registration));
    AudienceKind::ALL.into_iter().for_each(|kind| unlink.push(keys.index(registration, kind)));
    unlink.push(keys.untold(registration));
    unlink.push(keys.holding(registration));
    unlink.push(keys.node(registration));
    unlink
}

/// Ends the reaping of a registration whose keys are gone.
pub(super) fn reaped(keys: &Keys, registration: &Registration, life: &str) -> Command {
    Command::script(&scripts::REAPED, &[keys.leases(), keys.reaping(), keys.seqs()])
        .arg(registration.to_string())
        .arg(registration.seq.to_string())
        .arg(life.to_owned())
        .arg(KEEP_NUMBER.as_secs() as i64)
}

impl Core {
    /// Reaps what is due, for as long as it is polled.
    pub(super) async fn keep_reaping(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            loop {
                match self.take_over().await {
                    Ok(Some(registration)) => match self.reap(&registration).await {
                        Ok(Reaped::Whole) => self.metrics.reaped.inc(),
                        Ok(Reaped::Later) => {
                            if let Err(fault) = self.put_off(&registration, LATER).await {
                                tracing::debug!(%registration, %fault, "a reaping could not be put off");
                            }
                        }
                        Err(fault) => tracing::debug!(%registration, %fault, "a reaping was not finished"),
                    },
                    Ok(None) => break,
                    Err(fault) => {
                        tracing::debug!(%fault, "no look at what is to be reaped");
                        break;
                    }
                }
            }
        }
    }

    async fn take_over(&self) -> Result<Option<Registration>, Fault> {
        let take =
            Command::script(&scripts::TAKE, &[self.keys.leases(), self.keys.reaping()]).arg(TAKE_OVER.as_secs() as i64);
        let Some(text) = self.pools.run(&take).await?.into_string() else { return Ok(None) };
        if let Some(registration) = Registration::parse(&text) {
            return Ok(Some(registration));
        }
        // Nothing of ours: it would come up again for ever.
        self.pools.run(&Command::keyed("ZREM", &self.keys.reaping()).arg(text)).await?;
        Ok(None)
    }

    /// Removes everything of a dead registration.
    pub(super) async fn reap(&self, registration: &Registration) -> Result<Reaped, Fault> {
        // Fenced first: a batch that hung on its way is refused from here on.
        let facts = fields(self.pools.run(&begin(&self.keys, registration)).await?);
        let alive = self.read_leases().await?.of(registration.seq).is_some();
        if !alive && let Some(subscribers) = facts.get("subscribers") {
            self.end_subscribers(subscribers).await;
        }
        if self.settle_estate(registration, &facts).await? == Reaped::Later {
            return Ok(Reaped::Later);
        }
        for kind in AudienceKind::ALL {
            self.reap_sets(registration, kind).await?;
        }
        self.pools.run(&remove(&self.keys, registration)).await?;
        let life = facts.get("id").map_or("", String::as_str);
        self.pools.run(&reaped(&self.keys, registration, life)).await?;
        tracing::debug!(%registration, "reaped");
        Ok(Reaped::Whole)
    }

    /// Removes the sets of all audiences of a kind.
    async fn reap_sets(&self, registration: &Registration, kind: AudienceKind) -> Result<(), Fault> {
        let index = self.keys.index(registration, kind);
        let mut cursor = "0".to_owned();
        loop {
            let (next, entries) = self.scan("HSCAN", &index, &cursor).await?;
            let names: Vec<String> = entries.iter().step_by(2).filter_map(Value::as_string).collect();
            if let Some((first, rest)) = names.split_first() {
                let key = |name: &str| self.keys.members(registration, kind, name);
                let mut unlink = Command::keyed("UNLINK", &key(first));
                rest.iter().for_each(|name| unlink.push(key(name)));
                self.pools.run(&unlink).await?;
                self.go_on(registration).await?;
            }
            if next == "0" {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// Puts off the take-over. Should another one have finished meanwhile, the rest of this reaping finds nothing.
    pub(super) async fn go_on(&self, registration: &Registration) -> Result<(), Fault> {
        self.put_off(registration, TAKE_OVER).await
    }

    /// Has it taken over after so long.
    async fn put_off(&self, registration: &Registration, by: Duration) -> Result<(), Fault> {
        let hold = Command::script(&scripts::HOLD, &[self.keys.reaping()])
            .arg(registration.to_string())
            .arg(by.as_secs() as i64);
        self.pools.run(&hold).await.map(drop)
    }

    /// Ends a dead node's subscriptions: of a host that vanished they would stay at the server for a quarter of an hour,
    /// and `PUBLISH` would count them.
    async fn end_subscribers(&self, subscribers: &str) {
        let map = self.topology.map();
        for (id, run_id) in subscribers.split(',').filter_map(|client| client.split_once('@')) {
            for place in &map.places {
                let Ok(wire) = self.pools.take_at(place).await else { continue };
                // Another life of the server has given the number to somebody else.
                if *wire.run_id == *run_id {
                    // 0 or an error: it is gone already.
                    let _ = wire.run(&Command::at(0, "CLIENT").arg("KILL").arg("ID").arg(id)).await;
                }
            }
        }
    }
}
