//! What lies in Redis: one string per app.
//!
//! ```text
//! unmogrowp-live 1 <app_id> <as_of, milliseconds since 1970>\n
//! {"minutes":[…],"users_today":N,"last_events":[…]}
//! ```
//!
//! The second part goes out as it is, so [`read`] takes nothing that is not whole, of this app, of
//! this shape and young enough. Redis is shared with others: what lies under our key is input.

use serde::Deserialize;
use serde::de::IgnoredAny;
use uuid::Uuid;

use super::pace::KEPT_MAX;
use super::{LAST_EVENTS_MAX, MINUTES};

/// Of the whole string: 100 events of 20 KB each. Larger ones are not stored, and not read.
pub const VALUE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How far ahead of us the clock of the instance that computed it may be.
const CLOCK_SKEW_MS_MAX: i64 = 5_000;

pub fn key(database: &str, app_id: Uuid) -> String {
    format!("unmogrowp:{database}:live:{app_id}")
}

/// The string's first line.
pub fn head(app_id: Uuid, as_of_ms: i64) -> String {
    format!("unmogrowp-live 1 {app_id} {as_of_ms}\n")
}

/// The content of a string that can be used.
#[derive(Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    pub as_of_ms: i64,
    /// Events of all the minutes.
    pub event_count: u64,
    /// A JSON object.
    pub data: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    minutes: Vec<Minute>,
    #[serde(rename = "users_today")]
    _users_today: u64,
    last_events: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Minute {
    #[serde(rename = "minute")]
    _minute: String,
    count: u64,
}

/// Nothing, where the bytes are not what this program stores for this app.
pub fn read(bytes: &[u8], app_id: Uuid, now_ms: i64) -> Option<Stored<'_>> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= VALUE_BYTES_MAX)?;
    let first_line = text.split('\n').next()?;
    let as_of_ms: i64 = first_line.rsplit_once(' ')?.1.parse().ok()?;
    let data = text.strip_prefix(head(app_id, as_of_ms).as_str())?;
    let age_ms = now_ms.checked_sub(as_of_ms)?;
    if age_ms < -CLOCK_SKEW_MS_MAX || age_ms > KEPT_MAX.as_millis() as i64 {
        return None;
    }
    let parsed: Data = serde_json::from_str(data).ok()?;
    if parsed.minutes.len() != MINUTES || parsed.last_events.len() > LAST_EVENTS_MAX {
        return None;
    }
    let counts = parsed.minutes.iter().map(|minute| minute.count);
    let event_count = counts.fold(0, u64::saturating_add);
    Some(Stored { as_of_ms, event_count, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_772_323_199_999;
    const APP: Uuid = Uuid::from_u128(0x0198_c0de_0000_7000_8000_0000_0000_0001);

    fn data(minutes: usize, count: &str, events: &str) -> String {
        let minute = format!(r#"{{"minute":"2026-02-28T23:59:00.000Z","count":{count}}}"#);
        let minutes = vec![minute; minutes].join(",");
        format!(r#"{{"minutes":[{minutes}],"users_today":7,"last_events":[{events}]}}"#)
    }

    fn check(bytes: &[u8], expected: Option<(i64, u64)>) {
        let found = read(bytes, APP, NOW_MS).map(|stored| (stored.as_of_ms, stored.event_count));
        assert_eq!(found, expected, "{:.120}", String::from_utf8_lossy(bytes));
    }

    #[test]
    fn what_was_stored_is_read() {
        let as_of_ms = NOW_MS - 1_500;
        let whole = data(MINUTES, "2", r#"{"a":1},{"b":[]}"#);
        check((head(APP, as_of_ms) + &whole).as_bytes(), Some((as_of_ms, 120)));
        let stored = head(APP, as_of_ms) + &whole;
        assert_eq!(read(stored.as_bytes(), APP, NOW_MS).unwrap().data, whole);
        // A clock that is a little ahead.
        check((head(APP, NOW_MS + 900) + &whole).as_bytes(), Some((NOW_MS + 900, 120)));
        // Numbers that do not add up to a number.
        let huge = data(MINUTES, "18446744073709551615", "");
        check((head(APP, NOW_MS) + &huge).as_bytes(), Some((NOW_MS, u64::MAX)));
    }

    #[test]
    fn anything_else_is_refused() {
        let good = head(APP, NOW_MS) + &data(MINUTES, "1", "");
        check(good.as_bytes(), Some((NOW_MS, 60)));
        for end in 0..good.len() {
            check(&good.as_bytes()[..end], None);
        }
        let with_head = |data: &str| head(APP, NOW_MS) + data;
        for text in [
            String::new(),
            "\n".to_owned(),
            with_head(""),
            with_head("null"),
            with_head("[]"),
            with_head("{}"),
            with_head(&data(MINUTES - 1, "1", "")),
            with_head(&data(MINUTES + 1, "1", "")),
            with_head(&data(MINUTES, "-1", "")),
            with_head(&data(MINUTES, "1.5", "")),
            with_head(&data(MINUTES, "1", &vec!["{}"; LAST_EVENTS_MAX + 1].join(","))),
            with_head(&(data(MINUTES, "1", "") + "}")),
            with_head(&data(MINUTES, "1", &"[".repeat(100_000))),
            with_head(&data(MINUTES, "1", "").replace("users_today", "users")),
            with_head(&data(MINUTES, "1", "").replace("}],", "}],\"more\":1,")),
            head(Uuid::from_u128(2), NOW_MS) + &data(MINUTES, "1", ""),
            head(APP, NOW_MS).replace(" 1 ", " 2 ") + &data(MINUTES, "1", ""),
            head(APP, NOW_MS).replace('\n', " \n") + &data(MINUTES, "1", ""),
            head(APP, NOW_MS + 60_000) + &data(MINUTES, "1", ""),
            head(APP, NOW_MS - 3_600_000) + &data(MINUTES, "1", ""),
            head(APP, i64::MIN) + &data(MINUTES, "1", ""),
            head(APP, i64::MAX) + &data(MINUTES, "1", ""),
            with_head(&data(MINUTES, "1", &format!("\"{}\"", "x".repeat(VALUE_BYTES_MAX)))),
        ] {
            check(text.as_bytes(), None);
        }
        let mut not_utf8 = good.clone().into_bytes();
        *not_utf8.last_mut().unwrap() = 0xff;
        check(&not_utf8, None);
    }
}
