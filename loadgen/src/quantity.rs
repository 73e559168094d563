//! Durations and shares as the command line spells them: `90`, `90s`, `1500ms`, `2m`, `1h`; `0.1%`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Longest first: `ms` ends in `s`.
const UNITS_MS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// Longer runs can be split.
pub const DURATION_MAX: Duration = Duration::from_secs(7 * 86_400);

/// A whole number with a unit; without one, seconds. 1 ms to a week.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let found = UNITS_MS
        .iter()
        .find_map(|&(unit, scale_ms)| Some((text.strip_suffix(unit)?.trim_end(), scale_ms)));
    let (number, scale_ms) = found.unwrap_or((text, 1_000));
    let duration = number
        .parse::<u64>()
        .map_err(|_| format!("{text:?} is not a time such as 30, 30s, 1500ms, 5m or 1h"))?
        .checked_mul(scale_ms)
        .filter(|ms| *ms > 0)
        .map(Duration::from_millis);
    duration
        .filter(|duration| *duration <= DURATION_MAX)
        .ok_or_else(|| format!("{text:?} is outside 1ms to 168h; split longer runs"))
}

/// A part of a whole, 0 to 1; written with a percent sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Share(pub f64);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent: Option<f64> =
            text.trim().strip_suffix('%').and_then(|number| number.trim_end().parse().ok());
        percent
            .filter(|percent| (0.0..=100.0).contains(percent))
            .map(|percent| Share(percent / 100.0))
            .ok_or_else(|| format!("{text:?} is not a share from 0% to 100%, such as 0.1%"))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What the division by 100 left behind the sixth digit is not what was meant.
        write!(f, "{}%", (self.0 * 1e8).round() / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, expected_ms: Option<u64>| {
            let seen = parse_duration(text).ok().map(|duration| duration.as_millis() as u64);
            assert_eq!(seen, expected_ms, "{text}");
        };
        for (text, ms) in [("10", 10_000), ("30s", 30_000), ("1500ms", 1_500), ("2m", 120_000)] {
            check(text, Some(ms));
        }
        check("1h", Some(3_600_000));
        check("168h", Some(168 * 3_600_000));
        for wrong in ["", "s", "0", "-1s", "1.5s", "169h", "10d", "1e3", "99999999999999999999h"] {
            check(wrong, None);
        }
    }

    #[test]
    fn shares() {
        let check = |text: &str, expected: Option<(f64, &str)>| {
            let seen = text.parse::<Share>().ok();
            assert_eq!(seen, expected.map(|(share, _)| Share(share)), "{text}");
            assert_eq!(seen.map(|share| share.to_string()).as_deref(), expected.map(|(_, t)| t));
        };
        check("0.1%", Some((0.001, "0.1%")));
        check("100 %", Some((1.0, "100%")));
        check("7%", Some((0.07, "7%")));
        for wrong in ["", "1", "%", "-1%", "101%", "NaN%", "inf%"] {
            check(wrong, None);
        }
    }
}
