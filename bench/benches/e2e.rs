//! From the POST to the analytics answer: the rate that holds for a minute with nothing lost, and how
//! old an event is when it is first seen. `./dev bench e2e`, about ten minutes.
//!
//! The rate is found once, in the first round: what came out at the far end while as much as possible
//! went in, and a share of it that leaves room for the answers. A lost or doubled event ends the bench.

use std::time::{Duration, Instant};

use bench::cpu::process_cpu_s;
use bench::effort::{Effort, Runs};
use bench::freshness::Probe;
use bench::load;
use bench::percentile::percentile;
use bench::record::Recorder;
use bench::servers::Up;

const BATCH: &[&str] = &["--batch", "100", "--connections", "64"];
/// Of what came out at most.
const SUSTAINED_SHARE: f64 = 0.8;
/// Ten runs' worth: a minute where a run of load is 6 s.
const LOADS_PER_RUN: u64 = 10;
/// One by one, evenly spread; counts by name always cover all.
const USERS_LOOKED_UP: &str = "1000";
const DRAINED_WITHIN: Duration = Duration::from_secs(300);

fn main() {
    let Some(effort) = Effort::from_args() else { return };
    let mut recorder = Recorder::from_args("e2e");
    let mut runs = Runs::default();
    let events_per_s = rate_that_comes_out(&mut recorder, effort);
    let requests_per_s = ((events_per_s * SUSTAINED_SHARE / 100.0) as u64).max(1);
    let run_s = effort.load_s * LOADS_PER_RUN;
    recorder.config(&format!(
        "./dev up for each run, {requests_per_s} requests/s of 100 events of 270 B, 0.8 of the {} \
         events/s that came out under full load; {} rounds of {run_s} s",
        events_per_s as u64, effort.rounds
    ));
    for round in 1..=effort.rounds {
        eprintln!("end to end, round {round} of {}", effort.rounds);
        sustain(&mut runs, requests_per_s, run_s);
    }
    runs.record(&mut recorder);
    recorder.finish();
}

/// As much as goes in for a while, over the time until all of it is in ClickHouse.
fn rate_that_comes_out(recorder: &mut Recorder, effort: Effort) -> f64 {
    let up = Up::start();
    recorder.measured(&up.engine_commit());
    let began = Instant::now();
    let seconds = effort.load_s.to_string();
    let report = load::send(&up.target(), &[BATCH, &["--duration", &seconds]].concat());
    wait_drained(&up);
    report.events() / began.elapsed().as_secs_f64()
}

fn wait_drained(up: &Up) {
    let began = Instant::now();
    while up.metric("unmogrowp_journal_backlog_blocks") > 0.0 {
        assert!(began.elapsed() < DRAINED_WITHIN, "ClickHouse does not take the backlog");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn sustain(runs: &mut Runs, requests_per_s: u64, run_s: u64) {
    let up = Up::start();
    let text = |key: &str| up.endpoint(key).to_owned();
    let probe = Probe {
        ingest: text("ingest"),
        api: text("api"),
        app_id: text("app_id"),
        api_key: text("api_key"),
    };
    let cpu_s = || (process_cpu_s(up.engine_pid), process_cpu_s(up.clickhouse_pid));
    let (target, api) = (up.target(), text("api"));
    let (rate, seconds) = (requests_per_s.to_string(), run_s.to_string());
    let paced = ["--rate", &rate, "--duration", &seconds];
    let verified = ["--verify", &api, "--verify-users-max", USERS_LOOKED_UP];
    let before = cpu_s();
    let (report, fresh_ms, after) = std::thread::scope(|scope| {
        // Ends the bench where an event is missing or doubled.
        let load = scope.spawn(|| load::send(&target, &[BATCH, &paced, &verified].concat()));
        let fresh_ms = probe.measure(Duration::from_secs(run_s));
        // The check of every user, which goes on now, is no part of what an event costs.
        wait_drained(&up);
        let after = cpu_s();
        (load.join().expect("nothing was lost"), fresh_ms, after)
    });
    report.expect_no_errors("end to end");
    let events = report.events();
    let waited_s = report.number(&["verify", "waited_s"]);
    // By the time until the last is visible: a backlog that grew all the while is not sustained.
    runs.add("events_per_s_sustained", "events/s", events / (report.elapsed_s() + waited_s));
    runs.add("wait_ms_until_all_visible", "ms", waited_s * 1e3);
    runs.add("freshness_p50_ms", "ms", percentile(&fresh_ms, 5_000));
    runs.add("freshness_p90_ms", "ms", percentile(&fresh_ms, 9_000));
    // Of a hundred events at most, so their p99 would be this, too.
    runs.add("freshness_max_ms", "ms", percentile(&fresh_ms, 10_000));
    runs.add("freshness_events_asked_for", "events", fresh_ms.len() as f64);
    runs.add("engine_cpu_us_per_event", "us", (after.0 - before.0) * 1e6 / events);
    runs.add("clickhouse_cpu_us_per_event", "us", (after.1 - before.1) * 1e6 / events);
}
