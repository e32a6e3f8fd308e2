//! Short reads of the directory: `leases` first, then every live registration at once, then a last look whether Redis
//! is still the one that was asked. They cost by nodes, never by members; for those see [`listing`](super::listing).

use super::connect::Purpose;
use super::core::Core;
use super::keys::Registration;
use super::leases::LeaseTable;
use super::pool::Pooled;
use super::publishing::unavailable;
use super::topology::Place;
use super::wire::{Command, Fault, fields};
use crate::cluster::{NodeSummary, StoreInfo};
use crate::model::{Audience, ConnectionId, Error, Result};
use fred::types::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// How often a read is tried that finds Redis emptied in its midst; each time the nodes are waited for.
const READS: usize = 3;

/// What is said of a Redis that was emptied again and again.
pub(super) fn lost() -> Error {
    Error::Unavailable("redis lost what it held while it was read".to_owned())
}

impl Core {
    // ---- counting ----

    /// Runs commands all at once, each where its slot is; the answers in their order.
    pub(super) async fn all(&self, commands: Vec<Command>) -> Result<Vec<Value>, Fault> {
        let map = self.topology.map();
        let place = |command: &Command| {
            map.place(command.slot).ok_or_else(|| Fault::Unreachable(format!("no server has slot {}", command.slot)))
        };
        let mut wires: BTreeMap<&Place, Option<Pooled>> = BTreeMap::new();
        for command in &commands {
            wires.insert(place(command)?, None);
        }
        // In the servers' order, as everybody does: two reads never wait for each other's connections.
        for (place, wire) in &mut wires {
            *wire = Some(self.pools.take_at(place).await?);
        }
        let answers = commands.iter().map(|command| {
            let wire = place(command).ok().and_then(|place| wires.get(place)?.as_ref());
            async move {
                match wire {
                    Some(wire) => wire.run(command).await,
                    None => Err(Fault::Unreachable(format!("no server has slot {}", command.slot))),
                }
            }
        });
        let answers = futures_util::future::join_all(answers).await;
        drop(wires);
        let mut values = Vec::with_capacity(answers.len());
        for (answer, command) in answers.into_iter().zip(&commands) {
            values.push(match answer {
                // The slot moved between look-up and answer.
                Err(Fault::Moved { .. }) => self.pools.run(command).await?,
                other => other?,
            });
        }
        Ok(values)
    }

    /// One command for every live registration, all at once; the answers in the registrations' order.
    pub(super) async fn each(
        &self,
        leases: &LeaseTable,
        command: impl Fn(&Registration) -> Command,
    ) -> Result<Vec<Value>, Fault> {
        self.all(leases.registrations().map(command).collect()).await
    }

    /// [`each`](Self::each) live registration, with the registrations. A Redis that was emptied in between would have the
    /// second half of an answer say nothing of anybody: it is asked again when the nodes have written themselves anew.
    async fn each_live(&self, command: impl Fn(&Registration) -> Command) -> Result<(Arc<LeaseTable>, Vec<Value>)> {
        for _ in 0..READS {
            let leases = self.live_leases().await?;
            let answers = self.each(&leases, &command).await.map_err(unavailable)?;
            if self.still_stands(&leases).await? {
                return Ok((leases, answers));
            }
        }
        Err(lost())
    }

    /// Whether this node's registration, which was in `leases`, still is: Redis has not been emptied since.
    pub(super) async fn still_stands(&self, leases: &LeaseTable) -> Result<bool> {
        let Some(own) = leases.of(self.hub.seq()) else { return Ok(false) };
        let command = Command::keyed("HEXISTS", &self.keys.leases()).arg(own.to_string());
        Ok(self.lanes.run(&command, Purpose::Control).await.map_err(unavailable)?.as_i64() == Some(1))
    }

    async fn sum(&self, command: impl Fn(&Registration) -> Command) -> Result<u64> {
        let (_, answers) = self.each_live(command).await?;
        Ok(answers.iter().filter_map(Value::as_u64).sum())
    }

    pub(super) async fn count_connections(&self) -> Result<u64> {
        self.sum(|registration| Command::keyed("HLEN", &self.keys.connections(registration))).await
    }

    pub(super) async fn count_members(&self, audience: &Audience) -> Result<u64> {
        let index = |registration: &Registration| self.keys.index(registration, audience.kind);
        self.sum(|registration| Command::keyed("HGET", &index(registration)).arg(audience.name.as_str())).await
    }

    pub(super) async fn exists(&self, connection: ConnectionId) -> Result<bool> {
        for _ in 0..READS {
            let leases = self.live_leases().await?;
            let Some(registration) = leases.of(connection.seq()) else { return Ok(false) };
            let command =
                Command::keyed("HEXISTS", &self.keys.connections(registration)).arg(connection.counter().to_string());
            let there = self.pools.run(&command).await.map_err(unavailable)?.as_i64() == Some(1);
            if there || self.still_stands(&leases).await? {
                return Ok(there);
            }
        }
        Err(lost())
    }

    // ---- nodes and store ----

    pub(super) async fn nodes(&self) -> Result<Vec<NodeSummary>> {
        let facts = |registration: &Registration| Command::keyed("HGETALL", &self.keys.node(registration));
        let (leases, answers) = self.each_live(facts).await?;
        let nodes = leases.registrations().zip(answers).filter_map(|(registration, answer)| {
            let mut facts = fields(answer);
            let mut take = |name: &str| facts.remove(name);
            Some(NodeSummary {
                seq: registration.seq.get(),
                id: take("id")?,
                version: take("version")?,
                address: take("address")?,
                start_time: take("start")?.parse().ok()?,
                // Figures of another version may lack some, or have others.
                counters: serde_json::from_str(&take("counters")?).unwrap_or_default(),
            })
        });
        Ok(nodes.collect())
    }

    pub(super) async fn store(&self) -> Result<StoreInfo> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut store = StoreInfo { kind: "redis", start_time: now, ..StoreInfo::default() };
        let map = self.topology.map();
        for place in &map.places {
            let wire = self.pools.take_at(place).await.map_err(unavailable)?;
            let info = wire.info().await.map_err(unavailable)?;
            store.memory += info.number("used_memory");
            store.hits += info.number("keyspace_hits");
            store.misses += info.number("keyspace_misses");
            store.start_time = store.start_time.min(now.saturating_sub(info.number("uptime_in_seconds")));
        }
        Ok(store)
    }
}
