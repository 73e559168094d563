//! The admin port over a real socket.
#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, which misses their helper functions"
)]

use engine::admin::{AdminServer, Component, Health, Level};
use engine::metrics::{Metrics, TimeoutKind, add};
use proto::ErrorCode;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

const FRAMING_LABELS: &[&str] = &["bare_lf", "both_lengths"];

struct Stand {
    server: AdminServer,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

fn stand(shards: usize) -> Stand {
    let health = Health::new(shards);
    let metrics = Arc::new(Metrics::new(shards, FRAMING_LABELS, health.clone()));
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = AdminServer::start(listen, health.clone(), metrics.clone()).unwrap();
    Stand { server, health, metrics }
}

/// Sends a request and reads to the end; gives head and body.
fn exchange(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    (head.to_ascii_lowercase(), body.to_owned())
}

fn ask(stand: &Stand, method: &str, path: &str) -> (u16, String, String) {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let (head, body) = exchange(stand.server.address(), &request);
    (head[9..12].parse().unwrap(), head, body)
}

#[test]
fn ready_is_what_a_batch_would_find() {
    let stand = stand(2);
    let check = |what: &str, status: u16, words: &[&str]| {
        let (answered, _, body) = ask(&stand, "GET", "/readyz");
        assert_eq!(answered, status, "{what}: {body}");
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(json["status"], if status == 200 { "ready" } else { "not ready" }, "{what}");
        words.iter().for_each(|word| assert!(body.contains(word), "{what}: no {word} in {body}"));
    };
    let set = |component, level, reason: &str| stand.health.set(component, level, reason);
    check("at the start", 503, &["shard-0", "shard-1", "recovered", "keys", "clickhouse"]);
    set(Component::Shard(0), Level::Ok, "");
    set(Component::Keys, Level::Ok, "");
    check("while one shard recovers", 503, &["shard-1"]);
    set(Component::Shard(1), Level::Ok, "");
    check("recovered, ClickHouse not asked yet", 200, &["clickhouse", "degraded"]);
    set(Component::Clickhouse, Level::Ok, "");
    check("all well", 200, &["\"degraded\":[]"]);
    set(Component::Clickhouse, Level::Degraded, "connection \"refused\"");
    check("ClickHouse away", 200, &["clickhouse", "connection \\\"refused\\\""]);
    set(Component::Forwarder, Level::Degraded, "no table");
    check("ClickHouse refuses", 200, &["forwarder", "no table"]);
    set(Component::Shard(0), Level::Down, "journal full");
    check("journal full", 503, &["shard-0", "journal full"]);
    set(Component::Shard(0), Level::Failed, "a sync failed");
    check("one shard is out", 200, &["shard-0", "failed", "a sync failed"]);
    set(Component::Shard(1), Level::Failed, "a sync failed");
    check("all shards are out", 503, &["shard-1"]);
    set(Component::Shard(1), Level::Ok, "");
    set(Component::Keys, Level::Down, "no file");
    check("keys missing", 503, &["keys", "no file"]);
    set(Component::Keys, Level::Degraded, "damaged, the last good one stays");
    check("keys damaged", 200, &["keys", "damaged"]);
    set(Component::Server, Level::Down, "stopping");
    check("stopping", 503, &["server", "stopping"]);
}

#[test]
fn metrics_are_merged_named_and_explained() {
    let stand = stand(2);
    let (left, right) = (stand.metrics.shard(0), stand.metrics.shard(1));
    add(&left.events_accepted, 40);
    add(&right.events_accepted, 2);
    left.count_request(None);
    right.count_request(Some(ErrorCode::PayloadTooLarge));
    right.count_timeout(TimeoutKind::BodyRate);
    add(&left.framing_rejects[1], 3);
    left.journal_sync_us.record(100);
    right.journal_sync_us.record(200);
    add(&left.journal_backlog_bytes, 4096);
    stand.health.set(Component::Shard(1), Level::Failed, "a sync failed");
    let (status, head, body) = ask(&stand, "GET", "/metrics");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/openmetrics-text"), "{head}");
    let lines = [
        "unmogrowp_events_accepted_total 42",
        "unmogrowp_requests_total{outcome=\"ok\"} 1",
        "unmogrowp_requests_total{outcome=\"payload_too_large\"} 1",
        "unmogrowp_framing_rejects_total{reason=\"both_lengths\"} 3",
        "unmogrowp_timeouts_total{kind=\"body_rate\"} 1",
        "unmogrowp_journal_sync_seconds_count 2",
        "unmogrowp_journal_sync_seconds_bucket{le=\"0.000128\"} 1",
        "unmogrowp_journal_sync_seconds_bucket{le=\"+Inf\"} 2",
        "unmogrowp_journal_backlog_bytes 4096",
        "unmogrowp_body_bytes_total 0",
        "unmogrowp_forward_breaker_state 0",
        "unmogrowp_keys_age_seconds 0",
        "unmogrowp_shard_down{shard=\"1\"} 1",
        "unmogrowp_ready 0",
        "# EOF",
    ];
    for line in lines {
        assert!(body.lines().any(|found| found == line), "{line} is missing in:\n{body}");
    }
    assert!(body.contains("reason=\"a sync failed\""), "{body}");
    let families = body.lines().filter(|line| line.starts_with("# TYPE")).count();
    let helped = body.lines().filter(|line| line.starts_with("# HELP")).count();
    assert!(families == helped && families > 30, "{families} families, {helped} explained");
}

#[test]
fn paths_and_methods() {
    let stand = stand(1);
    let check = |method: &str, path: &str, status: u16, words: &[&str]| {
        let (answered, head, body) = ask(&stand, method, path);
        assert_eq!(answered, status, "{method} {path}: {body}");
        let answer = format!("{head}\n{body}");
        for word in words {
            assert!(answer.contains(word), "{method} {path}: no {word} in {answer}");
        }
    };
    check("GET", "/healthz", 200, &["\"ok\""]);
    check("GET", "/version", 200, &["unmogrowp-engine", env!("CARGO_PKG_VERSION")]);
    check("GET", "/readyz?verbose", 503, &["not ready"]);
    check("GET", "/", 404, &["NOT_FOUND", "application/json"]);
    check("GET", "/metrics/", 404, &["NOT_FOUND"]);
    check("POST", "/metrics", 405, &["METHOD_NOT_ALLOWED", "allow: get, head"]);
    check("DELETE", "/nowhere", 404, &["NOT_FOUND"]);
    for path in ["/healthz", "/readyz", "/metrics", "/version"] {
        let (_, get, _) = ask(&stand, "GET", path);
        let (_, head, body) = ask(&stand, "HEAD", path);
        assert_eq!(body, "", "HEAD {path}");
        assert_eq!(get.lines().next(), head.lines().next(), "HEAD {path}");
        assert!(head.contains("content-length:"), "HEAD {path}");
    }
}

#[test]
fn a_head_without_end_is_refused() {
    let stand = stand(1);
    let request = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(100_000));
    let mut stream = TcpStream::connect(stand.server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // The server may close before all of it is written.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(ask(&stand, "GET", "/healthz").0, 200, "and others are still served");
}

#[test]
fn dropping_it_frees_the_port() {
    let stand = stand(1);
    let address = stand.server.address();
    drop(stand);
    std::net::TcpListener::bind(address).unwrap();
}

#[test]
fn an_address_in_use_is_refused_with_the_key() {
    let stand = stand(1);
    let address = stand.server.address();
    let error = AdminServer::start(address, stand.health.clone(), stand.metrics.clone());
    let error = format!("{:#}", error.err().expect("the address is taken"));
    assert!(error.contains("admin.listen") && error.contains(&address.to_string()), "{error}");
}
