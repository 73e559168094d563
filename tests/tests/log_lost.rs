//! A log that cannot be written, because the disk is full or its reader is gone, costs log lines and
//! nothing else.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tests::process::{binary, libchdb, signal};
use tests::wait::{seconds, wait_for};

/// Starts a binary whose every log line fails, waits until it is ready, and asks it to end.
fn check(command: &mut Command, folder: &Path) {
    let ready = folder.join("ready.json");
    let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let mut child: Child = command
        .arg("--ready-file")
        .arg(&ready)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(full)
        .spawn()
        .expect("the binary starts");
    wait_for("it is ready", seconds(60), || {
        let ended = child.try_wait().expect("a child can be asked");
        assert!(ended.is_none(), "it ended before it was ready: {ended:?}");
        ready.exists().then_some(())
    });
    signal(child.id(), "TERM");
    let status =
        wait_for("it ends", seconds(30), || child.try_wait().expect("a child can be asked"));
    assert!(status.success(), "{status:?}");
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("folder")
}

#[test]
fn the_engine_serves_without_its_log() {
    let folder = folder();
    let mut command = Command::new(binary("unmogrowp-engine"));
    command
        .args(["run", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--cores", "1"])
        .args(["--clickhouse-url", "http://127.0.0.1:9", "--set", "journal.segment_bytes=1048576"])
        .arg("--keys-snapshot")
        .arg(folder.path().join("keys.json"))
        .arg("--journal-dir")
        .arg(folder.path().join("journal"));
    check(&mut command, folder.path());
}

#[test]
fn clickhouse_and_the_api_serve_without_their_logs() {
    let folder = folder();
    let mut clickhouse = Command::new(binary("unmogrowp-clickhouse"));
    clickhouse
        .arg("--data")
        .arg(folder.path().join("clickhouse"))
        .args(["--listen", "127.0.0.1:0", "--user", "unmogrowp", "--lib"])
        .arg(libchdb())
        .env("UNMOGROWP_CLICKHOUSE_PASSWORD", "secret");
    check(&mut clickhouse, folder.path());

    let stack = tests::Stack::start(tests::StackOptions::default());
    let url = stack.clickhouse.replace("://", &format!("://unmogrowp:{}@", stack.password));
    let folder = self::folder();
    let mut api = Command::new(binary("unmogrowp-api"));
    api.args(["serve", "--listen", "127.0.0.1:0", "--store"])
        .arg(folder.path().join("apps.sqlite"))
        .arg("--keys-snapshot")
        .arg(folder.path().join("keys.json"))
        .env("UNMOGROWP_CLICKHOUSE_URL", url);
    check(&mut api, folder.path());
}
