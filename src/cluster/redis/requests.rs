//! The requests of this node that wait for other nodes' answers, and how many of theirs it carries out at once.

use super::envelope::Answer;
use crate::cluster::Outcome;
use crate::model::Seq;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Requests of others that are being carried out at once; one more is not, and its asker waits in vain.
const MOST_ACTS: usize = 1024;

/// What each node that has answered says to each act.
pub(super) type Answers = BTreeMap<Seq, Vec<Outcome>>;

/// One that waits for answers.
struct Pending {
    /// Who has not answered yet and must.
    missing: BTreeSet<Seq>,
    answers: Answers,
    done: Option<oneshot::Sender<()>>,
}

impl Pending {
    fn tell(&mut self) {
        if self.missing.is_empty()
            && let Some(done) = self.done.take()
        {
            // Whoever asked may have given up.
            let _ = done.send(());
        }
    }
}

/// The requests of this node that wait for answers, and the number of others' that it carries out.
pub(super) struct Requests {
    next: AtomicU64,
    pending: Mutex<HashMap<u64, Pending>>,
    acts: Arc<Semaphore>,
}

/// A request's place among the pending ones; given up when it is dropped, whoever drops it.
pub(super) struct Place<'a> {
    requests: &'a Requests,
    /// The request's number, which its answers carry.
    pub(super) id: u64,
    done: oneshot::Receiver<()>,
}

impl Place<'_> {
    /// That node can't be asked: nobody waits for it.
    pub(super) fn give_up(&self, node: Seq) {
        if let Some(pending) = self.requests.lock().get_mut(&self.id) {
            pending.missing.remove(&node);
            pending.tell();
        }
    }

    /// Waits until everybody has answered, at most so long.
    pub(super) async fn wait(&mut self, at_most: Duration) {
        // Whether it was the time or the last answer shows in what is missing.
        let _ = tokio::time::timeout(at_most, &mut self.done).await;
    }

    /// Who has not answered, and what the others say.
    pub(super) fn take(&self) -> (BTreeSet<Seq>, Answers) {
        let mut all = self.requests.lock();
        let pending = all.get_mut(&self.id).map(|pending| (&pending.missing, std::mem::take(&mut pending.answers)));
        pending.map(|(missing, answers)| (missing.clone(), answers)).unwrap_or_default()
    }
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

    /// A place for a request that those `missing` must answer.
    pub(super) fn begin(&self, missing: BTreeSet<Seq>) -> Place<'_> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, done) = oneshot::channel();
        let mut pending = Pending { missing, answers: Answers::new(), done: Some(sender) };
        pending.tell();
        self.lock().insert(id, pending);
        Place { requests: self, id, done }
    }

    /// A node has answered. One that was not expected to have anything of it may say so as well.
    pub(super) fn answered(&self, answer: Answer) {
        let mut all = self.lock();
        let Some(pending) = all.get_mut(&answer.id) else { return };
        pending.missing.remove(&answer.node);
        pending.answers.insert(answer.node, answer.outcomes);
        pending.tell();
    }
}
