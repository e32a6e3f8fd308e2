//! The one writer of this node's registration.
//!
//! Whatever goes wrong (Redis came back empty, a batch was not acknowledged, the lease is gone, the journal ran over), the
//! cure is the same: a new registration, written whole from the hub. Nothing is ever repaired in place.

use super::StartError;
use super::batch::{self, BATCH, Batch, Listing};
use super::connect::{COMMAND_TIMEOUT, Purpose};
use super::core::Core;
use super::keys::{Keys, Registration, slot};
use super::leases::lease_value;
use super::owed::ORDINAL;
use super::scripts;
use super::wire::{Command, Fault};
use crate::hub::Changes;
use crate::model::{NodeId, Seq};
use fred::types::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Between two comparisons of the registration with what was written to it.
const COMPARE: Duration = Duration::from_secs(1);

/// A registration that is not live after this time is reaped: its node crashed while it wrote it.
const UNFINISHED: Duration = Duration::from_secs(60);

/// Batches on their way at once while a registration is written whole.
const AT_ONCE: usize = 16;

/// The longest pause between two attempts to register.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Registrations that may still stand in `leases`; only as many as enlistings whose answer was lost.
const MOST_OLD: usize = 16;

/// Why the registration has to be written anew.
#[derive(Debug, thiserror::Error)]
enum Anew {
    #[error("{0}")]
    Redis(#[from] Fault),
    #[error("redis does not hold what was written last")]
    Mismatch,
    #[error("more changed than the journal holds")]
    Overflow,
    #[error("the lease is gone")]
    Lost,
    #[error("a reaper was faster")]
    Reaped,
    #[error("the node's inbox is not subscribed")]
    Deaf,
    #[error("{0}")]
    Unfit(#[from] StartError),
}

/// Claims a node's number for its life.
pub(super) fn claim(keys: &Keys, seq: Seq, life: NodeId) -> Command {
    Command::script(&scripts::CLAIM, &[keys.seqs()]).arg(seq.to_string()).arg(life.to_string())
}

/// Enters a registration for reaping, should it not come to stand. What it answers is [`Announced`].
pub(super) fn announce(keys: &Keys, registration: &Registration, life: NodeId) -> Command {
    Command::script(&scripts::ANNOUNCE, &[keys.reaping(), keys.seqs()])
        .arg(registration.to_string())
        .arg(UNFINISHED.as_secs() as i64)
        .arg(registration.seq.to_string())
        .arg(life.to_string())
}

/// A registration has been announced.
pub(super) struct Announced {
    /// When it is to be reaped.
    pub(super) due: i64,
    /// The node's life was taken for over, and somebody may have told the ends of its connections.
    pub(super) over: bool,
}

impl Announced {
    pub(super) fn parse(answer: &Value) -> Result<Self, Fault> {
        let Value::Array(parts) = answer else { return Err(Fault::Unexpected("announce")) };
        let [due, over] = &parts[..] else { return Err(Fault::Unexpected("announce")) };
        let due = due.as_i64().ok_or(Fault::Unexpected("announce"))?;
        Ok(Self { due, over: over.as_i64() == Some(1) })
    }
}

/// Puts an announced registration into `leases`; the old ones that it replaces are its further arguments.
pub(super) fn enlist(
    keys: &Keys,
    registration: &Registration,
    due: i64,
    lease: &str,
    reap_delay: Duration,
    life: NodeId,
) -> Command {
    Command::script(&scripts::ENLIST, &[keys.leases(), keys.reaping(), keys.seqs()])
        .arg(registration.to_string())
        .arg(due)
        .arg(lease.to_owned())
        .arg(reap_delay.as_secs_f64())
        .arg(registration.seq.to_string())
        .arg(life.to_string())
}

/// The registrar's own state.
pub(super) struct Registrar {
    core: Arc<Core>,
    /// The registration that stands, and the number of the last batch written to it.
    standing: Option<(Registration, u64)>,
    /// How many registrations this life has begun.
    ordinal: u64,
    /// Those that perhaps stand in its place.
    old: Vec<Registration>,
    /// Who waits for something that is not written yet.
    waiters: Vec<oneshot::Sender<()>>,
    /// The connection that wrote last.
    wrote: u64,
    /// The figures as last written.
    figures: Vec<(&'static str, String)>,
}

impl Registrar {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core, standing: None, ordinal: 0, old: Vec::new(), waiters: Vec::new(), wrote: 0, figures: Vec::new() }
    }

    /// Keeps the registration, for as long as it is polled.
    pub(super) async fn run(mut self) {
        let mut pause = Duration::from_millis(50);
        loop {
            match self.register().await {
                Ok(()) => {
                    pause = Duration::from_millis(50);
                    let why = self.keep().await;
                    let full = matches!(&why, Anew::Redis(fault) if fault.is_full());
                    if full {
                        self.core.health.is_full(why.to_string());
                    }
                    // First: whoever is asked while there is no registration must know that others may be missing, too.
                    self.core.health.registration_lost();
                    // A full Redis does not take a new one. The old one is kept alive until it does, however long that
                    // takes: its connections are there.
                    if !full {
                        self.core.own.switched(None);
                    }
                    if let Some((registration, _)) = self.standing.take() {
                        tracing::info!(%registration, reason = %why, "registering anew");
                        self.retire(registration);
                    }
                }
                Err(why) => {
                    match &why {
                        Anew::Redis(fault) => self.core.trouble(fault),
                        Anew::Unfit(_) => self.core.health.unusable(why.to_string()),
                        Anew::Deaf => self.core.health.is_deaf(format!("no subscription to redis: {why}")),
                        Anew::Mismatch | Anew::Overflow | Anew::Lost | Anew::Reaped => {}
                    }
                    tracing::debug!(reason = %why, "not registered yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn retire(&mut self, registration: Registration) {
        self.old.push(registration);
        if self.old.len() > MOST_OLD {
            // Its lease is not renewed by anybody, so that the others take it out.
            self.old.remove(0);
        }
    }

    // ---- a new registration ----

    async fn register(&mut self) -> Result<(), Anew> {
        let core = self.core.clone();
        let wire = core.lanes.wire_of(slot(&core.keys.leases()), Purpose::Registration).await?;
        core.connector.check(&wire).await?;
        let seq = self.claim().await?;
        if timeout(COMMAND_TIMEOUT, core.subscriber.inbox_ready()).await.is_err() {
            return Err(Anew::Deaf);
        }
        let registration = Registration::new(seq).map_err(StartError::from)?;
        let due = self.announce(&registration).await?;
        let written = self.write_whole(&registration).await?;
        self.enlist(&registration, due).await?;
        self.standing = Some((registration, written));
        self.old.clear();
        self.release_waiters();
        Ok(())
    }

    /// Enters the registration for reaping, should it not come to stand; when it is due.
    async fn announce(&mut self, registration: &Registration) -> Result<i64, Anew> {
        let core = self.core.clone();
        let answer = self.run_command(&announce(&core.keys, registration, core.about.id)).await?;
        let Announced { due, over } = Announced::parse(&answer)?;
        if over {
            // Others are telling that these have ended, so they end.
            let connections = core.hub.close_kept(1012, "node was taken for dead");
            if connections > 0 {
                tracing::warn!(
                    connections,
                    "this node was taken for dead, and others tell the ends of its connections: closing them"
                );
            }
        }
        Ok(due)
    }

    /// Makes sure that the node's number is this life's; takes another one where it is not.
    async fn claim(&mut self) -> Result<Seq, Anew> {
        let core = self.core.clone();
        loop {
            let seq = core.hub.seq();
            if self.run_command(&claim(&core.keys, seq, core.about.id)).await?.as_i64() == Some(1) {
                return Ok(seq);
            }
            tracing::warn!(%seq, "another life has this node's number: closing its connections and taking another one");
            core.hub.close_all(1012, "node restarted");
            core.choose_seq().map_err(StartError::from)?;
            // Those that came in between the two carry the old number.
            core.hub.close_all(1012, "node restarted");
        }
    }

    async fn write_whole(&mut self, registration: &Registration) -> Result<u64, Anew> {
        let core = self.core.clone();
        let started = Instant::now();
        self.ordinal += 1;
        let mut snapshot = core.hub.snapshot();
        let listed = core.owed.begin(&snapshot);
        self.waiters.append(&mut snapshot.waiters);
        core.subscriber.linger_all();
        let mut begin = Command::keyed("HSET", &core.keys.node(registration)).arg("batch").arg("0");
        for (name, value) in [
            ("id", core.about.id.to_string()),
            ("version", crate::release::VERSION.to_owned()),
            ("address", core.about.address.clone()),
            ("start", core.about.start_time.to_string()),
            (ORDINAL, self.ordinal.to_string()),
        ] {
            begin = begin.arg(name).arg(value);
        }
        if let Some((name, value)) = core.owed.fact() {
            begin = begin.arg(name).arg(value);
        }
        self.figures = figures(&core);
        for (name, value) in &self.figures {
            begin = begin.arg(*name).arg(value.clone());
        }
        self.run_command(&begin).await?;
        let wire = core.lanes.wire_of(begin.slot, Purpose::Registration).await?;
        let batches = batch::of_snapshot(&snapshot, &listed, &core.keys, registration);
        for (round, some) in batches.chunks(AT_ONCE).enumerate() {
            let number = |at: usize| (round * AT_ONCE + at + 1) as u64;
            let commands =
                some.iter().enumerate().map(|(at, batch)| batch.command(&core.keys, registration, number(at)));
            let commands: Vec<Command> = commands.collect();
            // On one connection, so they are carried out in this order; a batch out of turn is refused by its number.
            let answers = futures_util::future::try_join_all(commands.iter().map(|command| wire.run(command))).await?;
            if answers.iter().any(|answer| answer.as_i64() != Some(1)) {
                return Err(Anew::Mismatch);
            }
        }
        self.wrote = wire.serial;
        tracing::debug!(
            %registration,
            connections = snapshot.connections.len(),
            audiences = snapshot.audiences.len(),
            took_ms = started.elapsed().as_millis() as u64,
            "registration written whole"
        );
        Ok(batches.len() as u64)
    }

    /// Puts the new registration into `leases`, and the old ones out.
    async fn enlist(&mut self, registration: &Registration, due: i64) -> Result<(), Anew> {
        let core = self.core.clone();
        let counter = core.own.switching();
        let lease = lease_value(counter, core.subscriber.hears());
        let mut enlist = enlist(&core.keys, registration, due, &lease, core.config.reap_delay, core.about.id);
        self.old.iter().for_each(|old| enlist.push(old.to_string()));
        let began = Instant::now();
        let answer = self.run_command(&enlist).await;
        match answer {
            Ok(answer) if answer.as_i64() == Some(1) => {
                core.own.switched(Some(registration.clone()));
                core.owed.stands(registration);
                core.metrics.registrations.inc();
                core.health.registered(began);
                core.own.renew.notify_one();
                tracing::info!(%registration, "registered");
                Ok(())
            }
            Ok(_) => {
                core.own.switched(None);
                // The reaper may have come by before the last keys were written; nobody else would look for them.
                self.retire(registration.clone());
                Err(Anew::Reaped)
            }
            Err(fault) => {
                core.own.switched(None);
                if !fault.is_certain() {
                    self.retire(registration.clone());
                }
                Err(fault.into())
            }
        }
    }

    // ---- the registration that stands ----

    /// Writes what changes, until the registration has to be written anew.
    async fn keep(&mut self) -> Anew {
        let core = self.core.clone();
        let mut compare = interval(COMPARE);
        compare.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if core.own.current().is_none() {
                return Anew::Lost;
            }
            let step = tokio::select! {
                biased;
                () = core.own.lost.notified() => Ok(()),
                _ = compare.tick() => self.compare().await,
                () = core.hub.changed() => self.write_changes().await,
            };
            if let Err(why) = step {
                return why;
            }
        }
    }

    async fn write_changes(&mut self) -> Result<(), Anew> {
        let core = self.core.clone();
        let Changes::Some { changes, waiters } = core.hub.take_changes(BATCH) else { return Err(Anew::Overflow) };
        self.waiters.extend(waiters);
        core.subscriber.follow(&changes);
        if let Some((registration, number)) = self.standing.clone() {
            let listing = Listing { off: core.owed.strike(BATCH), on: core.owed.to_list(&changes) };
            let batches = batch::of_changes(&changes, &listing, &core.keys, &registration);
            let wire = core.lanes.wire_of(slot(&core.keys.node(&registration)), Purpose::Registration).await?;
            if wire.serial != self.wrote {
                // A connection made anew: Redis may have, too.
                self.compare().await?;
                self.wrote = wire.serial;
            }
            self.write_batches(&batches, &registration, number).await?;
            core.owed.follow(&changes);
            core.metrics.batches.observe(changes.len() as f64);
        }
        self.release_waiters();
        Ok(())
    }

    async fn write_batches(&mut self, batches: &[Batch], registration: &Registration, last: u64) -> Result<(), Anew> {
        for (number, batch) in (last + 1..).zip(batches) {
            let command = batch.command(&self.core.keys, registration, number);
            // Unacknowledged, it may come late; a new registration has nothing to fear from that, a second attempt has.
            if self.run_command(&command).await?.as_i64() != Some(1) {
                return Err(Anew::Mismatch);
            }
            self.standing = Some((registration.clone(), number));
        }
        Ok(())
    }

    /// Compares what Redis holds with what was written last, and refreshes the node's figures on the way.
    async fn compare(&mut self) -> Result<(), Anew> {
        let Some((registration, number)) = &self.standing else { return Ok(()) };
        let mut check = Command::script(&scripts::CHECK, &[self.core.keys.node(registration)]).arg(number.to_string());
        let figures = figures(&self.core);
        for (name, value) in figures.iter().filter(|figure| !self.figures.contains(figure)) {
            check = check.arg(*name).arg(value.clone());
        }
        match self.run_command(&check).await {
            Ok(answer) if answer.as_i64() == Some(1) => {
                self.figures = figures;
                self.core.health.has_room();
                Ok(())
            }
            Ok(_) => Err(Anew::Mismatch),
            // Nothing was to be written that would be missed. If Redis is away, the lease shows it.
            Err(fault) => {
                tracing::debug!(%fault, "the registration could not be compared");
                if fault.is_full() {
                    self.core.trouble(&fault);
                }
                Ok(())
            }
        }
    }

    async fn run_command(&self, command: &Command) -> Result<Value, Fault> {
        self.core.lanes.run(command, Purpose::Registration).await
    }

    fn release_waiters(&mut self) {
        for waiter in self.waiters.drain(..) {
            // Whoever waited may have given up.
            let _ = waiter.send(());
        }
    }
}

/// What changes in the node's own hash: its counters for `stats`, and its subscribers, which a reaper has to end.
fn figures(core: &Core) -> Vec<(&'static str, String)> {
    let counters = serde_json::to_string(&(core.about.counters)()).unwrap_or_default();
    let figures = [("counters", counters), ("subscribers", core.subscriber.clients())];
    figures.into_iter().chain(core.owed.figure()).collect()
}

impl Core {
    /// Gives the node a new random number, and its hub a new random counter to go on from.
    pub(super) fn choose_seq(&self) -> Result<(), getrandom::Error> {
        let mut bytes = [0; 8];
        let seq = loop {
            getrandom::fill(&mut bytes)?;
            let number = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) >> (32 - crate::model::SEQ_BITS);
            match Seq::new(number) {
                // 0 is the number of a node whose state is embedded.
                Some(seq) if seq != Seq::EMBEDDED => break seq,
                _ => {}
            }
        };
        self.hub.set_seq(seq, u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]));
        self.subscriber.set_inbox(seq);
        Ok(())
    }
}
