//! A shard owns a part of the node's sockets and is the only one that writes to them.
//!
//! It takes all commands that wait, gathers pushes that follow each other into a *run*, and writes each socket once with
//! everything the run owes it. With nothing else waiting a push is written at once; under load runs form by
//! themselves. Where a whole run goes to one audience it is one buffer, built once.

use super::backlog::Backlog;
use super::inbox::{Command, Parcel, To};
use super::roster::{AudienceNumber, Numbers};
use super::socket::{CloseReason, Socket};
use super::{GapPolicy, Inner, frame};
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior};

/// A run is written out at this many bytes or parcels, so that the first of it does not wait for the last.
const RUN_BYTES: usize = 256 << 10;
const RUN_PARCELS: usize = 1024;

/// Frames that follow each other to the same audience become one buffer up to this size.
const SEGMENT_BYTES: usize = 64 << 10;

/// After this many sockets written to, the runtime's other tasks get their turn: about a millisecond of writing.
const WRITES_BETWEEN_YIELDS: usize = 256;

/// How often pings are due; each time a slice of the connections gets theirs, so that they spread over the interval.
const TICK: Duration = Duration::from_millis(200);

/// How long a closed connection's peer has to answer the close frame before the stream is ended.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Unanswered pings after which a connection is dead.
const MISSED_PINGS: u8 = 2;

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
    next_ping: usize,
    ping_credit: f64,
    ping: Bytes,
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
            next_ping: 0,
            ping_credit: 0.0,
            ping: frame::ping(),
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
            Command::Open { counter, audiences, greeting } => self.open(counter, audiences, greeting),
            Command::Attach { counter, socket } => self.attach(counter, socket),
            Command::Join { counter, audience } => {
                if let Some(&slot) = self.index.get(&counter) {
                    self.join(slot, audience);
                }
            }
            Command::Leave { counter, audience } => self.leave(counter, audience),
            Command::Send { counter, frame, written } => {
                // Dropping `written` tells that the connection is gone.
                if let Some(&slot) = self.index.get(&counter) {
                    self.reply(slot, frame, written);
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

    /// Writes a frame that somebody waits for.
    fn reply(&mut self, number: u32, frame: Bytes, written: oneshot::Sender<()>) {
        let bytes = frame.len();
        self.enqueue(number, &[frame], 0);
        let Some(slot) = self.slot(number) else { return };
        match &mut slot.backlog {
            Some(backlog) => backlog.is_reply(bytes, written),
            // Whoever waited may have left.
            None => drop(written.send(())),
        }
    }

    fn open(&mut self, counter: u32, audiences: Numbers, greeting: Vec<Bytes>) {
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
            backlog.keep_front();
            let dropped = before - backlog.bytes();
            self.tally.unsent -= dropped as i64;
        }
        match written {
            Some(written) => self.reply(number, frame, written),
            None => self.enqueue(number, &[frame], 0),
        }
        if let Some(slot) = self.slot(number)
            && !std::mem::replace(&mut slot.closing, true)
        {
            let counter = slot.counter;
            self.closing.push((Instant::now() + CLOSE_TIMEOUT, counter));
        }
    }

    // ---- delivering ----

    /// Writes the run out.
    async fn flush(&mut self) {
        if self.run.is_empty() {
            return;
        }
        let run = std::mem::take(&mut self.run);
        self.run_bytes = 0;
        self.cut_into_segments(&run);
        let writes_before = self.tally.writes;
        let deliveries_before = self.tally.deliveries;
        if let [segment] = &self.segments[..]
            && let Parcel { to: To::Audience(audience), .. } = &*run[segment.first]
            && run[segment.first].is_plain()
        {
            let (buffer, messages) = ([segment.bytes.clone()], segment.messages);
            let mut at = 0;
            // By position: the array may change while the runtime's other tasks have their turn only through this task.
            while let Some(&number) = self.audiences.get(*audience as usize).and_then(|members| members.get(at)) {
                self.write(number, &buffer, messages);
                // A slow consumer closed just now has left the array, and another member stands in its place.
                if self.audiences[*audience as usize].get(at) == Some(&number) {
                    at += 1;
                }
                self.give_way().await;
            }
        } else {
            self.owe(&run);
            self.pay().await;
        }
        let writes = self.tally.writes - writes_before;
        if writes > 0 {
            let now = micros();
            for parcel in &run {
                self.hub.metrics.latency.observe(now.saturating_sub(parcel.taken_at) as f64 / 1e6);
            }
            let messages = (self.tally.deliveries - deliveries_before) as f64 / writes as f64;
            self.hub.metrics.messages_per_write.observe(messages);
        }
        self.segments.clear();
        self.run = run;
        self.run.clear();
    }

    /// Frames that follow each other to the same recipients become one buffer.
    fn cut_into_segments(&mut self, run: &[Arc<Parcel>]) {
        let mut first = 0;
        while first < run.len() {
            let mut end = first + 1;
            let mut bytes = run[first].frame.len();
            while end < run.len() && together(&run[first], &run[end]) && bytes + run[end].frame.len() <= SEGMENT_BYTES {
                bytes += run[end].frame.len();
                end += 1;
            }
            let joined = if end - first == 1 {
                run[first].frame.clone()
            } else {
                let mut joined = BytesMut::with_capacity(bytes);
                run[first..end].iter().for_each(|parcel| joined.extend_from_slice(&parcel.frame));
                joined.freeze()
            };
            self.segments.push(Segment { bytes: joined, messages: (end - first) as u64, first });
            first = end;
        }
    }

    /// Chains each segment to every slot that gets it.
    fn owe(&mut self, run: &[Arc<Parcel>]) {
        for segment in 0..self.segments.len() {
            self.stamp += 1;
            let stamp = self.stamp;
            let parcel = &run[self.segments[segment].first];
            for counter in &parcel.exclude {
                if let Some(&number) = self.index.get(counter)
                    && let Some(slot) = self.slot(number)
                {
                    slot.stamp = stamp;
                }
            }
            for audience in &parcel.exclude_audiences {
                for at in 0..self.audiences.get(*audience as usize).map_or(0, Vec::len) {
                    let number = self.audiences[*audience as usize][at];
                    if let Some(slot) = self.slot(number) {
                        slot.stamp = stamp;
                    }
                }
            }
            match &parcel.to {
                To::All => (0..self.slots.len()).for_each(|number| self.owe_one(number as u32, segment, stamp)),
                To::Audience(audience) => self.owe_audience(*audience, segment, stamp),
                To::Audiences(audiences) => {
                    audiences.iter().for_each(|audience| self.owe_audience(*audience, segment, stamp));
                }
                To::Connection(counter) => {
                    if let Some(&number) = self.index.get(counter) {
                        self.owe_one(number, segment, stamp);
                    }
                }
            }
        }
    }

    fn owe_audience(&mut self, audience: AudienceNumber, segment: usize, stamp: u64) {
        for at in 0..self.audiences.get(audience as usize).map_or(0, Vec::len) {
            self.owe_one(self.audiences[audience as usize][at], segment, stamp);
        }
    }

    fn owe_one(&mut self, number: u32, segment: usize, stamp: u64) {
        let Some(slot) = self.slots[number as usize].as_mut() else { return };
        if slot.stamp == stamp || slot.closing {
            return;
        }
        slot.stamp = stamp;
        let link = self.chain.len() as u32;
        self.chain.push(Owed { segment: segment as u32, next: NONE });
        if slot.owed.0 == NONE {
            slot.owed = (link, link);
            self.dirty.push(number);
        } else {
            self.chain[slot.owed.1 as usize].next = link;
            slot.owed.1 = link;
        }
    }

    /// Writes to each slot what it is owed.
    async fn pay(&mut self) {
        let mut buffers: Vec<Bytes> = Vec::new();
        while let Some(number) = self.dirty.pop() {
            let Some(slot) = self.slot(number) else { continue };
            let mut link = std::mem::replace(&mut slot.owed, (NONE, NONE)).0;
            let mut messages = 0;
            while link != NONE {
                let Owed { segment, next } = self.chain[link as usize];
                let segment = &self.segments[segment as usize];
                buffers.push(segment.bytes.clone());
                messages += segment.messages;
                link = next;
            }
            self.write(number, &buffers, messages);
            buffers.clear();
            self.give_way().await;
        }
        self.chain.clear();
    }

    async fn give_way(&mut self) {
        self.since_yield += 1;
        if self.since_yield >= WRITES_BETWEEN_YIELDS {
            self.since_yield = 0;
            tokio::task::yield_now().await;
        }
    }

    /// Writes pushes; a connection that leaves too much unread is closed.
    fn write(&mut self, number: u32, buffers: &[Bytes], messages: u64) {
        self.enqueue(number, buffers, messages);
        if let Some(Some(Slot { counter, backlog: Some(backlog), closing: false, .. })) =
            self.slots.get(number as usize)
            && backlog.unread() > self.hub.limits.max_unsent
        {
            self.give_up(number, *counter);
        }
    }

    /// Writes buffers, or what the kernel does not take of them to the slot's own backlog.
    fn enqueue(&mut self, number: u32, buffers: &[Bytes], messages: u64) {
        let Some(slot) = self.slots[number as usize].as_mut() else { return };
        if slot.closing {
            return;
        }
        self.tally.deliveries += messages;
        let mut sent = 0;
        if slot.backlog.is_none()
            && let Some(socket) = &slot.socket
        {
            let total: usize = buffers.iter().map(Bytes::len).sum();
            self.tally.writes += 1;
            match socket.write(buffers) {
                Ok(written) => {
                    self.tally.bytes += written as u64;
                    if written == total {
                        return;
                    }
                    sent = written;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    // The session's reader finds the end and says why.
                    socket.shutdown();
                    return;
                }
            }
        }
        let backlog = slot.backlog.get_or_insert_default();
        for buffer in buffers {
            if sent >= buffer.len() {
                sent -= buffer.len();
            } else {
                let rest = buffer.slice(sent..);
                sent = 0;
                self.tally.unsent += rest.len() as i64;
                backlog.push(rest);
            }
        }
        if let Some(socket) = &slot.socket
            && !backlog.watched
        {
            backlog.watched = true;
            self.hub.watch_writable(self.number, slot.counter, socket.clone());
        }
    }

    /// A slow reader costs its own buffer, and then its connection.
    fn give_up(&mut self, number: u32, counter: u32) {
        self.hub.metrics.slow_consumers.inc();
        tracing::info!(
            connection = counter,
            limit = self.hub.limits.max_unsent,
            "slow consumer: a connection has more unsent bytes than MAX_UNSENT allows and is closed with 4008"
        );
        if self.hub.strike(counter, CloseReason::SlowConsumer) {
            self.close(number, frame::close(4008, "slow consumer"), CloseReason::SlowConsumer, None);
        }
    }

    /// The socket is writable: writes what waits for it.
    fn drain(&mut self, number: u32) {
        let Some(slot) = self.slots[number as usize].as_mut() else { return };
        let (Some(socket), Some(backlog)) = (&slot.socket, &mut slot.backlog) else { return };
        backlog.watched = false;
        while !backlog.is_empty() {
            self.tally.writes += 1;
            match socket.write(backlog.front(super::socket::MAX_SLICES)) {
                Ok(written) => {
                    self.tally.bytes += written as u64;
                    self.tally.unsent -= written as i64;
                    backlog.advance(written);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    backlog.watched = true;
                    self.hub.watch_writable(self.number, slot.counter, socket.clone());
                    return;
                }
                Err(_) => {
                    socket.shutdown();
                    return;
                }
            }
        }
        slot.backlog = None;
    }

    // ---- time ----

    /// Ends streams whose peers did not, and pings the next slice of connections.
    fn tick(&mut self) {
        let now = Instant::now();
        let mut closing = std::mem::take(&mut self.closing);
        closing.retain(|(due, counter)| {
            if *due > now {
                return self.index.contains_key(counter);
            }
            if let Some(&number) = self.index.get(counter)
                && let Some(Some(Slot { socket: Some(socket), .. })) = self.slots.get(number as usize)
            {
                socket.shutdown();
            }
            false
        });
        self.closing = closing;
        if self.number == 0 {
            self.hub.metrics.queued.set(self.hub.budget.used() as i64);
            if self.hub.budget.recovered() {
                self.hub.inboxes.iter().for_each(|inbox| inbox.push(Command::Gap(None)));
            }
        }
        let interval = self.hub.limits.ping_interval;
        if interval.is_zero() || self.slots.is_empty() {
            return;
        }
        self.ping_credit += self.slots.len() as f64 * TICK.as_secs_f64() / interval.as_secs_f64();
        while self.ping_credit >= 1.0 {
            self.ping_credit -= 1.0;
            self.next_ping = if self.next_ping + 1 < self.slots.len() { self.next_ping + 1 } else { 0 };
            self.ping(self.next_ping as u32);
        }
    }

    fn ping(&mut self, number: u32) {
        let Some(slot) = self.slots[number as usize].as_mut() else { return };
        let Some(socket) = &slot.socket else { return };
        let progress = slot.backlog.as_mut().is_some_and(|backlog| std::mem::take(&mut backlog.progress));
        if socket.was_heard() || progress {
            slot.missed_pings = 0;
        } else {
            slot.missed_pings += 1;
        }
        if slot.missed_pings > MISSED_PINGS {
            let counter = slot.counter;
            socket.shutdown();
            slot.closing = true;
            self.hub.strike(counter, CloseReason::PingTimeout);
            self.strike_all(number);
        } else if slot.backlog.is_none() {
            let ping = [self.ping.clone()];
            self.write(number, &ping, 0);
        }
    }

    /// Members of these audiences may have missed pushes: counted, and told or closed where that is configured.
    fn gap(&mut self, audiences: Option<Numbers>) {
        self.stamp += 1;
        let mut affected = Vec::new();
        let mut note = |slots: &mut Vec<Option<Slot>>, number: u32| {
            if let Some(slot) = slots[number as usize].as_mut()
                && slot.stamp != self.stamp
                && !slot.closing
            {
                slot.stamp = self.stamp;
                affected.push((number, slot.counter));
            }
        };
        match audiences {
            None => (0..self.slots.len()).for_each(|number| note(&mut self.slots, number as u32)),
            Some(audiences) => {
                for number in audiences.iter().filter_map(|a| self.audiences.get(*a as usize)).flatten() {
                    note(&mut self.slots, *number);
                }
            }
        }
        self.hub.metrics.gaps.inc_by(affected.len() as u64);
        match self.hub.gap_policy.clone() {
            GapPolicy::Count => {}
            GapPolicy::Tell(frame) => {
                let frame = [frame];
                affected.iter().for_each(|(number, _)| self.write(*number, &frame, 0));
            }
            GapPolicy::Close => {
                let frame = frame::close(4009, "messages may have been missed");
                for (number, counter) in affected {
                    if self.hub.strike(counter, CloseReason::Gap) {
                        self.close(number, frame.clone(), CloseReason::Gap, None);
                    }
                }
            }
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

/// Whether two parcels go to exactly the same connections.
fn together(a: &Parcel, b: &Parcel) -> bool {
    a.is_plain()
        && b.is_plain()
        && match (&a.to, &b.to) {
            (To::All, To::All) => true,
            (To::Audience(a), To::Audience(b)) => a == b,
            (To::Connection(a), To::Connection(b)) => a == b,
            (To::All | To::Audience(_) | To::Audiences(_) | To::Connection(_), _) => false,
        }
}

/// Microseconds since 1970.
pub(super) fn micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
