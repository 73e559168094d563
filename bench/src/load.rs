//! The load generator as a process beside the server, and what it reports.
//!
//! Knows its command line and its report; nothing of servers but where they listen.

use std::path::PathBuf;
use std::process::Command;

use ::tests::process::binary;
use ::tests::{Process, Stack};
use serde_json::Value;

/// Of each event in every bench, as the project's figures name it.
pub const EVENT_BYTES: &str = "270";

/// Of load that is not measured: connections are made, buffers and caches grow, files are laid out.
pub const WARM_UP_S: u64 = 1;

/// Where to send, and with which key.
#[derive(Clone, Debug)]
pub struct Target {
    pub url: String,
    pub app_id: String,
    pub api_key: String,
    /// Of the process whose CPU time and memory the report gives as the server's; without one, of all
    /// that listen there.
    pub server_pid: Option<u32>,
}

/// Its engine.
impl From<&Stack> for Target {
    fn from(stack: &Stack) -> Target {
        Target {
            url: stack.ingest.clone(),
            app_id: stack.app_id.clone(),
            api_key: stack.api_key.clone(),
            server_pid: stack.engine_process.as_ref().map(Process::pid),
        }
    }
}

pub struct Report(Value);

/// Runs the generator to its end, and prints what speaks against its figures. A run that was not made,
/// or after which an event was missing, ends the bench.
pub fn send(target: &Target, flags: &[&str]) -> Report {
    let report = tempfile::NamedTempFile::new().expect("a file for the report");
    let mut command = generator(target, flags);
    command.arg("--json").arg(report.path());
    let output = command.output().expect("the load generator starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the load generator with {flags:?}: {words}");
    let text = std::fs::read(report.path()).expect("a report");
    let report = Report(serde_json::from_slice(&text).expect("a report is JSON"));
    for warning in report.warnings() {
        eprintln!("  {warning}");
    }
    report
}

/// The same for [`WARM_UP_S`], for a server that was just started. A failed answer ends the bench here, too.
pub fn warm_up(target: &Target, flags: &[&str]) {
    let seconds = WARM_UP_S.to_string();
    send(target, &[flags, &["--duration", &seconds]].concat()).expect_no_errors("warm-up");
}

fn generator(target: &Target, flags: &[&str]) -> Command {
    let mut command = Command::new(generator_binary());
    command
        .args(["--url", &target.url, "--app-id", &target.app_id])
        .args(["--event-bytes", EVENT_BYTES])
        .args(flags)
        .env("UNMOGROWP_API_KEY", &target.api_key);
    if let Some(pid) = target.server_pid {
        command.args(["--server-pid", &pid.to_string()]);
    }
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

    pub fn events(&self) -> f64 {
        self.number(&["events"])
    }

    /// What rates are by.
    pub fn elapsed_s(&self) -> f64 {
        self.number(&["elapsed_s"])
    }

    /// User and system time of the server's processes while load came.
    pub fn server_cpu_s(&self) -> f64 {
        self.number(&["server", "cpu_s"])
    }

    /// The generator's own CPU time by the server's.
    pub fn generator_share_of_server_cpu(&self) -> f64 {
        self.number(&["generator_cpu_s"]) / self.server_cpu_s()
    }

    /// From the intended send time, so that a server that stalls can not hide it.
    pub fn corrected_ms(&self, percentile: &str) -> f64 {
        self.number(&["corrected_latency_us", percentile]) / 1_000.0
    }

    /// From the first byte sent.
    pub fn raw_ms(&self, percentile: &str) -> f64 {
        self.number(&["latency_us", percentile]) / 1_000.0
    }

    /// From the first byte sent, what the p99 of the requests answered 200 is at most. Refusals are
    /// quick and stand in the same histogram, so the p99 of all would flatter: of `n` answers with a
    /// share `e` of others, a hundredth of those with 200 is `0.01 (1 − e) n`. Where even the highest
    /// percentile may be that of refusals the bench ends.
    pub fn accepted_p99_ms_at_most(&self) -> f64 {
        self.known_accepted_p99_ms().expect("a hundredth of the answers are 200 at least")
    }

    fn known_accepted_p99_ms(&self) -> Option<f64> {
        let beyond = 0.01 * (1.0 - self.error_share());
        let percentiles = [("p99", 0.01), ("p999", 0.001), ("p9999", 0.0001)];
        let (percentile, _) =
            percentiles.into_iter().find(|(_, share)| *share <= beyond + 1e-12)?;
        Some(self.raw_ms(percentile))
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
    fn warnings(&self) -> Vec<String> {
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

    #[test]
    fn refusals_do_not_hide_slow_answers() {
        let check = |errors: u64, expected: Option<f64>| {
            let latencies = r#"{"p99":1000.0,"p999":2000.0,"p9999":3000.0}"#;
            let json = format!(r#"{{"requests":1000,"errors":{errors},"latency_us":{latencies}}}"#);
            let report = Report(serde_json::from_str(&json).unwrap());
            assert_eq!(report.known_accepted_p99_ms(), expected, "{errors}");
        };
        check(0, Some(1.0));
        check(1, Some(2.0));
        check(900, Some(2.0));
        check(901, Some(3.0));
        check(990, Some(3.0));
        check(991, None);
    }
}
