//! What an engine costs while it does little: memory at rest and per idle connection, and how soon an
//! event is in the answers. The bounds are the project's figures; each test prints what it measured
//! (`cargo test --profile ci -p tests --test footprint -- --nocapture`).

use std::time::Instant;

use tests::wait::{seconds, wait_for};
use tests::{Batch, Event, Stack, StackOptions};

const REST_BYTES_PER_SHARD_MAX: u64 = 60 << 20;
const IDLE_CONNECTION_BYTES_MAX: u64 = 1024;
const IDLE_CONNECTIONS: u64 = 4_000;
const VISIBLE_WITHIN_MS: u128 = 1_000;

/// Resident memory that is the process's own: pages of the binary are shared and come and go.
fn anonymous_bytes(pid: u32) -> u64 {
    field(pid, "RssAnon:")
}

fn resident_bytes(pid: u32) -> u64 {
    field(pid, "VmRSS:")
}

fn field(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .expect("a running process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a known field");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
    kib * 1024
}

#[test]
fn a_shard_at_rest_and_its_idle_connections_are_small() {
    let options = StackOptions::engine_alone().set("limits.idle_timeout_s=600");
    let mut stack = Stack::start(options);
    let engine = stack.engine().pid();
    let rest = resident_bytes(engine);
    println!("one shard at rest: {} KiB resident", rest / 1024);
    assert!(rest <= REST_BYTES_PER_SHARD_MAX, "{rest} bytes resident at rest");

    // What is made once, for the first request and the first scrape, is there already.
    stack.post_ok(&Batch::one(Event::new("n", "u")));
    wait_for("a first scrape", seconds(20), || stack.metric("unmogrowp_connections_open"));
    let before = anonymous_bytes(engine);
    let idle: Vec<_> = (0..IDLE_CONNECTIONS).map(|_| stack.client()).collect();
    wait_for("all connections are open", seconds(20), || {
        (stack.metric("unmogrowp_connections_open")? >= IDLE_CONNECTIONS as f64).then_some(())
    });
    let each = anonymous_bytes(engine).saturating_sub(before) / IDLE_CONNECTIONS;
    println!("an idle connection: {each} bytes");
    assert!(each <= IDLE_CONNECTION_BYTES_MAX, "{each} bytes for an idle connection");
    drop(idle);
}

#[test]
fn an_event_is_in_the_answers_within_a_second() {
    let stack = Stack::start(StackOptions::default());
    let mut took_ms = Vec::new();
    for round in 0..5 {
        let name = format!("visible_{round}");
        let posted = Instant::now();
        stack.post_ok(&Batch::one(Event::new(&name, "u")));
        wait_for("the event is counted", seconds(20), || (stack.count(&name) == 1).then_some(()));
        took_ms.push(posted.elapsed().as_millis());
    }
    took_ms.sort();
    println!("POST to visible in /events/count, five times: {took_ms:?} ms");
    assert!(took_ms[2] <= VISIBLE_WITHIN_MS, "the median of {took_ms:?} ms is over a second");
}
