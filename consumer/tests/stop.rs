//! The process itself, as whoever started it stops it. No server is there: none is needed for that.

// In a test, a panic is the report.
#![allow(clippy::unwrap_used)]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 10;
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Starts one and asks it to end as soon as its ready file is there.
fn start_and_stop(directory: &std::path::Path, round: usize) -> Child {
    let ready = directory.join(format!("ready-{round}.json"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_unmogrowp-consumer"))
        .args(["run", "--brokers", "127.0.0.1:1", "--topic", "events", "--group", "g"])
        .args(["--database", "unmogrowp", "--admin-listen", "127.0.0.1:0", "--ready-file"])
        .arg(&ready)
        .env("UNMOGROWP_CLICKHOUSE_URL", "http://user:password@127.0.0.1:9")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + READY_WITHIN;
    while !ready.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was ready");
        assert!(Instant::now() < deadline, "not ready within {READY_WITHIN:?}");
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    child
}

#[test]
fn whoever_sees_the_ready_file_may_stop_it() {
    let directory = tempfile::tempdir().unwrap();
    let stopping: Vec<Child> =
        (0..ROUNDS).map(|round| start_and_stop(directory.path(), round)).collect();
    for mut child in stopping {
        let status = child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}
