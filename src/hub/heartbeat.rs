//! Messages that connections get again and again, so that proxies on the way keep them open and clients see that they are.

use super::frame;
use crate::model::Opcode;
use bytes::Bytes;
use std::num::NonZeroU8;
use std::time::Duration;

/// A text message, sent once an interval to each connection that was opened with its [`HeartbeatNumber`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Heartbeat {
    /// Time between two of them on a connection; those of all connections are spread over it. Zero: there are none.
    pub interval: Duration,
    /// The message.
    pub message: String,
}

/// A heartbeat's place in the hub's table: all that a connection has of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeartbeatNumber(NonZeroU8);

/// The hub's table, filled before the first connection, encoded once.
#[derive(Debug, Default)]
pub(super) struct Heartbeats(Vec<(HeartbeatNumber, Duration, Bytes)>);

impl Heartbeats {
    /// The table of these, and the number of each; those beyond 255, or without an interval, have none.
    pub(super) fn new(heartbeats: &[Heartbeat]) -> (Self, Vec<Option<HeartbeatNumber>>) {
        let mut table = Vec::new();
        let numbers = heartbeats.iter().map(|Heartbeat { interval, message }| {
            let free = u8::try_from(table.len() + 1).ok().and_then(NonZeroU8::new)?;
            let number = (!interval.is_zero()).then_some(HeartbeatNumber(free))?;
            table.push((number, *interval, frame::message(Opcode::Text, message.as_bytes())));
            Some(number)
        });
        let numbers = numbers.collect();
        (Self(table), numbers)
    }

    /// Number, interval and frame of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(HeartbeatNumber, Duration, Bytes)> {
        self.0.iter()
    }
}

/// Somebody's turn after the other, over and over: what everybody is to have once an interval, slice by slice.
#[derive(Debug, Default)]
pub(super) struct Round {
    next: usize,
    credit: f64,
}

impl Round {
    /// Whose turn it is, of `count`, when `elapsed` has passed since the last call; nobody's twice, however long that is.
    pub(super) fn turn(
        &mut self,
        count: usize,
        elapsed: Duration,
        interval: Duration,
    ) -> impl Iterator<Item = usize> + use<> {
        let due = self.credit + count as f64 * elapsed.as_secs_f64() / interval.as_secs_f64();
        let whole = (due.max(0.0) as usize).min(count);
        self.credit = (due - whole as f64).clamp(0.0, 1.0);
        let first = if self.next < count { self.next } else { 0 };
        self.next = first + whole;
        if self.next >= count {
            self.next -= count;
        }
        (first..first + whole).map(move |at| if at < count { at } else { at - count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(round: &mut Round, count: usize, ticks: usize, share: u64) -> Vec<Vec<usize>> {
        let tick = Duration::from_millis(200);
        (0..ticks).map(|_| round.turn(count, tick, tick * share as u32).collect()).collect()
    }

    #[test]
    fn everybody_has_a_turn_in_each_interval_and_slices_are_even() {
        for count in [1, 2, 3, 7, 100, 101] {
            let mut round = Round::default();
            for interval in 0..5 {
                let slices = turns(&mut round, count, 10, 10);
                let most = slices.iter().map(Vec::len).max();
                assert!(most <= Some(count / 10 + 1), "{count}, interval {interval}: {slices:?}");
                let all: Vec<usize> = slices.into_iter().flatten().collect();
                // A share of an interval may add up to a turn just after its end.
                assert!(all.len().abs_diff(count) <= 1, "{count}, interval {interval}: {all:?}");
                assert!(all.windows(2).all(|pair| pair[1] == (pair[0] + 1) % count), "{all:?}");
            }
        }
    }

    #[test]
    fn a_long_pause_is_one_round_and_not_several() {
        let mut round = Round::default();
        let turn: Vec<usize> = round.turn(3, Duration::from_secs(60), Duration::from_secs(1)).collect();
        assert_eq!(turn, [0, 1, 2]);
        assert_eq!(round.turn(0, Duration::from_secs(60), Duration::from_secs(1)).count(), 0);
        assert!(round.turn(3, Duration::ZERO, Duration::from_secs(1)).count() <= 1);
    }

    #[test]
    fn only_heartbeats_with_an_interval_have_a_number() {
        let beat = |seconds| Heartbeat { interval: Duration::from_secs(seconds), message: "hb".to_owned() };
        let (table, numbers) = Heartbeats::new(&[beat(0), beat(60), beat(0), beat(30)]);
        assert_eq!(numbers.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false, true]);
        let listed: Vec<_> = table.iter().map(|(number, interval, frame)| (*number, *interval, frame.len())).collect();
        let number = |at: usize| numbers[at].unwrap();
        assert_eq!(listed, [(number(1), Duration::from_secs(60), 4), (number(3), Duration::from_secs(30), 4)]);
        assert_eq!(size_of::<Option<HeartbeatNumber>>(), 1);
    }
}
