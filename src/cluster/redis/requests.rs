//! Asking other nodes to act, and waiting for their answers.

use super::connect::Purpose;
use super::core::Core;
use super::envelope::{Answer, Envelope, Request};
use super::keys::Registration;
use super::publishing::{ToConnection, unavailable};
use super::wire::{Command, Fault};
use crate::cluster::{Act, Outcome};
use crate::model::{Audience, ConnectionId, Error, Result, Seq};
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Requests of others that are being carried out at once; one more is not, and its asker waits in vain.
const MOST_ACTS: usize = 1024;

/// One that waits for answers.
struct Pending {
    /// Who has not answered yet and must.
    missing: BTreeSet<Seq>,
    affected: u64,
    failed: Option<Outcome>,
    unknown: bool,
    done: Option<oneshot::Sender<()>>,
}

/// The requests of this node that wait for answers, and the number of others' that it carries out.
pub(super) struct Requests {
    next: AtomicU64,
    pending: Mutex<HashMap<u64, Pending>>,
    acts: Arc<Semaphore>,
}

/// A request's place among the pending ones; given up when it is dropped, whoever drops it.
struct Place<'a> {
    requests: &'a Requests,
    id: u64,
    done: oneshot::Receiver<()>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.requests.lock().remove(&self.id);
    }
}

impl Requests {
    /// `first` is random, so that an answer to a request of an earlier life answers nothing.
    pub(super) fn new(first: u64) -> Self {
        Self { next: AtomicU64::new(first), pending: Mutex::default(), acts: Arc::new(Semaphore::new(MOST_ACTS)) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leave to carry one more out.
    pub(super) fn permit(&self) -> Option<OwnedSemaphorePermit> {
        self.acts.clone().try_acquire_owned().ok()
    }

    fn begin(&self, missing: BTreeSet<Seq>) -> Place<'_> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, done) = oneshot::channel();
        let pending = Pending { missing, affected: 0, failed: None, unknown: false, done: Some(sender) };
        self.lock().insert(id, pending);
        Place { requests: self, id, done }
    }

    /// A node has answered.
    pub(super) fn answered(&self, answer: Answer) {
        let mut all = self.lock();
        let Some(pending) = all.get_mut(&answer.id) else { return };
        let expected = pending.missing.remove(&answer.node);
        match answer.outcome {
            Outcome::Done(affected) => pending.affected += affected,
            // One that was not expected to have it may say so.
            Outcome::Unknown => pending.unknown |= expected,
            failed @ (Outcome::Failed(_) | Outcome::Refused(_)) => pending.failed = Some(failed),
        }
        if pending.missing.is_empty()
            && let Some(done) = pending.done.take()
        {
            // Whoever asked may have given up.
            let _ = done.send(());
        }
    }

    fn outcome(&self, id: u64) -> Outcome {
        let all = self.lock();
        match all.get(&id) {
            Some(Pending { failed: Some(failed), .. }) => failed.clone(),
            Some(Pending { unknown: true, .. }) | None => Outcome::Unknown,
            Some(pending) => Outcome::Done(pending.affected),
        }
    }

    fn missing(&self, id: u64) -> BTreeSet<Seq> {
        self.lock().get(&id).map(|pending| pending.missing.clone()).unwrap_or_default()
    }
}

impl Core {
    /// Asks whoever must act, and waits for all of them.
    pub(super) async fn ask(&self, act: Act, wait: Duration) -> Result<Outcome> {
        match &act {
            Act::Close { connection, .. } | Act::Join { connection, .. } | Act::Leave { connection, .. } => {
                self.ask_owner(*connection, &act, wait).await
            }
            Act::CloseAudience { audience, .. } => self.ask_audience(audience, &act, wait).await,
        }
    }

    fn request(&self, id: u64, act: &Act, wait: Duration) -> Bytes {
        let deadline = self.clock.now() + wait.as_micros() as u64;
        Envelope::Act(Request { id, asker: self.hub.seq(), deadline, act: act.clone() }).encode()
    }

    async fn ask_owner(&self, connection: ConnectionId, act: &Act, wait: Duration) -> Result<Outcome> {
        let mut place = self.requests.begin(BTreeSet::from([connection.seq()]));
        let request = self.request(place.id, act, wait);
        match self.to_connection(connection, request).await? {
            ToConnection::Unknown => return Ok(Outcome::Unknown),
            ToConnection::Taken => {}
        }
        // A dead owner's connections are gone with it.
        Ok(self.wait_for_all(&mut place, wait).await?.unwrap_or(Outcome::Unknown))
    }

    async fn ask_audience(&self, audience: &Audience, act: &Act, wait: Duration) -> Result<Outcome> {
        let leases = self.live_leases().await?;
        let count = |registration: Registration| async move {
            let command = Command::keyed("HEXISTS", &self.keys.index(&registration, audience.kind));
            let there = self.pools.run(&command.arg(audience.name.as_str())).await?;
            Ok::<_, Fault>((there.as_i64() == Some(1)).then_some(registration.seq))
        };
        let nodes = futures_util::future::try_join_all(leases.registrations().cloned().map(count));
        let nodes: BTreeSet<Seq> = nodes.await.map_err(unavailable)?.into_iter().flatten().collect();
        if nodes.is_empty() {
            return Ok(Outcome::Done(0));
        }
        let mut place = self.requests.begin(nodes);
        // By the audience's own name: behind the pushes that were made to it before.
        let command = Command::publish(self.keys.audience_topic(audience), self.request(place.id, act, wait));
        self.lanes.run(&command, Purpose::Publishing).await.map_err(unavailable)?;
        let outcome = self.wait_for_all(&mut place, wait).await?;
        Ok(outcome.unwrap_or_else(|| self.requests.outcome(place.id)))
    }

    /// What came of it when all have answered; `None` where those that have not are dead by now.
    async fn wait_for_all(&self, place: &mut Place<'_>, wait: Duration) -> Result<Option<Outcome>> {
        if tokio::time::timeout(wait, &mut place.done).await.is_ok() {
            return Ok(Some(self.requests.outcome(place.id)));
        }
        let leases = self.live_leases().await?;
        match self.requests.missing(place.id).into_iter().find(|seq| leases.of(*seq).is_some()) {
            Some(seq) => Err(Error::NoAnswer { node: self.name_of(seq).await, waited: wait }),
            None => Ok(None),
        }
    }

    /// A node's id, or its number where the id can't be read.
    async fn name_of(&self, seq: Seq) -> String {
        let leases = self.leases.copy();
        let Some(registration) = leases.of(seq) else { return seq.to_string() };
        let command = Command::keyed("HGET", &self.keys.node(registration)).arg("id");
        let id = self.pools.run(&command).await.ok().and_then(|id| id.as_string());
        id.unwrap_or_else(|| seq.to_string())
    }
}
