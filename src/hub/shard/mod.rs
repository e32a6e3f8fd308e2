//! A shard owns a part of the node's sockets and is the only one that writes to them.
//!
//! It takes all commands that wait, gathers pushes that follow each other into a *run* ([`run`]), and writes each socket
//! once with everything the run owes it ([`write`]). With nothing else waiting a push is written at once; under load runs
//! form by themselves. Where a whole run goes to one audience it is one buffer, built once. What happens by the clock is
//! in [`upkeep`].

mod run;
mod upkeep;
mod write;

use super::backlog::Backlog;
use super::heartbeat::{HeartbeatNumber, Round};
use super::inbox::{Command, Parcel};
use super::roster::{AudienceNumber, Numbers};
use super::socket::{CloseReason, Socket};
use super::{Inner, frame};
use bytes::Bytes;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior};
use write::Whose;

/// A run is written out at this many bytes or parcels, so that the first of it does not wait for the last.
const RUN_BYTES: usize = 256 << 10;
const RUN_PARCELS: usize = 1024;

/// How often pings and heartbeats are due; each time a slice of the connections gets theirs, so that they spread over the
/// interval.
const TICK: Duration = Duration::from_millis(200);

/// How long a closed connection's peer has to answer the close frame before the stream is ended.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// No link of a chain of owed segments.
const NONE: u32 = u32::MAX;

/// Where a connection stands in an audience's array of this shard.
struct Membership {
    audience: AudienceNumber,
    position: u32,
}

struct Slot {
    counter: u32,
    socket: Option<Arc<Socket>>,
    backlog: Option<Box<Backlog>>,
    memberships: SmallVec<[Membership; 2]>,
    /// The last segment that it was owed or excluded from, so that nobody gets one twice.
    stamp: u64,
    /// The chain of segments that the run owes it.
    owed: (u32, u32),
    missed_pings: u8,
    /// What it is sent again and again.
    heartbeat: Option<HeartbeatNumber>,
    /// A close frame is on its way or written; nothing follows it.
    closing: bool,
}

/// Frames with the same recipients, in order, as one buffer.
struct Segment {
    bytes: Bytes,
    messages: u64,
    first: usize,
}

/// A link in the chain of segments owed to a slot.
struct Owed {
    segment: u32,
    next: u32,
}

/// What a batch of writes added up to, given to the metrics once.
#[derive(Default)]
struct Tally {
    deliveries: u64,
    writes: u64,
    bytes: u64,
    unsent: i64,
}

pub(super) struct Shard {
    number: usize,
    hub: Arc<Inner>,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    index: HashMap<u32, u32>,
    audiences: Vec<Vec<u32>>,
    run: Vec<Arc<Parcel>>,
    run_bytes: usize,
    segments: Vec<Segment>,
    chain: Vec<Owed>,
    dirty: Vec<u32>,
    stamp: u64,
    closing: Vec<(Instant, u32)>,
    /// When the clock was last looked at.
    ticked: Instant,
    pings: Round,
    ping: Bytes,
    /// One for each of the hub's heartbeats.
    heartbeats: Vec<Round>,
    tally: Tally,
    since_yield: usize,
}

impl Shard {
    pub(super) fn new(number: usize, hub: Arc<Inner>) -> Self {
        Self {
            number,
            hub,
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
            audiences: Vec::new(),
            run: Vec::new(),
            run_bytes: 0,
            segments: Vec::new(),
            chain: Vec::new(),
            dirty: Vec::new(),
            stamp: 0,
            closing: Vec::new(),
            ticked: Instant::now(),
            pings: Round::default(),
            ping: frame::ping(),
            heartbeats: Vec::new(),
            tally: Tally::default(),
            since_yield: 0,
        }
    }

    /// Serves the inbox for as long as the hub exists.
    pub(super) async fn run(mut self) {
        let hub = self.hub.clone();
        let inbox = &hub.inboxes[self.number];
        let mut commands = Vec::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = inbox.filled() => {}
                _ = tick.tick() => self.tick(),
                () = hub.stopped() => return,
            }
            inbox.take(&mut commands);
            for command in commands.drain(..) {
                self.obey(command).await;
            }
            self.flush().await;
            self.account();
        }
    }

    async fn obey(&mut self, command: Command) {
        if let Command::Deliver(parcel) = command {
            self.run_bytes += parcel.frame.len();
            self.run.push(parcel);
            if self.run_bytes >= RUN_BYTES || self.run.len() >= RUN_PARCELS {
                self.flush().await;
            }
            return;
        }
        // Everything else changes who gets what: pushes before it go out first.
        self.flush().await;
        match command {
            Command::Deliver(_) => {}
            Command::Open { counter, audiences, greeting, heartbeat } => {
                self.open(counter, audiences, greeting, heartbeat);
            }
            Command::Attach { counter, socket } => self.attach(counter, socket),
            Command::Join { counter, audience } => {
                if let Some(&slot) = self.index.get(&counter) {
                    self.join(slot, audience);
                }
            }
            Command::Leave { counter, audience } => self.leave(counter, audience),
            Command::Send { counter, frame, part, written } => {
                // Dropping `written` tells that the connection is gone.
                if let Some(&slot) = self.index.get(&counter) {
                    self.send(slot, frame, part, written);
                }
            }
            Command::Abort { counter } => {
                if let Some(&slot) = self.index.get(&counter) {
                    self.abort(slot);
                }
            }
            Command::Close { counter, frame, reason, written } => {
                if let Some(&slot) = self.index.get(&counter) {
                    self.close(slot, frame, reason, written);
                }
            }
            Command::Gap(audiences) => self.gap(audiences),
            Command::Writable { counter } => {
                if let Some(&slot) = self.index.get(&counter) {
                    self.drain(slot);
                }
            }
            Command::Forget { counter } => self.forget(counter),
        }
    }

    fn slot(&mut self, slot: u32) -> Option<&mut Slot> {
        self.slots.get_mut(slot as usize).and_then(Option::as_mut)
    }

    fn open(&mut self, counter: u32, audiences: Numbers, greeting: Vec<Bytes>, heartbeat: Option<HeartbeatNumber>) {
        let mut backlog = Backlog::default();
        for frame in greeting {
            backlog.push(frame);
        }
        self.tally.unsent += backlog.bytes() as i64;
        let slot = Slot {
            counter,
            socket: None,
            backlog: Some(Box::new(backlog)),
            memberships: SmallVec::new(),
            stamp: 0,
            owed: (NONE, NONE),
            missed_pings: 0,
            heartbeat,
            closing: false,
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[number as usize] = Some(slot);
                number
            }
            None => {
                self.slots.push(Some(slot));
                (self.slots.len() - 1) as u32
            }
        };
        self.index.insert(counter, number);
        for audience in audiences {
            self.join(number, audience);
        }
    }

    fn attach(&mut self, counter: u32, socket: Arc<Socket>) {
        let Some(&number) = self.index.get(&counter) else {
            socket.shutdown();
            return;
        };
        if let Some(slot) = self.slot(number) {
            slot.socket = Some(socket);
        }
        self.drain(number);
    }

    fn join(&mut self, number: u32, audience: AudienceNumber) {
        if self.audiences.len() <= audience as usize {
            self.audiences.resize_with(audience as usize + 1, Vec::new);
        }
        let members = &mut self.audiences[audience as usize];
        if let Some(slot) = self.slots[number as usize].as_mut() {
            slot.memberships.push(Membership { audience, position: members.len() as u32 });
            members.push(number);
        }
    }

    fn leave(&mut self, counter: u32, audience: AudienceNumber) {
        let Some(&number) = self.index.get(&counter) else { return };
        let Some(slot) = self.slot(number) else { return };
        if let Some(at) = slot.memberships.iter().position(|m| m.audience == audience) {
            let membership = slot.memberships.swap_remove(at);
            self.strike(membership);
        }
    }

    /// Takes one member out of an audience's array; the last member moves to its place.
    fn strike(&mut self, Membership { audience, position }: Membership) {
        let members = &mut self.audiences[audience as usize];
        members.swap_remove(position as usize);
        if members.is_empty() {
            *members = Vec::new();
        } else if let Some(&moved) = members.get(position as usize)
            && let Some(slot) = self.slots[moved as usize].as_mut()
            && let Some(membership) = slot.memberships.iter_mut().find(|m| m.audience == audience)
        {
            membership.position = position;
        }
    }

    fn strike_all(&mut self, number: u32) {
        let Some(slot) = self.slot(number) else { return };
        for membership in std::mem::take(&mut slot.memberships) {
            self.strike(membership);
        }
    }

    fn forget(&mut self, counter: u32) {
        let Some(number) = self.index.remove(&counter) else { return };
        self.hub.held.fetch_sub(1, Ordering::Relaxed);
        self.strike_all(number);
        if let Some(slot) = self.slots[number as usize].take()
            && let Some(backlog) = &slot.backlog
        {
            self.tally.unsent -= backlog.bytes() as i64;
        }
        self.free.push(number);
    }

    /// Out of all audiences, a last frame, and an end to the stream if the peer does not end it.
    fn close(&mut self, number: u32, frame: Bytes, reason: CloseReason, written: Option<oneshot::Sender<()>>) {
        self.strike_all(number);
        if reason == CloseReason::SlowConsumer
            && let Some(slot) = self.slot(number)
            && let Some(backlog) = &mut slot.backlog
        {
            let before = backlog.bytes();
            backlog.keep_front(slot.socket.as_ref().map_or(0, |socket| socket.begun()));
            let dropped = before - backlog.bytes();
            self.tally.unsent -= dropped as i64;
        }
        // A close frame may stand within a message in fragments, but nothing follows it (RFC 6455, section 5.4).
        self.drop_held(number);
        match written {
            Some(written) => self.reply(number, frame, written),
            None => self.enqueue(number, &[frame], 0, Whose::Own),
        }
        if let Some(slot) = self.slot(number)
            && !std::mem::replace(&mut slot.closing, true)
        {
            let counter = slot.counter;
            self.closing.push((Instant::now() + CLOSE_TIMEOUT, counter));
        }
    }

    /// Out of all audiences, and an end to the stream as it is.
    fn abort(&mut self, number: u32) {
        self.strike_all(number);
        self.cut(number);
    }

    /// Ends the stream as it is, or is broken already. Whoever waits for a frame to be written hears of it now; the session's reader
    /// finds the end and says why.
    fn cut(&mut self, number: u32) {
        let Some(slot) = self.slots[number as usize].as_mut() else { return };
        slot.closing = true;
        if let Some(backlog) = slot.backlog.take() {
            self.tally.unsent -= backlog.bytes() as i64;
        }
        if let Some(socket) = &slot.socket {
            socket.shutdown();
        }
    }

    /// Gives what has been counted to the metrics.
    fn account(&mut self) {
        let tally = std::mem::take(&mut self.tally);
        let metrics = &self.hub.metrics;
        if tally.writes + tally.deliveries > 0 {
            metrics.deliveries.inc_by(tally.deliveries);
            metrics.writes.inc_by(tally.writes);
            metrics.bytes.inc_by(tally.bytes);
        }
        if tally.unsent != 0 {
            metrics.unsent.add(tally.unsent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shard_has_of_a_connection_is_small() {
        assert!(size_of::<Option<Slot>>() <= 72, "{} bytes", size_of::<Option<Slot>>());
    }
}
