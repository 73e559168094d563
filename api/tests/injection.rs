//! No value of a client's is ever read as SQL: it is found as it is, or refused.

// In a test, a panic is the report.
#![allow(clippy::unwrap_used)]

mod rig;

use rig::{Rig, encode};

const HOSTILE: [&str; 16] = [
    "' OR 1=1 --",
    "\\' OR 1=1 --",
    "\\",
    "\\\\'",
    "a\0b",
    "{app_id:UUID}",
    "{x:String}",
    "`events`; DROP TABLE events",
    "\n\nDROP TABLE events",
    "\r\n--boundary\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT 1",
    "\\N",
    "tab\there",
    "'); INSERT INTO events VALUES ('",
    "?",
    "%27%20OR%201%3D1",
    "/* */ \u{2028} 🦀 \u{7f}",
];

#[test]
fn hostile_values_are_only_values() {
    let rig = Rig::start();
    let mut rows = vec![rig.event("other", "2026-02-10T10:00:00Z")];
    for text in HOSTILE {
        let mut event = rig.event(text, "2026-02-10T10:00:00Z");
        event.event_name = text.to_owned();
        rows.push(event);
    }
    rig.clickhouse.insert(&rows);
    for text in HOSTILE {
        assert_eq!(rig.count("2026-02-10", "2026-02-10", Some(text)), 1, "event_name {text:?}");
        let timeline = rig.timeline(text, "");
        assert_eq!(timeline.len(), 1, "user_id {text:?}");
        assert_eq!(timeline[0]["user_id"], text);
        assert_eq!(timeline[0]["event_name"], text);
    }
    let app_id = rig.app_id;
    for text in HOSTILE {
        let value = encode(text);
        for target in [
            format!(
                "/api/v1/analytics/dau?app_id={value}&start_date=2026-02-10&end_date=2026-02-10"
            ),
            format!("/api/v1/analytics/dau?app_id={app_id}&start_date={value}&end_date=2026-02-10"),
            format!("/api/v1/analytics/dau?app_id={app_id}&start_date=2026-02-10&end_date={value}"),
            format!("/api/v1/users/other/events?app_id={app_id}&limit={value}"),
            format!("/api/v1/users/other/events?app_id={value}"),
        ] {
            let reply = rig.get(&target);
            assert_eq!(reply.status, 400, "{target}: {}", reply.json());
        }
    }
    assert_eq!(rig.count("2026-02-10", "2026-02-10", None), 1 + HOSTILE.len() as u64);
}
