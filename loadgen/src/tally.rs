//! What one worker counted, and the merging of several.

use hdrhistogram::Histogram;

/// Longer latencies count as this long.
const LATENCY_NS_MAX: u64 = 3_600 * 1_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

const STATUS_MIN: usize = 100;
const STATUS_END: usize = 600;

/// Steps in which a connection's unsent requests are recorded, see [`Tally::record_unsent`].
const UNSENT_STEPS: u64 = 1_000;

pub struct Tally {
    answers_by_status: Vec<u64>,
    /// Kept besides, because the progress line wants it all the time.
    answers: u64,
    /// Sent, at least in part, and never answered.
    pub lost: u64,
    /// Due by the schedule, never sent.
    pub unsent: u64,
    pub sent_bytes: u64,
    pub connections_opened: u64,
    pub connections_lost: u64,
    pub connect_errors: u64,
    /// Why the last connection that broke or could not be made did so.
    pub last_connection_error: Option<String>,
    /// From the first byte handed to the kernel to the whole answer.
    pub latency_ns: Histogram<u64>,
    /// From when the request was meant to be sent to the whole answer.
    pub corrected_latency_ns: Histogram<u64>,
    /// When the last answer came, after the start.
    pub last_answer_ns: u64,
}

impl Default for Tally {
    fn default() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS)
                .expect("the bounds are constants that the histogram accepts")
        };
        Tally {
            answers_by_status: vec![0; STATUS_END - STATUS_MIN],
            answers: 0,
            lost: 0,
            unsent: 0,
            sent_bytes: 0,
            connections_opened: 0,
            connections_lost: 0,
            connect_errors: 0,
            last_connection_error: None,
            latency_ns: histogram(),
            corrected_latency_ns: histogram(),
            last_answer_ns: 0,
        }
    }
}

impl Tally {
    pub fn answered(&mut self, status: u16, now_ns: u64, sent_ns: u64, intended_ns: u64) {
        self.answers_by_status[usize::from(status) - STATUS_MIN] += 1;
        self.answers += 1;
        self.latency_ns.saturating_record(now_ns.saturating_sub(sent_ns));
        self.corrected_latency_ns.saturating_record(now_ns.saturating_sub(intended_ns));
        self.last_answer_ns = now_ns;
    }

    /// Counts requests that were due at evenly spaced times and not sent when the run ended at
    /// `now_ns`. Their latency is at least what had passed by then; leaving them out would hide
    /// exactly the slowest ones. Of very many, equal shares are recorded at each share's middle.
    pub fn record_unsent(&mut self, count: u64, first_due_ns: u64, last_due_ns: u64, now_ns: u64) {
        self.unsent += count;
        let steps = count.min(UNSENT_STEPS);
        for step in 0..steps {
            let (from, to) = (count * step / steps, count * (step + 1) / steps);
            let span = u128::from(last_due_ns - first_due_ns);
            let due_ns = first_due_ns
                + (span * u128::from(from + to - 1) / u128::from((2 * (count - 1)).max(1))) as u64;
            let waited_ns = now_ns.saturating_sub(due_ns);
            self.corrected_latency_ns.saturating_record_n(waited_ns, to - from);
        }
    }

    pub fn status_counts(&self) -> impl Iterator<Item = (u16, u64)> {
        let statuses = STATUS_MIN as u16..STATUS_END as u16;
        statuses.zip(self.answers_by_status.iter().copied()).filter(|&(_, count)| count > 0)
    }

    pub fn acknowledged(&self) -> u64 {
        self.answers_by_status[200 - STATUS_MIN]
    }

    pub fn answers(&self) -> u64 {
        self.answers
    }

    /// Requests not answered 200, including those that a failed connection took with it.
    pub fn errors(&self) -> u64 {
        self.answers() - self.acknowledged() + self.lost
    }

    pub fn merge(&mut self, other: &Tally) {
        for (sum, count) in self.answers_by_status.iter_mut().zip(&other.answers_by_status) {
            *sum += count;
        }
        self.answers += other.answers;
        self.lost += other.lost;
        self.unsent += other.unsent;
        self.sent_bytes += other.sent_bytes;
        self.connections_opened += other.connections_opened;
        self.connections_lost += other.connections_lost;
        self.connect_errors += other.connect_errors;
        if let Some(error) = &other.last_connection_error {
            self.last_connection_error = Some(error.clone());
        }
        let merged = self.latency_ns.add(&other.latency_ns).is_ok()
            && self.corrected_latency_ns.add(&other.corrected_latency_ns).is_ok();
        assert!(merged, "all tallies' histograms have the same bounds");
        self.last_answer_ns = self.last_answer_ns.max(other.last_answer_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_tallies_are_the_sum() {
        let (mut a, mut b) = (Tally::default(), Tally::default());
        a.answered(200, 5_000, 1_000, 500);
        b.answered(200, 9_000, 1_000, 1_000);
        b.answered(503, 7_000, 0, 0);
        b.lost = 2;
        a.merge(&b);
        assert_eq!(a.status_counts().collect::<Vec<_>>(), [(200, 2), (503, 1)]);
        assert_eq!((a.acknowledged(), a.answers(), a.errors()), (2, 3, 3));
        assert_eq!(a.latency_ns.len(), 3);
        assert_eq!(a.last_answer_ns, 7_000);
    }

    #[test]
    fn unsent_requests_count_with_what_they_waited() {
        for count in [1, 2, 999, 1_000, 1_001, 123_456] {
            let mut tally = Tally::default();
            tally.record_unsent(count, 0, 1_000_000, 2_000_000);
            assert_eq!(tally.unsent, count);
            assert_eq!(tally.corrected_latency_ns.len(), count);
            assert!(tally.corrected_latency_ns.max() <= 2_001_000, "{count}");
            assert!(tally.corrected_latency_ns.min() >= 999_000, "{count}");
            assert_eq!(tally.latency_ns.len(), 0);
        }
    }
}
