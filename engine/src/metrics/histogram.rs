//! A histogram of microseconds with one bucket per power of two, written by one thread.

use super::{add, get};
use std::sync::atomic::AtomicU64;

/// Bucket `i` holds values up to 2^i µs; the last one holds everything longer than 2^24 µs, 17 s.
pub const HISTOGRAM_BUCKETS: usize = 26;

#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; HISTOGRAM_BUCKETS],
    sum_us: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: super::zeros(), sum_us: AtomicU64::default() }
    }
}

impl Histogram {
    #[inline]
    pub fn record(&self, us: u64) {
        self.record_many(us, 1);
    }

    /// Records `n` values of the same size, such as all requests that one sync released.
    #[inline]
    pub fn record_many(&self, us: u64, n: u64) {
        add(&self.buckets[bucket_of(us)], n);
        add(&self.sum_us, us.wrapping_mul(n));
    }
}

#[inline]
fn bucket_of(us: u64) -> usize {
    // The least i with us ≤ 2^i.
    let bits = u64::BITS - us.saturating_sub(1).leading_zeros();
    (bits as usize).min(HISTOGRAM_BUCKETS - 1)
}

/// The sum of histograms, in the form that the exposition takes.
#[derive(Default)]
pub(super) struct Merged {
    counts: [u64; HISTOGRAM_BUCKETS],
    sum_us: u64,
}

impl Merged {
    pub fn of<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> Merged {
        let mut merged = Merged::default();
        for histogram in histograms {
            for (count, bucket) in merged.counts.iter_mut().zip(&histogram.buckets) {
                *count += get(bucket);
            }
            merged.sum_us += get(&histogram.sum_us);
        }
        merged
    }

    pub fn sum_s(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Upper bound in seconds and count of each bucket, not cumulated.
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let bound = |index: usize| match index {
            last if last == HISTOGRAM_BUCKETS - 1 => f64::INFINITY,
            index => (1u64 << index) as f64 / 1e6,
        };
        self.counts.iter().enumerate().map(|(index, count)| (bound(index), *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_the_least_bucket_that_holds_it() {
        let check = |us: u64, bucket: usize| assert_eq!(bucket_of(us), bucket, "{us} µs");
        check(0, 0);
        check(1, 0);
        check(2, 1);
        check(3, 2);
        check(4, 2);
        check(5, 3);
        check(1 << 24, 24);
        check((1 << 24) + 1, 25);
        check(u64::MAX, 25);
    }

    #[test]
    fn merging_adds_up() {
        let (left, right) = (Histogram::default(), Histogram::default());
        left.record(3);
        right.record_many(1_000_000, 2);
        let merged = Merged::of([&left, &right].into_iter());
        assert_eq!(merged.count(), 3);
        assert!((merged.sum_s() - 2.000_003).abs() < 1e-9);
        assert_eq!(merged.buckets()[2], (4e-6, 1));
    }
}
