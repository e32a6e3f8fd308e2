//! A run of pushes on its way: cut into segments, owed to sockets, written.

use super::super::inbox::{Parcel, To};
use super::super::roster::AudienceNumber;
use super::{NONE, Owed, Segment, Shard};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Frames that follow each other to the same audience become one buffer up to this size.
const SEGMENT_BYTES: usize = 64 << 10;

/// After this many sockets written to, the runtime's other tasks get their turn: about a millisecond of writing.
const WRITES_BETWEEN_YIELDS: usize = 256;

impl Shard {
    /// Writes the run out.
    pub(super) async fn flush(&mut self) {
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
fn micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
