//! Ready, recovering or away: what this node may promise its callers just now.
//!
//! Away: the lease could not be written for three seconds, or nobody listens where Redis should be. `PUBLISH` may still
//! succeed then (at a server that is cut off, or out of memory), so it is the lease that counts.
//! Recovering: Redis has begun anew, or has lost this node's registration. The others may still be deaf, so callers are
//! held until every node known before is back, three seconds at the most.

use super::keys::Registration;
use super::leases::{LeaseTable, hears};
use super::metrics::RedisMetrics;
use crate::cluster::{State, unavailable};
use crate::model::{Error, Result, Seq};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// A lease that could not be written for so long means that Redis is away.
pub(super) const AWAY_AFTER: Duration = Duration::from_secs(3);

/// Nodes known before are waited for this long; then they count as gone.
const RECOVERY: Duration = Duration::from_secs(3);

/// How long a caller is held while the node recovers: the whole recovery and a little more.
const HOLD: Duration = Duration::from_millis(3500);

/// While Redis is away the reason may change with every attempt; the log hears of it no more often than this.
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(10);

/// Between two looks at the time.
pub(super) const TICK: Duration = Duration::from_millis(100);

struct Inner {
    /// Why there is no Redis that can be used, where that is known.
    fault: Option<String>,
    /// What Redis said when it refused to take more, as its memory is full. Leases are taken all the same.
    full: Option<String>,
    /// Why the node can't subscribe; counts as long as it does not hear.
    deaf: Option<String>,
    /// Which part of the node has failed, for good.
    broken: Option<&'static str>,
    registered: bool,
    lease_written: Option<Instant>,
    /// Which life of the server holds `leases`.
    run_id: Option<Arc<str>>,
    /// The nodes that were live when everything was well.
    known: BTreeSet<Seq>,
    recovery: Option<Recovery>,
    left: bool,
    /// When the state was last put into the log.
    announced: Option<Instant>,
}

struct Recovery {
    why: String,
    since: Instant,
    /// Redis began anew: a lease counts only when it has changed since the first look, as it may be left from before.
    strict: bool,
    first: Option<BTreeMap<Registration, String>>,
    back: BTreeSet<Seq>,
}

impl Recovery {
    fn new(why: String, strict: bool) -> Self {
        Self { why, since: Instant::now(), strict, first: None, back: BTreeSet::new() }
    }

    /// Takes in what `leases` shows.
    fn look(&mut self, table: &LeaseTable) {
        let first = self.first.get_or_insert_with(|| if self.strict { table.0.clone() } else { BTreeMap::new() });
        let back =
            table.0.iter().filter(|(registration, value)| hears(value) && first.get(registration) != Some(value));
        self.back.extend(back.map(|(registration, _)| registration.seq));
    }
}

/// The node's state, and what it follows from.
pub(super) struct Health {
    inner: Mutex<Inner>,
    state: watch::Sender<State>,
    /// When the last renewal that was acknowledged began: what was written to the registration before stands.
    lease: watch::Sender<Option<Instant>>,
    hears: watch::Receiver<bool>,
    metrics: Arc<RedisMetrics>,
}

impl Health {
    /// `hears` says whether the node has all its subscriptions.
    pub(super) fn new(hears: watch::Receiver<bool>, metrics: Arc<RedisMetrics>) -> Self {
        Self {
            inner: Mutex::new(Inner {
                fault: None,
                full: None,
                deaf: None,
                broken: None,
                registered: false,
                lease_written: None,
                run_id: None,
                known: BTreeSet::new(),
                recovery: None,
                left: false,
                announced: None,
            }),
            state: watch::Sender::new(State::Away("connecting to redis".to_owned())),
            lease: watch::Sender::new(None),
            hears,
            metrics,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for callers and health checks.
    pub(super) fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    // ---- what happens ----

    /// Redis can't be used, for this reason.
    pub(super) fn unusable(&self, why: String) {
        let mut inner = self.lock();
        inner.fault = Some(why);
        self.evaluate(&mut inner);
    }

    /// Redis refused a write, as its memory is full.
    pub(super) fn is_full(&self, why: String) {
        let mut inner = self.lock();
        inner.full = Some(why);
        self.evaluate(&mut inner);
    }

    /// Redis took a write that it would refuse if it were full.
    pub(super) fn has_room(&self) {
        let mut inner = self.lock();
        if inner.full.take().is_some() {
            self.evaluate(&mut inner);
        }
    }

    /// The node can't subscribe, for this reason; until it hears again.
    pub(super) fn is_deaf(&self, why: String) {
        let mut inner = self.lock();
        inner.deaf = Some(why);
        self.evaluate(&mut inner);
    }

    /// A part of the node has failed in a way that nothing mends.
    pub(super) fn is_broken(&self, part: &'static str) {
        let mut inner = self.lock();
        inner.broken = Some(part);
        self.evaluate(&mut inner);
    }

    /// Whether this is the life of the server that holds `leases` which the state speaks of.
    pub(super) fn knows(&self, run_id: &Arc<str>) -> bool {
        self.lock().run_id.as_ref() == Some(run_id)
    }

    /// A connection to the server that holds `leases` is there.
    pub(super) fn connected(&self, run_id: &Arc<str>) {
        let mut inner = self.lock();
        if inner.run_id.as_ref() == Some(run_id) {
            return;
        }
        if inner.run_id.replace(run_id.clone()).is_some() {
            inner.recovery = Some(Recovery::new("redis was restarted or replaced".to_owned(), true));
            self.evaluate(&mut inner);
        }
    }

    /// The lease is written by a renewal that began then.
    pub(super) fn lease_written(&self, began: Instant) {
        let mut inner = self.lock();
        inner.fault = None;
        inner.lease_written = Some(Instant::now());
        self.lease.send_if_modified(|lease| {
            let later = lease.is_none_or(|lease| lease < began);
            if later {
                *lease = Some(began);
            }
            later
        });
        self.evaluate(&mut inner);
    }

    /// A new registration stands in `leases`, by a command that began then.
    pub(super) fn registered(&self, began: Instant) {
        let mut inner = self.lock();
        inner.registered = true;
        inner.full = None;
        drop(inner);
        self.lease_written(began);
    }

    /// The registration is not in `leases` any more, or not what it should be.
    pub(super) fn registration_lost(&self) {
        let mut inner = self.lock();
        inner.registered = false;
        // Whoever was seen back before may have been lost with it: they are waited for from now on.
        inner.recovery = Some(match inner.recovery.take() {
            Some(recovery) => Recovery::new(recovery.why, recovery.strict),
            None => {
                let why = "this node's registration is lost or out of date, and is being written anew".to_owned();
                Recovery::new(why, false)
            }
        });
        self.evaluate(&mut inner);
    }

    /// `leases` was read, not before `began`. `own` is the registration that this node had then.
    pub(super) fn looked(&self, table: &LeaseTable, own: Option<&Registration>, began: Instant) {
        let mut inner = self.lock();
        match (&mut inner.recovery, own) {
            // An earlier one may show who is lost since.
            (Some(recovery), _) if began >= recovery.since => recovery.look(table),
            // A table without this node has lost others as well, who are not to be forgotten.
            (None, Some(own)) if matches!(*self.state.borrow(), State::Ready) && table.0.contains_key(own) => {
                let others = table.registrations().map(|registration| registration.seq);
                inner.known = others.filter(|seq| *seq != own.seq).collect();
            }
            _ => {}
        }
        self.evaluate(&mut inner);
    }

    /// The node leaves the cluster: nothing is taken any more.
    pub(super) fn leave(&self) {
        let mut inner = self.lock();
        inner.left = true;
        self.evaluate(&mut inner);
    }

    /// Time has passed.
    pub(super) fn tick(&self) {
        self.evaluate(&mut self.lock());
    }

    // ---- what follows ----

    fn evaluate(&self, inner: &mut Inner) {
        if *self.hears.borrow() {
            inner.deaf = None;
        }
        let was_away = matches!(*self.state.borrow(), State::Away(_));
        let state = match away(inner) {
            Some(why) => {
                if let Some(recovery) = &mut inner.recovery {
                    *recovery = Recovery::new(std::mem::take(&mut recovery.why), recovery.strict);
                }
                State::Away(why)
            }
            None => {
                if was_away && inner.recovery.is_none() {
                    // Redis is the same as before, and so are the others: only this node's own subscriptions are missing.
                    let mut recovery = Recovery::new("subscribing".to_owned(), false);
                    recovery.back.clone_from(&inner.known);
                    inner.recovery = Some(recovery);
                }
                let over = |recovery: &Recovery| {
                    let others = inner.known.is_subset(&recovery.back) || recovery.since.elapsed() >= RECOVERY;
                    *self.hears.borrow() && inner.registered && others
                };
                match &inner.recovery {
                    Some(recovery) if !over(recovery) => State::Recovering(recovery.why.clone()),
                    _ => {
                        inner.recovery = None;
                        State::Ready
                    }
                }
            }
        };
        self.state.send_if_modified(|known| {
            let new = *known != state;
            if new {
                let same_kind = std::mem::discriminant(known) == std::mem::discriminant(&state);
                if !same_kind || inner.announced.is_none_or(|when| when.elapsed() >= ANNOUNCE_AGAIN) {
                    inner.announced = Some(Instant::now());
                    announce(&state);
                }
                self.metrics.state.set(match state {
                    State::Ready => 2,
                    State::Recovering(_) => 1,
                    State::Away(_) => 0,
                });
                *known = state;
            }
            new
        });
    }

    // ---- for callers ----

    /// Lets a caller through, holds it while the node recovers, or refuses it.
    pub(super) async fn admit(&self) -> Result<()> {
        if matches!(*self.state.borrow(), State::Ready) {
            return Ok(());
        }
        let mut state = self.state.subscribe();
        let decided = timeout(HOLD, state.wait_for(|state| !matches!(state, State::Recovering(_)))).await;
        let now = match decided {
            Ok(Ok(state)) => unavailable(&state),
            Ok(Err(_)) => Some(Error::Unavailable("this node is stopping".to_owned())),
            Err(_) => unavailable(&self.state.borrow()),
        };
        now.map_or(Ok(()), Err)
    }

    /// Waits until Redis is there, however long that takes.
    pub(super) async fn present(&self) {
        // The sender lives as long as `self`.
        let _ = self.state.subscribe().wait_for(|state| !matches!(state, State::Away(_))).await;
    }

    /// Waits until the lease is written by a renewal that did not begin before `moment`.
    pub(super) async fn lease_written_after(&self, moment: Instant) {
        let later = |began: &Option<Instant>| began.is_some_and(|began| began >= moment);
        // The sender lives as long as `self`.
        let _ = self.lease.subscribe().wait_for(later).await;
    }
}

/// Why Redis counts as away, if it does.
fn away(inner: &Inner) -> Option<String> {
    if inner.left {
        return Some("this node is leaving the cluster".to_owned());
    }
    if let Some(part) = inner.broken {
        return Some(format!("internal failure: {part} has ended, restart this node"));
    }
    if let Some(fault) = inner.fault.as_ref().or(inner.deaf.as_ref()) {
        return Some(fault.clone());
    }
    if let Some(why) = &inner.full {
        return Some(format!("redis is full and takes no more (raise its maxmemory, or free some): {why}"));
    }
    match inner.lease_written {
        None => Some("registering with redis".to_owned()),
        Some(written) if written.elapsed() < AWAY_AFTER => None,
        Some(_) => Some(format!("redis has not taken this node's lease for {} s", AWAY_AFTER.as_secs())),
    }
}

/// One line that says what an operator has to know.
fn announce(state: &State) {
    match state {
        State::Ready => tracing::info!("redis is ready: pushes and reads are served"),
        State::Recovering(why) => tracing::warn!(reason = %why, "redis is back: callers are held for at most 3 s"),
        State::Away(why) => tracing::warn!(
            reason = %why,
            "without redis: pushes and reads are refused, sockets stay open; check that redis runs and takes writes"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_has_failed_keeps_the_node_away_for_good() {
        let (_hears, hearing) = watch::channel(true);
        let metrics = RedisMetrics::new(&prometheus::Registry::new()).unwrap();
        let health = Health::new(hearing, Arc::new(metrics));
        health.registered(Instant::now());
        assert_eq!(*health.state().borrow(), State::Ready);
        health.is_broken("the registration");
        health.registered(Instant::now());
        health.lease_written(Instant::now());
        let state = health.state().borrow().clone();
        assert!(matches!(&state, State::Away(why) if why.contains("the registration")), "{state:?}");
    }
}
