//! The circuit breaker in front of a server. Pure: time comes in as an argument.
//!
//! Closed, everything may go. After `failures_max` failures in a row it opens, and nothing goes for
//! `open_for`; then one attempt may, and its outcome closes or opens it again.

use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    Closed = 0,
    HalfOpen = 1,
    Open = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Send, and report the outcome.
    Go,
    /// Ask again after this long.
    Wait(Duration),
}

/// How long to wait while another's attempt decides.
const PROBE_PATIENCE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct Breaker {
    failures_max: u32,
    open_for: Duration,
    failures: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    Closed,
    Open {
        until: Instant,
    },
    /// One attempt is under way.
    Probing,
}

impl Breaker {
    pub fn new(failures_max: u32, open_for: Duration) -> Breaker {
        Breaker { failures_max, open_for, failures: 0, state: State::Closed }
    }

    pub fn state(&self) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Probing => BreakerState::HalfOpen,
            State::Open { .. } => BreakerState::Open,
        }
    }

    pub fn admit(&mut self, now: Instant) -> Admission {
        match self.state {
            State::Closed => Admission::Go,
            State::Open { until } if now < until => Admission::Wait(until - now),
            State::Open { .. } => {
                self.state = State::Probing;
                Admission::Go
            }
            State::Probing => Admission::Wait(PROBE_PATIENCE),
        }
    }

    /// The server answered, be it with a refusal.
    pub fn on_answer(&mut self) {
        self.failures = 0;
        self.state = State::Closed;
    }

    /// The server is away or overloaded.
    pub fn on_failure(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        match self.state {
            State::Closed if self.failures < self.failures_max => {}
            // A late failure of an attempt from before does not put the next probe off.
            State::Open { .. } => {}
            State::Closed | State::Probing => {
                self.state = State::Open { until: now + self.open_for };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN_FOR: Duration = Duration::from_millis(1_000);

    /// Each step: at this time do this, and be in this state after it.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Goes,
        Waits(u64),
        Fails,
        Answers,
    }

    #[track_caller]
    fn check(steps: &[(u64, Step, BreakerState)]) {
        let start = Instant::now();
        let mut breaker = Breaker::new(3, OPEN_FOR);
        for (index, (at_ms, step, state)) in steps.iter().enumerate() {
            let now = start + Duration::from_millis(*at_ms);
            match step {
                Step::Goes => assert_eq!(breaker.admit(now), Admission::Go, "step {index}"),
                Step::Waits(ms) => {
                    let expected = Admission::Wait(Duration::from_millis(*ms));
                    assert_eq!(breaker.admit(now), expected, "step {index}");
                }
                Step::Fails => breaker.on_failure(now),
                Step::Answers => breaker.on_answer(),
            }
            assert_eq!(breaker.state(), *state, "after step {index}: {step:?}");
        }
    }

    use BreakerState::{Closed, HalfOpen, Open};
    use Step::{Answers, Fails, Goes, Waits};

    #[test]
    fn it_opens_after_failures_in_a_row() {
        check(&[(0, Goes, Closed), (1, Fails, Closed), (2, Fails, Closed), (3, Fails, Open)]);
        check(&[(0, Fails, Closed), (1, Fails, Closed), (2, Answers, Closed), (3, Fails, Closed)]);
    }

    #[test]
    fn open_it_lets_one_attempt_through_after_its_time() {
        let opened = [(0, Fails, Closed), (0, Fails, Closed), (0, Fails, Open)];
        let tried =
            [(400, Waits(600), Open), (1_000, Goes, HalfOpen), (1_001, Waits(50), HalfOpen)];
        let closes = [(1_002, Answers, Closed), (1_003, Goes, Closed), (1_004, Fails, Closed)];
        let opens = [(1_002, Fails, Open), (1_003, Waits(999), Open), (2_002, Goes, HalfOpen)];
        check(&[&opened[..], &tried, &closes].concat());
        check(&[&opened[..], &tried, &opens].concat());
    }

    #[test]
    fn a_late_failure_does_not_prolong_it() {
        let opened = [(0, Fails, Closed), (0, Fails, Closed), (0, Fails, Open)];
        check(&[&opened[..], &[(900, Fails, Open), (1_000, Goes, HalfOpen)]].concat());
    }
}
