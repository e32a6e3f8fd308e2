//! One link: the subscriber's connection to one server.
//!
//! It never comes back by itself: a link that broke, or that is found deaf, is dropped, and a new one begins with
//! everything that is wanted by then. What may have been missed in between is a gap, and the hub is told.

use super::connect::Purpose;
use super::core::Core;
use super::envelope::Envelope;
use super::keys::slot;
use super::pump;
use super::subscriber::Work;
use super::topology::Place;
use super::wire::{Command, Fault, Wire};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Names in one batch; each batch costs a round trip.
const BATCH: usize = 1000;

/// Between two probes.
const PROBE: Duration = Duration::from_secs(1);

/// A probe that has not come back for so long, with nothing else coming either, means that the link is deaf.
const DEAF: Duration = Duration::from_secs(2);

/// The same while other messages do arrive: the probe is behind them, in Redis's buffer or in ours.
const BEHIND: Duration = Duration::from_secs(10);

/// Names that a server refused, as their slot is elsewhere, are tried again after this time.
const REFUSED: Duration = Duration::from_millis(200);

/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How many probe names are tried to find one in a server's slots: enough for a server that has one slot in a thousand.
const PROBE_NAMES: u32 = 20_000;

/// What the pump tells the link of what has arrived.
#[derive(Default)]
pub(super) struct Heard {
    /// Messages, of any kind.
    pub(super) messages: AtomicU64,
    /// Number of the last probe that came back.
    pub(super) probe: AtomicU64,
}

/// Why a link was given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Loss {
    /// The connection ended, or a command on it failed.
    Lost,
    /// It stands, and nothing comes through it any more.
    Deaf,
    /// The server counts other subscriptions on it than this node does.
    Miscounted,
}

impl Loss {
    pub(super) const ALL: [Self; 3] = [Self::Lost, Self::Deaf, Self::Miscounted];

    /// The label `reason` of `carillon_bus_link_losses_total`.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Deaf => "deaf",
            Self::Miscounted => "miscounted",
        }
    }
}

/// A link that is there; its end is told to the table whatever ends it.
struct Link {
    core: Arc<Core>,
    place: Place,
    wire: Arc<Wire>,
    epoch: u64,
    wake: Arc<Notify>,
    heard: Arc<Heard>,
    probe: Option<Arc<str>>,
    sent: u64,
    /// Since when a probe is out, and how many messages had arrived then.
    out: Option<(Instant, u64)>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.wire.end();
        let missed = self.core.subscriber.link_ended(&self.place, self.epoch);
        self.core.own.renew.notify_one();
        self.core.hub.gap(missed.as_deref());
    }
}

/// Keeps a link to the server, for as long as it is polled.
pub(super) async fn keep(core: Arc<Core>, place: Place) {
    let mut pause = Duration::from_millis(20);
    let mut last: Option<Arc<Wire>> = None;
    loop {
        match core.connector.connect(&place, Purpose::Subscriber).await {
            Ok(wire) => {
                if let Some(last) = last.replace(wire.clone()) {
                    end_for_good(&last, &wire).await;
                }
                let why = Link::begin(core.clone(), place.clone(), wire).serve().await;
                core.metrics.link_losses.with_label_values(&[why.as_str()]).inc();
                tracing::warn!(server = %place, reason = why.as_str(), "subscriber's connection given up: subscribing anew");
                pause = Duration::from_millis(20);
            }
            Err(fault) => {
                tracing::debug!(server = %place, %fault, "no connection for the subscriber");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// A connection that broke on the way may still stand at the server, where `PUBLISH` counts it.
async fn end_for_good(last: &Wire, now: &Wire) {
    if last.run_id == now.run_id {
        let kill = Command::at(0, "CLIENT").arg("KILL").arg("ID").arg(last.id);
        // 0 or an error: it is gone already, or we may not; the server's keep-alive ends it then.
        let _ = now.run(&kill).await;
    }
}

impl Link {
    fn begin(core: Arc<Core>, place: Place, wire: Arc<Wire>) -> Self {
        let heard = Arc::new(Heard::default());
        let messages = wire.messages();
        let client = (wire.id, wire.run_id.clone());
        let (epoch, wake) = core.subscriber.link_begins(&place, client, &core.hub);
        tokio::spawn(pump::run(core.clone(), messages, epoch, heard.clone()));
        Self { core, place, wire, epoch, wake, heard, probe: None, sent: 0, out: None }
    }

    /// Serves the link until it ends; why it did.
    async fn serve(mut self) -> Loss {
        self.choose_probe();
        let mut tick = interval(PROBE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let work = self.core.subscriber.next_work(&self.place, self.epoch, BATCH);
            if !work.subscribe.is_empty() || !work.unsubscribe.is_empty() {
                if self.carry_out(work).await.is_err() {
                    return Loss::Lost;
                }
                continue;
            }
            tokio::select! {
                biased;
                () = self.wire.ended() => return Loss::Lost,
                () = self.wake.notified() => {}
                _ = tick.tick() => if let Some(why) = self.check().await {
                    return why;
                }
            }
        }
    }

    async fn carry_out(&self, work: Work) -> Result<(), Fault> {
        if !work.unsubscribe.is_empty() {
            self.wire.unsubscribe(&work.unsubscribe).await?;
        }
        if work.subscribe.is_empty() {
            return Ok(());
        }
        let answers = self.wire.subscribe(&work.subscribe).await;
        let mut acknowledged = Vec::with_capacity(answers.len());
        let mut refused = Vec::new();
        for (name, answer) in work.subscribe.into_iter().zip(answers) {
            match answer {
                Ok(()) => acknowledged.push(name),
                Err(Fault::Moved { .. } | Fault::Refused(_) | Fault::Busy(_)) => refused.push(name),
                Err(fault) => return Err(fault),
            }
        }
        self.core.subscriber.acknowledge(&self.place, self.epoch, &acknowledged);
        if !refused.is_empty() {
            self.core.topology.is_stale();
            let (core, place, epoch) = (self.core.clone(), self.place.clone(), self.epoch);
            tokio::spawn(async move {
                tokio::time::sleep(REFUSED).await;
                core.subscriber.try_again(&place, epoch, refused);
            });
        }
        Ok(())
    }

    /// Looks whether the link still hears what it should; why not, if it doesn't.
    async fn check(&mut self) -> Option<Loss> {
        let held = self.core.subscriber.held(&self.place, self.epoch);
        match self.wire.subscriptions().await {
            // A slot that moved away and back between two looks at the map has taken its subscriptions along.
            Ok(Some(counted)) if held.is_some_and(|held| held != counted) => {
                // A name that moved is noticed by the table as well; what counts is what it holds now.
                if self.core.subscriber.held(&self.place, self.epoch) == held {
                    tracing::debug!(?held, counted, "the server counts other subscriptions than this node");
                    return Some(Loss::Miscounted);
                }
            }
            Ok(_) => {}
            Err(Fault::Refused(_)) => {}
            Err(_) => return Some(Loss::Lost),
        }
        self.choose_probe();
        let messages = self.heard.messages.load(Ordering::Relaxed);
        if self.heard.probe.load(Ordering::Relaxed) >= self.sent {
            self.out = None;
        }
        if let Some((since, before)) = self.out {
            let limit = if messages == before { DEAF } else { BEHIND };
            return (since.elapsed() >= limit).then_some(Loss::Deaf);
        }
        let name = self.probe.clone()?;
        self.sent += 1;
        let message = Envelope::Probe { link: self.epoch, number: self.sent }.encode();
        let sent = self.core.lanes.run(&Command::publish(name.to_string(), message), Purpose::Control).await;
        // What could not be sent need not come back.
        self.out = sent.is_ok().then(|| (Instant::now(), messages));
        None
    }

    /// Makes sure that the probe's name is in one of the server's slots.
    fn choose_probe(&mut self) {
        let map = self.core.topology.map();
        let here = |name: &str| map.place(slot(name)) == Some(&self.place);
        if self.probe.as_ref().is_some_and(|probe| here(probe)) {
            return;
        }
        let seq = self.core.hub.seq();
        let mut names = (0..PROBE_NAMES).map(|attempt| self.core.keys.probe_topic(seq, attempt));
        let Some(name) = names.find(|name| here(name)).map(Arc::<str>::from) else { return };
        self.core.subscriber.set_probe(&name, self.probe.as_ref());
        self.probe = Some(name);
        self.out = None;
    }
}
