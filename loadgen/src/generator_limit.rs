//! Whether a run's figures are the server's or the generator's own.

use std::fmt;

use serde::Serialize;

/// A thread that ran, or waited for a core, for this part of the time has nothing left.
const BUSY_SHARE_MAX: f64 = 0.95;
/// Requests that were due on a free connection went out at least this late, one in a hundred.
const LATE_US_MAX: f64 = 1_000.0;

/// Of the generator alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct GeneratorUse {
    /// Part of the sending time in which the busiest thread ran or waited for a core.
    pub busy_share: f64,
    /// Of requests that were due while their connection was free: how late they were begun, in µs.
    pub late_p99_us: f64,
    pub late_max_us: f64,
    /// CPU time of the whole process during the run.
    pub cpu_user_s: f64,
    pub cpu_system_s: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GeneratorLimit {
    Busy { share: f64 },
    Late { p99_us: f64 },
}

impl GeneratorUse {
    /// None when nothing speaks against taking the figures as the server's.
    pub fn limit(&self) -> Option<GeneratorLimit> {
        self.limit_by(LATE_US_MAX)
    }

    /// The same with another lateness that is still taken for nothing.
    pub fn limit_by(&self, late_us_max: f64) -> Option<GeneratorLimit> {
        if self.busy_share >= BUSY_SHARE_MAX {
            return Some(GeneratorLimit::Busy { share: self.busy_share });
        }
        (self.late_p99_us >= late_us_max)
            .then_some(GeneratorLimit::Late { p99_us: self.late_p99_us })
    }
}

impl GeneratorLimit {
    /// What was seen, without what to do about it.
    pub fn symptom(&self) -> String {
        match self {
            GeneratorLimit::Busy { share } => format!(
                "the generator is the limit: a thread ran or waited for a core {:.0} % of the time",
                share * 100.0
            ),
            GeneratorLimit::Late { p99_us } => format!(
                "the generator was late: 1 % of the requests went out {:.1} ms or more after they \
                 were due, though their connections were free",
                p99_us / 1e3
            ),
        }
    }
}

impl fmt::Display for GeneratorLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let symptom = self.symptom();
        write!(f, "{symptom}; give it more --threads, or another machine than the server's")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let check = |busy_share, late_p99_us, expected: Option<&str>| {
            let seen = GeneratorUse { busy_share, late_p99_us, ..GeneratorUse::default() }.limit();
            let seen = seen.map(|limit| limit.to_string());
            match (&seen, expected) {
                (None, None) => {}
                (Some(seen), Some(expected)) => assert!(seen.contains(expected), "{seen}"),
                _ => panic!("{busy_share} {late_p99_us}: {seen:?}"),
            }
        };
        check(0.5, 100.0, None);
        check(0.94, 999.0, None);
        check(0.95, 0.0, Some("95 % of the time"));
        check(0.0, 1_000.0, Some("1.0 ms"));
        check(0.97, 0.0, Some("97 % of the time"));
        check(0.1, 2_500.0, Some("2.5 ms"));
    }
}
