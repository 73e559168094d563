//! Answers that wait for Kafka: never before the sync, at the delivery, at the deadline, at once when
//! Kafka's acknowledgements are not to be had.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod shard_bench;

use std::path::Path;
use std::sync::Arc;

use engine::connection::ConnectionId;
use engine::shard::DeliveryWatch;
use shard_bench::{Bench, batch, event, post, statuses};

const DEADLINE_US: u64 = 5_000;

fn bench(dir: &Path, acks: bool) -> (Bench, Arc<DeliveryWatch>) {
    let watch = Arc::new(DeliveryWatch::default());
    watch.set_acks(acks);
    let bench = Bench::new(dir, |_| {});
    let shard = bench.shard.wait_for_delivery(Arc::clone(&watch), DEADLINE_US);
    (Bench { shard, ..bench }, watch)
}

fn ask(bench: &mut Bench, name: &str) -> ConnectionId {
    let id = bench.shard.on_accept().unwrap();
    bench.shard.on_bytes(id, &post("", batch(&[event(name, 1)]).as_bytes()));
    id
}

fn deliver(bench: &mut Bench) {
    while bench.feed.next_block().unwrap().is_some() {}
    bench.feed.mark_forwarded(bench.journal_end()).unwrap();
}

#[track_caller]
fn check(bench: &Bench, id: ConnectionId, expected: &[u16]) {
    assert_eq!(statuses(&bench.answers(id)), expected);
}

#[test]
fn a_delivery_lets_a_synced_batch_go() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bench, watch) = bench(dir.path(), true);
    let id = ask(&mut bench, "a");
    assert_eq!(bench.shard.next_deadline_us(), u64::MAX, "it waits for its sync first");
    bench.settle();
    check(&bench, id, &[]);
    assert!(watch.is_awaited(bench.journal_end()));
    deliver(&mut bench);
    bench.settle();
    check(&bench, id, &[200]);
    assert_eq!(bench.shard.next_deadline_us(), u64::MAX);
}

#[test]
fn no_deadline_lets_go_what_is_not_synced() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bench, _watch) = bench(dir.path(), true);
    let id = ask(&mut bench, "a");
    let write = bench.shard.next_write().unwrap();
    bench.advance(10 * DEADLINE_US);
    bench.shard.turn();
    bench.perform();
    check(&bench, id, &[]);
    let result = write.write_blocking();
    bench.shard.on_write_done(write, result).unwrap();
    bench.perform();
    check(&bench, id, &[200]);
}

#[test]
fn the_deadline_lets_go_what_kafka_does_not_acknowledge() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bench, _watch) = bench(dir.path(), true);
    let began_us = bench.now_us;
    let id = ask(&mut bench, "a");
    bench.settle();
    assert_eq!(bench.shard.next_deadline_us(), began_us + DEADLINE_US);
    bench.advance(DEADLINE_US - 1);
    bench.settle();
    check(&bench, id, &[]);
    bench.advance(1);
    bench.settle();
    check(&bench, id, &[200]);
}

#[test]
fn with_kafka_away_the_sync_is_enough_also_for_those_who_wait() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bench, watch) = bench(dir.path(), true);
    let waiting = ask(&mut bench, "a");
    bench.settle();
    check(&bench, waiting, &[]);
    assert!(watch.set_acks(false), "the shard is to be woken");
    bench.settle();
    check(&bench, waiting, &[200]);
    let next = ask(&mut bench, "b");
    bench.settle();
    check(&bench, next, &[200]);
}

#[test]
fn answers_of_one_connection_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bench, _watch) = bench(dir.path(), true);
    let id = bench.shard.on_accept().unwrap();
    let good = post("", batch(&[event("a", 1)]).as_bytes());
    let bad = post("", b"{");
    bench.shard.on_bytes(id, &[good.clone(), bad, good].concat());
    bench.settle();
    check(&bench, id, &[]);
    deliver(&mut bench);
    bench.settle();
    check(&bench, id, &[200, 400, 200]);
}

#[test]
fn a_failed_journal_still_answers_what_was_synced() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bench, _watch) = bench(dir.path(), true);
    let synced = ask(&mut bench, "a");
    bench.settle();
    let lost = ask(&mut bench, "b");
    let write = bench.shard.next_write().unwrap();
    let failed = bench.shard.on_write_done(write, Err(std::io::Error::from_raw_os_error(5)));
    assert!(failed.is_err());
    bench.perform();
    check(&bench, synced, &[200]);
    check(&bench, lost, &[503]);
}
