//! What a shard does by the clock, and about gaps: pings, heartbeats, streams that their peers did not end.

use super::super::heartbeat::Round;
use super::super::inbox::Command;
use super::super::roster::Numbers;
use super::super::socket::CloseReason;
use super::super::{GapPolicy, frame};
use super::write::Whose;
use super::{Shard, Slot, TICK};
use std::time::Duration;
use tokio::time::Instant;

/// Unanswered pings after which a connection is dead.
const MISSED_PINGS: u8 = 2;

impl Shard {
    /// Ends streams whose peers did not, and gives the next slice of connections its pings and heartbeats.
    pub(super) fn tick(&mut self) {
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
        let elapsed = now - std::mem::replace(&mut self.ticked, now);
        let interval = self.hub.limits.ping_interval;
        if !interval.is_zero() {
            for number in self.pings.turn(self.slots.len(), elapsed, interval, TICK) {
                self.ping(number as u32);
            }
        }
        self.beat(elapsed);
    }

    /// Sends the next slice of connections its heartbeat. One that has not read what it is owed needs none.
    fn beat(&mut self, elapsed: Duration) {
        let hub = self.hub.clone();
        let Some(heartbeats) = hub.heartbeats.get() else { return };
        let mut sent = 0;
        for (at, (number, interval, frame)) in heartbeats.iter().enumerate() {
            if self.heartbeats.len() <= at {
                self.heartbeats.push(Round::default());
            }
            let frame = [frame.clone()];
            for slot in self.heartbeats[at].turn(self.slots.len(), elapsed, *interval, TICK) {
                if let Some(Some(Slot { heartbeat, backlog: None, closing: false, .. })) = self.slots.get(slot)
                    && *heartbeat == Some(*number)
                {
                    self.write(slot as u32, &frame, 0);
                    sent += 1;
                }
            }
        }
        if sent > 0 {
            hub.metrics.heartbeats.inc_by(sent);
        }
    }

    fn ping(&mut self, number: u32) {
        let Some(slot) = self.slots[number as usize].as_mut() else { return };
        let Some(socket) = &slot.socket else { return };
        let progress = slot.backlog.as_mut().is_some_and(|backlog| std::mem::take(&mut backlog.progress));
        // Whoever does not read from it hears no pong.
        if socket.was_heard() || socket.is_paused() || progress {
            slot.missed_pings = 0;
        } else {
            slot.missed_pings += 1;
        }
        if slot.missed_pings > MISSED_PINGS {
            let counter = slot.counter;
            let socket = socket.clone();
            slot.closing = true;
            // Before its session can find the stream ended, which would count as another reason.
            self.hub.strike(counter, CloseReason::PingTimeout);
            socket.shutdown();
            self.strike_all(number);
        } else if slot.backlog.as_ref().is_none_or(|backlog| backlog.is_holding() && !backlog.watched) {
            let ping = [self.ping.clone()];
            self.enqueue(number, &ping, 0, Whose::Own);
            self.drain(number);
        }
    }

    /// Members of these audiences may have missed pushes: counted, and told or closed where that is configured.
    pub(super) fn gap(&mut self, audiences: Option<Numbers>) {
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
}
