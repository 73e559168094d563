//! What plain `./dev up` takes: the real binaries, journal synced before each 200, events forwarded to
//! the embedded ClickHouse meanwhile; and what the disk alone makes of the same writes.
//! `./dev bench ingest`, about fourteen minutes.
//!
//! Each run has a system of its own, started for it on an empty folder: no case pays for what another
//! left to be forwarded.

use bench::cpu::{process_cpu_s, rss_peak_mib, serving_cpu_s};
use bench::disk_alone::{self, Writes};
use bench::effort::{Effort, Runs};
use bench::idle::IdleConnections;
use bench::load::{self, Report, WARM_UP_S};
use bench::record::Recorder;
use bench::servers::Up;
use engine::config::Config;
use engine::driver::available_cores;
use proto::limits::BLOCK_BYTES_MAX;

/// Flags of the load for each case without a rate: as fast as the answers come.
const CASES: [(&str, &[&str]); 6] = [
    ("batch_100", BATCH_100),
    ("batch_100_256_connections", &["--batch", "100", "--connections", "256"]),
    ("batch_1000", &["--batch", "1000", "--connections", "64"]),
    ("single_16_deep", &["--batch", "1", "--connections", "64", "--pipeline", "16"]),
    ("single_64_connections", &["--batch", "1", "--connections", "64"]),
    ("single_512_connections", &["--batch", "1", "--connections", "512"]),
];
const BATCH_100: &[&str] = &["--batch", "100", "--connections", "64"];

/// Of the latency at a constant rate: a p99.99 is of no use without tens of requests beyond it.
const LOADS_AT_80_PERCENT: u64 = 2;
const P9999_REQUESTS_MIN: f64 = 100_000.0;

/// Events that ClickHouse has taken.
const FORWARDED: &str = "unmogrowp_forward_rows_total";
const JOURNAL_WRITES: &str = "unmogrowp_journal_writes_total";
const JOURNAL_BYTES: &str = "unmogrowp_journal_written_bytes_total";

const OVERLOAD: f64 = 10.0;
const IDLE_CONNECTIONS: usize = 10_000;
const SLOW_CONNECTIONS: &str = "1000";
/// Of a process that has nothing to do with the limits: code, stacks, what the parts need at rest.
const RSS_BASE_MIB: f64 = 150.0;

fn main() {
    let Some(effort) = Effort::from_args() else { return };
    engine::driver::raise_file_limit().expect("the limit of open files can be raised");
    let mut recorder = Recorder::from_args("ingest");
    recorder.config(&format!(
        "./dev up for each run, forwarding on, journal synced; warm-up {WARM_UP_S} s but for the overload; events of 270 B; 64 connections where \
         nothing else is said; latency and overload: batch 100 at 0.8 and {OVERLOAD} times the round's \
         peak; {}",
        effort.text()
    ));
    let mut runs = Runs::default();
    for round in 1..=effort.rounds {
        let mut peak = None;
        for (case, flags) in CASES {
            eprintln!("{case}, round {round} of {}", effort.rounds);
            let report = closed_loop(&start(&mut recorder), &mut runs, case, flags, effort);
            peak.get_or_insert(report);
        }
        let peak = peak.expect("batches of 100 came first");
        eprintln!("at 80 percent, round {round} of {}", effort.rounds);
        let writes = at_80_percent(&start(&mut recorder), &mut runs, &peak, effort);
        eprintln!("the disk alone, round {round} of {}", effort.rounds);
        disk_alone_at_80_percent(&mut runs, writes, effort);
        eprintln!("overload, round {round} of {}", effort.rounds);
        overload(&start(&mut recorder), &mut runs, &peak, effort);
    }
    runs.record(&mut recorder);
    recorder.finish();
}

fn start(recorder: &mut Recorder) -> Up {
    let up = Up::start();
    recorder.measured(&up.engine_commit());
    up
}

fn closed_loop(up: &Up, runs: &mut Runs, case: &str, flags: &[&str], effort: Effort) -> Report {
    let pid = up.engine_pid;
    load::warm_up(&up.target(), flags);
    let before = (process_cpu_s(pid), serving_cpu_s(pid));
    let forwarded = up.metric(FORWARDED);
    let seconds = effort.load_s.to_string();
    let report = load::send(&up.target(), &[flags, &["--duration", &seconds]].concat());
    let forwarded = up.metric(FORWARDED) - forwarded;
    let process_s = process_cpu_s(pid) - before.0;
    let shards_s = serving_cpu_s(pid) - before.1;
    let backlog_blocks = up.metric("unmogrowp_journal_backlog_blocks");
    report.expect_no_errors(case);
    let requests = report.requests();
    runs.add(&format!("requests_per_s_{case}"), "requests/s", report.requests_per_s());
    runs.add(&format!("cpu_us_per_request_{case}"), "us", process_s * 1e6 / requests);
    runs.add(&format!("shard_cpu_us_per_request_{case}"), "us", shards_s * 1e6 / requests);
    let core = requests / shards_s;
    runs.add(&format!("requests_per_shard_core_s_{case}"), "requests/s", core);
    let generator = report.generator_share_of_server_cpu();
    runs.add(&format!("generator_share_of_server_cpu_{case}"), "ratio", generator);
    // What waits now was forwarded in nobody's CPU time.
    let waiting_mib = backlog_blocks * BLOCK_BYTES_MAX as f64 / f64::from(1 << 20);
    runs.add(&format!("not_yet_forwarded_mib_at_most_{case}"), "MiB", waiting_mib);
    if case.starts_with("batch") {
        let events = report.events();
        runs.add(&format!("events_per_s_{case}"), "events/s", report.events_per_s());
        runs.add(&format!("cpu_us_per_event_{case}"), "us", process_s * 1e6 / events);
        let forwarded_per_s = forwarded / effort.load_s as f64;
        runs.add(&format!("forwarded_per_s_{case}"), "events/s", forwarded_per_s);
        runs.add(&format!("bytes_per_s_{case}"), "bytes/s", report.bytes_per_s());
    }
    report
}

fn seconds_at_80_percent(effort: Effort) -> u64 {
    effort.load_s * LOADS_AT_80_PERCENT
}

/// Gives the journal's writes meanwhile.
fn at_80_percent(up: &Up, runs: &mut Runs, peak: &Report, effort: Effort) -> Writes {
    let rate = ((peak.requests_per_s() * 0.8) as u64).to_string();
    let seconds = seconds_at_80_percent(effort);
    let paced = [BATCH_100, &["--rate", &rate]].concat();
    load::warm_up(&up.target(), &paced);
    let journal = || (up.metric(JOURNAL_WRITES), up.metric(JOURNAL_BYTES));
    let before = journal();
    let duration = seconds.to_string();
    let report = load::send(&up.target(), &[&paced[..], &["--duration", &duration]].concat());
    let after = journal();
    let (writes, bytes) = (after.0 - before.0, after.1 - before.1);
    report.expect_no_errors("at 80 percent");
    for (name, percentile) in [("p50", "p50"), ("p99", "p99"), ("p9999", "p9999")] {
        runs.add(&format!("{name}_ms_at_80_percent"), "ms", report.corrected_ms(percentile));
    }
    let kept = report.requests_per_s() / (peak.requests_per_s() * 0.8);
    runs.add("kept_share_of_rate_at_80_percent", "ratio", kept);
    runs.add("requests_at_80_percent", "requests", report.requests());
    if report.requests() < P9999_REQUESTS_MIN {
        eprintln!("  {} requests are few for a p99.99: take more --seconds", report.requests());
    }
    let in_flight = available_cores().len() * Config::default().journal.writes_in_flight_max;
    Writes { per_s: writes / seconds as f64, bytes: bytes / writes, in_flight }
}

/// The same writes without the engine, on the disk that it had.
fn disk_alone_at_80_percent(runs: &mut Runs, writes: Writes, effort: Effort) {
    let folder = tempfile::Builder::new().prefix("unmogrowp-bench-").tempdir();
    let folder = folder.expect("a folder on the disk of the benches");
    let seconds = seconds_at_80_percent(effort);
    let latencies = disk_alone::measure(folder.path(), writes, seconds as f64);
    runs.add("disk_alone_bytes_per_s_at_80_percent", "bytes/s", writes.per_s * writes.bytes);
    for (name, per_ten_thousand) in [("p50", 5_000), ("p99", 9_900), ("p9999", 9_999)] {
        let ms = latencies.ms(per_ten_thousand);
        runs.add(&format!("disk_alone_{name}_ms_at_80_percent"), "ms", ms);
    }
}

/// Ten times the requests and connections of the peak, beside clients that do nothing and clients that
/// send a byte at a time.
fn overload(up: &Up, runs: &mut Runs, peak: &Report, effort: Effort) {
    let mut idle = IdleConnections::open(up.endpoint("ingest"), IDLE_CONNECTIONS);
    let rate = ((peak.requests_per_s() * OVERLOAD) as u64).to_string();
    let connections = (64.0 * OVERLOAD).to_string();
    let seconds = effort.load_s.to_string();
    let report = load::send(
        &up.target(),
        &[
            &["--batch", "100", "--connections", &connections, "--rate", &rate][..],
            &["--slow-connections", SLOW_CONNECTIONS, "--duration", &seconds],
        ]
        .concat(),
    );
    let rss_mib = rss_peak_mib(up.engine_pid);
    let left = idle.still_open();
    assert!(left * 100 >= IDLE_CONNECTIONS * 99, "{left} of {IDLE_CONNECTIONS} idle ones are left");
    let cores = available_cores().len() as f64;
    let bodies_mib = Config::default().limits.body_budget_bytes as f64 * cores / f64::from(1 << 20);
    runs.add("goodput_share_overload", "ratio", report.events_per_s() / peak.events_per_s());
    runs.add("p99_ms_overload", "ms", report.accepted_p99_ms_at_most());
    runs.add("error_share_overload", "ratio", report.error_share());
    runs.add("rss_mib_overload", "MiB", rss_mib);
    runs.add("rss_share_of_allowed_overload", "ratio", rss_mib / (RSS_BASE_MIB + bodies_mib));
}
