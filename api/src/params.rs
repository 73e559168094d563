//! The parameters of a question: read strictly, judged in the order in which the contract names the
//! errors, and kept as plain values that only ever become bound parameters.

use proto::ErrorCode;
use proto::limits::{
    EVENT_NAME_CHARS_MAX, RANGE_DAYS_MAX, TIMELINE_ROWS_DEFAULT, TIMELINE_ROWS_MAX,
    USER_ID_CHARS_MAX,
};
use time::{Date, Month};
use uuid::Uuid;

use crate::clock::DAY_MS;
use crate::percent::{self, Plus};
use crate::reply::Refusal;

/// Parameters of one query string; more are refused, so that a name is found by a short walk.
const PARAMS_MAX: usize = 32;
/// The Julian day of 1970-01-01.
const EPOCH_JULIAN_DAY: i64 = 2_440_588;
/// ClickHouse's `Date` ends on 2149-06-06, day 65535 after 1970-01-01.
const DATE_DAYS_MAX: i64 = 65_535;

fn invalid(error: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(ErrorCode::InvalidParams, error)
}

/// A decoded query string. Names that no question knows are ignored.
pub struct Params {
    pairs: Vec<(String, String)>,
}

impl Params {
    pub fn parse(query: Option<&str>) -> Result<Params, Refusal> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |text| {
                percent::decode(text, Plus::Space).map_err(|cause| {
                    invalid("the query string cannot be decoded")
                        .details(format!("{}: {cause}", shown(text)))
                })
            };
            let (name, value) = (decoded(name)?, decoded(value)?);
            if pairs.iter().any(|(other, _)| *other == name) {
                return Err(invalid("a parameter is given twice").details(shown(&name)));
            }
            if pairs.len() == PARAMS_MAX {
                return Err(invalid("too many parameters")
                    .details(format!("at most {PARAMS_MAX} are taken")));
            }
            pairs.push((name, value));
        }
        Ok(Params { pairs })
    }

    /// A parameter's value; an empty one counts as not given.
    fn get(&self, name: &str) -> Option<&str> {
        let pair = self.pairs.iter().find(|(other, _)| other == name)?;
        Some(pair.1.as_str()).filter(|value| !value.is_empty())
    }

    fn require<const N: usize>(&self, names: [&str; N]) -> Result<[&str; N], Refusal> {
        let mut values = [""; N];
        for (value, name) in values.iter_mut().zip(names) {
            *value = self.get(name).ok_or_else(|| {
                invalid(format!("{name} is missing"))
                    .details(format!("required parameters: {}", names.join(", ")))
            })?;
        }
        Ok(values)
    }
}

/// What the questions about a range of days have in common.
#[derive(Debug, PartialEq, Eq)]
pub struct RangeParams {
    pub app_id: Uuid,
    pub range: DayRange,
}

impl RangeParams {
    pub fn from(params: &Params) -> Result<RangeParams, Refusal> {
        let [app_id, start, end] = params.require(["app_id", "start_date", "end_date"])?;
        let app_id = parse_app_id(app_id)?;
        let start = parse_date("start_date", start)?;
        let end = parse_date("end_date", end)?;
        Ok(RangeParams { app_id, range: DayRange::new(start, end)? })
    }
}

pub fn event_name(params: &Params) -> Result<Option<&str>, Refusal> {
    match params.get("event_name") {
        Some(name) if name.chars().count() > EVENT_NAME_CHARS_MAX => {
            Err(invalid(format!("event_name is longer than {EVENT_NAME_CHARS_MAX} characters")))
        }
        other => Ok(other),
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct TimelineParams {
    pub app_id: Uuid,
    pub user_id: String,
    pub limit: u32,
}

impl TimelineParams {
    /// `raw_user_id` is the path's segment, still percent-encoded.
    pub fn from(params: &Params, raw_user_id: &str) -> Result<TimelineParams, Refusal> {
        let user_id = percent::decode(raw_user_id, Plus::Literal).map_err(|cause| {
            invalid("user_id in the path cannot be decoded").details(cause.to_string())
        })?;
        if user_id.chars().count() > USER_ID_CHARS_MAX {
            return Err(invalid(format!("user_id is longer than {USER_ID_CHARS_MAX} characters")));
        }
        let [app_id] = params.require(["app_id"])?;
        let app_id = parse_app_id(app_id)?;
        let limit = match params.get("limit") {
            None => TIMELINE_ROWS_DEFAULT,
            Some(text) => parse_limit(text)?,
        };
        Ok(TimelineParams { app_id, user_id, limit })
    }
}

/// The parameters of a question about one app as a whole.
pub fn app_id(params: &Params) -> Result<Uuid, Refusal> {
    let [app_id] = params.require(["app_id"])?;
    parse_app_id(app_id)
}

fn parse_limit(text: &str) -> Result<u32, Refusal> {
    let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok());
    number.flatten().filter(|limit| (1..=TIMELINE_ROWS_MAX).contains(limit)).ok_or_else(|| {
        invalid(format!("limit must be a whole number from 1 to {TIMELINE_ROWS_MAX}"))
            .details(format!("limit={}", shown(text)))
    })
}

fn parse_app_id(text: &str) -> Result<Uuid, Refusal> {
    // The crate also reads forms without hyphens, in braces and as a URN.
    const HYPHENATED_CHARS: usize = 36;
    let parsed = Uuid::try_parse(text).ok().filter(|_| text.len() == HYPHENATED_CHARS);
    parsed
        .filter(|app_id| !app_id.is_nil())
        .ok_or_else(|| invalid("app_id is not a UUID").details(format!("app_id={}", shown(text))))
}

fn parse_date(name: &'static str, text: &str) -> Result<Date, Refusal> {
    let parsed = (|| {
        let bytes = text.as_bytes();
        let punctuated = bytes.len() == 10 && bytes[4] == b'-' && bytes[7] == b'-';
        let number = |digits: &[u8]| {
            digits.iter().try_fold(0, |sum: u16, digit| {
                digit.is_ascii_digit().then(|| sum * 10 + u16::from(digit - b'0'))
            })
        };
        let year = number(bytes.get(..4).filter(|_| punctuated)?)?;
        let month = Month::try_from(number(&bytes[5..7])? as u8).ok()?;
        Date::from_calendar_date(i32::from(year), month, number(&bytes[8..])? as u8).ok()
    })();
    parsed.ok_or_else(|| {
        Refusal::new(ErrorCode::InvalidDate, format!("{name} is not a date like 2026-01-31"))
            .details(format!("{name}={}", shown(text)))
    })
}

/// A client's text as error details repeat it: short.
fn shown(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 64;
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// Days of UTC, both ends included, at most [`RANGE_DAYS_MAX`] of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayRange {
    pub start: Date,
    pub end: Date,
}

impl DayRange {
    fn new(start: Date, end: Date) -> Result<DayRange, Refusal> {
        let range = DayRange { start, end };
        let details = || format!("start_date={start} end_date={end}");
        if end < start {
            return Err(invalid("end_date is before start_date").details(details()));
        }
        if range.day_count() > RANGE_DAYS_MAX {
            return Err(
                invalid(format!("the range is over {RANGE_DAYS_MAX} days")).details(details())
            );
        }
        Ok(range)
    }

    pub fn day_count(self) -> i64 {
        day_number(self.end) - day_number(self.start) + 1
    }

    /// Every day with its number since 1970-01-01.
    pub fn days(self) -> impl Iterator<Item = (i64, Date)> {
        std::iter::successors(Some(self.start), |day| day.next_day())
            .take_while(move |day| *day <= self.end)
            .map(|day| (day_number(day), day))
    }

    /// The first millisecond of the range and the first after it. Cut to the days that ClickHouse's
    /// `Date` can show, outside of which no event can lie.
    pub fn bounds_ms(self) -> (i64, i64) {
        let cut = |day: i64| day.clamp(0, DATE_DAYS_MAX + 1) * DAY_MS;
        (cut(day_number(self.start)), cut(day_number(self.end) + 1))
    }
}

fn day_number(day: Date) -> i64 {
    i64::from(day.to_julian_day()) - EPOCH_JULIAN_DAY
}

#[cfg(test)]
#[path = "params_tests.rs"]
mod tests;
