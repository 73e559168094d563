//! One run of the load generator against one server. Knows no contestant by name.

use std::time::{Duration, Instant};

use bench::cpu::process_cpu_s;
use bench::load;

use crate::peers::Server;

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

/// Panics on any answer but 200, in the warm-up too: a figure with failures in it says nothing.
pub fn measure(server: &Server, case: &Case, seconds: u64) -> Run {
    let target = &server.target;
    load::warm_up(target, case.flags);
    if case.delivered {
        wait_until_delivered(server);
    }
    let began = Instant::now();
    // Who answers before Kafka has everything is not done with the last 200.
    let owes = target.server_pid.filter(|_| case.delivered).map(|pid| (pid, process_cpu_s(pid)));
    let seconds = seconds.to_string();
    let report = load::send(target, &[case.flags, &["--duration", &seconds]].concat());
    report.expect_no_errors(case.name);
    let (mut took_s, mut cpu_s) = (report.elapsed_s(), report.server_cpu_s());
    if let Some((pid, cpu_before_s)) = owes {
        wait_until_delivered(server);
        // With the generator's own start and end: to the disadvantage of whoever owes.
        took_s = began.elapsed().as_secs_f64();
        cpu_s = process_cpu_s(pid) - cpu_before_s;
    }
    let requests = report.requests();
    Run {
        requests_per_s: requests / took_s,
        cpu_us_per_request: cpu_s * 1e6 / requests,
        p99_ms: report.raw_ms("p99"),
    }
}

fn wait_until_delivered(server: &Server) {
    let began = Instant::now();
    while server.backlog_blocks() > 0.0 {
        assert!(began.elapsed() < DELIVERED_WITHIN, "the backlog is not taken");
        std::thread::sleep(Duration::from_millis(5));
    }
}
