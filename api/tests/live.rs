//! The live counters are right before merges, and the same from ClickHouse and from Redis.

// In a test, a panic is the report.
#![allow(clippy::unwrap_used)]

mod rig;

use std::time::{SystemTime, UNIX_EPOCH};

use rig::redis::Redis;
use rig::{Event, Reply, Rig, http, ms, wait_for};
use serde_json::Value;

const DAY_MS: i64 = 86_400_000;

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn live(rig: &Rig) -> Reply {
    rig.get(&format!("/api/v1/analytics/live?app_id={}", rig.app_id))
}

/// Asks until the answer comes from `source` and `right` holds.
fn live_from(rig: &Rig, source: &str, right: impl Fn(&Value) -> bool) -> Value {
    wait_for(&format!("live counters from {source}"), || {
        let reply = live(rig);
        let answer = reply.json();
        assert_eq!((reply.status, &answer["status"]), (200, &"success".into()), "{answer}");
        (answer["meta"]["source"] == source && right(&answer["data"])).then_some(answer)
    })
}

fn counted(data: &Value) -> u64 {
    let minutes = data["minutes"].as_array().unwrap();
    assert_eq!(minutes.len(), 60);
    minutes.iter().map(|minute| minute["count"].as_u64().unwrap()).sum()
}

fn event(rig: &Rig, user: &str, timestamp_ms: i64, received_at_ms: i64) -> Event {
    let mut event = rig.event(user, "2026-01-01T00:00:00Z");
    (event.timestamp_ms, event.received_at_ms) = (timestamp_ms, received_at_ms);
    event
}

/// Inserts events of now, of earlier and copies of both, and gives what has to come out: events in
/// the hour, users of today, ids of the last 100 events.
fn fill(rig: &Rig) -> (u64, u64, Vec<String>) {
    rig.clickhouse.query(
        "ALTER TABLE events MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1,
            max_bytes_to_merge_at_min_space_in_pool = 1",
    );
    let now = now_ms();
    let today = now / DAY_MS * DAY_MS;
    // 150 of today, received within the last minutes.
    let recent: Vec<Event> = (0..150)
        .map(|index| {
            let timestamp = (now - 1_000 * index).max(today);
            event(rig, &format!("user-{}", index % 40), timestamp, now - 2_000 * index)
        })
        .collect();
    // Received long ago, and again now: counts then. Sent now for days ago: counts now.
    let old = event(rig, "old", now - 3 * DAY_MS, now - 2 * DAY_MS);
    let mut old_again = old.clone();
    old_again.received_at_ms = now;
    let late = event(rig, "late", now - 30 * DAY_MS, now - 1_000);
    let mut other = event(rig, "other", now, now);
    other.app_id = uuid::Uuid::new_v4();
    // A copy that claims a newer time than the first received has.
    let mut copy = recent[149].clone();
    copy.received_at_ms = now;
    copy.timestamp_ms = now;
    copy.properties = r#"{"copy":true}"#.to_owned();
    rig.clickhouse.insert(&recent);
    rig.clickhouse.insert(&recent);
    rig.clickhouse.insert(&[old, late, other]);
    rig.clickhouse.insert(&[old_again, copy]);
    let mut newest = recent.clone();
    newest.sort_by_key(|event| (-event.timestamp_ms, event.event_id.to_string()));
    let ids = newest.iter().take(100).map(|event| event.event_id.to_string()).collect();
    (151, 40, ids)
}

fn check(answer: &Value, expected: &(u64, u64, Vec<String>)) {
    let data = &answer["data"];
    assert_eq!(counted(data), expected.0);
    let events = data["last_events"].as_array().unwrap();
    let ids: Vec<&str> = events.iter().map(|event| event["event_id"].as_str().unwrap()).collect();
    assert_eq!(ids, expected.2);
    assert!(events.iter().all(|event| event["properties"] == serde_json::json!({})));
    assert_eq!(answer["meta"]["count"], expected.0);
    let as_of = ms(answer["meta"]["as_of"].as_str().unwrap());
    // Midnight may have come in between.
    let users = if ms(events[0]["timestamp"].as_str().unwrap()) / DAY_MS == as_of / DAY_MS {
        expected.1
    } else {
        0
    };
    assert_eq!(data["users_today"], users);
    let minutes = data["minutes"].as_array().unwrap();
    for (index, minute) in minutes.iter().enumerate() {
        let expected = as_of / 60_000 * 60_000 - (59 - index as i64) * 60_000;
        assert_eq!(ms(minute["minute"].as_str().unwrap()), expected);
    }
    assert!(now_ms() - as_of < 30_000 && answer["meta"]["age_ms"].as_i64().unwrap() < 30_000);
}

#[test]
fn numbers_are_right_before_merges_and_the_same_on_both_routes() {
    let redis = Redis::start();
    let rig = Rig::start_with(Some(&redis.url()));
    // Nothing is there, and no round has anything to do.
    let empty = live(&rig).json();
    assert_eq!((counted(&empty["data"]), &empty["meta"]["source"]), (0, &"clickhouse".into()));
    assert_eq!(empty["data"]["last_events"], serde_json::json!([]));
    let expected = fill(&rig);
    let from_redis = live_from(&rig, "redis", |data| counted(data) == expected.0);
    check(&from_redis, &expected);
    let without_redis = rig::start_api(rig.directory.path(), &rig.clickhouse.url(), None);
    let target = format!("/api/v1/analytics/live?app_id={}", rig.app_id);
    let headers = [("X-API-Key", rig.key.as_str())];
    let answer = http(&without_redis.address, "GET", &target, &headers, b"").unwrap().json();
    assert_eq!(answer["meta"]["source"], "clickhouse");
    check(&answer, &expected);
    // The only one with events of two apps and a lock that is let go of.
    let keys = redis.command(&[b"DBSIZE"]);
    assert!(keys == b"2" || keys == b"3", "two apps and perhaps the lock");
    let metrics = String::from_utf8(rig.get("/metrics").body).unwrap();
    for name in ["live_rounds_total", "live_hits_total", "live_round_seconds_count"] {
        assert!(metrics.contains(&format!("unmogrowp_api_{name}")), "{metrics}");
    }
}

#[test]
fn older_days_fill_the_last_events_and_many_copies_do_not() {
    let rig = Rig::start();
    let now = now_ms();
    let event_of = |index: i64| event(&rig, "ann", now - 10 * DAY_MS - index, now - 8 * DAY_MS);
    let old: Vec<Event> = (0..120).map(event_of).collect();
    rig.clickhouse.insert(&old);
    let mut newest = event(&rig, "newest", now, now);
    newest.properties = r#"{"first":true}"#.to_owned();
    rig.clickhouse.query(
        "ALTER TABLE events MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1,
            max_bytes_to_merge_at_min_space_in_pool = 1",
    );
    rig.clickhouse.insert(std::slice::from_ref(&newest));
    // 1,500 copies that lie before every other row.
    rig.clickhouse.query(
        "INSERT INTO events (app_id, event_id, timestamp, received_at, event_name, user_id,
            properties)
        SELECT app_id, event_id, timestamp, received_at + toIntervalMillisecond(1 + number),
            event_name, user_id, '{}'
        FROM events CROSS JOIN numbers(1500) AS copies
        WHERE user_id = 'newest'
        SETTINGS optimize_on_insert = 0",
    );
    assert_eq!(rig.clickhouse.query("SELECT count() FROM events"), "1621");
    let answer = live(&rig).json();
    let events = answer["data"]["last_events"].as_array().unwrap();
    let mut expected = vec![newest.event_id.to_string()];
    expected.extend(old.iter().take(99).map(|event| event.event_id.to_string()));
    let ids: Vec<&str> = events.iter().map(|event| event["event_id"].as_str().unwrap()).collect();
    assert_eq!(ids, expected);
    assert_eq!(events[0]["properties"]["first"], true, "the first received wins");
    assert_eq!(counted(&answer["data"]), 1);
}

#[test]
fn the_live_question_has_the_door_of_the_others() {
    let rig = Rig::start();
    let check = |target: &str, key: Option<&str>, status: u16| {
        let headers: Vec<(&str, &str)> = key.map(|key| ("X-API-Key", key)).into_iter().collect();
        let reply = http(&rig.api.address, "GET", target, &headers, b"").unwrap();
        assert_eq!(reply.status, status, "{target}");
    };
    let path = "/api/v1/analytics/live";
    let own = format!("{path}?app_id={}", rig.app_id);
    check(&own, Some(&rig.key), 200);
    check(&own, None, 401);
    check(&own, Some("umg_wrong"), 401);
    check(path, Some(&rig.key), 400);
    check(&format!("{path}?app_id=x"), Some(&rig.key), 400);
    check(&format!("{path}?app_id={}", uuid::Uuid::new_v4()), Some(&rig.key), 403);
    assert_eq!(http(&rig.api.address, "POST", &own, &[], b"").unwrap().status, 405);
    assert!(rig.get("/readyz").json()["dependencies"].get("redis").is_none());
}
