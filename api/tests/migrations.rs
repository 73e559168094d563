//! The schema: applied once, again without harm, to the end after an interruption, never over a
//! newer one.

// In a test, a panic is the report.
#![allow(clippy::unwrap_used)]

mod rig;

use rig::{Rig, spawn_api, start_api};

#[test]
fn migrations_are_applied_once_whatever_happens() {
    let mut rig = Rig::start();
    rig.clickhouse.insert(&[rig.event("ann", "2026-02-10T10:00:00Z")]);
    let schema = rig.clickhouse.query("SHOW CREATE TABLE events");
    for part in [
        "ReplacingMergeTree(version)",
        "PARTITION BY toYYYYMM(timestamp)",
        "ORDER BY (app_id, toDate(timestamp), event_name, user_id, event_id)",
        "non_replicated_deduplication_window = 10000",
        "fsync_after_insert = 1",
        "fsync_part_directory = 1",
    ] {
        assert!(schema.contains(part), "{part} is not in {schema}");
    }
    let recorded = |rig: &Rig| {
        rig.clickhouse.query("SELECT version, name FROM schema_migrations ORDER BY version")
    };
    let all = "1\tevents\n2\tevents_dead";
    assert_eq!(recorded(&rig), all);

    restart(&mut rig);
    assert_eq!(recorded(&rig), all, "a second run records nothing");
    assert_eq!(rig.count("2026-02-10", "2026-02-10", None), 1, "and keeps every row");

    // Cut between the statements and the record.
    rig.clickhouse.query("TRUNCATE TABLE schema_migrations");
    restart(&mut rig);
    assert_eq!(recorded(&rig), all);
    assert_eq!(rig.count("2026-02-10", "2026-02-10", None), 1);

    // Cut before the statements.
    rig.clickhouse.query("DROP TABLE events SYNC");
    rig.clickhouse.query("TRUNCATE TABLE schema_migrations");
    restart(&mut rig);
    assert_eq!(rig.clickhouse.query("SHOW CREATE TABLE events"), schema);
    assert_eq!(rig.count("2026-02-10", "2026-02-10", None), 0);
}

fn restart(rig: &mut Rig) {
    assert_eq!(rig.api.stop(), Some(0));
    rig.api = start_api(rig.directory.path(), &rig.clickhouse.url(), None);
}

#[test]
fn a_newer_schema_is_left_alone() {
    let rig = Rig::start();
    rig.clickhouse.query("INSERT INTO schema_migrations (version, name) SELECT 99, 'later'");
    let directory = tempfile::tempdir().unwrap();
    let (mut api, _) = spawn_api(directory.path(), &rig.clickhouse.url(), "127.0.0.1:0");
    assert_eq!(api.exit_code(), Some(1));
}

#[test]
fn a_table_that_was_dropped_comes_back() {
    let rig = Rig::start();
    rig.clickhouse.query("DROP TABLE events SYNC");
    rig::wait_for("the table to come back", || {
        (rig.clickhouse.query("EXISTS TABLE events") == "1").then_some(())
    });
}
