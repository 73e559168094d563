//! What one worker counted, and the merging of several.

use hdrhistogram::Histogram;

use crate::timeline::Timeline;

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
    /// Of `answers`, those with the status that their requests must have.
    as_expected: u64,
    /// Events of requests that were answered 200.
    pub events: u64,
    /// Requests that the server has to refuse, and did with the status it must.
    pub refused: u64,
    /// Sent, at least in part, and never answered.
    pub lost: u64,
    /// Due by the schedule, never sent.
    pub unsent: u64,
    pub sent_bytes: u64,
    pub connections_opened: u64,
    pub connections_lost: u64,
    pub connect_errors: u64,
    /// Closed by ourselves, all requests answered.
    pub connections_retired: u64,
    /// Why the last connection that broke or could not be made did so.
    pub last_connection_error: Option<String>,
    /// From the first byte handed to the kernel to the whole answer.
    pub latency_ns: Histogram<u64>,
    /// From when the request was meant to be sent to the whole answer.
    pub corrected_latency_ns: Histogram<u64>,
    /// From when a request was due and its connection free to when it was begun: what the generator
    /// itself was late by. Nothing without a schedule.
    pub lateness_ns: Histogram<u64>,
    pub timeline: Timeline,
    /// When the last answer came, after the start.
    pub last_answer_ns: u64,
}

/// A request that was answered: when it was meant to be sent and was, and what it was.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub intended_ns: u64,
    pub sent_ns: u64,
    pub events: u32,
    /// The only right answer to it.
    pub expected_status: u16,
}

impl Tally {
    pub fn new(timeline: Timeline) -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS)
                .expect("the bounds are constants that the histogram accepts")
        };
        Tally {
            answers_by_status: vec![0; STATUS_END - STATUS_MIN],
            answers: 0,
            as_expected: 0,
            events: 0,
            refused: 0,
            lost: 0,
            unsent: 0,
            sent_bytes: 0,
            connections_opened: 0,
            connections_lost: 0,
            connect_errors: 0,
            connections_retired: 0,
            last_connection_error: None,
            latency_ns: histogram(),
            corrected_latency_ns: histogram(),
            lateness_ns: histogram(),
            timeline,
            last_answer_ns: 0,
        }
    }

    pub fn answered(&mut self, status: u16, now_ns: u64, asked: Asked) {
        let waited_ns = now_ns.saturating_sub(asked.intended_ns);
        self.answers_by_status[usize::from(status) - STATUS_MIN] += 1;
        self.answers += 1;
        self.latency_ns.saturating_record(now_ns.saturating_sub(asked.sent_ns));
        self.corrected_latency_ns.saturating_record(waited_ns);
        self.last_answer_ns = now_ns;
        let interval = self.timeline.at(now_ns);
        interval.answers += 1;
        interval.latency.record(waited_ns);
        if status != asked.expected_status {
            interval.errors += 1;
            return;
        }
        self.as_expected += 1;
        if status == 200 {
            self.events += u64::from(asked.events);
            interval.events += u64::from(asked.events);
        } else {
            self.refused += 1;
        }
    }

    /// Counts requests that were due and not sent when the run ended at `now_ns`; `due_ns` tells of
    /// each of them when. Their latency is at least what had passed by then; leaving them out would
    /// hide exactly the slowest ones. Of very many, equal shares are recorded at each share's middle.
    pub fn record_unsent(&mut self, count: u64, now_ns: u64, due_ns: impl Fn(u64) -> u64) {
        self.unsent += count;
        let steps = count.min(UNSENT_STEPS);
        for step in 0..steps {
            let (from, to) = (count * step / steps, count * (step + 1) / steps);
            let waited_ns = now_ns.saturating_sub(due_ns(from + (to - 1 - from) / 2));
            self.corrected_latency_ns.saturating_record_n(waited_ns, to - from);
        }
    }

    pub fn status_counts(&self) -> impl Iterator<Item = (u16, u64)> {
        let statuses = STATUS_MIN as u16..STATUS_END as u16;
        statuses.zip(self.answers_by_status.iter().copied()).filter(|&(_, count)| count > 0)
    }

    pub fn answers(&self) -> u64 {
        self.answers
    }

    /// Requests not answered as they must be (200, but for those that are sent to be refused),
    /// including those that a failed connection took with it.
    pub fn errors(&self) -> u64 {
        self.answers - self.as_expected + self.lost
    }

    pub fn merge(&mut self, other: &Tally) {
        for (sum, count) in self.answers_by_status.iter_mut().zip(&other.answers_by_status) {
            *sum += count;
        }
        self.answers += other.answers;
        self.as_expected += other.as_expected;
        self.events += other.events;
        self.refused += other.refused;
        self.lost += other.lost;
        self.unsent += other.unsent;
        self.sent_bytes += other.sent_bytes;
        self.connections_opened += other.connections_opened;
        self.connections_lost += other.connections_lost;
        self.connect_errors += other.connect_errors;
        self.connections_retired += other.connections_retired;
        if let Some(error) = &other.last_connection_error {
            self.last_connection_error = Some(error.clone());
        }
        let merged = self.latency_ns.add(&other.latency_ns).is_ok()
            && self.corrected_latency_ns.add(&other.corrected_latency_ns).is_ok()
            && self.lateness_ns.add(&other.lateness_ns).is_ok();
        assert!(merged, "all tallies' histograms have the same bounds");
        self.timeline.merge(&other.timeline);
        self.last_answer_ns = self.last_answer_ns.max(other.last_answer_ns);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn tally() -> Tally {
        Tally::new(Timeline::new(Duration::from_secs(1), Duration::ZERO))
    }

    #[test]
    fn merged_tallies_are_the_sum() {
        let (mut a, mut b) = (tally(), tally());
        let asked = Asked { intended_ns: 500, sent_ns: 1_000, events: 7, expected_status: 200 };
        a.answered(200, 5_000, asked);
        b.answered(200, 9_000, asked);
        b.answered(503, 7_000, asked);
        b.lost = 2;
        b.refused = 5;
        b.lateness_ns.record(100).unwrap();
        a.merge(&b);
        assert_eq!(a.status_counts().collect::<Vec<_>>(), [(200, 2), (503, 1)]);
        assert_eq!((a.events, a.answers(), a.errors()), (14, 3, 3));
        assert_eq!((a.latency_ns.len(), a.lateness_ns.len(), a.refused), (3, 1, 5));
        assert_eq!(a.last_answer_ns, 7_000);
        let first = &a.timeline.intervals()[0];
        assert_eq!((first.answers, first.events, first.errors), (3, 14, 1));
    }

    /// A request that must be refused is right when it is, and wrong when it is taken.
    #[test]
    fn refusals_that_must_be_are_no_errors() {
        let mut tally = tally();
        let asked = Asked { intended_ns: 0, sent_ns: 0, events: 7, expected_status: 400 };
        tally.answered(400, 1, asked);
        assert_eq!((tally.errors(), tally.refused, tally.events), (0, 1, 0));
        tally.answered(200, 1, asked);
        tally.answered(401, 1, asked);
        assert_eq!((tally.errors(), tally.refused, tally.events), (2, 1, 0));
    }

    #[test]
    fn unsent_requests_count_with_what_they_waited() {
        for count in [1, 2, 999, 1_000, 1_001, 123_456] {
            let mut tally = tally();
            tally.record_unsent(count, 2_000_000, |number| number * 1_000_000 / count);
            assert_eq!(tally.unsent, count);
            assert_eq!(tally.corrected_latency_ns.len(), count);
            assert!(tally.corrected_latency_ns.max() <= 2_001_000, "{count}");
            assert!(tally.corrected_latency_ns.min() >= 999_000, "{count}");
            assert_eq!(tally.latency_ns.len(), 0);
        }
    }
}
