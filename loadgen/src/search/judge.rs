//! Whether a step's figures hold the bound, and whose doing it is when they do not.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::quantity::Share;
use crate::report::Report;
use crate::search::knee::Verdict;
use crate::threshold::Threshold;

/// An upper bound of a latency: `p99<10ms`.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound(Threshold);

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let condition: Threshold = text.parse()?;
        if !condition.is_latency_below() {
            return Err("a bound is a latency that is less than a time, such as p99<10ms".into());
        }
        Ok(Bound(condition))
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Bound {
    pub fn metric(&self) -> &'static str {
        self.0.metric()
    }

    pub fn limit_us(&self) -> f64 {
        self.0.bound()
    }
}

#[derive(Clone, Debug)]
pub struct Criteria {
    pub bounds: Vec<Bound>,
    pub error_bound: Share,
}

impl Criteria {
    /// The verdict, and its reason where it is not that all held.
    pub fn judge(&self, report: &Report) -> (Verdict, Option<String>) {
        // No lateness makes a server refuse: this is its doing however the generator fared.
        let refused = wrong_answers_share(report);
        if refused > self.error_bound.0 {
            let why = format!("{} of the requests were refused or answered wrongly", tidy(refused));
            return (Verdict::Broke, Some(why));
        }
        let Some(why) = self.violation(report) else { return (Verdict::Held, None) };
        // Lateness of the generator's own is part of what was measured. Up to a quarter of the
        // tightest bound it does not decide.
        let tightest_us = self.bounds.iter().map(Bound::limit_us).fold(f64::INFINITY, f64::min);
        match report.generator.limit_by(tightest_us / 4.0) {
            Some(limit) => (Verdict::GeneratorLimited, Some(format!("{why}; {}", limit.symptom()))),
            None => (Verdict::Broke, Some(why)),
        }
    }

    fn violation(&self, report: &Report) -> Option<String> {
        let failed = report.failed_share();
        if failed > self.error_bound.0 {
            return Some(format!("{} of the requests failed or were not sent", tidy(failed)));
        }
        self.bounds.iter().find_map(|bound| {
            if bound.0.value_if_it_holds(report).is_some() {
                return None;
            }
            let value = report.metric(bound.metric());
            Some(format!("{} was {}", bound.metric(), bound.0.show(value)))
        })
    }
}

/// The part of the requests due that got an answer, and not the one they must get.
fn wrong_answers_share(report: &Report) -> f64 {
    let due = (report.requests + report.unsent) as f64;
    report.errors.saturating_sub(report.lost) as f64 / due.max(1.0)
}

/// To four digits of a percent.
fn tidy(share: f64) -> Share {
    Share((share * 1e6).round() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator_limit::GeneratorUse;

    #[test]
    fn bounds() {
        let bound: Bound = "p99.9<=1.5ms".parse().unwrap();
        assert_eq!((bound.metric(), bound.limit_us()), ("p999", 1_500.0));
        assert_eq!(bound.to_string(), "p99.9<=1.5ms");
        for wrong in ["p99>1ms", "errors<1", "p99<5", "p99", ""] {
            assert!(wrong.parse::<Bound>().is_err(), "{wrong}");
        }
    }

    fn check(change: impl FnOnce(&mut Report), expected: Verdict, named: &str) {
        let criteria = Criteria {
            bounds: vec!["p50<1ms".parse().unwrap(), "p99<10ms".parse().unwrap()],
            error_bound: Share(0.001),
        };
        let mut report = Report { requests: 10_000, ..Report::default() };
        report.corrected_latency_us.p50 = 500.0;
        report.corrected_latency_us.p99 = 9_000.0;
        change(&mut report);
        let (verdict, why) = criteria.judge(&report);
        assert_eq!(verdict, expected, "{why:?}");
        assert!(why.unwrap_or_default().contains(named), "{named}");
    }

    #[test]
    fn verdicts() {
        check(|_| {}, Verdict::Held, "");
        check(|r| r.errors = 10, Verdict::Held, "");
        check(|r| r.errors = 11, Verdict::Broke, "0.11% of the requests were refused");
        check(|r| r.unsent = 100, Verdict::Broke, "0.9901% of the requests");
        check(|r| r.corrected_latency_us.p50 = 1_000.0, Verdict::Broke, "p50 was 1.000 ms");
        check(|r| r.corrected_latency_us.p99 = 12_340.0, Verdict::Broke, "p99 was 12.340 ms");
        check(|r| r.requests = 0, Verdict::Broke, "");
    }

    #[test]
    fn what_the_generator_could_not_carry_is_not_the_servers() {
        let busy = GeneratorUse { busy_share: 0.99, ..GeneratorUse::default() };
        let late = GeneratorUse { late_p99_us: 250.0, ..GeneratorUse::default() };
        for generator in [busy, late] {
            let broken = |r: &mut Report| {
                r.corrected_latency_us.p99 = 12_340.0;
                r.generator = generator;
            };
            check(broken, Verdict::GeneratorLimited, "generator");
            check(|r| r.generator = generator, Verdict::Held, "");
        }
    }

    #[test]
    fn no_lateness_makes_a_server_refuse() {
        let busy = GeneratorUse { busy_share: 0.99, ..GeneratorUse::default() };
        let late = GeneratorUse { late_p99_us: 250.0, ..GeneratorUse::default() };
        for generator in [busy, late] {
            let with = |change: fn(&mut Report), expected, named| {
                let spoilt = |r: &mut Report| {
                    r.generator = generator;
                    r.corrected_latency_us.p99 = 12_340.0;
                    change(r);
                };
                check(spoilt, expected, named);
            };
            with(|r| r.errors = 2_100, Verdict::Broke, "21% of the requests were refused");
            // Within the error bound refusals decide nothing.
            with(|r| r.errors = 10, Verdict::GeneratorLimited, "p99 was 12.340 ms");
            // What was never sent, and what got no answer, may be the generator's doing.
            with(|r| r.unsent = 2_000, Verdict::GeneratorLimited, "not sent");
            with(|r| (r.errors, r.lost) = (100, 100), Verdict::GeneratorLimited, "failed");
            // Of all that were due, sent or not.
            with(|r| (r.errors, r.unsent) = (11, 2_000), Verdict::GeneratorLimited, "not sent");
        }
    }
}
