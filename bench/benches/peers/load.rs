//! One run of the load generator against one server. Knows no contestant by name.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::peers::Server;
use serde_json::Value;
use tests::process::binary;

/// Connections are made, buffers and caches grow, a JVM compiles.
pub const WARM_UP_S: u32 = 1;
const DELIVERED_WITHIN: Duration = Duration::from_secs(120);

pub struct Case {
    /// As it stands in the figures' names.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    flags: &'static [&'static str],
    pub events_per_request: u32,
    /// Whether a run ends when Kafka has everything and not with the last 200.
    delivered: bool,
}

pub const DIRECT: [Case; 4] = [
    Case {
        name: "single_64",
        title: "one event a request, 64 connections, un-pipelined",
        flags: &["--batch", "1", "--connections", "64"],
        events_per_request: 1,
        delivered: false,
    },
    Case {
        name: "single_512",
        title: "one event a request, 512 connections, un-pipelined",
        flags: &["--batch", "1", "--connections", "512"],
        events_per_request: 1,
        delivered: false,
    },
    Case {
        name: "pipelined_16",
        title: "one event a request, 64 connections, 16 requests deep",
        flags: &["--batch", "1", "--connections", "64", "--pipeline", "16"],
        events_per_request: 1,
        delivered: false,
    },
    Case {
        name: "batch_100",
        title: "100 events a request, 64 connections, un-pipelined",
        flags: &["--batch", "100", "--connections", "64"],
        events_per_request: 100,
        delivered: false,
    },
];

pub const KAFKA: [Case; 2] = [
    Case {
        name: "kafka_single_64",
        title: "into Kafka: one event a request, 64 connections, un-pipelined",
        flags: &["--batch", "1", "--connections", "64"],
        events_per_request: 1,
        delivered: true,
    },
    Case {
        name: "kafka_batch_100",
        title: "into Kafka: 100 events a request, 64 connections, un-pipelined",
        flags: &["--batch", "100", "--connections", "64"],
        events_per_request: 100,
        delivered: true,
    },
];

impl Case {
    pub fn is_batch(&self) -> bool {
        self.events_per_request > 1
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub requests_per_s: f64,
    /// User and system time of the server and its children, as /proc has it.
    pub cpu_us_per_request: f64,
    pub p99_ms: f64,
}

/// Panics on any answer but 200: a figure with failures in it says nothing.
pub fn measure(server: &Server, case: &Case, seconds: u32) -> Run {
    load(server, case, WARM_UP_S);
    if case.delivered {
        wait_until_delivered(server);
    }
    let report = load(server, case, seconds);
    let errors = number(&report, &["errors"]);
    assert!(errors == 0.0, "{errors} requests failed: {}", report["status"]);
    let requests = number(&report, &["requests"]);
    let mut took_s = number(&report, &["elapsed_s"]);
    if case.delivered {
        took_s += wait_until_delivered(server).as_secs_f64();
    }
    Run {
        requests_per_s: requests / took_s,
        cpu_us_per_request: number(&report, &["server", "cpu_s"]) * 1e6 / requests,
        p99_ms: number(&report, &["latency_us", "p99"]) / 1000.0,
    }
}

fn load(server: &Server, case: &Case, seconds: u32) -> Value {
    let folder = tempfile::tempdir().expect("folder");
    let json = folder.path().join("load.json");
    let output = Command::new(binary("unmogrowp-loadgen"))
        .args(["--url", &server.url, "--app-id", &server.app_id])
        .env("UNMOGROWP_API_KEY", &server.api_key)
        .args(case.flags)
        .args(["--event-bytes", "270", "--duration", &seconds.to_string(), "--json"])
        .arg(&json)
        .output()
        .expect("the load generator starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&std::fs::read(json).expect("a report")).expect("a report is JSON")
}

/// How long it took.
fn wait_until_delivered(server: &Server) -> Duration {
    let began = Instant::now();
    while server.backlog_blocks() > 0.0 {
        assert!(began.elapsed() < DELIVERED_WITHIN, "Kafka does not take the backlog");
        std::thread::sleep(Duration::from_millis(5));
    }
    began.elapsed()
}

fn number(report: &Value, path: &[&str]) -> f64 {
    let found = path.iter().fold(report, |value, key| &value[*key]);
    found.as_f64().unwrap_or_else(|| panic!("no number at {path:?} in {report}"))
}
