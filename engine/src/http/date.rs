//! The Date header's text (RFC 9110 §5.6.7, IMF-fixdate), made at most once a second.
//!
//! It must not read a clock: the caller says what second it is.

/// `Sun, 06 Nov 1994 08:49:37 GMT`
pub const DATE_BYTES: usize = 29;

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;
const DAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";

/// The text of the last second that was asked for.
#[derive(Clone, Debug)]
pub struct DateCache {
    unix_s: u64,
    text: [u8; DATE_BYTES],
}

impl Default for DateCache {
    fn default() -> DateCache {
        DateCache { unix_s: 0, text: imf_fixdate(0) }
    }
}

impl DateCache {
    /// The date of `unix_s`, a second of the years 1970 to 9999.
    #[inline]
    pub fn at(&mut self, unix_s: u64) -> &[u8; DATE_BYTES] {
        if unix_s != self.unix_s {
            self.unix_s = unix_s;
            self.text = imf_fixdate(unix_s);
        }
        &self.text
    }
}

fn imf_fixdate(unix_s: u64) -> [u8; DATE_BYTES] {
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    let day_index = unix_s / SECONDS_PER_DAY;
    let second_of_day = unix_s % SECONDS_PER_DAY;
    let (year, month, day) = civil_date(day_index);
    assert!(year <= 9999, "a date header's year has four digits");

    let weekday = (day_index % 7) as usize * 3;
    text[..3].copy_from_slice(&DAYS[weekday..weekday + 3]);
    put_two_digits(&mut text, 5, day);
    let name = (month as usize - 1) * 3;
    text[8..11].copy_from_slice(&MONTHS[name..name + 3]);
    put_two_digits(&mut text, 12, year / 100);
    put_two_digits(&mut text, 14, year % 100);
    put_two_digits(&mut text, 17, second_of_day / 3600);
    put_two_digits(&mut text, 20, second_of_day / 60 % 60);
    put_two_digits(&mut text, 23, second_of_day % 60);
    text
}

fn put_two_digits(text: &mut [u8; DATE_BYTES], at: usize, value: u64) {
    text[at] = b'0' + (value / 10) as u8;
    text[at + 1] = b'0' + (value % 10) as u8;
}

/// Year, month and day of the proleptic Gregorian calendar, from days since 1970-01-01. Counted in
/// years that begin in March, so that the leap day is a year's last, and in eras of 400 years.
fn civil_date(unix_days: u64) -> (u64, u64, u64) {
    const DAYS_PER_ERA: u64 = 146_097;
    const DAYS_FROM_MARCH_OF_YEAR_0_TO_1970: u64 = 719_468;
    let days = unix_days + DAYS_FROM_MARCH_OF_YEAR_0_TO_1970;
    let day_of_era = days % DAYS_PER_ERA;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Five months from March on have 153 days, whichever five they are.
    let months_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months_from_march + 2) / 5 + 1;
    let month = if months_from_march < 10 { months_from_march + 3 } else { months_from_march - 9 };
    let year = days / DAYS_PER_ERA * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::OffsetDateTime;
    use time::macros::format_description;

    fn check(unix_s: u64) {
        let layout = format_description!(
            "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
        );
        let moment = OffsetDateTime::from_unix_timestamp(unix_s as i64).unwrap();
        let expected = moment.format(layout).unwrap();
        assert_eq!(std::str::from_utf8(&imf_fixdate(unix_s)), Ok(expected.as_str()));
    }

    #[test]
    fn known_dates() {
        check(0);
        check(784_111_777);
        check(951_782_399); // the leap day of 2000 begins
        check(951_868_800);
        check(4_107_542_400); // 1 March 2100, not a leap year
        check(253_402_300_799); // the last second of 9999
        assert_eq!(&imf_fixdate(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn every_day_of_four_centuries() {
        for day in 0..146_097 {
            check(day * SECONDS_PER_DAY + day % SECONDS_PER_DAY);
        }
    }

    #[test]
    fn cache_follows_the_second_both_ways() {
        let mut cache = DateCache::default();
        for unix_s in [0, 1, 1, 86_400, 0] {
            assert_eq!(*cache.at(unix_s), imf_fixdate(unix_s));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_time_crate(unix_s in 0u64..253_402_300_800) {
            check(unix_s);
        }
    }
}
