//! Reads of the directory: `leases` first, then every live registration at once.
//!
//! Counting costs by nodes. Listing costs by the answer, in pages, streamed: no set is ever held whole but a small one.
//! A registration that dies while it is read stays readable for [`RedisConfig::reap_delay`](super::RedisConfig), which
//! is longer than a listing may take.

use super::core::Core;
use super::keys::{Registration, slot};
use super::leases::LeaseTable;
use super::pool::Pooled;
use super::publishing::unavailable;
use super::topology::Place;
use super::wire::{Command, Fault, fields};
use crate::cluster::{NodeSummary, Pages, StoreInfo};
use crate::model::{Audience, AudienceKind, ConnectionId, Error, Name, Result};
use fred::types::Value;
use futures_util::{StreamExt, stream};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Ids in one page.
const PAGE: usize = 1000;

/// Pages that wait for a reader who is slower than Redis.
const PAGES_AHEAD: usize = 2;

/// Sets up to this size are read in one command.
const WHOLE: i64 = 2000;

/// Entries that one scanning command looks at.
const SCAN: i64 = 1000;

/// A listing that takes longer breaks off: what it would go on to read may be gone.
pub(super) const LISTING: Duration = Duration::from_secs(4);

/// What a listing is of.
#[derive(Clone)]
enum List {
    Connections,
    Members(Audience),
}

impl List {
    fn key(&self, core: &Core, registration: &Registration) -> String {
        match self {
            Self::Connections => core.keys.connections(registration),
            Self::Members(audience) => core.keys.members(registration, audience.kind, audience.name.as_str()),
        }
    }

    /// The commands that count it, read it whole and scan it.
    const fn commands(&self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Connections => ("HLEN", "HKEYS", "HSCAN"),
            Self::Members(_) => ("SCARD", "SMEMBERS", "SSCAN"),
        }
    }
}

impl Core {
    // ---- counting ----

    /// One command for every live registration, all at once; the answers in the registrations' order.
    async fn each(&self, leases: &LeaseTable, command: impl Fn(&Registration) -> Command) -> Result<Vec<Value>, Fault> {
        let map = self.topology.map();
        let mut wires: HashMap<&Place, Pooled> = HashMap::new();
        let mut commands = Vec::new();
        for registration in leases.registrations() {
            let command = command(registration);
            let place =
                map.place(command.slot).ok_or_else(|| Fault::Unreachable("slots without a server".to_owned()))?;
            if !wires.contains_key(place) {
                wires.insert(place, self.pools.take_at(place).await?);
            }
            commands.push((place, command));
        }
        let answers = commands.iter().map(|(place, command)| {
            let wire = wires.get(place);
            async move {
                match wire {
                    Some(wire) => wire.run(command).await,
                    None => self.pools.run(command).await,
                }
            }
        });
        let answers = futures_util::future::join_all(answers).await;
        let mut values = Vec::with_capacity(answers.len());
        for (answer, (_, command)) in answers.into_iter().zip(&commands) {
            values.push(match answer {
                // The slot moved between look-up and answer.
                Err(Fault::Moved { .. }) => self.pools.run(command).await?,
                other => other?,
            });
        }
        Ok(values)
    }

    async fn sum(&self, command: impl Fn(&Registration) -> Command) -> Result<u64> {
        let leases = self.read_leases().await.map_err(unavailable)?;
        let answers = self.each(&leases, command).await.map_err(unavailable)?;
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
        let leases = self.read_leases().await.map_err(unavailable)?;
        let Some(registration) = leases.of(connection.seq()) else { return Ok(false) };
        let command =
            Command::keyed("HEXISTS", &self.keys.connections(registration)).arg(connection.counter().to_string());
        Ok(self.pools.run(&command).await.map_err(unavailable)?.as_i64() == Some(1))
    }

    // ---- nodes and store ----

    pub(super) async fn nodes(&self) -> Result<Vec<NodeSummary>> {
        let leases = self.read_leases().await.map_err(unavailable)?;
        let answers = self.each(&leases, |registration| Command::keyed("HGETALL", &self.keys.node(registration))).await;
        let nodes = leases.registrations().zip(answers.map_err(unavailable)?).filter_map(|(registration, answer)| {
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

    // ---- listing ----

    pub(super) async fn audiences(&self, kind: AudienceKind) -> Result<Vec<(Name, u64)>> {
        let deadline = Instant::now() + LISTING;
        let leases = self.read_leases().await.map_err(unavailable)?;
        let mut all: BTreeMap<Name, u64> = BTreeMap::new();
        for registration in leases.registrations() {
            let index = self.index(registration, kind);
            let index = timeout_at(deadline, index).await.map_err(|_| too_slow())?.map_err(unavailable)?;
            for (name, members) in index {
                if let (Ok(name), Ok(members)) = (Name::new(&name), members.parse::<u64>()) {
                    *all.entry(name).or_default() += members;
                }
            }
        }
        Ok(all.into_iter().collect())
    }

    /// One registration's audiences of a kind.
    async fn index(&self, registration: &Registration, kind: AudienceKind) -> Result<HashMap<String, String>, Fault> {
        let key = self.keys.index(registration, kind);
        let wire = self.pools.take(slot(&key)).await?;
        let size = wire.run(&Command::keyed("HLEN", &key)).await?.as_i64().unwrap_or(0);
        if size <= WHOLE {
            return wire.run(&Command::keyed("HGETALL", &key)).await.map(fields);
        }
        let mut all = HashMap::new();
        let mut cursor = "0".to_owned();
        loop {
            let (next, entries) = scan(&wire, "HSCAN", &key, &cursor).await?;
            all.extend(fields(Value::Array(entries)));
            if next == "0" {
                return Ok(all);
            }
            cursor = next;
        }
    }

    pub(super) async fn connections(self: &Arc<Self>) -> Result<Pages> {
        self.list(List::Connections).await
    }

    pub(super) async fn members(self: &Arc<Self>, audience: &Audience) -> Result<Pages> {
        self.list(List::Members(audience.clone())).await
    }

    async fn list(self: &Arc<Self>, list: List) -> Result<Pages> {
        let deadline = Instant::now() + LISTING;
        let leases = self.read_leases().await.map_err(unavailable)?;
        let (pages, receiver) = mpsc::channel(PAGES_AHEAD);
        let core = self.clone();
        tokio::spawn(async move {
            let error = match timeout_at(deadline, core.write_pages(&leases, &list, &pages)).await {
                Ok(Ok(())) => return,
                Ok(Err(fault)) => unavailable(fault),
                Err(_) => too_slow(),
            };
            // The reader may be gone, which is why it was slow.
            let _ = pages.send(Err(error)).await;
        });
        Ok(stream::unfold(receiver, |mut pages| async { pages.recv().await.map(|page| (page, pages)) }).boxed())
    }

    async fn write_pages(
        &self,
        leases: &LeaseTable,
        list: &List,
        pages: &mpsc::Sender<Result<Vec<ConnectionId>>>,
    ) -> Result<(), Fault> {
        let (count, whole, scanning) = list.commands();
        let sizes = self.each(leases, |registration| Command::keyed(count, &list.key(self, registration))).await?;
        for (registration, size) in leases.registrations().zip(sizes) {
            let size = size.as_i64().unwrap_or(0);
            if size == 0 {
                continue;
            }
            let key = list.key(self, registration);
            if size <= WHOLE {
                let Value::Array(members) = self.pools.run(&Command::keyed(whole, &key)).await? else {
                    return Err(Fault::Unexpected(whole));
                };
                if !send(pages, registration, members.iter()).await {
                    return Ok(());
                }
                continue;
            }
            let wire = self.pools.take(slot(&key)).await?;
            // A scan may bring an entry twice; the counters seen tell.
            let mut seen: HashSet<u32> = HashSet::with_capacity(size as usize);
            let mut cursor = "0".to_owned();
            loop {
                let (next, mut entries) = scan(&wire, scanning, &key, &cursor).await?;
                if matches!(list, List::Connections) {
                    let mut is_field = false;
                    entries.retain(|_| {
                        is_field = !is_field;
                        is_field
                    });
                }
                entries.retain(|entry| entry_counter(entry).is_some_and(|counter| seen.insert(counter)));
                if !send(pages, registration, entries.iter()).await {
                    return Ok(());
                }
                if next == "0" {
                    break;
                }
                cursor = next;
            }
        }
        Ok(())
    }
}

fn entry_counter(entry: &Value) -> Option<u32> {
    entry.as_str().and_then(|text| text.parse().ok())
}

fn too_slow() -> Error {
    Error::Unavailable(format!("the listing took longer than {} s", LISTING.as_secs()))
}

/// Sends ids in pages; false where nobody reads any more.
async fn send<'a>(
    pages: &mpsc::Sender<Result<Vec<ConnectionId>>>,
    registration: &Registration,
    entries: impl Iterator<Item = &'a Value>,
) -> bool {
    let counters: Vec<u32> = entries.filter_map(entry_counter).collect();
    for page in counters.chunks(PAGE) {
        let page = page.iter().map(|counter| ConnectionId::new(registration.seq, *counter)).collect();
        if pages.send(Ok(page)).await.is_err() {
            return false;
        }
    }
    true
}

/// One step of a scan: the next cursor, and what it brought.
pub(super) async fn scan(
    wire: &Pooled,
    command: &'static str,
    key: &str,
    cursor: &str,
) -> Result<(String, Vec<Value>), Fault> {
    match wire.run(&Command::keyed(command, key).arg(cursor).arg("COUNT").arg(SCAN)).await? {
        Value::Array(mut answer) if answer.len() == 2 => match (answer.pop(), answer.pop()) {
            (Some(Value::Array(entries)), Some(next)) => {
                Ok((next.as_string().ok_or(Fault::Unexpected(command))?, entries))
            }
            _ => Err(Fault::Unexpected(command)),
        },
        _ => Err(Fault::Unexpected(command)),
    }
}
