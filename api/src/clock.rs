//! Wall-clock time as the wire shows it: milliseconds since 1970 and RFC 3339 text, always UTC.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

pub const DAY_MS: i64 = 86_400_000;

pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Appends `2026-01-31T23:59:59.999Z`. A year that four digits cannot show becomes the nearest
/// time they can.
pub fn push_rfc3339(out: &mut Vec<u8>, unix_ms: i64) {
    const MS_MIN: i64 = -62_167_219_200_000;
    const MS_MAX: i64 = 253_402_300_799_999;
    let clamped = unix_ms.clamp(MS_MIN, MS_MAX);
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(clamped) * 1_000_000)
        .expect("the years 0 to 9999 are within the type's range");
    let text = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    );
    out.extend_from_slice(text.as_bytes());
}

pub fn rfc3339(unix_ms: i64) -> String {
    let mut out = Vec::with_capacity(24);
    push_rfc3339(&mut out, unix_ms);
    String::from_utf8(out).expect("digits and punctuation are ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_milliseconds_in_utc() {
        let check = |ms, expected: &str| assert_eq!(rfc3339(ms), expected);
        check(0, "1970-01-01T00:00:00.000Z");
        check(1_772_323_199_999, "2026-02-28T23:59:59.999Z");
        check(-1, "1969-12-31T23:59:59.999Z");
        check(i64::MIN, "0000-01-01T00:00:00.000Z");
        check(i64::MAX, "9999-12-31T23:59:59.999Z");
    }
}
