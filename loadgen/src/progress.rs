//! What workers tell of a run that goes on: copied out a few times a second, so that nobody who
//! looks disturbs the sending.

use std::sync::{Mutex, PoisonError};

use crate::tally::Tally;
use crate::timeline::CoarseHistogram;

const PUBLISH_NS: u64 = 200_000_000;

/// Of one worker, or the sum of several; all since the start.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub answers: u64,
    pub events: u64,
    pub errors: u64,
    pub sent_bytes: u64,
    /// From when each request was due.
    pub latency: CoarseHistogram,
}

/// Where one worker puts its latest snapshot.
#[derive(Default)]
pub struct Progress(Mutex<Snapshot>);

impl Progress {
    pub fn add_to(&self, sum: &mut Snapshot) {
        // A snapshot is replaced whole: there is no half of one that a panic could leave.
        let snapshot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sum.answers += snapshot.answers;
        sum.events += snapshot.events;
        sum.errors += snapshot.errors;
        sum.sent_bytes += snapshot.sent_bytes;
        sum.latency.add(&snapshot.latency);
    }
}

/// Makes a worker's snapshots.
#[derive(Default)]
pub struct Publisher {
    /// The latencies of the timeline's first intervals, in which nothing changes any more.
    closed: CoarseHistogram,
    closed_count: usize,
    next_ns: u64,
}

impl Publisher {
    /// Puts a snapshot out when it is time for one.
    pub fn publish(&mut self, now_ns: u64, tally: &Tally, progress: &Progress) {
        if now_ns < self.next_ns {
            return;
        }
        self.next_ns = now_ns + PUBLISH_NS;
        let intervals = tally.timeline.intervals();
        let current = tally.timeline.index_of(now_ns);
        for interval in &intervals[self.closed_count..current] {
            self.closed.add(&interval.latency);
        }
        self.closed_count = current;
        let mut snapshot = progress.0.lock().unwrap_or_else(PoisonError::into_inner);
        snapshot.answers = tally.answers();
        snapshot.events = tally.events;
        snapshot.errors = tally.errors();
        snapshot.sent_bytes = tally.sent_bytes;
        snapshot.latency.copy_from(&self.closed);
        snapshot.latency.add(&intervals[current].latency);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tally::Asked;
    use crate::timeline::Timeline;

    /// Every answer is in the next snapshot, whichever interval it fell into, and once.
    #[test]
    fn snapshots_hold_all_answers_so_far() {
        let mut tally = Tally::new(Timeline::new(Duration::from_secs(5), Duration::ZERO));
        let (mut publisher, progress) = (Publisher::default(), Progress::default());
        let asked = Asked { intended_ns: 0, sent_ns: 0, events: 2, expected_status: 200 };
        for step in 1..40_u64 {
            tally.answered(200, step * PUBLISH_NS, asked);
            publisher.publish(step * PUBLISH_NS, &tally, &progress);
            let mut sum = Snapshot::default();
            progress.add_to(&mut sum);
            assert_eq!((sum.answers, sum.events), (step, 2 * step));
            assert_eq!(sum.latency.count(), step);
        }
    }
}
