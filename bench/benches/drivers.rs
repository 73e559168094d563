//! The engine's drivers against each other: one event a request, un-pipelined on 64 and on 512
//! connections, and 16 deep. Every 200 waits for the journal; nothing forwards. `./dev bench drivers`,
//! about ten minutes.
//!
//! The drivers in turn within each round, each round beginning with another, a fresh engine on one core
//! for each. CPU per request is taken as fast as answers come, and again at one rate for all, which is
//! half the peak that the slowest of them had in the first round: there the generator does not compete,
//! and none is busy enough to save system calls by it.

use std::collections::BTreeMap;

use bench::effort::{Effort, Runs, in_turn};
use bench::load::{self, Report, Target, WARM_UP_S};
use bench::record::Recorder;
use bench::servers::commit_of_engine;
use tests::{Driver, Stack, StackOptions};

const CASES: [(&str, &[&str]); 3] = [
    ("64_connections", &["--batch", "1", "--connections", "64"]),
    ("512_connections", &["--batch", "1", "--connections", "512"]),
    ("16_deep", &["--batch", "1", "--connections", "64", "--pipeline", "16"]),
];
/// Of the slowest driver's peak.
const PACED_SHARE: f64 = 0.5;
/// Below it a driver did not keep the rate, and its CPU per request is not the one at that rate.
const KEPT_SHARE_MIN: f64 = 0.98;

fn main() {
    let Some(effort) = Effort::from_args() else { return };
    let mut recorder = Recorder::from_args("drivers");
    recorder.config(&format!(
        "engine alone on one core, batch 1 of 270 B, synced; warm-up {WARM_UP_S} s before each run; as fast as answers come, and paced at \
         {PACED_SHARE} of the slowest driver's peak of the first round; {}",
        effort.text()
    ));
    let mut runs = Runs::default();
    let mut slowest: BTreeMap<&str, f64> = BTreeMap::new();
    for round in 0..effort.rounds {
        for driver in in_turn(&Driver::ALL, round) {
            say(round, effort, driver, "as fast as answers come");
            let stack = start(driver, &mut recorder);
            for (case, flags) in CASES {
                let report = measure(&stack, case, flags, None, effort);
                let name = format!("{}_{case}", driver.name());
                let cpu_us = report.server_cpu_s() * 1e6 / report.requests();
                runs.add(&format!("cpu_us_per_request_unbounded_{name}"), "us", cpu_us);
                runs.add(&format!("requests_per_s_{name}"), "requests/s", report.requests_per_s());
                if round == 0 {
                    let known = slowest.entry(case).or_insert(f64::INFINITY);
                    *known = known.min(report.requests_per_s());
                }
            }
        }
        for driver in in_turn(&Driver::ALL, round) {
            say(round, effort, driver, "paced");
            let stack = start(driver, &mut recorder);
            for (case, flags) in CASES {
                let rate = (slowest[case] * PACED_SHARE).max(1.0);
                let report = measure(&stack, case, flags, Some(rate as u64), effort);
                let name = format!("{}_{case}", driver.name());
                let cpu_us = report.server_cpu_s() * 1e6 / report.requests();
                runs.add(&format!("cpu_us_per_request_paced_{name}"), "us", cpu_us);
                let kept = report.requests_per_s() / rate;
                runs.add(&format!("kept_share_of_rate_paced_{name}"), "ratio", kept);
                if kept < KEPT_SHARE_MIN {
                    eprintln!("  {name} kept {kept:.2} of {rate:.0} requests/s");
                }
            }
        }
    }
    for (case, peak) in &slowest {
        runs.add(&format!("paced_rate_{case}"), "requests/s", (peak * PACED_SHARE).floor());
    }
    runs.record(&mut recorder);
    recorder.finish();
}

fn say(round: usize, effort: Effort, driver: Driver, how: &str) {
    eprintln!("round {} of {}, {how}: {}", round + 1, effort.rounds, driver.name());
}

fn start(driver: Driver, recorder: &mut Recorder) -> Stack {
    let stack = Stack::start(StackOptions::engine_alone().driver(driver));
    recorder.measured(&commit_of_engine(&stack.admin));
    stack
}

/// Without a rate as fast as answers come.
fn measure(stack: &Stack, case: &str, flags: &[&str], rate: Option<u64>, effort: Effort) -> Report {
    let target = Target::from(stack);
    let (rate, seconds) = (rate.unwrap_or(0).to_string(), effort.load_s.to_string());
    let flags = [flags, &["--rate", &rate]].concat();
    load::warm_up(&target, &flags);
    let report = load::send(&target, &[&flags[..], &["--duration", &seconds]].concat());
    report.expect_no_errors(case);
    report
}
