//! What all parts of the backend share.

use super::RedisConfig;
use super::acting::LifeIds;
use super::clock::ClusterClock;
use super::connect::Connector;
use super::health::Health;
use super::keys::{Keys, Registration};
use super::lanes::Lanes;
use super::leases::Leases;
use super::metrics::RedisMetrics;
use super::owed::Owed;
use super::pool::Pools;
use super::publishing::Outgoing;
use super::requests::Requests;
use super::subscriber::Subscriber;
use super::topology::Topology;
use crate::cluster::About;
use crate::hub::Hub;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The backend's parts, without its tasks.
pub(super) struct Core {
    pub(super) config: RedisConfig,
    pub(super) about: About,
    pub(super) keys: Keys,
    pub(super) hub: Arc<Hub>,
    pub(super) metrics: Arc<RedisMetrics>,
    pub(super) connector: Arc<Connector>,
    pub(super) topology: Arc<Topology>,
    pub(super) lanes: Lanes,
    pub(super) pools: Arc<Pools>,
    pub(super) clock: ClusterClock,
    pub(super) leases: Leases,
    pub(super) own: Own,
    pub(super) health: Health,
    pub(super) subscriber: Subscriber,
    pub(super) requests: Requests,
    pub(super) outgoing: Outgoing,
    pub(super) life_ids: LifeIds,
    pub(super) owed: Owed,
}

/// This node's own registration, as far as it knows.
#[derive(Default)]
pub(super) struct Own {
    inner: Mutex<OwnInner>,
    /// Wakes the registrar when the registration was found missing.
    pub(super) lost: Notify,
    /// Wakes the renewal of the lease, to be done now.
    pub(super) renew: Notify,
}

#[derive(Default)]
struct OwnInner {
    current: Option<Registration>,
    /// The registrar is putting a new one into `leases`: whichever is missing now says nothing.
    switching: bool,
    counter: u64,
}

impl Own {
    fn lock(&self) -> MutexGuard<'_, OwnInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The registration that stands in `leases`.
    pub(super) fn current(&self) -> Option<Registration> {
        let inner = self.lock();
        inner.current.clone().filter(|_| !inner.switching)
    }

    /// The same, with the next value of its lease's counter.
    pub(super) fn next_lease(&self) -> Option<(Registration, u64)> {
        let mut inner = self.lock();
        if inner.switching {
            return None;
        }
        inner.counter += 1;
        let counter = inner.counter;
        inner.current.clone().map(|registration| (registration, counter))
    }

    /// From here to [`switched`](Self::switched) one registration takes the place of another.
    pub(super) fn switching(&self) -> u64 {
        let mut inner = self.lock();
        inner.switching = true;
        inner.counter += 1;
        inner.counter
    }

    /// The switch is over; `None` where it failed and nobody knows what stands.
    pub(super) fn switched(&self, registration: Option<Registration>) {
        let mut inner = self.lock();
        inner.switching = false;
        inner.current = registration;
    }

    /// Somebody did not find `registration` in `leases`. True where that is news: it is the one that should be there.
    /// `health` hears of it before anybody can see it here: told afterwards, it could take the loss for that of the next
    /// registration, which may stand by then, and wait for one more that never comes.
    pub(super) fn missing(&self, registration: &Registration, health: &Health) -> bool {
        let mut inner = self.lock();
        if inner.switching || inner.current.as_ref() != Some(registration) {
            return false;
        }
        health.registration_lost();
        inner.current = None;
        drop(inner);
        self.lost.notify_one();
        true
    }
}
