//! The simulation within `./dev test`: seeds that once failed, a fixed set, fresh seeds, the planted
//! bugs, and that a seed says everything.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use proto::planted::Planted;
use sim::runner::{Extent, Outcome, attempt, command, run_seeds, shrink};
use sim::world::{Plan, run};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const THREADS: usize = 2;

#[track_caller]
fn hunt(extent: Extent, planted: Option<Planted>) -> Outcome {
    run_seeds(&Plan::new(0), planted, THREADS, extent, &|_| {})
}

#[track_caller]
fn check_clean(extent: Extent) {
    let outcome = hunt(extent, None);
    let (seeds, stats) = (outcome.seeds, outcome.stats);
    println!(
        "{seeds} seeds from {}, {} crashes, {} events",
        extent.first_seed, stats.crashes, stats.events
    );
    if let Some(failure) = outcome.failure {
        let least = shrink(&failure, None);
        panic!(
            "seed {} fails: {}\nagain: {}\nthe shortest that fails: {}\nagain: {}",
            failure.plan.seed,
            failure.text,
            command(&failure.plan, None),
            least.text,
            command(&least.plan, None),
        );
    }
    assert!(stats.crashes > 0 && stats.acknowledged > 0, "it tests something: {stats:?}");
}

/// Each line of the list: a seed, and what it found.
#[test]
fn seeds_that_once_failed() {
    let lines = include_str!("seeds.txt").lines().filter(|line| !line.starts_with('#'));
    for line in lines {
        let seed = line.split_whitespace().next().expect("a line has a seed").parse().unwrap();
        let plan = Plan::new(seed);
        if let Err(text) = attempt(&plan) {
            panic!("{line}\nfails again: {text}\nagain: {}", command(&plan, None));
        }
    }
}

#[test]
fn a_fixed_set_of_seeds() {
    let time_max = Duration::from_secs(600);
    check_clean(Extent { first_seed: 1, seeds_max: 100, time_max });
}

#[test]
fn fresh_seeds() {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let first_seed = since.as_micros() as u64;
    check_clean(Extent { first_seed, seeds_max: u64::MAX, time_max: Duration::from_secs(75) });
}

#[test]
fn every_planted_bug_is_found() {
    for bug in Planted::ALL {
        let time_max = Duration::from_secs(60);
        let outcome = hunt(Extent { first_seed: 1, seeds_max: 400, time_max }, Some(bug));
        let found = outcome.failure.as_ref().map(|failure| failure.plan.seed);
        println!("{}: seed {found:?} of {} seeds, {:?}", bug.as_str(), outcome.seeds, outcome.took);
        assert!(found.is_some(), "{} is not found in {} seeds", bug.as_str(), outcome.seeds);
    }
}

#[test]
fn one_seed_is_one_trace() {
    for seed in 1..=12 {
        let plan = Plan::new(seed);
        let (first, second) = (run(&plan), run(&plan));
        assert_eq!(first, second, "seed {seed}");
        assert_ne!(first.trace_hash, run(&Plan::new(seed + 1_000)).trace_hash);
    }
}

#[test]
fn a_failure_is_shrunk_to_one_that_still_fails() {
    let bug = Some(Planted::AckBeforeSync);
    let time_max = Duration::from_secs(60);
    let outcome = hunt(Extent { first_seed: 1, seeds_max: 50, time_max }, bug);
    let failure = outcome.failure.expect("the bug is found");
    let least = shrink(&failure, bug);
    assert!(least.plan.chaos_us < failure.plan.chaos_us, "{least:?}");
    assert!(least.plan.without.len() > 10, "few faults are needed: {least:?}");
    assert!(
        least.text.contains("was acknowledged and is lost") || least.text.contains("torn tail")
    );
    let again = command(&least.plan, bug);
    assert!(again.starts_with("./dev sim --seed") && again.contains("--planted ack-before-sync"));
}
