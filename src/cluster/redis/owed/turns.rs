//! Whose turn it is to be delivered from: plain data.

use super::bucket::BUCKETS;
use std::collections::{BTreeSet, HashMap};
use tokio::time::Instant;

/// Buckets that are delivered from at once.
const MOST_BUCKETS: usize = 16;

/// The buckets that may have something to deliver. They take turns, so that none waits for ever behind others that are never done.
#[derive(Default)]
pub(super) struct Turns {
    waiting: BTreeSet<usize>,
    busy: BTreeSet<usize>,
    /// Those that are left to other nodes, until when.
    resting: HashMap<usize, Instant>,
    /// Where the next one is looked for.
    next: usize,
}

impl Turns {
    /// These may have something; those that rest are passed over.
    pub(super) fn ask(&mut self, buckets: impl Iterator<Item = usize>, now: Instant) {
        self.resting.retain(|_, until| *until > now);
        self.waiting.extend(buckets.filter(|bucket| !self.resting.contains_key(bucket)));
    }

    /// The next one, which is busy until it has [`ended`](Self::ended).
    pub(super) fn next(&mut self) -> Option<usize> {
        if self.busy.len() >= MOST_BUCKETS {
            return None;
        }
        let mut in_turn = self.waiting.range(self.next..).chain(self.waiting.range(..self.next));
        let bucket = *in_turn.find(|bucket| !self.busy.contains(bucket))?;
        self.waiting.remove(&bucket);
        self.busy.insert(bucket);
        self.next = (bucket + 1) % BUCKETS;
        Some(bucket)
    }

    /// Its turn is over; it rests until then, if it is to.
    pub(super) fn ended(&mut self, bucket: usize, rests: Option<Instant>) {
        self.busy.remove(&bucket);
        if let Some(until) = rests {
            self.waiting.remove(&bucket);
            self.resting.insert(bucket, until);
        }
    }

    /// Nobody waits any more.
    pub(super) fn dismiss(&mut self) {
        self.waiting.clear();
    }

    /// How many are delivered from.
    pub(super) fn busy(&self) -> usize {
        self.busy.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn buckets_that_are_never_done_do_not_keep_the_others_from_their_turn() {
        let mut turns = Turns::default();
        let mut had = BTreeSet::new();
        let mut now = Instant::now();
        // Each takes longer than it rests, and all ask again and again.
        for _ in 0..BUCKETS.div_ceil(MOST_BUCKETS) {
            turns.ask(0..BUCKETS, now);
            let round: Vec<usize> = std::iter::from_fn(|| turns.next()).collect();
            assert_eq!((round.len(), turns.busy()), (MOST_BUCKETS, MOST_BUCKETS));
            now += Duration::from_secs(20);
            round.iter().for_each(|bucket| turns.ended(*bucket, Some(now + Duration::from_secs(5))));
            now += Duration::from_secs(5);
            had.extend(round);
        }
        assert_eq!(had.len(), BUCKETS);
    }

    #[tokio::test]
    async fn a_bucket_has_one_turn_at_a_time_and_none_while_it_rests() {
        let mut turns = Turns::default();
        let now = Instant::now();
        turns.ask([7].into_iter(), now);
        assert_eq!((turns.next(), turns.next()), (Some(7), None));
        turns.ask([7].into_iter(), now);
        assert_eq!(turns.next(), None);
        turns.ended(7, None);
        assert_eq!(turns.next(), Some(7), "it was asked for meanwhile");
        turns.ended(7, Some(now + Duration::from_secs(5)));
        turns.ask([7].into_iter(), now + Duration::from_secs(4));
        assert_eq!(turns.next(), None);
        turns.ask([7].into_iter(), now + Duration::from_secs(5));
        assert_eq!(turns.next(), Some(7));
        turns.ask(0..BUCKETS, now);
        turns.dismiss();
        assert_eq!(turns.next(), None);
    }
}
