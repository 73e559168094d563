//! RFC 3339 timestamps to milliseconds since 1970-01-01 UTC.
//!
//! Stricter than the RFC's note allows: date and time are separated by `T` or `t`, never a space.
//! At most 9 fraction digits, cut (not rounded) to milliseconds. A second of 60 is taken only where
//! a leap second can stand, at 23:59:60 UTC, and becomes the last millisecond of its minute.

const MS_PER_DAY: i64 = 86_400_000;

/// The date last seen and its day: the events of a batch mostly share one.
#[derive(Clone, Copy)]
pub struct DateMemo {
    /// `YYYY-MM-DD` as two overlapping little-endian words; 0 before the first.
    text: (u64, u64),
    day_ms: i64,
}

impl DateMemo {
    pub const EMPTY: DateMemo = DateMemo { text: (0, 0), day_ms: 0 };
}

/// `None` when `text` is no timestamp.
pub fn parse(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_first_chunk::<10>()?;
    let (clock, rest) = rest.split_first_chunk::<9>()?;
    if clock[0] | 0x20 != b't' {
        return None;
    }
    let (fraction_ms, rest) = fraction(rest)?;
    let offset_minutes = offset(rest)?;
    let day_ms = day_start(date)?;
    let [_, clock @ ..] = clock;
    let (minute_ms, second) = time_of_day(u64::from_le_bytes(*clock))?;
    let minute_ms = day_ms + minute_ms - i64::from(offset_minutes) * 60_000;
    match second {
        60 if minute_ms.rem_euclid(MS_PER_DAY) == MS_PER_DAY - 60_000 => Some(minute_ms + 59_999),
        60 => None,
        _ => Some(minute_ms + second * 1_000 + fraction_ms),
    }
}

/// The two forms that clients send most, `YYYY-MM-DDTHH:MM:SS.mmmZ` and the same without the
/// fraction. `text` starts at the first digit and goes on past the timestamp's `length`.
/// `None` also when another form may be right: ask [`parse`] then.
#[inline(always)]
pub fn parse_usual(text: &[u8; 32], length: usize, memo: &mut DateMemo) -> Option<i64> {
    let word = |at: usize| u64::from_le_bytes(*text[at..].first_chunk().expect("32 bytes"));
    let date = (word(0), word(2));
    if date != memo.text {
        let day_ms = day_start(text.first_chunk().expect("32 bytes"))?;
        *memo = DateMemo { text: date, day_ms };
    }
    if text[10] != b'T' {
        return None;
    }
    let (minute_ms, second) = time_of_day(word(11))?;
    if second == 60 {
        return None;
    }
    let whole_ms = memo.day_ms + minute_ms + second * 1_000;
    let tail = word(19);
    if length == 24 {
        let digits = tail ^ u64::from_le_bytes(*b".000Z\0\0\0");
        let wrong = (digits | digits.wrapping_add(0x0606_0600)) & 0x0000_00ff_f0f0_f0ff;
        if wrong != 0 {
            return None;
        }
        let ms = (digits >> 8 & 15) * 100 + (digits >> 16 & 15) * 10 + (digits >> 24 & 15);
        return Some(whole_ms + ms as i64);
    }
    (length == 20 && tail as u8 == b'Z').then_some(whole_ms)
}

/// The start of the minute in milliseconds of the day, and the second (60 included).
#[inline(always)]
fn time_of_day(clock: u64) -> Option<(i64, i64)> {
    let digits = clock ^ u64::from_le_bytes(*b"00:00:00");
    let wrong = (digits | digits.wrapping_add(0x0606_0006_0600_0606)) & 0xf0f0_fff0_f0ff_f0f0;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let (hour, minute, second) = (pairs & 0xff, pairs >> 24 & 0xff, pairs >> 48 & 0xff);
    if wrong != 0 || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(((hour * 3_600_000 + minute * 60_000) as i64, second as i64))
}

/// Midnight UTC of a date that exists, in milliseconds.
fn day_start(date: &[u8; 10]) -> Option<i64> {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = *date else { return None };
    let year = pair(y0, y1)? * 100 + pair(y2, y3)?;
    let (month, day) = (pair(m0, m1)?, pair(d0, d1)?);
    if day < 1 || day > days_in_month(year, month)? {
        return None;
    }
    // Days since 0000-03-01 in years that start in March, so that the leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 1;
    Some((days - 719_468) * MS_PER_DAY)
}

fn days_in_month(year: i64, month: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(28 + i64::from(leap)),
        _ => None,
    }
}

fn pair(tens: u8, ones: u8) -> Option<i64> {
    (tens.is_ascii_digit() && ones.is_ascii_digit())
        .then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

/// Milliseconds of an optional fraction, and what follows it.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = text.strip_prefix(b".") else { return Some((0, text)) };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=9).contains(&count) {
        return None;
    }
    let digit = |at: usize| if at < count { i64::from(digits[at] - b'0') } else { 0 };
    Some((digit(0) * 100 + digit(1) * 10 + digit(2), &digits[count..]))
}

/// Minutes east of UTC.
fn offset(text: &[u8]) -> Option<i32> {
    match *text {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] => {
            let (hours, minutes) = (pair(h0, h1)?, pair(m0, m1)?);
            let east = (hours <= 23 && minutes <= 59).then_some((hours * 60 + minutes) as i32)?;
            Some(if sign == b'+' { east } else { -east })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    fn check(text: &str, expected: Option<i64>) {
        assert_eq!(parse(text.as_bytes()), expected, "{text}");
        let mut padded = [b'"'; 32];
        if text.len() <= 30 {
            padded[..text.len()].copy_from_slice(text.as_bytes());
            for _ in 0..2 {
                let mut memo = DateMemo::EMPTY;
                let usual = parse_usual(&padded, text.len(), &mut memo);
                assert!(usual.is_none() || usual == expected, "{text}: {usual:?}");
            }
        }
    }

    #[test]
    fn dates_times_and_offsets() {
        check("1970-01-01T00:00:00Z", Some(0));
        check("2024-02-29T12:34:56.789Z", Some(1_709_210_096_789));
        check("2024-02-29t12:34:56.789z", Some(1_709_210_096_789));
        check("2024-02-29T12:34:56.7899999Z", Some(1_709_210_096_789));
        check("2024-02-29T12:34:56.123456789Z", Some(1_709_210_096_123));
        check("2024-02-29T12:34:56.1234567890Z", None);
        check("2024-02-29T12:34:56.Z", None);
        check("2024-02-29T14:34:56.789+02:00", Some(1_709_210_096_789));
        check("2024-02-29T07:04:56.789-05:30", Some(1_709_210_096_789));
        check("2024-02-29T12:34:56-00:00", Some(1_709_210_096_000));
        check("2023-02-29T12:34:56Z", None);
        check("1900-02-29T00:00:00Z", None);
        check("2000-02-29T00:00:00Z", Some(951_782_400_000));
        check("0000-01-01T00:00:00Z", Some(-62_167_219_200_000));
        check("9999-12-31T23:59:59.999Z", Some(253_402_300_799_999));
        check("2024-00-10T00:00:00Z", None);
        check("2024-13-10T00:00:00Z", None);
        check("2024-04-31T00:00:00Z", None);
        check("2024-04-00T00:00:00Z", None);
        check("2024-04-01T24:00:00Z", None);
        check("2024-04-01T23:60:00Z", None);
        check("2024-04-01T23:59:61Z", None);
        check("2024-04-01 23:59:59Z", None);
        check("2024-04-01T23:59:59", None);
        check("2024-04-01T23:59:59+0200", None);
        check("2024-04-01T23:59:59+24:00", None);
        check("2024-04-01T23:59:59+00:60", None);
        check("2024-04-01T23:59:59Z ", None);
        check("2024-04-01T23:59:5:Z", None);
        check("2024-04-01T23:59:59.12:Z", None);
        check("2024-4-01T23:59:59Z", None);
        check("", None);
    }

    #[test]
    fn leap_seconds_stand_only_before_midnight_utc() {
        let before_midnight = 1_483_228_799_999;
        check("2016-12-31T23:59:60Z", Some(before_midnight));
        check("2016-12-31T23:59:60.5Z", Some(before_midnight));
        check("2016-12-31T23:59:60.123Z", Some(before_midnight));
        check("2017-01-01T01:59:60+02:00", Some(before_midnight));
        check("2016-12-31T15:59:60-08:00", Some(before_midnight));
        check("2016-12-31T22:59:60Z", None);
        check("2016-12-31T23:59:60+01:00", None);
    }

    proptest! {
        #[test]
        fn agrees_with_the_time_crate(seconds in -62_000_000_000i64..253_000_000_000, nanos in 0u32..1_000_000_000) {
            let moment = OffsetDateTime::from_unix_timestamp(seconds).unwrap().replace_nanosecond(nanos).unwrap();
            let text = moment.format(&Rfc3339).unwrap();
            let expected = seconds * 1000 + i64::from(nanos / 1_000_000);
            prop_assert_eq!(parse(text.as_bytes()), Some(expected));
            let text = format!("{}.{:03}Z", &text[..19], nanos / 1_000_000);
            let mut padded = [b'"'; 32];
            padded[..24].copy_from_slice(text.as_bytes());
            let mut memo = DateMemo::EMPTY;
            prop_assert_eq!(parse_usual(&padded, 24, &mut memo), Some(expected));
            prop_assert_eq!(parse_usual(&padded, 24, &mut memo), Some(expected));
        }

        #[test]
        fn usual_form_never_accepts_what_parse_refuses(at in 0usize..24, byte in any::<u8>()) {
            let mut text = *b"2024-02-29T12:34:56.789Z\"\"\"\"\"\"\"\"";
            text[at] = byte;
            let mut memo = DateMemo::EMPTY;
            if let Some(ms) = parse_usual(&text, 24, &mut memo) {
                prop_assert_eq!(parse(&text[..24]), Some(ms));
            }
        }
    }
}
