//! How a run went over time: answers and latencies by interval, small enough to keep one for every
//! interval and to hand out while the run goes on. The report's percentiles are not from here.

use std::time::Duration;

/// Enough points for a plot; longer runs have longer intervals.
const INTERVALS_MAX: u64 = 240;
const INTERVAL_NS_MIN: u64 = 250_000_000;

/// Parts of each doubling: a value is known to 3 %.
const PARTS_BITS: u32 = 5;
const PARTS: usize = 1 << PARTS_BITS;
/// Longer latencies count as the longest that has a place, 36 minutes.
const DOUBLINGS: usize = 41 - PARTS_BITS as usize;
const PLACES: usize = (DOUBLINGS + 1) * PARTS;

/// A histogram of nanoseconds in 5 KiB.
#[derive(Clone, Debug)]
pub struct CoarseHistogram {
    counts: Box<[u32]>,
}

impl Default for CoarseHistogram {
    fn default() -> Self {
        CoarseHistogram { counts: vec![0; PLACES].into() }
    }
}

impl CoarseHistogram {
    #[inline]
    pub fn record(&mut self, ns: u64) {
        let count = &mut self.counts[place_of(ns)];
        *count = count.saturating_add(1);
    }

    pub fn copy_from(&mut self, other: &CoarseHistogram) {
        self.counts.copy_from_slice(&other.counts);
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().map(|&count| u64::from(count)).sum()
    }

    pub fn add(&mut self, other: &CoarseHistogram) {
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum = sum.saturating_add(*count);
        }
    }

    /// None when nothing was recorded.
    pub fn quantile_ns(&self, quantile: f64) -> Option<u64> {
        let total = self.count();
        let wanted = ((total as f64 * quantile).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        self.counts.iter().enumerate().find_map(|(place, &count)| {
            seen += u64::from(count);
            (seen >= wanted).then(|| middle_of(place))
        })
    }
}

fn place_of(ns: u64) -> usize {
    if ns < PARTS as u64 {
        return ns as usize;
    }
    let exponent = 63 - ns.leading_zeros();
    let part = (ns >> (exponent - PARTS_BITS)) as usize; // PARTS to 2 × PARTS - 1
    ((exponent - PARTS_BITS) as usize * PARTS + part).min(PLACES - 1)
}

fn middle_of(place: usize) -> u64 {
    if place < 2 * PARTS {
        return place as u64;
    }
    let shift = place / PARTS - 1;
    let first = ((place % PARTS + PARTS) as u64) << shift;
    first + (1 << shift) / 2
}

#[derive(Clone, Debug, Default)]
pub struct Interval {
    pub answers: u64,
    /// Events of requests that were answered 200.
    pub events: u64,
    pub errors: u64,
    /// From when each request was due.
    pub latency: CoarseHistogram,
}

impl Interval {
    fn add(&mut self, other: &Interval) {
        self.answers += other.answers;
        self.events += other.events;
        self.errors += other.errors;
        self.latency.add(&other.latency);
    }
}

pub struct Timeline {
    interval_ns: u64,
    /// What comes after the last one counts there.
    intervals: Vec<Interval>,
}

impl Timeline {
    /// For a run that lasts `duration`, with what the answers may take longer.
    pub fn new(duration: Duration, drain: Duration) -> Self {
        let interval_ns = Self::interval_ns_of(duration);
        let count = ((duration + drain).as_nanos() as u64).div_ceil(interval_ns);
        Timeline { interval_ns, intervals: vec![Interval::default(); count as usize] }
    }

    fn interval_ns_of(duration: Duration) -> u64 {
        let wanted_ns = (duration.as_nanos() as u64).div_ceil(INTERVALS_MAX);
        // Whole quarters of a second, so that the intervals' ends are round numbers.
        wanted_ns.div_ceil(INTERVAL_NS_MIN).max(1) * INTERVAL_NS_MIN
    }

    #[inline]
    pub fn at(&mut self, now_ns: u64) -> &mut Interval {
        let index = self.index_of(now_ns);
        &mut self.intervals[index]
    }

    #[inline]
    pub fn index_of(&self, now_ns: u64) -> usize {
        ((now_ns / self.interval_ns) as usize).min(self.intervals.len() - 1)
    }

    pub fn interval_s(&self) -> f64 {
        self.interval_ns as f64 / 1e9
    }

    pub fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    pub fn merge(&mut self, other: &Timeline) {
        for (sum, interval) in self.intervals.iter_mut().zip(&other.intervals) {
            sum.add(interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place is 3 % wide, and its middle stands for all of it.
    #[test]
    fn places_cover_all_values_to_three_percent() {
        let mut before = 0;
        for exponent in 0..40 {
            for part in [0.0, 0.01, 0.03, 0.3, 0.5, 0.99] {
                let ns = ((1u64 << exponent) as f64 * (1.0 + part)) as u64;
                let place = place_of(ns);
                assert!(place >= before, "{ns}");
                before = place;
                let error = (middle_of(place) as f64 / ns as f64 - 1.0).abs();
                assert!(error <= 0.016, "{ns}: {}", middle_of(place));
            }
        }
        assert_eq!(place_of(u64::MAX), PLACES - 1);
    }

    #[test]
    fn quantiles() {
        let mut histogram = CoarseHistogram::default();
        assert_eq!(histogram.quantile_ns(0.5), None);
        (1..=1_000).for_each(|us| histogram.record(us * 1_000));
        for (quantile, us) in [(0.0, 1.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let seen = histogram.quantile_ns(quantile).unwrap() as f64 / 1e3;
            assert!((seen / us - 1.0).abs() < 0.04, "{quantile}: {seen} µs");
        }
    }

    #[test]
    fn merged_timelines_are_the_sum() {
        let timeline = || Timeline::new(Duration::from_secs(1), Duration::ZERO);
        let (mut a, mut b) = (timeline(), timeline());
        for (timeline, count) in [(&mut a, 1), (&mut b, 10)] {
            for ns in [0, 999_999_999] {
                let interval = timeline.at(ns);
                interval.answers += count;
                interval.events += 2 * count;
                interval.errors += 3 * count;
                interval.latency.record(count);
            }
        }
        a.merge(&b);
        let sums = a.intervals().iter().map(|i| (i.answers, i.events, i.errors, i.latency.count()));
        assert_eq!(
            sums.collect::<Vec<_>>(),
            [(11, 22, 33, 2), (0, 0, 0, 0), (0, 0, 0, 0), (11, 22, 33, 2)]
        );
    }

    #[test]
    fn intervals_are_few_and_late_answers_have_a_place() {
        for (s, count, interval_s) in [(1, 44, 0.25), (60, 280, 0.25), (600, 244, 2.5)] {
            let mut timeline = Timeline::new(Duration::from_secs(s), Duration::from_secs(10));
            assert_eq!((timeline.intervals.len(), timeline.interval_s()), (count, interval_s));
            timeline.at(u64::MAX).answers += 1;
            assert_eq!(timeline.intervals.last().unwrap().answers, 1);
        }
    }
}
