//! Conditions that fail a run: `p99>10ms`, `errors>0`, `events_per_s<500000`.

use std::fmt;
use std::str::FromStr;

use crate::report::Report;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// Longest first, so that `>=` is not read as `>`.
const COMPARISONS: [(&str, Comparison); 4] = [
    (">=", Comparison::GreaterOrEqual),
    ("<=", Comparison::LessOrEqual),
    (">", Comparison::Greater),
    ("<", Comparison::Less),
];

const LATENCIES: [&str; 6] = ["p50", "p90", "p99", "p999", "p9999", "max"];
/// Other spellings of those.
const ALIASES: [(&str, &str); 2] = [("p99.9", "p999"), ("p99.99", "p9999")];
const COUNTS: [&str; 6] =
    ["errors", "unsent", "connection_errors", "events_per_s", "requests_per_s", "bytes_per_s"];

#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    text: String,
    metric: &'static str,
    comparison: Comparison,
    /// Microseconds where the metric is a latency.
    bound: f64,
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = COMPARISONS.iter().find_map(|&(sign, comparison)| {
            text.split_once(sign).map(|(metric, bound)| (metric.trim(), comparison, bound.trim()))
        });
        let (metric, comparison, bound) =
            found.ok_or("a condition is METRIC>VALUE, or with >=, < or <=")?;
        let metric = ALIASES.iter().find(|alias| alias.0 == metric).map_or(metric, |alias| alias.1);
        let (metric, bound) = if let Some(known) = LATENCIES.iter().find(|m| **m == metric) {
            (known, parse_us(bound).ok_or("a latency is compared with a time such as 10ms")?)
        } else if let Some(known) = COUNTS.iter().find(|m| **m == metric) {
            (known, parse_number(bound).ok_or("the value is not a number")?)
        } else {
            return Err(format!(
                "{metric:?} is not one of {}, {}",
                LATENCIES.join(", "),
                COUNTS.join(", ")
            ));
        };
        Ok(Threshold { text: text.to_owned(), metric, comparison, bound })
    }
}

fn parse_us(text: &str) -> Option<f64> {
    let units = [("us", 1.0), ("µs", 1.0), ("ms", 1e3), ("s", 1e6)];
    let (number, scale) =
        units.iter().find_map(|&(unit, scale)| Some((text.strip_suffix(unit)?, scale)))?;
    parse_number(number).map(|number| number * scale)
}

fn parse_number(text: &str) -> Option<f64> {
    let number: f64 = text.trim().parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number)
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Threshold {
    /// The measured value when the condition holds. A latency of a run without any answer counts as
    /// endless.
    pub fn value_if_it_holds(&self, report: &Report) -> Option<f64> {
        let value = report.metric(self.metric);
        let holds = match self.comparison {
            Comparison::Greater => value > self.bound,
            Comparison::GreaterOrEqual => value >= self.bound,
            Comparison::Less => value < self.bound,
            Comparison::LessOrEqual => value <= self.bound,
        };
        holds.then_some(value)
    }

    /// An upper bound of a latency.
    pub fn is_latency_below(&self) -> bool {
        LATENCIES.contains(&self.metric)
            && matches!(self.comparison, Comparison::Less | Comparison::LessOrEqual)
    }

    pub fn metric(&self) -> &'static str {
        self.metric
    }

    /// Microseconds where the metric is a latency.
    pub fn bound(&self) -> f64 {
        self.bound
    }

    /// A value of this metric, for people.
    pub fn show(&self, value: f64) -> String {
        if LATENCIES.contains(&self.metric) {
            format!("{:.3} ms", value / 1e3)
        } else {
            format!("{value:.1}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, Comparison, f64)>) {
        let parsed = text.parse::<Threshold>();
        let seen = parsed.as_ref().ok().map(|t| (t.metric, t.comparison, t.bound));
        assert_eq!(seen, expected, "{text}: {parsed:?}");
    }

    #[test]
    fn conditions() {
        check("p99>10ms", Some(("p99", Comparison::Greater, 10_000.0)));
        check("p9999 >= 1.5 s", Some(("p9999", Comparison::GreaterOrEqual, 1_500_000.0)));
        check("p99.9<1s", Some(("p999", Comparison::Less, 1e6)));
        check("max<=250us", Some(("max", Comparison::LessOrEqual, 250.0)));
        check("errors>0", Some(("errors", Comparison::Greater, 0.0)));
        check("events_per_s<500000", Some(("events_per_s", Comparison::Less, 500_000.0)));
    }

    #[test]
    fn nonsense() {
        for text in [
            "",
            "p99",
            "p99>",
            "p99>10",
            "p99=10ms",
            "p98>1ms",
            "errors>1ms",
            "errors>x",
            "errors>-1",
            "errors>inf",
            ">1",
            "p99>ms",
        ] {
            check(text, None);
        }
    }
}
