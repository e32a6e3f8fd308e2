//! Quantiles of durations, counted by one thread and read by another.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Each power of two is divided in so many buckets: a quantile is at most 1/32 too high.
const STEPS_LOG2: u32 = 5;
const STEPS: u64 = 1 << STEPS_LOG2;
const BUCKETS: usize = ((64 - STEPS_LOG2 as usize) + 1) << STEPS_LOG2;

/// A histogram of nanoseconds with buckets of a constant relative width.
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
}

impl Default for Histogram {
    /// One without values.
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Histogram {
    /// Counts one value.
    pub fn record(&self, nanos: u64) {
        self.buckets[bucket(nanos)].fetch_add(1, Relaxed);
    }

    /// Takes what was counted up to now and begins anew.
    pub fn take(&self) -> Quantiles {
        Quantiles { counts: self.buckets.iter().map(|count| count.swap(0, Relaxed)).collect() }
    }
}

/// What a histogram had counted.
#[derive(Default)]
pub struct Quantiles {
    counts: Vec<u64>,
}

impl Quantiles {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        self.counts.resize(BUCKETS, 0);
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }

    /// The value that a share (0 to 1) of all values does not exceed, in nanoseconds: the upper end of its bucket.
    /// `None` without values.
    pub fn at(&self, share: f64) -> Option<u64> {
        let all: u64 = self.counts.iter().sum();
        let rank = ((all as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        self.counts.iter().enumerate().find_map(|(index, count)| {
            seen += count;
            (seen >= rank).then(|| upper_end(index))
        })
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < STEPS {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - STEPS_LOG2;
    ((u64::from(shift) << STEPS_LOG2) + (nanos >> shift)) as usize
}

fn upper_end(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let shift = (index >> STEPS_LOG2) - 1;
    let first = ((index & (STEPS - 1)) | STEPS) << shift;
    first + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket() {
        for nanos in [0, 1, 31, 32, 33, 63, 64, 65, 1_000, 123_456_789, u64::MAX / 2, u64::MAX] {
            let index = bucket(nanos);
            assert!(index < BUCKETS, "{nanos} is in bucket {index}");
            assert!(nanos <= upper_end(index), "{nanos} is above bucket {index}");
            assert!(index == 0 || nanos > upper_end(index - 1), "{nanos} is below bucket {index}");
        }
    }

    #[test]
    fn quantiles_are_within_a_bucket_of_the_truth() {
        let histogram = Histogram::default();
        (1..=1_000).for_each(|micros| histogram.record(micros * 1_000));
        let quantiles = histogram.take();
        for (share, truth) in [(0.5, 500_000.0), (0.99, 990_000.0), (1.0, 1_000_000.0)] {
            let found = quantiles.at(share).unwrap() as f64;
            assert!((truth..truth * 1.04).contains(&found), "{share}: {found} instead of {truth}");
        }
        assert_eq!(histogram.take().at(0.5), None);
    }
}
