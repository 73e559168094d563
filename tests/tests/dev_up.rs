//! `./dev up` as a user, a supervisor and a crash see it. Binaries come from `UNMOGROWP_BIN_DIR`, so
//! nothing is built here.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::Value;
use tests::dev::{group_and_session, scheduling_policies};
use tests::process::signal;
use tests::stack::STOP_WITHIN;
use tests::wait::{seconds, wait_for};
use tests::{Batch, Client, DevFolder, Event, Process};

const READY_WITHIN: std::time::Duration = seconds(120);

const BINARIES: [&str; 3] = ["unmogrowp-clickhouse", "unmogrowp-api", "unmogrowp-engine"];

struct Up<'a> {
    process: Process,
    folder: &'a DevFolder,
}

impl Up<'_> {
    fn start(folder: &DevFolder) -> Up<'_> {
        // A killed run leaves its own behind.
        let endpoints = folder.path().join("endpoints.json");
        let _ = std::fs::remove_file(&endpoints);
        let mut process = folder.start(&["up"]);
        process.ready(&endpoints, READY_WITHIN);
        Up { process, folder }
    }

    fn endpoints(&self) -> Value {
        let text = std::fs::read(self.folder.path().join("endpoints.json"));
        serde_json::from_slice(&text.expect("endpoints.json")).expect("endpoints.json is JSON")
    }

    fn endpoint(&self, key: &str) -> String {
        self.endpoints()[key].as_str().expect("every endpoint is text").to_owned()
    }

    fn part(&self, binary: &str) -> u32 {
        self.folder.part(binary, self.process.pid())
    }

    fn assert_all_gone(&self) {
        self.folder.assert_all_gone(self.process.pid(), "endpoints.json");
    }
}

#[test]
fn up_starts_all_and_sigterm_stops_all() {
    let folder = DevFolder::default();
    let mut up = Up::start(&folder);
    let endpoints = up.endpoints();
    let mut keys: Vec<&String> = endpoints.as_object().expect("an object").keys().collect();
    keys.sort();
    assert_eq!(keys, ["admin", "api", "api_key", "app_id", "clickhouse", "database", "ingest"]);
    let clickhouse = up.endpoint("clickhouse");
    assert!(clickhouse.contains('@') && clickhouse.matches(':').count() == 3, "{clickhouse}");
    for name in ["endpoints.json", "clickhouse.password"] {
        let mode = std::fs::metadata(folder.path().join(name)).expect(name).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let own = group_and_session(up.process.pid());
    for binary in BINARIES {
        assert_eq!(group_and_session(up.part(binary)), own, "{binary}");
        // ClickHouse takes what the others leave of the cores.
        let policy = if binary == "unmogrowp-clickhouse" { "5" } else { "0" };
        let policies = scheduling_policies(up.part(binary));
        assert!(policies.iter().all(|of_thread| of_thread == policy), "{binary}: {policies:?}");
    }

    let second = folder.dev(&["up"]).stdin(Stdio::null()).output().expect("dev starts");
    let words = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success());
    assert!(words.contains(&format!("pid {}", up.process.pid())), "{words}");
    assert!(folder.path().join("endpoints.json").exists(), "the first one is not disturbed");

    let (app_id, api_key) = (up.endpoint("app_id"), up.endpoint("api_key"));
    up.process.signal("TERM");
    let status = up.process.wait_exit(STOP_WITHIN);
    assert!(status.success(), "{status}");
    up.assert_all_gone();

    let mut again = Up::start(&folder);
    assert_eq!((again.endpoint("app_id"), again.endpoint("api_key")), (app_id, api_key));
    again.process.signal("HUP");
    again.process.wait_exit(STOP_WITHIN);
    again.assert_all_gone();
}

#[test]
fn an_event_survives_a_stop_and_a_start() {
    let folder = DevFolder::default();
    let mut up = Up::start(&folder);
    let key = up.endpoint("api_key");
    let batch = Batch::one(Event::new("kept", "somebody"));
    let answer = Client::connect(&up.endpoint("ingest")).request(
        "POST",
        "/api/v1/events",
        &[("X-API-Key", &key)],
        batch.json(&up.endpoint("app_id")).as_bytes(),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    up.process.signal("INT");
    up.process.wait_exit(STOP_WITHIN);

    let mut up = Up::start(&folder);
    let user = format!("/api/v1/users/somebody/events?app_id={}", up.endpoint("app_id"));
    wait_for("the event is in the timeline", seconds(10), || {
        let headers = [("X-API-Key", key.as_str())];
        let answer = Client::connect(&up.endpoint("api")).request("GET", &user, &headers, b"");
        (answer.json()["data"].as_array()?.len() == 1).then_some(())
    });
    up.process.terminate(STOP_WITHIN);
}

#[test]
fn when_one_part_dies_all_stop_and_the_exit_code_says_so() {
    for binary in ["unmogrowp-engine", "unmogrowp-clickhouse"] {
        let folder = DevFolder::default();
        let mut up = Up::start(&folder);
        signal(up.part(binary), "KILL");
        let status = up.process.wait_exit(STOP_WITHIN);
        assert_eq!(status.code(), Some(3), "{binary}");
        up.assert_all_gone();
    }
}

#[test]
fn the_folder_of_a_killed_run_can_be_used_again() {
    let folder = DevFolder::default();
    let mut up = Up::start(&folder);
    up.process.kill_9();
    let mut again = Up::start(&folder);
    for binary in BINARIES {
        again.part(binary);
    }
    let status = again.process.terminate(STOP_WITHIN);
    assert!(status.success(), "{status}");
    again.assert_all_gone();
}

#[test]
fn wrong_flags_are_refused_with_the_reason() {
    let folder = DevFolder::default();
    for (arguments, expected) in [
        (&["up", "--ports", "1"][..], "--ports"),
        (&["up", "--ingest-port", "70000"], "0 to 65535"),
        (&["up", "--driver", "fast"], "auto, uring, epoll or glommio"),
        (&["up", "--kafka", "nowhere"], "HOST:PORT"),
        (&["up", "--full", "--kafka", "127.0.0.1:9092"], "--full"),
        (&["servers", "up", "--kafka-port", "x"], "0 to 65535"),
        (&["down"], "down"),
    ] {
        let output = folder.dev(arguments).output().expect("dev starts");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {words}");
        assert!(words.contains(expected), "{arguments:?}: {words}");
    }
}
