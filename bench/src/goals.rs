//! What is asked of which figure. The figures' meaning is in README.md.

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

use Bound::{AtLeast, AtMost, Below};

pub struct Goal {
    pub bench: &'static str,
    pub figure: &'static str,
    pub bound: Bound,
}

const fn goal(bench: &'static str, figure: &'static str, bound: Bound) -> Goal {
    Goal { bench, figure, bound }
}

pub const GOALS: [Goal; 27] = [
    goal("ingest", "events_per_s_batch_100", AtLeast(10e6)),
    goal("ingest", "events_per_s_batch_100_256_connections", AtLeast(10e6)),
    goal("ingest", "events_per_s_batch_1000", AtLeast(12e6)),
    goal("ingest", "requests_per_s_single_16_deep", AtLeast(2.5e6)),
    goal("ingest", "requests_per_shard_core_s_single_16_deep", AtLeast(1.7e6)),
    goal("ingest", "cpu_us_per_request_single_64_connections", AtMost(6.0)),
    goal("ingest", "cpu_us_per_request_single_512_connections", AtMost(6.0)),
    goal("ingest", "p50_ms_at_80_percent", Below(1.0)),
    goal("ingest", "p99_ms_at_80_percent", Below(5.0)),
    goal("ingest", "p9999_ms_at_80_percent", Below(10.0)),
    goal("ingest", "goodput_share_overload", AtLeast(0.9)),
    goal("ingest", "p99_ms_overload", Below(10.0)),
    goal("ingest", "rss_share_of_allowed_overload", AtMost(1.0)),
    goal("ingest", "generator_share_of_server_cpu_batch_100", AtMost(0.3)),
    goal("peers", "rate_ratio_batch_100_engine_to_go", AtLeast(60.0)),
    goal("peers", "rate_ratio_batch_100_engine_to_hyper", AtLeast(3.0)),
    goal("peers", "cpu_ratio_single_64_engine_to_hyper", AtLeast(3.0)),
    goal("peers", "cpu_ratio_single_512_engine_to_hyper", AtLeast(3.0)),
    goal("peers", "cpu_ratio_single_64_engine_to_nginx", AtLeast(1.0)),
    goal("peers", "cpu_ratio_single_512_engine_to_nginx", AtLeast(1.0)),
    goal("null", "null_share_of_bare_receive_batch_100", AtLeast(0.5)),
    goal("kafka", "events_per_s_batch_100", AtLeast(1e6)),
    goal("kafka", "requests_per_s_single", AtLeast(40e3)),
    goal("kafka", "p99_ms_single", Below(10.0)),
    goal("kafka", "consumer_share_of_raw_insert", AtLeast(0.9)),
    goal("kafka", "rss_mib_consumer", AtMost(300.0)),
    goal("json", "bytes_per_s_json_ours_100", AtLeast(2.5e9)),
];

impl Bound {
    pub fn holds(self, value: f64) -> bool {
        match self {
            AtLeast(least) => value >= least,
            AtMost(most) => value <= most,
            Below(end) => value < end,
        }
    }

    pub fn text(self) -> String {
        let number = crate::table::number;
        match self {
            AtLeast(least) => format!("≥ {}", number(least)),
            AtMost(most) => format!("≤ {}", number(most)),
            Below(end) => format!("< {}", number(end)),
        }
    }
}

pub fn bound_of(bench: &str, figure: &str) -> Option<Bound> {
    GOALS.iter().find(|goal| (goal.bench, goal.figure) == (bench, figure)).map(|goal| goal.bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        let check = |bound: Bound, value, expected| {
            assert_eq!(bound.holds(value), expected, "{} {value}", bound.text());
        };
        check(AtLeast(0.9), 0.9, true);
        check(AtLeast(0.9), 0.89, false);
        check(AtMost(6.0), 6.0, true);
        check(AtMost(6.0), 6.01, false);
        check(Below(10.0), 10.0, false);
        assert_eq!(AtLeast(10e6).text(), "≥ 10,000,000");
    }

    #[test]
    fn a_figure_has_one_bound() {
        let mut names: Vec<_> = GOALS.iter().map(|goal| (goal.bench, goal.figure)).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), GOALS.len());
        assert!(bound_of("ingest", "p99_ms_overload").is_some());
        assert_eq!(bound_of("ingest", "nothing"), None);
    }
}
