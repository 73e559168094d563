use std::time::Duration;

use proptest::prelude::*;

use super::*;

const S: u64 = 1_000_000_000;

fn schedule(stages: &str, connections: u64) -> Schedule {
    Schedule::new(&stages.parse().unwrap(), connections)
}

fn constant(per_s: u64, connections: u64) -> Schedule {
    Schedule::new(&Stages::constant(per_s, Duration::from_secs(7 * 86_400)), connections)
}

#[test]
fn sends_are_evenly_spread_over_connections() {
    let schedule = constant(1_000, 4);
    let mut due: Vec<u64> =
        (0..4).flat_map(|c| (0..5).map(|r| schedule.due_ns(c, r)).collect::<Vec<_>>()).collect();
    due.sort_unstable();
    let expected: Vec<u64> = (0..20).map(|ms| ms * 1_000_000).collect();
    assert_eq!(due, expected);
}

#[test]
fn a_whole_run_has_rate_times_seconds_sends() {
    let schedule = constant(12_345, 64);
    let total: u64 = (0..64).map(|c| schedule.due_before(c, 10 * S)).sum();
    assert_eq!(total, 123_450);
}

#[test]
fn long_runs_do_not_drift_or_overflow() {
    let schedule = constant(1_000_000, 10_000);
    let a_week_of_requests = 7 * 86_400 * 100;
    assert_eq!(schedule.due_ns(0, a_week_of_requests - 1), (7 * 86_400 * 10_000 - 100) * 100_000);
    assert_eq!(schedule.due_ns(0, a_week_of_requests), u64::MAX);
    let steepest = self::schedule("168h@0..100000000", 1);
    let last = steepest.due_before(0, 7 * 86_400 * S) - 1;
    assert_eq!(last + 1, 7 * 86_400 * 50_000_000);
    let due_ns = steepest.due_ns(0, last);
    assert!((7 * 86_400 * S - 20..7 * 86_400 * S).contains(&due_ns), "{due_ns}");
}

/// By the integral: 100 + (100 + 300) / 2 × 2 + nothing + 50.
#[test]
fn stages_follow_each_other() {
    let schedule = schedule("1s@100,2s@100..300,5s@0,1s@50", 1);
    assert_eq!([1, 3, 8, 9].map(|s| schedule.due_before(0, s * S)), [100, 500, 500, 550]);
    // Half of the ramp's time has passed at 100 + 150 requests.
    assert_eq!(schedule.due_ns(0, 250), 2 * S);
    assert_eq!(schedule.due_ns(0, 500), 8 * S, "after the pause, not at its beginning");
    assert_eq!(schedule.due_ns(0, 550), u64::MAX);
    let rates = [0, S, 2 * S, 4 * S, 8 * S, 9 * S].map(|ns| schedule.rate_at(ns) as u64);
    assert_eq!(rates, [100, 100, 200, 0, 50, 0]);
}

#[test]
fn ramps_to_and_from_zero_end_where_they_should() {
    for stages in ["10s@1000..0", "10s@0..1000"] {
        let schedule = schedule(stages, 1);
        assert_eq!(schedule.due_before(0, 10 * S), 5_000, "{stages}");
        // A quarter of the work lies in one of the halves of the time.
        let half = schedule.due_before(0, 5 * S);
        assert!(half == 1_250 || half == 3_750, "{stages}: {half}");
    }
}

prop_compose! {
    fn any_stages()(
        stages in prop::collection::vec((1u64..300, 0u64..5_000, 0u64..5_000), 1..5),
    ) -> String {
        let stages: Vec<_> =
            stages.iter().map(|(ms, from, to)| format!("{ms}ms@{from}..{to}")).collect();
        // One request at least, so that the stages are not all empty.
        stages.join(",") + ",1ms@1000"
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn due_before_counts_due_ns(
        stages in any_stages(), connections in 1u64..9, connection in 0u64..9, us in 0u64..1_300_000,
    ) {
        let connection = connection % connections;
        let schedule = schedule(&stages, connections);
        let elapsed_ns = us * 1_003;
        let counted = (0..).take_while(|&r| schedule.due_ns(connection, r) < elapsed_ns).count();
        prop_assert_eq!(schedule.due_before(connection, elapsed_ns), counted as u64);
    }

    /// In order, and each at the last moment at which only those before it are due.
    #[test]
    fn due_times_are_the_inverse_of_the_integral(stages in any_stages()) {
        let schedule = schedule(&stages, 1);
        let total = schedule.due_before(0, u64::MAX);
        let mut before_ns = 0;
        for request in 0..total {
            let due_ns = schedule.due_ns(0, request);
            prop_assert!(due_ns >= before_ns);
            prop_assert!(schedule.due_before(0, due_ns) <= request);
            prop_assert!(schedule.due_before(0, due_ns + 1) > request);
            before_ns = due_ns;
        }
        prop_assert_eq!(schedule.due_ns(0, total), u64::MAX);
    }
}
