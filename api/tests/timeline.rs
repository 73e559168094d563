//! A user's timeline: who may be asked for, in which order, how much, and what is shown.

// In a test, a panic is the report.
#![allow(clippy::unwrap_used)]

mod rig;

use rig::{Rig, ms};
use uuid::Uuid;

#[test]
fn any_user_id_that_can_be_sent_can_be_asked_for() {
    let rig = Rig::start();
    let users = [
        "a/b",
        "..",
        ".",
        "100%",
        "%2F",
        "a b+c",
        "🦀🦀",
        "ünï",
        "?app_id=x",
        "#",
        "events",
        "\"\\\n\u{1}",
        &"é".repeat(255),
    ];
    let rows: Vec<_> = users.iter().map(|user| rig.event(user, "2026-02-10T10:00:00Z")).collect();
    rig.clickhouse.insert(&rows);
    for (user, row) in users.iter().zip(&rows) {
        let timeline = rig.timeline(user, "");
        assert_eq!(timeline.len(), 1, "{user:?}");
        assert_eq!(timeline[0]["event_id"], row.event_id.to_string());
        assert_eq!(timeline[0]["user_id"], *user);
    }
    assert_eq!(rig.timeline("nobody", "").len(), 0);
}

#[test]
fn newest_first_ties_by_event_id_up_to_the_limit() {
    let rig = Rig::start();
    let mut rows = Vec::new();
    for minute in 0..120 {
        let mut event = rig.event("ann", "2026-02-10T10:00:00Z");
        // Pairs of the same moment.
        event.timestamp_ms += minute / 2 * 60_000;
        rows.push(event);
    }
    rig.clickhouse.insert(&rows);
    rows.sort_by_key(|row| (-row.timestamp_ms, row.event_id.to_string()));
    let expected: Vec<String> = rows.iter().map(|row| row.event_id.to_string()).collect();
    let found = |more: &str| -> Vec<String> {
        let timeline = rig.timeline("ann", more);
        timeline.iter().map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(found(""), expected[..100]);
    assert_eq!(found("&limit=1"), expected[..1]);
    assert_eq!(found("&limit=1000"), expected);
}

#[test]
fn an_event_is_shown_as_it_was_sent() {
    let rig = Rig::start();
    let mut event = rig.event("ann", "2026-02-10T10:00:00.007Z");
    event.event_id = Uuid::parse_str("0198C0DE-ABCD-7000-8000-0000000000EF").unwrap();
    event.received_at_ms = ms("2026-02-10T10:00:01.5Z");
    event.properties =
        r#"{ "price" : 1.50, "tags":["a",null] , "big":12345678901234567890123 }"#.into();
    rig.clickhouse.insert(&[event.clone()]);
    let app_id = rig.app_id;
    let reply = rig.get(&format!("/api/v1/users/ann/events?app_id={app_id}"));
    let text = String::from_utf8(reply.body).unwrap();
    let expected = format!(
        "{{\"event_id\":\"0198c0de-abcd-7000-8000-0000000000ef\",\"event_name\":\"opened\",\
         \"user_id\":\"ann\",\"timestamp\":\"2026-02-10T10:00:00.007Z\",\
         \"received_at\":\"2026-02-10T10:00:01.500Z\",\"properties\":{}}}",
        event.properties
    );
    assert!(text.contains(&expected), "{text}\nhas not\n{expected}");
}

#[test]
fn a_full_answer_of_the_largest_events_is_given() {
    let rig = Rig::start();
    let mut rows = Vec::new();
    for index in 0..200 {
        let mut event = rig.event("ann", "2026-02-10T10:00:00Z");
        event.timestamp_ms += index;
        event.properties = format!("{{\"text\":\"{}\"}}", "x".repeat(60_000));
        rows.push(event);
    }
    rig.clickhouse.insert(&rows);
    assert_eq!(rig.timeline("ann", "&limit=1000").len(), 200);
}
