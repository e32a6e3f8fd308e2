//! One connection per purpose and server, made when it is needed and again when it was lost.

use super::connect::{Connector, Purpose};
use super::topology::{Place, Topology};
use super::wire::{Command, Fault, Wire};
use fred::types::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// After a connection could not be made, everybody is told so for this long before it is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// How often a command follows its slot.
const REDIRECTIONS: usize = 3;

/// A slot on its way between two servers lets no command with several keys through while its keys are split.
const SPLIT: Duration = Duration::from_millis(20);

/// The connections that are shared by everybody who needs one for the same purpose.
pub(super) struct Lanes {
    connector: Arc<Connector>,
    topology: Arc<Topology>,
    lanes: Mutex<HashMap<(Place, Purpose), Arc<Lane>>>,
}

/// One connection, or the place for one. Its own lock is held while connecting, by the first who needs it; the others wait
/// for the same connection.
#[derive(Default)]
struct Lane {
    wire: Mutex<Option<Arc<Wire>>>,
    connecting: tokio::sync::Mutex<Option<(Instant, Fault)>>,
}

impl Lane {
    fn current(&self) -> Option<Arc<Wire>> {
        let wire = self.wire.lock().unwrap_or_else(PoisonError::into_inner);
        wire.as_ref().filter(|wire| !wire.is_dead()).cloned()
    }
}

impl Lanes {
    pub(super) fn new(connector: Arc<Connector>, topology: Arc<Topology>) -> Self {
        Self { connector, topology, lanes: Mutex::default() }
    }

    fn lane(&self, place: &Place, purpose: Purpose) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let places = &self.topology.map().places;
        // Servers that have left the Cluster are forgotten here, where new ones come in.
        if !lanes.contains_key(&(place.clone(), purpose)) && !places.is_empty() {
            lanes.retain(|(known, _), _| places.contains(known));
        }
        lanes.entry((place.clone(), purpose)).or_default().clone()
    }

    /// The connection to a server for a purpose.
    pub(super) async fn wire(&self, place: &Place, purpose: Purpose) -> Result<Arc<Wire>, Fault> {
        let lane = self.lane(place, purpose);
        if let Some(wire) = lane.current() {
            return Ok(wire);
        }
        let mut failed = lane.connecting.lock().await;
        if let Some(wire) = lane.current() {
            return Ok(wire);
        }
        if let Some((when, fault)) = &*failed
            && when.elapsed() < TRY_AGAIN
        {
            return Err(fault.clone());
        }
        match self.connector.connect(place, purpose).await {
            Ok(wire) => {
                *failed = None;
                *lane.wire.lock().unwrap_or_else(PoisonError::into_inner) = Some(wire.clone());
                Ok(wire)
            }
            Err(fault) => {
                *failed = Some((Instant::now(), fault.clone()));
                Err(fault)
            }
        }
    }

    /// The connection to the server that has the slot.
    pub(super) async fn wire_of(&self, slot: u16, purpose: Purpose) -> Result<Arc<Wire>, Fault> {
        let map = self.topology.map();
        match map.place(slot) {
            Some(place) => self.wire(place, purpose).await,
            None => {
                self.topology.is_stale();
                Err(Fault::Unreachable(format!("no server has slot {slot}")))
            }
        }
    }

    /// Runs a command where its slot is. It is sent again only where Redis said that it did not carry it out.
    pub(super) async fn run(&self, command: &Command, purpose: Purpose) -> Result<Value, Fault> {
        let mut wire = self.wire_of(command.slot, purpose).await?;
        let mut asking = false;
        for _ in 0..REDIRECTIONS {
            let answer = if asking { wire.run_asking(command).await } else { wire.run(command).await };
            match answer {
                Err(Fault::Moved { place, asking: only_now }) => {
                    self.topology.is_stale();
                    wire = self.wire(&place, purpose).await?;
                    asking = only_now;
                }
                Err(Fault::Refused(why)) if why.starts_with("TRYAGAIN") => tokio::time::sleep(SPLIT).await,
                other => return other,
            }
        }
        Err(Fault::Refused(format!("slot {} is moving between servers", command.slot)))
    }
}
