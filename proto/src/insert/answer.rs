//! What ClickHouse's answer to an INSERT means, and what follows from it.
//!
//! Codes are those of ClickHouse's ErrorCodes.cpp; they decide before the HTTP status, which is 500
//! for most of them.

use crate::backoff::Pace;

/// How an INSERT failed, by what is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertFailure {
    /// Nothing was inserted; the same again, later.
    Retry,
    /// It may have been inserted; the same again, with the same token.
    Unknown,
    /// Table or database is missing.
    Schema,
    /// User, password or rights.
    Access,
    /// ClickHouse refused the rows.
    Refused,
}

impl InsertFailure {
    pub const ALL: [InsertFailure; 5] = [
        InsertFailure::Retry,
        InsertFailure::Unknown,
        InsertFailure::Schema,
        InsertFailure::Access,
        InsertFailure::Refused,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            InsertFailure::Retry => "retry",
            InsertFailure::Unknown => "unknown",
            InsertFailure::Schema => "schema",
            InsertFailure::Access => "access",
            InsertFailure::Refused => "refused",
        }
    }
}

/// An INSERT that did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: InsertFailure,
    pub pace: Pace,
    /// ClickHouse's, 0 where there is none.
    pub code: u32,
    /// For people, at most [`TEXT_CHARS_MAX`].
    pub text: String,
}

pub const TEXT_CHARS_MAX: usize = 300;

impl Failure {
    pub fn new(kind: InsertFailure, pace: Pace, code: u32, text: &str) -> Failure {
        let text = text.trim().chars().take(TEXT_CHARS_MAX).collect();
        Failure { kind, pace, code, text }
    }

    /// Whether it counts against the circuit breaker.
    pub fn is_outage(&self) -> bool {
        matches!(self.kind, InsertFailure::Retry | InsertFailure::Unknown)
    }
}

/// Sorts an answer; `Ok` is an INSERT that is done.
pub fn sort_answer(status: u16, code_header: Option<&str>, body: &str) -> Result<(), Failure> {
    let code = code_header.and_then(|text| text.trim().parse().ok()).or_else(|| code_in(body));
    if status == 200 && code.is_none() {
        return Ok(());
    }
    let (kind, pace) = match code {
        Some(code) => sort_code(code),
        None => sort_status(status),
    };
    let text =
        if body.trim().is_empty() { format!("HTTP status {status}") } else { body.to_owned() };
    Err(Failure::new(kind, pace, code.unwrap_or(0), &text))
}

/// `Code: 60. DB::Exception: …`, which also stands in the body when the status was sent before.
fn code_in(body: &str) -> Option<u32> {
    let rest = &body[body.find("Code: ")? + 6..];
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    if !rest[digits..].trim_start_matches(['.', ',', ' ']).starts_with("DB::") {
        return None;
    }
    rest[..digits].parse().ok()
}

fn sort_code(code: u32) -> (InsertFailure, Pace) {
    match code {
        // SOCKET_TIMEOUT, NETWORK_ERROR, TIMEOUT_EXCEEDED, ABORTED, UNKNOWN_STATUS_OF_INSERT,
        // QUERY_WAS_CANCELLED: something may have been written.
        209 | 210 | 159 | 236 | 319 | 394 => (InsertFailure::Unknown, Pace::Busy),
        // TOO_MANY_PARTS, TOO_MANY_SIMULTANEOUS_QUERIES, MEMORY_LIMIT_EXCEEDED,
        // CANNOT_ALLOCATE_MEMORY, TABLE_IS_READ_ONLY, NOT_ENOUGH_SPACE, QUOTA_EXCEEDED
        252 | 202 | 241 | 173 | 242 | 243 | 201 => (InsertFailure::Retry, Pace::Busy),
        // CANNOT_OPEN_FILE, CANNOT_WRITE_TO_FILE_DESCRIPTOR, TOO_FEW_LIVE_REPLICAS, NO_ZOOKEEPER,
        // KEEPER_EXCEPTION, CANNOT_SCHEDULE_TASK, NO_FREE_CONNECTION, DNS_ERROR,
        // ALL_CONNECTION_TRIES_FAILED, DEADLOCK_AVOIDED
        76 | 75 | 285 | 225 | 999 | 439 | 203 | 198 | 279 | 473 => {
            (InsertFailure::Retry, Pace::Busy)
        }
        // UNKNOWN_TABLE, UNKNOWN_DATABASE, NO_SUCH_COLUMN_IN_TABLE, UNKNOWN_IDENTIFIER,
        // TABLE_IS_DROPPED, NOT_FOUND_COLUMN_IN_BLOCK
        60 | 81 | 16 | 47 | 218 | 10 => (InsertFailure::Schema, Pace::Slow),
        // READONLY, UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD, IP_ADDRESS_NOT_ALLOWED,
        // DATABASE_ACCESS_DENIED, ACCESS_DENIED, AUTHENTICATION_FAILED
        164 | 192 | 193 | 194 | 195 | 291 | 497 | 516 => (InsertFailure::Access, Pace::Slow),
        _ => (InsertFailure::Refused, Pace::Slow),
    }
}

/// An answer without ClickHouse's code says nothing about the rows: it is never a reason to put
/// any of them aside.
fn sort_status(status: u16) -> (InsertFailure, Pace) {
    match status {
        401 | 403 => (InsertFailure::Access, Pace::Slow),
        504 => (InsertFailure::Unknown, Pace::Busy),
        408 | 429 | 500..=599 => (InsertFailure::Retry, Pace::Busy),
        _ => (InsertFailure::Schema, Pace::Slow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, header: Option<&str>, body: &str, expected: Option<InsertFailure>) {
        let sorted = sort_answer(status, header, body).err().map(|failure| failure.kind);
        assert_eq!(sorted, expected, "{status} {header:?} {body:?}");
    }

    #[test]
    fn an_answer_is_sorted_by_what_follows() {
        use InsertFailure::{Access, Refused, Retry, Schema, Unknown};
        check(200, None, "", None);
        check(200, None, "\n", None);
        check(404, Some("60"), "", Some(Schema));
        check(404, None, "Code: 81. DB::Exception: Database x does not exist", Some(Schema));
        check(500, Some("252"), "", Some(Retry));
        check(500, Some("202"), "", Some(Retry));
        check(500, Some("241"), "", Some(Retry));
        check(500, Some("209"), "", Some(Unknown));
        check(500, Some("210"), "", Some(Unknown));
        check(403, Some("516"), "", Some(Access));
        check(500, Some("497"), "", Some(Access));
        check(400, Some("33"), "Code: 33. DB::Exception: Cannot read all data", Some(Refused));
        check(500, Some("1"), "", Some(Refused));
        check(200, None, "Code: 27. DB::Exception: broken off", Some(Refused));
        check(200, Some("241"), "", Some(Retry));
        check(502, None, "<html>", Some(Retry));
        check(504, None, "", Some(Unknown));
        check(401, None, "", Some(Access));
        check(400, None, "Bad Request", Some(Schema));
        check(302, None, "", Some(Schema));
    }

    #[test]
    fn the_text_is_short_and_never_empty() {
        let failure = sort_answer(500, Some("1"), &"é".repeat(10_000)).expect_err("500");
        assert_eq!(failure.text.chars().count(), TEXT_CHARS_MAX);
        assert_eq!(sort_answer(503, None, "").expect_err("503").text, "HTTP status 503");
    }
}
