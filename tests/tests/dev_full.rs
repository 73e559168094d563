//! `./dev up --full` and `./dev servers` as a user sees them. Binaries come from `UNMOGROWP_BIN_DIR`, so
//! nothing is built here.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;
use tests::process::{binaries_folder, checkout, libchdb, signal};
use tests::servers::kafka::jars;
use tests::stack::STOP_WITHIN;
use tests::wait::{seconds, wait_for};
use tests::{Batch, Client, Event, Process};

const READY_WITHIN: std::time::Duration = seconds(120);
/// From the command to the first event in an answer, on a machine where everything is there.
const VISIBLE_WITHIN: std::time::Duration = seconds(60);
const PARTS: [&str; 6] = [
    "unmogrowp-engine",
    "unmogrowp-consumer",
    "unmogrowp-api",
    "unmogrowp-clickhouse",
    "redis-server",
    "kafka.Kafka",
];

fn data_folder() -> TempDir {
    tempfile::Builder::new().prefix("unmogrowp-dev-full-").tempdir().expect("folder")
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

/// Starts a `./dev` that stays, and waits until its file of addresses is there.
fn start(arguments: &[&str], folder: &Path, told_in: &str) -> (Process, Value) {
    let log = folder.join("dev.log");
    let mut process = Process::start("dev", log, &mut dev(arguments, folder));
    let addresses = process.ready(&folder.join(told_in), READY_WITHIN);
    (process, addresses)
}

/// Processes with the folder in their command line, without `but`.
fn processes(folder: &Path, but: u32) -> Vec<(u32, String)> {
    let folder = folder.to_string_lossy().into_owned();
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != but)
        .filter_map(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(&folder).then_some((pid, line))
        })
        .collect()
}

fn part(folder: &Path, name: &str, but: u32) -> u32 {
    let all = processes(folder, but);
    let found = all.iter().find(|(_, line)| line.contains(name));
    found.unwrap_or_else(|| panic!("{name} is not among {all:?}")).0
}

/// Process group and session.
fn group_and_session(pid: u32) -> (String, String) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    let (_, rest) = stat.rsplit_once(") ").expect("a name in parentheses");
    let mut fields = rest.split(' ').skip(2).map(str::to_owned);
    (fields.next().expect("group"), fields.next().expect("session"))
}

fn text<'a>(addresses: &'a Value, key: &str) -> &'a str {
    addresses[key].as_str().unwrap_or_else(|| panic!("{key} in {addresses}"))
}

fn post_and_find(addresses: &Value, user: &str) {
    let key = [("X-API-Key", text(addresses, "api_key"))];
    let app_id = text(addresses, "app_id");
    let batch = Batch::one(Event::new("through_kafka", user));
    let answer = Client::connect(text(addresses, "ingest")).request(
        "POST",
        "/api/v1/events",
        &key,
        batch.json(app_id).as_bytes(),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let timeline = format!("/api/v1/users/{user}/events?app_id={app_id}");
    wait_for("the event is in the timeline", seconds(30), || {
        let answer = Client::connect(text(addresses, "api")).request("GET", &timeline, &key, b"");
        (answer.json()["data"].as_array()?.len() == 1).then_some(())
    });
}

fn kafka_took_records(addresses: &Value) {
    let metrics = Client::connect(text(addresses, "admin")).request("GET", "/metrics", &[], b"");
    let records = tests::stack::sum_of_metric(&metrics.text(), "unmogrowp_kafka_records_total");
    assert!(records > Some(0.0), "through Kafka: {records:?}");
}

#[test]
fn full_runs_the_whole_path_and_sigterm_stops_it() {
    let folder = data_folder();
    let began = Instant::now();
    let (mut up, addresses) = start(&["up", "--full"], folder.path(), "endpoints.json");
    println!("ready after {:?}", began.elapsed());
    post_and_find(&addresses, "somebody");
    println!("first event visible after {:?}", began.elapsed());
    assert!(began.elapsed() < VISIBLE_WITHIN, "{:?}", began.elapsed());
    kafka_took_records(&addresses);
    assert!(!text(&addresses, "kafka").contains("//"), "HOST:PORT: {addresses}");
    assert!(text(&addresses, "redis").starts_with("redis://127.0.0.1:"), "{addresses}");
    let consumer =
        Client::connect(text(&addresses, "consumer")).request("GET", "/readyz", &[], b"");
    assert_eq!(consumer.status, 200, "{}", consumer.text());

    let own = group_and_session(up.pid());
    for name in PARTS {
        assert_eq!(group_and_session(part(folder.path(), name, up.pid())), own, "{name}");
    }
    let began = Instant::now();
    up.signal("TERM");
    let status = up.wait_exit(STOP_WITHIN);
    println!("stopped after {:?}", began.elapsed());
    assert!(status.success(), "{status}");
    let left = processes(folder.path(), up.pid());
    assert!(left.is_empty(), "still there: {left:?}");
    assert!(!folder.path().join("endpoints.json").exists(), "endpoints.json is removed");
    let jvm_noise = std::fs::read_dir(folder.path().join("kafka/tmp")).expect("its own folder");
    println!("left in its folder: {}", jvm_noise.count());

    // The same again over the same data, and one part that dies.
    let (mut up, again) = start(&["up", "--full"], folder.path(), "endpoints.json");
    assert_eq!(text(&again, "app_id"), text(&addresses, "app_id"));
    post_and_find(&again, "somebody-else");
    signal(part(folder.path(), "kafka.Kafka", up.pid()), "KILL");
    let status = up.wait_exit(STOP_WITHIN);
    assert_eq!(status.code(), Some(3));
    let left = processes(folder.path(), up.pid());
    assert!(left.is_empty(), "still there: {left:?}");
}

#[test]
fn servers_run_for_an_up_elsewhere_and_go_down() {
    let (servers_data, up_data) = (data_folder(), data_folder());
    let (mut servers, addresses) = start(&["servers", "up"], servers_data.path(), "servers.json");
    let file = servers_data.path().join("servers.json");
    let mode = std::fs::metadata(&file).expect("servers.json").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let keys: BTreeSet<&str> =
        addresses.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["kafka", "redis"]));

    let (kafka, redis) = (text(&addresses, "kafka"), text(&addresses, "redis"));
    let redis = redis.strip_prefix("redis://").expect("a Redis URL");
    let flags = ["up", "--kafka", kafka, "--redis", redis];
    let (mut up, endpoints) = start(&flags, up_data.path(), "endpoints.json");
    assert_eq!(text(&endpoints, "kafka"), kafka);
    post_and_find(&endpoints, "somebody");
    kafka_took_records(&endpoints);
    let status = up.terminate(STOP_WITHIN);
    assert!(status.success(), "{status}");

    let down = dev(&["servers", "down"], servers_data.path()).output().expect("dev starts");
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    let status = servers.wait_exit(seconds(2));
    assert!(status.success(), "{status}");
    assert!(!file.exists(), "servers.json is removed");
    let left = processes(servers_data.path(), servers.pid());
    assert!(left.is_empty(), "still there: {left:?}");
    let again = dev(&["servers", "down"], servers_data.path()).output().expect("dev starts");
    assert!(again.status.success(), "nothing to stop is no failure");
}
