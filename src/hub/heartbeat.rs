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

/// Everybody's turn once an interval, slice by slice: which slice is whose is fixed, so that whoever comes or goes doesn't
/// move anybody else's turn.
#[derive(Debug, Default)]
pub(super) struct Round {
    next: usize,
    credit: f64,
}

impl Round {
    /// Whose turn it is, of `count`, when `elapsed` has passed since the last call; nobody's twice, however long that is. An
    /// interval is cut into slices of `tick`, or is one slice where it is shorter.
    pub(super) fn turn(
        &mut self,
        count: usize,
        elapsed: Duration,
        interval: Duration,
        tick: Duration,
    ) -> impl Iterator<Item = usize> + use<> {
        let slices = ((interval.as_secs_f64() / tick.as_secs_f64()).round() as usize).max(1);
        let due = self.credit + slices as f64 * elapsed.as_secs_f64() / interval.as_secs_f64();
        let whole = (due.max(0.0) as usize).min(slices);
        self.credit = (due - whole as f64).clamp(0.0, 1.0);
        let first = self.next % slices;
        self.next = (first + whole) % slices;
        // From the last to the first, so that the first clients of a node that has just started don't have theirs at once.
        (first..first + whole).flat_map(move |slice| (slices - 1 - slice % slices..count).step_by(slices))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(200);

    fn turn(round: &mut Round, count: usize, elapsed: Duration, interval: Duration) -> Vec<usize> {
        round.turn(count, elapsed, interval, TICK).collect()
    }

    #[test]
    fn everybody_has_a_turn_in_each_interval_and_slices_are_even() {
        for count in [1, 2, 3, 7, 100, 101] {
            let mut round = Round::default();
            for interval in 0..5 {
                let slices: Vec<_> = (0..10).map(|_| turn(&mut round, count, TICK, TICK * 10)).collect();
                let most = slices.iter().map(Vec::len).max();
                assert!(most <= Some(count.div_ceil(10)), "{count}, interval {interval}: {slices:?}");
                let mut all: Vec<usize> = slices.into_iter().flatten().collect();
                all.sort_unstable();
                assert_eq!(all, (0..count).collect::<Vec<_>>(), "{count}, interval {interval}");
            }
        }
    }

    #[test]
    fn nobody_waits_longer_than_an_interval_while_others_come_and_go() {
        let (mut round, interval, mut count) = (Round::default(), TICK * 50, 0);
        let mut waiting: Vec<usize> = Vec::new();
        for tick in 0..1000 {
            // A thousand come with each tick, then all but some leave, and come again.
            count = if tick % 300 == 299 { 10 } else { count + 1000 };
            waiting.resize(count, 0);
            waiting.iter_mut().for_each(|ticks| *ticks += 1);
            for number in turn(&mut round, count, TICK, interval) {
                waiting[number] = 0;
            }
            assert!(waiting.iter().all(|ticks| *ticks <= 51), "in tick {tick}");
        }
    }

    #[test]
    fn a_long_pause_is_one_round_and_not_several() {
        let mut round = Round::default();
        let (long, second) = (Duration::from_secs(60), Duration::from_secs(1));
        assert_eq!(turn(&mut round, 3, long, second), [2, 1, 0]);
        assert!(turn(&mut round, 0, long, second).is_empty());
        assert!(turn(&mut round, 3, Duration::ZERO, second).len() <= 1);
        // Shorter than a tick.
        assert_eq!(turn(&mut round, 3, TICK, TICK / 2), [0, 1, 2]);
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
