//! The key snapshot: read, swapped, kept through damage, and never grown by strangers.
#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, which misses their helper functions"
)]

use engine::admin::{Component, Health, Level};
use engine::keys::{KEY_BYTES_MAX, KeyCache, KeyPoller, KeySnapshot, KeyStats, KeyVerdict, Keys};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const APP: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
const APP_BYTES: [u8; 16] = [
    0x0f, 0x8f, 0xad, 0x5b, 0xd9, 0xcb, 0x46, 0x9f, 0xa1, 0x65, 0x70, 0x86, 0x77, 0x28, 0x95, 0x0e,
];
const POLL: Duration = Duration::from_millis(20);

fn hash(key: &str) -> String {
    Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn snapshot(version: u64, keys: &[(&str, &str)]) -> String {
    let lines: Vec<String> = keys
        .iter()
        .map(|(key, scopes)| {
            format!("{{\"sha256\":\"{}\",\"app_id\":\"{APP}\",\"scopes\":[{scopes}]}}", hash(key))
        })
        .collect();
    format!("{{\"version\":{version},\"keys\":[{}]}}", lines.join(","))
}

fn cache_of(json: &str) -> KeyCache {
    let keys = Keys::new();
    keys.swap(KeySnapshot::parse(json.as_bytes()).unwrap());
    KeyCache::new(keys)
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 5 s: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Replaces the file in one step, as the api does.
fn replace(path: &Path, text: &str) {
    let next = path.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(&next, path).unwrap();
}

#[test]
fn a_key_is_judged_by_its_hash_and_scope() {
    let mut cache = cache_of(&snapshot(1, &[("one", "\"read\",\"ingest\""), ("two", "\"read\"")]));
    let mut check = |key: &[u8], expected| assert_eq!(cache.judge(key), expected, "{key:?}");
    for _ in 0..2 {
        check(b"one", KeyVerdict::Accepted(APP_BYTES));
        check(b"two", KeyVerdict::NoIngestScope);
        check(b"three", KeyVerdict::Unknown);
        check(b"", KeyVerdict::Unknown);
        check(hash("one").as_bytes(), KeyVerdict::Unknown);
    }
}

#[test]
fn a_key_that_is_too_long_is_unknown_even_if_it_is_listed() {
    let longest = "k".repeat(KEY_BYTES_MAX);
    let longer = "k".repeat(KEY_BYTES_MAX + 1);
    let mut cache = cache_of(&snapshot(1, &[(&longest, "\"ingest\""), (&longer, "\"ingest\"")]));
    assert_eq!(cache.judge(longest.as_bytes()), KeyVerdict::Accepted(APP_BYTES));
    assert_eq!(cache.judge(longer.as_bytes()), KeyVerdict::Unknown);
}

#[test]
fn only_accepted_keys_are_remembered_and_not_without_end() {
    let names: Vec<String> = (0..3_000).map(|index| format!("key-{index}")).collect();
    let listed: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "\"ingest\"")).collect();
    let mut cache = cache_of(&snapshot(1, &listed));
    for index in 0..10_000 {
        assert_eq!(cache.judge(format!("stranger-{index}").as_bytes()), KeyVerdict::Unknown);
    }
    assert_eq!(cache.cached(), 0);
    for name in &names {
        assert_eq!(cache.judge(name.as_bytes()), KeyVerdict::Accepted(APP_BYTES));
        assert!(cache.cached() <= 1024);
    }
}

#[test]
fn a_swap_takes_effect_at_the_next_request() {
    let keys = Keys::new();
    let mut cache = KeyCache::new(keys.clone());
    assert_eq!(cache.judge(b"one"), KeyVerdict::NoSnapshot, "no key can be called unknown yet");
    keys.swap(KeySnapshot::parse(snapshot(1, &[("one", "\"ingest\"")]).as_bytes()).unwrap());
    assert_eq!(cache.judge(b"one"), KeyVerdict::Accepted(APP_BYTES));
    keys.swap(KeySnapshot::parse(snapshot(2, &[("one", "\"read\"")]).as_bytes()).unwrap());
    assert_eq!(cache.judge(b"one"), KeyVerdict::NoIngestScope);
    keys.swap(KeySnapshot::parse(snapshot(3, &[]).as_bytes()).unwrap());
    assert_eq!(cache.judge(b"one"), KeyVerdict::Unknown);
}

#[test]
fn a_damaged_snapshot_is_refused_with_its_place() {
    let check = |json: &str, words: &str| {
        let error = KeySnapshot::parse(json.as_bytes()).expect_err(json).to_string();
        assert!(error.contains(words), "{json}: {error}");
    };
    check("", "not a JSON key snapshot");
    check("{\"version\":1}", "keys");
    check("{\"version\":-1,\"keys\":[]}", "-1");
    check(
        "{\"version\":1,\"keys\":[{\"sha256\":\"ab\",\"app_id\":\"\",\"scopes\":[]}]}",
        "keys[0].sha256",
    );
    let good = snapshot(1, &[("one", "")]);
    check(&good.replace(APP, "not a uuid"), "keys[0].app_id");
    check(&good.replace(APP, &APP.replace('-', "+")), "keys[0].app_id");
    check(&snapshot(1, &[("one", ""), ("one", "")]), "keys[1].sha256 stands there twice");
}

#[test]
fn the_poller_reads_swaps_revokes_and_outlives_damage() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let (keys, health) = (Keys::new(), Health::new(0));
    let stats = Arc::<KeyStats>::default();
    let poller =
        KeyPoller::start(path.clone(), POLL, keys.clone(), stats.clone(), health.clone()).unwrap();
    let mut cache = KeyCache::new(keys);

    assert_eq!(health.level(Component::Keys), Level::Down, "no file yet");
    let reason = format!("{:?}", health.report().ailments);
    assert!(reason.contains("keys.json"), "{reason}");
    assert_eq!(cache.judge(b"one"), KeyVerdict::NoSnapshot);

    replace(&path, &snapshot(7, &[("one", "\"ingest\"")]));
    wait_until("the key is accepted", || cache.judge(b"one") == KeyVerdict::Accepted(APP_BYTES));
    wait_until("ready", || health.level(Component::Keys) == Level::Ok);
    assert_eq!(stats.version.load(Ordering::Relaxed), 7);

    replace(&path, &snapshot(7, &[("one", "\"ingest\"")])[..40]);
    wait_until("the damage is seen", || health.level(Component::Keys) == Level::Degraded);
    assert_eq!(cache.judge(b"one"), KeyVerdict::Accepted(APP_BYTES), "the last good one stays");
    assert!(stats.failures.load(Ordering::Relaxed) > 0);

    std::fs::remove_file(&path).unwrap();
    wait_until("the loss is seen", || {
        format!("{:?}", health.report().ailments).contains("No such file")
    });
    assert_eq!(cache.judge(b"one"), KeyVerdict::Accepted(APP_BYTES), "the last good one stays");

    let revoked_at = Instant::now();
    replace(&path, &snapshot(8, &[]));
    wait_until("the key is revoked", || cache.judge(b"one") == KeyVerdict::Unknown);
    assert!(revoked_at.elapsed() < POLL + Duration::from_secs(2), "{:?}", revoked_at.elapsed());
    wait_until("ready again", || health.level(Component::Keys) == Level::Ok);
    drop(poller);
}

#[test]
fn a_file_changed_in_place_with_the_same_size_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    std::fs::write(&path, snapshot(1, &[("one", "\"ingest\"")])).unwrap();
    let keys = Keys::new();
    let poller =
        KeyPoller::start(path.clone(), POLL, keys.clone(), Arc::default(), Health::new(0)).unwrap();
    let mut cache = KeyCache::new(keys);
    assert_eq!(cache.judge(b"one"), KeyVerdict::Accepted(APP_BYTES), "read before start returns");
    std::fs::write(&path, snapshot(2, &[("two", "\"ingest\"")])).unwrap();
    wait_until("the other key", || cache.judge(b"two") == KeyVerdict::Accepted(APP_BYTES));
    assert_eq!(cache.judge(b"one"), KeyVerdict::Unknown);
    drop(poller);
}
