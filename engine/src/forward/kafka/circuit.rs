//! One producer's circuit breaker. Pure: time comes in as an argument.
//!
//! Closed, everything may go. It opens after so many failures in a row, or when something was in
//! flight for so long without any delivery. Open, nothing new goes. Records that are still in
//! librdkafka's hands are the probe: a delivery closes it, and so does a broker's refusal of a
//! record, as whoever refuses is there. When none are left, one block may go after `open_for`.

use super::failure::Sign;
use proto::breaker::BreakerState;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub struct CircuitLimits {
    pub failures_max: u32,
    pub open_for: Duration,
    /// Without a delivery for so long, while records are in flight, it opens.
    pub stall: Duration,
}

#[derive(Debug)]
pub struct Circuit {
    limits: CircuitLimits,
    state: State,
    failures: u32,
    in_flight: usize,
    /// While records are in flight: the last delivery, or when the first of them was sent.
    quiet_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open { until: Instant },
    Probing,
}

impl Circuit {
    pub fn new(limits: CircuitLimits) -> Circuit {
        Circuit { limits, state: State::Closed, failures: 0, in_flight: 0, quiet_since: None }
    }

    pub fn state(&self) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Probing => BreakerState::HalfOpen,
            State::Open { .. } => BreakerState::Open,
        }
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub fn may_send(&self, now: Instant) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until } => self.in_flight == 0 && now >= until,
            State::Probing => self.in_flight == 0,
        }
    }

    pub fn on_sent(&mut self, now: Instant) {
        if self.in_flight == 0 {
            self.quiet_since = Some(now);
        }
        self.in_flight += 1;
        if matches!(self.state, State::Open { .. }) {
            self.state = State::Probing;
        }
    }

    pub fn on_delivered(&mut self, now: Instant) {
        self.land(now);
        self.failures = 0;
        self.state = State::Closed;
    }

    pub fn on_failed(&mut self, now: Instant, sign: Sign) {
        if sign == Sign::Alive {
            return self.on_delivered(now);
        }
        let quiet_since = self.quiet_since;
        self.land(now);
        self.quiet_since = self.quiet_since.and(quiet_since);
        if sign == Sign::Nothing {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let opens = match self.state {
            State::Closed => self.failures >= self.limits.failures_max,
            State::Probing => true,
            State::Open { .. } => false,
        };
        if opens {
            self.open(now);
        }
    }

    /// No answer will come for what is in flight.
    pub fn on_producer_gone(&mut self) {
        self.in_flight = 0;
        self.quiet_since = None;
    }

    /// Looks at the time alone; gives whether it has just opened.
    pub fn tick(&mut self, now: Instant) -> bool {
        let stalled = |since: Instant| now.saturating_duration_since(since) >= self.limits.stall;
        let opens =
            self.quiet_since.is_some_and(stalled) && !matches!(self.state, State::Open { .. });
        if opens {
            self.open(now);
        }
        opens
    }

    /// When [`Self::tick`] or [`Self::may_send`] may say something new without anything happening.
    pub fn due(&self) -> Option<Instant> {
        match self.state {
            State::Open { until } if self.in_flight == 0 => Some(until),
            State::Open { .. } => None,
            State::Closed | State::Probing => {
                self.quiet_since.map(|since| since + self.limits.stall)
            }
        }
    }

    fn open(&mut self, now: Instant) {
        self.state = State::Open { until: now + self.limits.open_for };
    }

    fn land(&mut self, now: Instant) {
        self.in_flight = self.in_flight.checked_sub(1).expect("a report follows its record");
        self.quiet_since = (self.in_flight > 0).then_some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Sends,
        Waits,
        Delivered,
        Fails,
        /// A failure that says nothing about Kafka.
        Purged,
        /// The broker's word that it will never take this record.
        Refused,
        Ticks,
    }
    use BreakerState::{Closed, HalfOpen, Open};
    use Step::{Delivered, Fails, Purged, Refused, Sends, Ticks, Waits};

    /// Failures to open: 3; open for 1 s; stalled after 2 s.
    #[track_caller]
    fn check(steps: &[(u64, Step, BreakerState)]) {
        let limits = CircuitLimits {
            failures_max: 3,
            open_for: Duration::from_secs(1),
            stall: Duration::from_secs(2),
        };
        let start = Instant::now();
        let mut circuit = Circuit::new(limits);
        for (index, (at_ms, step, state)) in steps.iter().enumerate() {
            let now = start + Duration::from_millis(*at_ms);
            match step {
                Sends => {
                    assert!(circuit.may_send(now), "step {index}");
                    circuit.on_sent(now);
                }
                Waits => assert!(!circuit.may_send(now), "step {index}"),
                Delivered => circuit.on_delivered(now),
                Fails => circuit.on_failed(now, Sign::Failing),
                Purged => circuit.on_failed(now, Sign::Nothing),
                Refused => circuit.on_failed(now, Sign::Alive),
                Ticks => drop(circuit.tick(now)),
            }
            assert_eq!(circuit.state(), *state, "after step {index}: {step:?}");
        }
    }

    #[test]
    fn it_opens_after_failures_in_a_row() {
        let sent = [(0, Sends, Closed), (0, Sends, Closed), (0, Sends, Closed), (0, Sends, Closed)];
        let row = [(1, Fails, Closed), (2, Fails, Closed), (3, Fails, Open), (4, Waits, Open)];
        check(&[&sent[..], &row].concat());
        let broken = [(1, Fails, Closed), (2, Fails, Closed), (3, Delivered, Closed)];
        check(&[&sent[..], &broken, &[(4, Fails, Closed)]].concat());
        let purged = [(1, Purged, Closed), (2, Purged, Closed), (3, Purged, Closed)];
        check(&[&sent[..], &purged].concat());
    }

    #[test]
    fn it_opens_when_nothing_is_delivered() {
        check(&[(0, Sends, Closed), (1_999, Ticks, Closed), (2_000, Ticks, Open)]);
        let moving = [(0, Sends, Closed), (0, Sends, Closed), (1_500, Delivered, Closed)];
        check(&[&moving[..], &[(3_499, Ticks, Closed), (3_500, Ticks, Open)]].concat());
        check(&[(0, Sends, Closed), (10, Delivered, Closed), (9_000, Ticks, Closed)]);
        let failing = [(0, Sends, Closed), (0, Sends, Closed), (1_900, Fails, Closed)];
        check(&[&failing[..], &[(2_000, Ticks, Open)]].concat());
    }

    #[test]
    fn what_is_in_flight_is_the_probe() {
        let stalled = [(0, Sends, Closed), (0, Sends, Closed), (2_000, Ticks, Open)];
        let late = [(9_000, Waits, Open), (9_001, Delivered, Closed), (9_002, Sends, Closed)];
        check(&[&stalled[..], &late].concat());
        let gone = [(9_000, Purged, Open), (9_001, Purged, Open), (9_002, Sends, HalfOpen)];
        check(&[&stalled[..], &gone, &[(9_003, Waits, HalfOpen)]].concat());
    }

    #[test]
    fn who_refuses_a_record_is_there() {
        let stalled = [(0, Sends, Closed), (2_000, Ticks, Open), (2_100, Refused, Closed)];
        check(&stalled);
        let tried = [(2_100, Purged, Open), (3_000, Sends, HalfOpen), (3_001, Refused, Closed)];
        check(&[&stalled[..2], &tried, &[(9_000, Ticks, Closed)]].concat());
        let sent = [(0, Sends, Closed); 5];
        let mixed = [(1, Fails, Closed), (2, Fails, Closed), (3, Refused, Closed)];
        check(&[&sent[..], &mixed, &[(4, Fails, Closed), (5, Fails, Closed)]].concat());
    }

    #[test]
    fn with_nothing_in_flight_one_block_probes() {
        let opened = [(0, Sends, Closed), (2_000, Ticks, Open), (2_100, Purged, Open)];
        let tried = [(2_999, Waits, Open), (3_000, Sends, HalfOpen), (3_001, Waits, HalfOpen)];
        check(&[&opened[..], &tried, &[(3_002, Delivered, Closed)]].concat());
        check(&[&opened[..], &tried, &[(3_002, Fails, Open), (4_001, Waits, Open)]].concat());
        check(&[&opened[..], &tried, &[(4_999, Ticks, HalfOpen), (5_000, Ticks, Open)]].concat());
    }
}
