//! The load generator as a process beside the server, and what it reports.
//!
//! Knows its command line and its report; nothing of servers but where they listen.

use std::path::PathBuf;
use std::process::Command;

use ::tests::process::binary;
use serde_json::Value;

/// Of each event in every bench, as the project's figures name it.
pub const EVENT_BYTES: &str = "270";

/// Where to send, and with which key.
#[derive(Clone, Debug)]
pub struct Target {
    pub url: String,
    pub app_id: String,
    pub api_key: String,
    /// Of the process whose CPU time and memory the report gives as the server's.
    pub server_pid: u32,
}

pub struct Report(Value);

/// Runs the generator to its end. A run that was not made, or after which an event was missing, ends
/// the bench.
pub fn send(target: &Target, flags: &[&str]) -> Report {
    let report = tempfile::NamedTempFile::new().expect("a file for the report");
    let mut command = generator(target, flags);
    command.arg("--json").arg(report.path());
    let output = command.output().expect("the load generator starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the load generator with {flags:?}: {words}");
    let text = std::fs::read(report.path()).expect("a report");
    Report(serde_json::from_slice(&text).expect("a report is JSON"))
}

fn generator(target: &Target, flags: &[&str]) -> Command {
    let mut command = Command::new(generator_binary());
    command
        .args(["--url", &target.url, "--app-id", &target.app_id])
        .args(["--event-bytes", EVENT_BYTES, "--server-pid", &target.server_pid.to_string()])
        .args(flags)
        .env("UNMOGROWP_API_KEY", &target.api_key);
    command
}

fn generator_binary() -> PathBuf {
    binary("unmogrowp-loadgen")
}

impl Report {
    pub fn number(&self, path: &[&str]) -> f64 {
        let found = path.iter().fold(&self.0, |value, key| &value[*key]);
        found.as_f64().unwrap_or_else(|| panic!("{path:?} is no number in the report: {found}"))
    }

    pub fn events_per_s(&self) -> f64 {
        self.number(&["events_per_s"])
    }

    pub fn requests_per_s(&self) -> f64 {
        self.number(&["requests_per_s"])
    }

    pub fn bytes_per_s(&self) -> f64 {
        self.number(&["bytes_per_s"])
    }

    pub fn requests(&self) -> f64 {
        self.number(&["requests"])
    }

    /// From the intended send time, so that a server that stalls can not hide it.
    pub fn corrected_ms(&self, percentile: &str) -> f64 {
        self.number(&["corrected_latency_us", percentile]) / 1_000.0
    }

    /// From the first byte sent.
    pub fn raw_ms(&self, percentile: &str) -> f64 {
        self.number(&["latency_us", percentile]) / 1_000.0
    }

    /// Answered otherwise than 200, or lost, as a part of all.
    pub fn error_share(&self) -> f64 {
        self.number(&["errors"]) / self.requests().max(1.0)
    }

    pub fn expect_no_errors(&self, what: &str) {
        let (errors, status) = (self.number(&["errors"]), &self.0["status"]);
        assert_eq!(errors, 0.0, "{what}: answers by status {status}");
    }

    /// What speaks against taking the figures as the server's.
    pub fn warnings(&self) -> Vec<String> {
        let all = self.0["warnings"].as_array();
        all.into_iter().flatten().filter_map(|text| Some(text.as_str()?.to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let json = r#"{"events_per_s":5.0,"requests":200,"errors":3,"latency_us":{"p99":1500.0},
            "status":{"200":197,"503":3},"warnings":["slow"]}"#;
        let report = Report(serde_json::from_str(json).unwrap());
        assert_eq!((report.events_per_s(), report.raw_ms("p99")), (5.0, 1.5));
        assert_eq!(report.error_share(), 0.015);
        assert_eq!(report.warnings(), ["slow"]);
        let seen = std::panic::catch_unwind(|| report.expect_no_errors("case"));
        assert!(seen.is_err());
    }
}
