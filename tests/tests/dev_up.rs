//! `./dev up` as a user, a supervisor and a crash see it. Binaries come from `UNMOGROWP_BIN_DIR`, so
//! nothing is built here.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tests::process::{binaries_folder, checkout, libchdb, signal};
use tests::servers::kafka::jars;
use tests::stack::STOP_WITHIN;
use tests::wait::{seconds, wait_for};
use tests::{Batch, Client, Event, Process};

const READY_WITHIN: std::time::Duration = seconds(120);

const BINARIES: [&str; 3] = ["unmogrowp-clickhouse", "unmogrowp-api", "unmogrowp-engine"];

struct Up {
    process: Process,
    folder: PathBuf,
}

/// A folder for the data and, beside it, the log of `./dev up` itself.
struct Folder {
    data: PathBuf,
    log: PathBuf,
    _outer: TempDir,
}

impl Folder {
    fn path(&self) -> &Path {
        &self.data
    }
}

fn data_folder() -> Folder {
    let outer = tempfile::Builder::new().prefix("unmogrowp-dev-up-").tempdir().expect("folder");
    let data = outer.path().join("data");
    std::fs::create_dir(&data).expect("folder");
    Folder { data, log: outer.path().join("dev.log"), _outer: outer }
}

fn dev(arguments: &[&str], folder: &Path) -> Command {
    // Signals that the test's own starter ignores (nohup does) are answered here all the same.
    let mut command = Command::new("env");
    command
        .arg("--default-signal")
        .arg(checkout().join("dev"))
        .args(arguments)
        .arg("--data")
        .arg(folder)
        .env("UNMOGROWP_BIN_DIR", binaries_folder())
        .env("UNMOGROWP_LIBCHDB", libchdb())
        .env("UNMOGROWP_KAFKA_JARS", jars())
        .env("UNMOGROWP_KAFKA_HEAP_MIB", "384")
        .env("UNMOGROWP_PORTS", "0");
    command
}

impl Up {
    fn start(folder: &Folder) -> Up {
        Up::start_with(folder, &["up"])
    }

    fn start_with(folder: &Folder, arguments: &[&str]) -> Up {
        // A killed run leaves its own behind.
        let _ = std::fs::remove_file(folder.path().join("endpoints.json"));
        let mut command = dev(arguments, folder.path());
        let process = Process::start("dev up", folder.log.clone(), &mut command);
        let mut up = Up { process, folder: folder.path().to_owned() };
        let endpoints = up.folder.join("endpoints.json");
        up.process.ready(&endpoints, READY_WITHIN);
        up
    }

    fn endpoints(&self) -> Value {
        let text = std::fs::read(self.folder.join("endpoints.json")).expect("endpoints.json");
        serde_json::from_slice(&text).expect("endpoints.json is JSON")
    }

    fn endpoint(&self, key: &str) -> String {
        self.endpoints()[key].as_str().expect("every endpoint is text").to_owned()
    }

    /// The processes of this run's own binaries, by name: they have the folder in their command line.
    fn parts(&self) -> Vec<(u32, String)> {
        let folder = self.folder.to_string_lossy().into_owned();
        let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| *pid != self.process.pid())
            .filter_map(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                line.contains(&folder).then_some((pid, line))
            })
            .collect()
    }

    fn part(&self, binary: &str) -> u32 {
        let parts = self.parts();
        let found = parts.iter().find(|(_, line)| line.contains(binary));
        found.unwrap_or_else(|| panic!("{binary} is not among {parts:?}")).0
    }

    fn assert_all_gone(&self) {
        let left = self.parts();
        assert!(left.is_empty(), "still there: {left:?}");
        assert!(!self.folder.join("endpoints.json").exists(), "endpoints.json is removed");
    }
}

/// The fields of /proc/PID/stat after the name: state, parent, process group, session.
fn group_and_session(pid: u32) -> (i64, i64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    let (_, rest) = stat.rsplit_once(") ").expect("a name in parentheses");
    let mut fields = rest.split(' ').skip(2).map(|field| field.parse().expect("a number"));
    (fields.next().expect("group"), fields.next().expect("session"))
}

#[test]
fn up_starts_all_and_sigterm_stops_all() {
    let folder = data_folder();
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
    }

    let second = dev(&["up"], folder.path()).stdin(Stdio::null()).output().expect("dev starts");
    let words = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success());
    assert!(words.contains(&format!("pid {}", up.process.pid())), "{words}");
    assert!(up.folder.join("endpoints.json").exists(), "the first one is not disturbed");

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
    let folder = data_folder();
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
        let folder = data_folder();
        let mut up = Up::start(&folder);
        signal(up.part(binary), "KILL");
        let status = up.process.wait_exit(STOP_WITHIN);
        assert_eq!(status.code(), Some(3), "{binary}");
        up.assert_all_gone();
    }
}

#[test]
fn the_folder_of_a_killed_run_can_be_used_again() {
    let folder = data_folder();
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
    let folder = data_folder();
    for (arguments, expected) in [
        (&["up", "--ports", "1"][..], "--ports"),
        (&["up", "--ingest-port", "70000"], "0 to 65535"),
        (&["up", "--driver", "fast"], "auto, uring or epoll"),
        (&["up", "--kafka", "nowhere"], "HOST:PORT"),
        (&["up", "--full", "--kafka", "127.0.0.1:9092"], "--full"),
        (&["servers", "up", "--kafka-port", "x"], "0 to 65535"),
        (&["down"], "down"),
    ] {
        let output = dev(arguments, folder.path()).output().expect("dev starts");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {words}");
        assert!(words.contains(expected), "{arguments:?}: {words}");
    }
}
