//! What this node does so that others are told: see [`crate::cluster::owed`]. Only where there is somebody to be told.
//!
//! | file | what it is about |
//! |---|---|
//! | [`table`] | what this node holds of the channels that have members here: plain data |
//! | [`holding`] | the calls by which it holds channels and lets them go |
//! | [`estate`] | what a dead registration leaves: channels to let go, closes to tell |
//! | [`delivery`] | from Redis to the sink, a bucket's events in order, by one node at a time |
//! | [`turns`] | which buckets it is done from next |
//! | [`bucket`] | which of 64 buckets something is in |
//!
//! # How a change is decided once
//!
//! A channel is in one bucket, whose keys share a slot: the channel's holders (registrations), the bucket's `state` (its birth,
//! its last version), and the stream `out`. Whoever adds the first holder or removes the last one puts the change into `out`, in
//! the same script ([`OCCUPY`](super::scripts)). What a registration holds, or may hold, it has in a list of its own
//! (`holding`), written before it holds and struck off after it let go; so whoever reaps it knows what to let go for it. First
//! the reaper enters it in each bucket's `dead`, after which no call of it is carried out, however late it comes. A node that
//! registers anew holds its channels with the new registration before the old one is reaped: the reaper waits for it.
//!
//! # Who tells of an end
//!
//! A node tells the ends of its own connections, and keeps what it has not told yet among its registration's keys. Of a dead
//! registration a reaper puts both into `out`: what was not told, and what was open. Not where its node has a newer one, which was
//! written from all that the node still had to tell.
//!
//! A node that was only taken for dead may come back with connections whose ends are told. So the reaper first notes that the
//! node's life is over, then looks whether the node is coming back; and the node first announces its new registration, then looks
//! whether its life is noted as over. One of the two sees the other: the reaper waits, or the node closes those connections.
//!
//! Closes wait among the dead registration's keys for as long as a bucket is half full: none is given up for another.
//!
//! # When Redis has lost its data
//!
//! A bucket that Redis comes to with nothing in it is *young* for [`YOUTH`]. Those who find that it is not the one they knew
//! hold again what they held, silently, as it was told before; everything else (what is occupied or vacated meanwhile)
//! waits until the bucket is young no more, and is decided then. What nobody remembers is lost: changes that were not
//! delivered, and channels whose last holder ended with the data. A replica that lagged and was promoted has an older state of
//! the bucket: nodes find that the number of their last call has gone back, and tell all again; the receiver may be told
//! a change a second time, with another version.

mod bucket;
mod delivery;
mod estate;
mod holding;
#[cfg(test)]
mod model;
mod table;
#[cfg(test)]
mod tests;
mod turns;

use super::keys::Registration;
use crate::cluster::owed::{ChannelEvents, Owing};
use crate::hub::{Change, Snapshot};
use crate::model::Name;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use table::Table;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

pub(super) use estate::{DIED, ORDINAL, Reaped};

/// How long a bucket is young that Redis has just come to: by then every node that was there before has registered again.
const YOUTH: Duration = Duration::from_secs(3);

/// How much may wait in each bucket to be delivered; with more the oldest is given up. With the names and details that are
/// usual, 64 times as much takes some forty megabytes of Redis.
const MOST_WAITING: usize = 2048;

/// With so much in a bucket the closes of a dead registration wait where they are.
const MOST_BEFORE_CLOSES: usize = MOST_WAITING / 2;

/// How long the deliveries may take that are under way when the node leaves.
const LAST_DELIVERIES: Duration = Duration::from_secs(2);

/// How long a dead registration is kept from holding: longer than a host's network goes on trying to send what was written
/// before it hung.
const REMEMBER_DEAD: Duration = Duration::from_secs(3600);

/// The names of the events, as scripts take them: with blanks around each.
const fn told(events: ChannelEvents) -> &'static str {
    match (events.occupied, events.vacated) {
        (true, true) => " occupied vacated ",
        (true, false) => " occupied ",
        (false, true) => " vacated ",
        (false, false) => "",
    }
}

/// What the parts share.
pub(super) struct Owed {
    pub(super) owing: Owing,
    /// Which changes of channels somebody is told of; with none it is closes alone.
    events: ChannelEvents,
    table: Mutex<Table>,
    /// There are calls to be made.
    changed: Notify,
    /// Buckets that have something to deliver, as far as this node knows: one bit for each.
    ringing: AtomicU64,
    rung: Notify,
    /// The node is about to leave: no more is fetched to be delivered.
    leaving: watch::Sender<bool>,
    /// Buckets of which this node has something in its hands.
    in_hand: watch::Sender<usize>,
}

impl Owed {
    pub(super) fn new(owing: Owing) -> Self {
        Self {
            events: owing.channel_events(),
            owing,
            table: Mutex::new(Table::new()),
            changed: Notify::new(),
            ringing: AtomicU64::new(0),
            rung: Notify::new(),
            leaving: watch::Sender::new(false),
            in_hand: watch::Sender::new(0),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_on(&self) -> bool {
        self.owing.sink.is_some()
    }

    /// A bucket has something to deliver.
    fn ring(&self, bucket: usize) {
        self.ringing.fetch_or(1 << bucket, Ordering::Relaxed);
        self.rung.notify_one();
    }

    /// Delivers no more, and gives back what is in this node's hands, so that the others need not wait for it.
    pub(super) async fn let_go_of_deliveries(&self) {
        self.leaving.send_replace(true);
        let mut in_hand = self.in_hand.subscribe();
        // The sender lives as long as `self`.
        if timeout(LAST_DELIVERIES, in_hand.wait_for(|buckets| *buckets == 0)).await.is_err() {
            tracing::debug!("stopping with deliveries under way: another node takes them over later");
        }
    }

    // ---- for the registrar ----

    /// The fact by which a reaper knows that a registration has something to leave.
    pub(super) fn fact(&self) -> Option<(&'static str, &'static str)> {
        self.is_on().then_some((estate::OWING, told(self.events)))
    }

    /// How far the registration's channels are held, among the node's figures.
    pub(super) fn figure(&self) -> Option<(&'static str, String)> {
        self.is_on().then(|| (estate::EXTENT, self.table().extent().to_owned()))
    }

    /// A new registration is written from a snapshot: the channels that its list must have.
    pub(super) fn begin(&self, snapshot: &Snapshot) -> Vec<Name> {
        match (self.is_on(), self.events.any()) {
            (true, true) => self.table().begin(snapshot),
            // What was held before, by a configuration that wanted it, is let go by whoever reaps it.
            (true, false) => self.table().begin(&Snapshot::default()),
            (false, _) => Vec::new(),
        }
    }

    /// It stands.
    pub(super) fn stands(&self, registration: &Registration) {
        if self.is_on() {
            self.table().stands(registration.clone());
            self.changed.notify_one();
        }
    }

    /// The channels that its list must have when these changes are written.
    pub(super) fn to_list(&self, changes: &[Change]) -> Vec<Name> {
        if self.events.any() { Table::to_list(changes) } else { Vec::new() }
    }

    /// The changes are written.
    pub(super) fn follow(&self, changes: &[Change]) {
        if self.events.any() {
            self.table().follow(changes);
            self.changed.notify_one();
        }
    }

    /// Channels to be struck off its list before anything else is written; at most so many.
    pub(super) fn strike(&self, at_most: usize) -> Vec<Name> {
        if self.events.any() { self.table().strike(at_most, Instant::now()) } else { Vec::new() }
    }
}
