//! The engine's drivers against each other: one event a request, un-pipelined on 64 and on 512
//! connections, and 16 deep. Every 200 waits for the journal; nothing forwards.
//!
//! Five rounds, the drivers in turn within each, a fresh engine on one core for each. CPU per request is
//! taken at a fixed rate well below the peak, where the generator does not compete, and again as
//! fast as answers come. About seven minutes; nothing else should run on the machine.

use std::collections::BTreeMap;
use std::process::Command;

use bench::record::Recorder;
use serde_json::Value;
use tests::process::binary;
use tests::{Driver, Stack, StackOptions};

const ROUNDS: usize = 5;
const PACED_S: &str = "3";
const UNBOUNDED_S: &str = "3";

/// The unit of times in /proc/PID/stat on every Linux.
const TICKS_PER_S: f64 = 100.0;

struct Case {
    name: &'static str,
    connections: &'static str,
    pipeline: &'static str,
    /// Requests a second, well below the peak of the slowest.
    rate: &'static str,
}

const CASES: [Case; 3] = [
    Case { name: "64_connections", connections: "64", pipeline: "1", rate: "20000" },
    Case { name: "512_connections", connections: "512", pipeline: "1", rate: "20000" },
    Case { name: "16_deep", connections: "64", pipeline: "16", rate: "200000" },
];

fn main() {
    // `cargo test --benches` runs benches with this flag to see that they start.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let mut recorder = Recorder::from_args("drivers");
    recorder.config("engine alone on one core, batch 1 of 270 B, synced, 5 rounds interleaved");
    let mut figures: BTreeMap<(String, &str), Vec<f64>> = BTreeMap::new();
    for round in 1..=ROUNDS {
        for driver in Driver::ALL {
            eprintln!("round {round} of {ROUNDS}: {}", driver.name());
            let mut stack = Stack::start(StackOptions::engine_alone().driver(driver));
            for case in &CASES {
                let name = format!("{}_{}", driver.name(), case.name);
                let (cpu_us, _) = measure(&mut stack, case, case.rate, PACED_S);
                figures.entry((format!("cpu_paced_{name}"), "us")).or_default().push(cpu_us);
                let (cpu_us, per_s) = measure(&mut stack, case, "0", UNBOUNDED_S);
                figures.entry((format!("cpu_unbounded_{name}"), "us")).or_default().push(cpu_us);
                figures.entry((format!("rate_{name}"), "requests/s")).or_default().push(per_s);
            }
        }
    }
    for ((name, unit), runs) in &figures {
        recorder.figure(name, unit, runs);
    }
    recorder.finish();
}

/// The engine's CPU time a request in microseconds, and requests a second.
fn measure(stack: &mut Stack, case: &Case, rate: &str, seconds: &str) -> (f64, f64) {
    let report_file = stack.path("load.json");
    let pid = stack.engine().pid();
    let before_s = cpu_s(pid);
    let output = Command::new(binary("unmogrowp-loadgen"))
        .args(["--url", &stack.ingest, "--app-id", &stack.app_id, "--api-key", &stack.api_key])
        .args(["--batch", "1", "--event-bytes", "270", "--connections", case.connections])
        .args(["--pipeline", case.pipeline, "--rate", rate, "--duration", seconds, "--json"])
        .arg(&report_file)
        .output()
        .expect("the load generator starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let cpu_s = cpu_s(pid) - before_s;
    let text = std::fs::read(&report_file).expect("a report");
    let report: Value = serde_json::from_slice(&text).expect("a report is JSON");
    let number = |key: &str| report[key].as_f64().expect("a number in the report");
    assert_eq!(number("errors"), 0.0, "{}", case.name);
    (cpu_s * 1e6 / number("requests"), number("requests_per_s"))
}

/// User and system time of the process, of all its threads.
fn cpu_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the engine runs");
    // The name, in parentheses, may hold anything.
    let rest = &stat[stat.rfind(')').expect("a name in parentheses") + 1..];
    let times = rest.split_ascii_whitespace().skip(11).take(2);
    times.map(|ticks| ticks.parse::<f64>().expect("ticks")).sum::<f64>() / TICKS_PER_S
}
