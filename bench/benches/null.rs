//! What the engine does with a byte when no disk is in the way: its shards on a journal that keeps
//! nothing, against a loop that only receives. `./dev bench null`, two minutes.

use bench::cpu::{process_cpu_s, serving_cpu_s};
use bench::effort::{Effort, Runs};
use bench::load::{self, Report, Target};
use bench::record::Recorder;
use bench::serve::{Kind, Served, serve_if_asked};

/// What the engine allocates with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH_100: &[&str] = &["--batch", "100", "--connections", "64", "--pipeline", "1"];
const SINGLE_16_DEEP: &[&str] = &["--batch", "1", "--connections", "64", "--pipeline", "16"];

fn main() {
    serve_if_asked();
    let Some(effort) = Effort::from_args() else { return };
    let mut recorder = Recorder::from_args("null");
    recorder.config(&format!(
        "shards and io_uring (where it is to be had) on all cores, journal to /dev/null; bare receive \
         loop: mio, a thread a core; 64 connections, events of 270 B; {}",
        effort.text()
    ));
    let servers = [
        ("null", Served::start(Kind::NullEngine)),
        ("bare_receive", Served::start(Kind::BareReceive)),
    ];
    let mut runs = Runs::default();
    for round in 0..effort.rounds {
        eprintln!("null, round {} of {}", round + 1, effort.rounds);
        for (case, flags) in [("batch_100", BATCH_100), ("single_16_deep", SINGLE_16_DEEP)] {
            let mut bytes_per_s = [0.0; 2];
            // Neither server is always the one that runs on the warmer machine.
            for turn in 0..servers.len() {
                let index = (round + turn) % servers.len();
                let (name, server) = &servers[index];
                let report = measure(&mut runs, &format!("{name}_{case}"), server, flags, effort);
                bytes_per_s[index] = report.bytes_per_s();
            }
            let share = bytes_per_s[0] / bytes_per_s[1];
            runs.add(&format!("null_share_of_bare_receive_{case}"), "ratio", share);
        }
    }
    runs.record(&mut recorder);
    recorder.finish();
}

fn measure(runs: &mut Runs, name: &str, server: &Served, flags: &[&str], effort: Effort) -> Report {
    let target: Target = server.target();
    let seconds = effort.load_s.to_string();
    let pid = target.server_pid.expect("a server of the bench's own");
    let before = (process_cpu_s(pid), serving_cpu_s(pid));
    let report = load::send(&target, &[flags, &["--duration", &seconds]].concat());
    report.expect_no_errors(name);
    let requests = report.requests();
    let process = (process_cpu_s(pid) - before.0) * 1e6 / requests;
    let shards = (serving_cpu_s(pid) - before.1) * 1e6 / requests;
    runs.add(&format!("bytes_per_s_{name}"), "bytes/s", report.bytes_per_s());
    runs.add(&format!("requests_per_s_{name}"), "requests/s", report.requests_per_s());
    runs.add(&format!("cpu_us_per_request_{name}"), "us", process);
    runs.add(&format!("shard_cpu_us_per_request_{name}"), "us", shards);
    report
}
