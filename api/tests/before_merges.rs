//! Every answer is right before merges: what is in the table twice counts once, and of two contents
//! under one identity the first received wins.

// In a test, a panic is the report.
#![allow(clippy::unwrap_used)]

mod rig;

use rig::{Rig, ms};
use uuid::Uuid;

#[test]
fn a_row_that_is_there_twice_counts_once() {
    let rig = Rig::start();
    rig.clickhouse.query(
        "ALTER TABLE events MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1,
            max_bytes_to_merge_at_min_space_in_pool = 1",
    );
    let first = rig.event("ann", "2026-02-10T10:00:00Z");
    let mut late = first.clone();
    late.received_at_ms += 5_000;
    late.properties = r#"{"late":true}"#.to_owned();
    let mut early = first.clone();
    early.received_at_ms -= 5_000;
    early.timestamp_ms += 60_000;
    early.properties = r#"{"early":true}"#.to_owned();
    // One block with the event twice, then a block each: neither order may matter.
    rig.clickhouse.insert(&[
        first.clone(),
        first.clone(),
        rig.event("bob", "2026-02-10T11:00:00Z"),
    ]);
    rig.clickhouse.insert(&[late]);
    rig.clickhouse.insert(&[early]);
    rig.clickhouse.insert(std::slice::from_ref(&first));
    let raw: u64 = rig.clickhouse.query("SELECT count() FROM events").parse().unwrap();
    assert!(raw >= 4, "the table holds the event more than once: {raw} rows");

    assert_eq!(rig.count("2026-02-10", "2026-02-10", None), 2);
    assert_eq!(rig.dau("2026-02-10", "2026-02-10"), [("2026-02-10".to_owned(), 2)]);
    let timeline = rig.timeline("ann", "");
    assert_eq!(timeline.len(), 1);
    assert_eq!(timeline[0]["properties"]["early"], true, "the first received wins");
    assert_eq!(timeline[0]["timestamp"], "2026-02-10T10:01:00.000Z");
    assert_eq!(timeline[0]["received_at"], "2026-03-01T11:59:55.000Z");
    assert_eq!(
        rig.clickhouse.query("SELECT properties FROM events FINAL WHERE user_id = 'ann'"),
        r#"{"early":true}"#,
        "FINAL agrees with the timeline"
    );
}

#[test]
fn one_event_id_with_other_content_is_another_event() {
    let rig = Rig::start();
    let event = rig.event("ann", "2026-02-10T10:00:00Z");
    let mut other_name = event.clone();
    other_name.event_name = "closed".to_owned();
    let mut other_day = event.clone();
    other_day.timestamp_ms = ms("2026-02-11T10:00:00Z");
    let mut other_user = event.clone();
    other_user.user_id = "bob".to_owned();
    let mut other_app = event.clone();
    other_app.app_id = Uuid::new_v4();
    rig.clickhouse.insert(&[event, other_name, other_day, other_user, other_app]);
    assert_eq!(rig.count("2026-02-01", "2026-02-28", None), 4);
    assert_eq!(rig.count("2026-02-01", "2026-02-28", Some("closed")), 1);
    assert_eq!(rig.timeline("ann", "").len(), 3);
    assert_eq!(rig.dau("2026-02-10", "2026-02-11").into_iter().map(|day| day.1).sum::<u64>(), 3);
}
