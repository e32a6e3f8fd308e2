//! Which server has which slot.
//!
//! A single server, or the primary that Sentinels name, has all of them. A Cluster is asked every second, and at once when
//! a command was told that its slot is elsewhere: nobody else tells a subscriber that its slot has moved.

use super::connect::{Connector, Kind, Purpose};
use super::lanes::Lanes;
use super::wire::{Command, Fault, Info};
use fred::types::Value;
use fred::types::config::Server;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

/// Between two looks at the slot map.
const LOOK: Duration = Duration::from_secs(1);

/// At least so long lies between two looks, however many commands are redirected.
const LOOK_AT_LEAST: Duration = Duration::from_millis(50);

/// How long one server may take to tell what it knows; the others' answers count.
const ANSWER: Duration = Duration::from_millis(700);

/// Number of slots (Redis Cluster specification).
const SLOTS: usize = 16_384;

/// Where a server listens. With Sentinels it stands for the primary, wherever that is.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    pub(super) host: Arc<str>,
    pub(super) port: u16,
}

impl Place {
    /// Reads `host:port`; the host may be an IPv6 address.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        (!host.is_empty()).then_some(Self { host: host.into(), port: port.parse().ok()? })
    }
}

impl From<&Server> for Place {
    fn from(server: &Server) -> Self {
        Self { host: (*server.host).into(), port: server.port }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The slots and their servers at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SlotMap {
    /// The servers that have slots.
    pub(super) places: Vec<Place>,
    /// For each slot the server's position in `places`; empty where there is only one server.
    owners: Vec<u16>,
}

impl SlotMap {
    /// The server that has the slot; `None` while no one has.
    pub(super) fn place(&self, slot: u16) -> Option<&Place> {
        match self.owners.get(usize::from(slot)) {
            Some(&owner) => self.places.get(usize::from(owner)),
            None => self.places.first(),
        }
    }

    /// Reads the answer to `CLUSTER SLOTS`, as `asked` gave it.
    fn parse(answer: &Value, asked: &Place) -> Option<Self> {
        const NOBODY: u16 = u16::MAX;
        let mut numbers: BTreeMap<Place, u16> = BTreeMap::new();
        let mut places = Vec::new();
        let mut owners = vec![NOBODY; SLOTS];
        let Value::Array(ranges) = answer else { return None };
        for range in ranges {
            let Value::Array(range) = range else { return None };
            let [first, last, Value::Array(primary), ..] = range.as_slice() else { return None };
            // No address: the one that was asked at (Redis, `CLUSTER SLOTS`, "NULL as preferred endpoint").
            let host = primary.first()?.as_string().filter(|host| !host.is_empty() && host != "?");
            let port = u16::try_from(primary.get(1)?.as_i64()?).ok()?;
            let place = Place { host: host.map_or_else(|| asked.host.clone(), Into::into), port };
            let number = *numbers.entry(place.clone()).or_insert_with(|| {
                places.push(place);
                (places.len() - 1) as u16
            });
            let (first, last) = (usize::try_from(first.as_i64()?).ok()?, usize::try_from(last.as_i64()?).ok()?);
            owners.get_mut(first..=last)?.fill(number);
        }
        (!places.is_empty()).then_some(Self { places, owners })
    }
}

/// The slot map, kept up to date.
pub(super) struct Topology {
    kind: Kind,
    seeds: Vec<Place>,
    map: watch::Sender<Arc<SlotMap>>,
    stale: Notify,
}

impl Topology {
    pub(super) fn new(connector: &Connector) -> Arc<Self> {
        // Until a Cluster was asked for the first time its map is empty, and all commands are refused.
        let places = if connector.kind == Kind::Cluster { Vec::new() } else { connector.seeds[..1].to_vec() };
        let map = Arc::new(SlotMap { places, owners: Vec::new() });
        Arc::new(Self {
            kind: connector.kind,
            seeds: connector.seeds.clone(),
            map: watch::Sender::new(map),
            stale: Notify::new(),
        })
    }

    /// The map as it is known now.
    pub(super) fn map(&self) -> Arc<SlotMap> {
        self.map.borrow().clone()
    }

    /// Puts the servers `a:1`, `b:1` and so on in, each with as many slots as the others.
    #[cfg(test)]
    pub(super) fn set_evenly(&self, names: &[&str]) {
        let places = names.iter().map(|name| Place { host: (*name).into(), port: 1 }).collect();
        let owners = (0..SLOTS).map(|slot| (slot * names.len() / SLOTS) as u16).collect();
        self.map.send_replace(Arc::new(SlotMap { places, owners }));
    }

    /// Tells of new maps.
    pub(super) fn changes(&self) -> watch::Receiver<Arc<SlotMap>> {
        self.map.subscribe()
    }

    /// A command was redirected: look soon.
    pub(super) fn is_stale(&self) {
        self.stale.notify_one();
    }

    /// Waits until there is a map at all.
    pub(super) async fn known(&self) {
        // The sender lives as long as `self`.
        let _ = self.map.subscribe().wait_for(|map| !map.places.is_empty()).await;
    }

    /// Keeps the map up to date, for as long as it is polled. `unknown` is told why there is none yet.
    pub(super) async fn keep(&self, lanes: &Lanes, unknown: impl Fn(&Fault)) {
        if self.kind != Kind::Cluster {
            return std::future::pending().await;
        }
        loop {
            let started = Instant::now();
            match self.look(lanes).await {
                Ok(map) => {
                    self.map.send_if_modified(|known| {
                        let new = **known != map;
                        if new {
                            tracing::info!(primaries = map.places.len(), "redis cluster: new slot map");
                            *known = Arc::new(map);
                        }
                        new
                    });
                }
                Err(fault) if self.map().places.is_empty() => unknown(&fault),
                Err(fault) => tracing::debug!(%fault, "redis cluster: no server tells the slot map"),
            }
            let _ = timeout(LOOK.saturating_sub(started.elapsed()), self.stale.notified()).await;
            tokio::time::sleep(LOOK_AT_LEAST).await;
        }
    }

    /// Asks all primaries known, then the servers of the URL, and takes the view of the highest epoch: a primary that
    /// was cut off goes on telling an old one.
    async fn look(&self, lanes: &Lanes) -> Result<SlotMap, Fault> {
        let known = self.map().places.clone();
        let mut last = Fault::Unreachable("no server of the cluster tells who has which slot".to_owned());
        for places in [&known, &self.seeds] {
            let views = places.iter().map(|place| timeout(ANSWER, view(lanes, place)));
            let mut best: Option<(Rank, SlotMap)> = None;
            for view in futures_util::future::join_all(views).await {
                match view {
                    Ok(Ok(Some((rank, map)))) if best.as_ref().is_none_or(|(known, _)| rank > *known) => {
                        best = Some((rank, map));
                    }
                    Ok(Err(fault)) => last = fault,
                    Ok(Ok(_)) | Err(_) => {}
                }
            }
            if let Some((_, map)) = best {
                return Ok(map);
            }
        }
        Err(last)
    }
}

/// How much a server's view counts: whether it is part of a majority, then its epoch.
type Rank = (bool, u64);

/// What a server knows, and how much that counts.
async fn view(lanes: &Lanes, place: &Place) -> Result<Option<(Rank, SlotMap)>, Fault> {
    let wire = lanes.wire(place, Purpose::Control).await?;
    let (info, slots) = (Command::at(0, "CLUSTER").arg("INFO"), Command::at(0, "CLUSTER").arg("SLOTS"));
    let (info, slots) = tokio::join!(wire.run(&info), wire.run(&slots));
    let info = Info::new(info?.as_string().ok_or(Fault::Unexpected("CLUSTER INFO"))?);
    let rank = (info.get("cluster_state") == Some("ok"), info.number("cluster_current_epoch"));
    Ok(SlotMap::parse(&slots?, place).map(|map| (rank, map)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64, host: &str, port: i64) -> Value {
        let primary = Value::Array(vec![host.into(), Value::Integer(port), "id".into()]);
        Value::Array(vec![Value::Integer(first), Value::Integer(last), primary])
    }

    #[test]
    fn every_slot_finds_its_server() {
        let asked = Place::parse("asked:1").unwrap();
        let answer = Value::Array(vec![range(0, 99, "a", 1), range(100, 200, "", 2), range(300, 16383, "a", 1)]);
        let map = SlotMap::parse(&answer, &asked).unwrap();
        let host = |slot| map.place(slot).map(ToString::to_string);
        assert_eq!(map.places.len(), 2);
        assert_eq!(host(0).as_deref(), Some("a:1"));
        assert_eq!(host(150).as_deref(), Some("asked:2"));
        assert_eq!(host(250), None);
        assert_eq!(host(16383).as_deref(), Some("a:1"));
    }

    #[test]
    fn a_map_that_makes_no_sense_is_none() {
        let asked = Place::parse("asked:1").unwrap();
        let bad = [
            Value::Null,
            Value::Array(vec![]),
            Value::Array(vec![range(5, 16384, "a", 1)]),
            Value::Array(vec![Value::Null]),
        ];
        for answer in bad {
            assert_eq!(SlotMap::parse(&answer, &asked), None, "{answer:?}");
        }
    }
}
