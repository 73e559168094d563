//! `./dev up --full` and `./dev servers` as a user sees them. Binaries come from `UNMOGROWP_BIN_DIR`, so
//! nothing is built here.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use serde_json::Value;
use tests::dev::group_and_session;
use tests::process::signal;
use tests::stack::STOP_WITHIN;
use tests::wait::{seconds, wait_for};
use tests::{Batch, Client, DevFolder, Event, Process};

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

/// Starts a `./dev` that stays, and waits until its file of addresses is there.
fn start(arguments: &[&str], folder: &DevFolder, told_in: &str) -> (Process, Value) {
    let mut process = folder.start(arguments);
    let addresses = process.ready(&folder.path().join(told_in), READY_WITHIN);
    (process, addresses)
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
    let folder = DevFolder::default();
    let began = Instant::now();
    let (mut up, addresses) = start(&["up", "--full"], &folder, "endpoints.json");
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
        assert_eq!(group_and_session(folder.part(name, up.pid())), own, "{name}");
    }
    let began = Instant::now();
    up.signal("TERM");
    let status = up.wait_exit(STOP_WITHIN);
    println!("stopped after {:?}", began.elapsed());
    assert!(status.success(), "{status}");
    folder.assert_all_gone(up.pid(), "endpoints.json");
    let jvm_noise = std::fs::read_dir(folder.path().join("kafka/tmp")).expect("its own folder");
    println!("left in its folder: {}", jvm_noise.count());

    // The same again over the same data, and one part that dies.
    let (mut up, again) = start(&["up", "--full"], &folder, "endpoints.json");
    assert_eq!(text(&again, "app_id"), text(&addresses, "app_id"));
    post_and_find(&again, "somebody-else");
    signal(folder.part("kafka.Kafka", up.pid()), "KILL");
    let status = up.wait_exit(STOP_WITHIN);
    assert_eq!(status.code(), Some(3));
    folder.assert_all_gone(up.pid(), "endpoints.json");
}

#[test]
fn servers_run_for_an_up_elsewhere_and_go_down() {
    let (servers_data, up_data) = (DevFolder::default(), DevFolder::default());
    let (mut servers, addresses) = start(&["servers", "up"], &servers_data, "servers.json");
    let file = servers_data.path().join("servers.json");
    let mode = std::fs::metadata(&file).expect("servers.json").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let keys: BTreeSet<&str> =
        addresses.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["kafka", "redis"]));

    let (kafka, redis) = (text(&addresses, "kafka"), text(&addresses, "redis"));
    let redis = redis.strip_prefix("redis://").expect("a Redis URL");
    let flags = ["up", "--kafka", kafka, "--redis", redis];
    let (mut up, endpoints) = start(&flags, &up_data, "endpoints.json");
    assert_eq!(text(&endpoints, "kafka"), kafka);
    post_and_find(&endpoints, "somebody");
    kafka_took_records(&endpoints);
    let status = up.terminate(STOP_WITHIN);
    assert!(status.success(), "{status}");

    let down = servers_data.dev(&["servers", "down"]).output().expect("dev starts");
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    let status = servers.wait_exit(seconds(2));
    assert!(status.success(), "{status}");
    servers_data.assert_all_gone(servers.pid(), "servers.json");
    let again = servers_data.dev(&["servers", "down"]).output().expect("dev starts");
    assert!(again.status.success(), "nothing to stop is no failure");
}
