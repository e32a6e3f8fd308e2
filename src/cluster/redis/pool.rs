//! The pool for reads, whose answers may be long: never in front of a push or a lease.

use super::connect::{Connector, Purpose};
use super::topology::{Place, Topology};
use super::wire::{Command, Fault, Wire};
use bb8::{ManageConnection, PooledConnection, RunError};
use fred::types::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a read may wait for a free connection.
const CHECK_OUT: Duration = Duration::from_secs(3);

/// bb8's side: how a pooled connection is made, and when it is of no more use.
pub(super) struct Manager {
    connector: Arc<Connector>,
    place: Place,
}

impl ManageConnection for Manager {
    type Connection = Arc<Wire>;
    type Error = Fault;

    async fn connect(&self) -> Result<Arc<Wire>, Fault> {
        self.connector.connect(&self.place, Purpose::Pool).await
    }

    async fn is_valid(&self, wire: &mut Arc<Wire>) -> Result<(), Fault> {
        wire.run(&Command::at(0, "PING")).await.map(drop)
    }

    fn has_broken(&self, wire: &mut Arc<Wire>) -> bool {
        wire.is_dead()
    }
}

/// A connection that is somebody's alone for now.
pub(super) type Pooled = PooledConnection<'static, Manager>;

/// One pool per server.
pub(super) struct Pools {
    connector: Arc<Connector>,
    topology: Arc<Topology>,
    size: u32,
    pools: Mutex<HashMap<Place, bb8::Pool<Manager>>>,
}

impl Pools {
    /// Pools of at most `size` connections to each server, none of which is made before it is needed.
    pub(super) fn new(connector: Arc<Connector>, topology: Arc<Topology>, size: u32) -> Self {
        Self { connector, topology, size: size.max(1), pools: Mutex::default() }
    }

    fn pool(&self, place: &Place) -> bb8::Pool<Manager> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if !pools.contains_key(place) {
            let places = &self.topology.map().places;
            pools.retain(|known, _| places.contains(known));
        }
        let build = || {
            bb8::Pool::builder()
                .max_size(self.size)
                .connection_timeout(CHECK_OUT)
                // A broken connection says so by itself; a PING before each read would double what a read costs.
                .test_on_check_out(false)
                // The caller learns at once that Redis is away, and why.
                .retry_connection(false)
                .build_unchecked(Manager { connector: self.connector.clone(), place: place.clone() })
        };
        pools.entry(place.clone()).or_insert_with(build).clone()
    }

    /// A connection to the server that has the slot.
    pub(super) async fn take(&self, slot: u16) -> Result<Pooled, Fault> {
        let map = self.topology.map();
        let Some(place) = map.place(slot) else {
            self.topology.is_stale();
            return Err(Fault::Unreachable(format!("no server has slot {slot}")));
        };
        self.take_at(place).await
    }

    /// A connection to this server.
    pub(super) async fn take_at(&self, place: &Place) -> Result<Pooled, Fault> {
        for _ in 0..=self.size {
            let wire = self.pool(place).get_owned().await.map_err(|error| match error {
                RunError::User(fault) => fault,
                RunError::TimedOut => {
                    Fault::Unreachable(format!("no free connection within {} ms", CHECK_OUT.as_millis()))
                }
            })?;
            // One that broke while it was idle goes back, and out of the pool by `has_broken`.
            if !wire.is_dead() {
                return Ok(wire);
            }
        }
        Err(Fault::Unreachable("every pooled connection was lost".to_owned()))
    }

    /// Runs one command where its slot is.
    pub(super) async fn run(&self, command: &Command) -> Result<Value, Fault> {
        let wire = self.take(command.slot).await?;
        match wire.run(command).await {
            Err(Fault::Moved { place, asking }) => {
                self.topology.is_stale();
                let wire = self.take_at(&place).await?;
                if asking { wire.run_asking(command).await } else { wire.run(command).await }
            }
            other => other,
        }
    }
}
