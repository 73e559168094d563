//! Days are UTC, whatever time zone ClickHouse and the API run in; ranges include both ends; a day
//! without events is there with 0.

// In a test, a panic is the report.
#![allow(clippy::unwrap_used)]

mod rig;

use rig::Rig;

#[test]
fn a_day_ends_at_its_last_utc_millisecond() {
    let rig = Rig::start();
    rig.clickhouse.insert(&[
        rig.event("a", "2026-01-30T23:59:59.999Z"),
        rig.event("b", "2026-01-31T00:00:00.000Z"),
        rig.event("c", "2026-01-31T23:59:59.999Z"),
        rig.event("d", "2026-02-01T00:00:00.000Z"),
        rig.event("d", "2026-02-01T00:00:00.001Z"),
        rig.event("e", "2026-02-01T23:59:59.999Z"),
        rig.event("f", "2026-02-02T00:00:00.000Z"),
    ]);
    let day = |date: &str, dau| (date.to_owned(), dau);
    assert_eq!(rig.dau("2026-01-31", "2026-02-01"), [day("2026-01-31", 2), day("2026-02-01", 2)]);
    assert_eq!(rig.count("2026-01-31", "2026-02-01", None), 5);
    assert_eq!(rig.count("2026-01-31", "2026-01-31", None), 2);
    assert_eq!(rig.count("2026-02-02", "2026-02-02", None), 1);
    assert_eq!(
        rig.dau("2026-01-28", "2026-01-31"),
        [day("2026-01-28", 0), day("2026-01-29", 0), day("2026-01-30", 1), day("2026-01-31", 2)]
    );
}

#[test]
fn every_day_of_the_range_is_there() {
    let rig = Rig::start();
    rig.clickhouse.insert(&[rig.event("a", "2025-06-01T12:00:00Z")]);
    let days = rig.dau("2025-01-01", "2026-02-04");
    assert_eq!(days.len(), 400);
    assert_eq!(days.iter().map(|day| day.1).sum::<u64>(), 1);
    assert_eq!((days[0].0.as_str(), days[399].0.as_str()), ("2025-01-01", "2026-02-04"));
    assert!(days.is_sorted());
    // Days that no event can have are 0, not an error.
    assert_eq!(rig.dau("0000-01-01", "0000-01-02").len(), 2);
    assert_eq!(rig.count("9999-12-31", "9999-12-31", None), 0);
    assert_eq!(
        rig.dau("1969-12-31", "1970-01-01"),
        [("1969-12-31".to_owned(), 0), ("1970-01-01".to_owned(), 0)]
    );
}
