//! How long to wait before the same INSERT is sent again. Pure: randomness comes in as an argument.

use std::time::Duration;

/// What the wait is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Nobody listens: asking costs nothing, and the drain shall begin soon after the return.
    Away,
    /// ClickHouse is overloaded or slow: asking makes it worse.
    Busy,
    /// Somebody must do something first: create a table, grant a right, look at refused rows.
    Slow,
}

const AWAY_MAX: Duration = Duration::from_millis(900);
const SLOW_MAX: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub min: Duration,
    pub max: Duration,
}

impl Backoff {
    /// The wait after `attempts` failures in a row (at least 1), doubling up to the pace's bound;
    /// `jitter` from 0 to 1 takes up to half of it away, so that instances do not march in step.
    pub fn delay(&self, pace: Pace, attempts: u32, jitter: f64) -> Duration {
        let bound = match pace {
            Pace::Away => AWAY_MAX.min(self.max),
            Pace::Busy => self.max,
            Pace::Slow => SLOW_MAX.min(self.max),
        };
        let doublings = attempts.saturating_sub(1).min(20);
        let full = self.min.saturating_mul(1 << doublings).min(bound);
        full.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_the_bound_of_its_pace() {
        let backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(30) };
        let check = |pace, attempts, jitter, expected_ms| {
            let expected = Duration::from_millis(expected_ms);
            assert_eq!(backoff.delay(pace, attempts, jitter), expected, "{pace:?} {attempts}");
        };
        check(Pace::Busy, 1, 0.0, 100);
        check(Pace::Busy, 1, 1.0, 50);
        check(Pace::Busy, 3, 0.0, 400);
        check(Pace::Busy, 9, 0.0, 25_600);
        check(Pace::Busy, 10, 0.0, 30_000);
        check(Pace::Busy, u32::MAX, 0.5, 22_500);
        check(Pace::Away, 3, 0.0, 400);
        check(Pace::Away, 50, 0.0, 900);
        check(Pace::Slow, 50, 0.0, 5_000);
    }
}
