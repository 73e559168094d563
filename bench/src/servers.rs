//! `./dev up` as a bench starts it: on a folder of its own, with free ports, with the binaries beside
//! the bench, so that what is measured is what a user gets from that one command.
//!
//! Invariant: what was started is ended when its value is dropped, and its folder is gone.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ::tests::Client;
use ::tests::Process;
use ::tests::process::{binaries_folder, libchdb};
use ::tests::stack::{STOP_WITHIN, sum_of_metric};
use serde_json::Value;
use tempfile::TempDir;

use crate::load::Target;
use crate::machine::checkout;

const READY_WITHIN: Duration = Duration::from_secs(120);

/// Fields in the order in which they must go.
pub struct Up {
    dev: Process,
    endpoints: Value,
    pub engine_pid: u32,
    pub clickhouse_pid: u32,
    folder: TempDir,
}

impl Up {
    pub fn start() -> Up {
        let folder = tempfile::Builder::new().prefix("unmogrowp-bench-").tempdir();
        let folder = folder.expect("a folder for the data");
        let data = folder.path().join("data");
        // Signals that the bench's own starter ignores (nohup does) are answered here all the same.
        let mut command = Command::new("env");
        command
            .arg("--default-signal")
            .arg(checkout().join("dev"))
            .args(["up", "--data"])
            .arg(&data)
            .env("UNMOGROWP_BIN_DIR", binaries_folder())
            .env("UNMOGROWP_LIBCHDB", libchdb())
            .env("UNMOGROWP_PORTS", "0");
        let mut dev = Process::start("dev", folder.path().join("dev.log"), &mut command);
        let endpoints = dev.ready(&data.join("endpoints.json"), READY_WITHIN);
        let engine_pid = process_of("unmogrowp-engine", &data);
        let clickhouse_pid = process_of("unmogrowp-clickhouse", &data);
        Up { dev, endpoints, engine_pid, clickhouse_pid, folder }
    }

    /// One of the texts of `endpoints.json`: `ingest`, `api`, `admin`, `app_id`, `api_key`.
    pub fn endpoint(&self, key: &str) -> &str {
        self.endpoints[key].as_str().unwrap_or_else(|| panic!("{key} in endpoints.json"))
    }

    /// The engine.
    pub fn target(&self) -> Target {
        Target {
            url: self.endpoint("ingest").to_owned(),
            app_id: self.endpoint("app_id").to_owned(),
            api_key: self.endpoint("api_key").to_owned(),
            server_pid: Some(self.engine_pid),
        }
    }

    pub fn data(&self) -> &Path {
        self.folder.path()
    }

    /// See [`commit_of_engine`].
    pub fn engine_commit(&self) -> String {
        commit_of_engine(self.endpoint("admin"))
    }

    /// The sum of one of the engine's metrics over its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let page = Client::connect(self.endpoint("admin")).request("GET", "/metrics", &[], b"");
        sum_of_metric(&page.text(), name).unwrap_or_else(|| panic!("{name} in /metrics"))
    }
}

impl Drop for Up {
    /// Orderly, so that no part is left behind; what it has not forwarded is of no use to anybody.
    fn drop(&mut self) {
        if self.dev.exited().is_none() {
            self.dev.signal("TERM");
            let deadline = std::time::Instant::now() + STOP_WITHIN;
            while self.dev.exited().is_none() && std::time::Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// The commit that the engine with this admin port was built from, as far as it knows.
pub fn commit_of_engine(admin: &str) -> String {
    let page = Client::connect(admin).request("GET", "/version", &[], b"");
    page.json()["commit"].as_str().unwrap_or("unknown").to_owned()
}

/// The process of this binary with the folder in its command line.
fn process_of(binary: &str, data: &Path) -> u32 {
    let data = data.to_string_lossy();
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut found = pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let program = line.split('\0').next().unwrap_or_default();
        program.rsplit('/').next() == Some(binary) && line.contains(&*data)
    });
    found.next().unwrap_or_else(|| panic!("{binary} does not run"))
}
