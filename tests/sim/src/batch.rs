//! Batches as clients send them. An event's number says all about it, so that every row can be
//! compared with what was sent.

use proto::row::Row;
use std::fmt::Write as _;

pub const APP: &str = "0190f0e0-7b1c-7c3e-8f00-000000000001";
pub const KEY: &str = "umg_simulated";
/// 2026-01-01: where the wall clock starts.
pub const START_MS: i64 = 1_767_225_600_000;
/// The user whose rows ClickHouse refuses.
pub const POISON_USER: &str = "poison";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Good,
    /// One event breaks a rule: the batch is refused as a whole.
    Invalid,
    /// ClickHouse refuses its rows.
    Poison,
    /// Longer than a block.
    Long,
}

#[derive(Clone, Debug)]
pub struct Batch {
    /// Number of its first event.
    pub first: u64,
    pub count: u64,
    pub kind: Kind,
    /// A 200 left the server.
    pub acknowledged: bool,
    /// An attempt ended without an answer, or with one that leaves it open.
    pub open: bool,
    /// Attempts on their way.
    pub under_way: u32,
    /// Of each long event.
    padding: usize,
}

impl Batch {
    pub fn new(first: u64, count: u64, kind: Kind, padding: usize) -> Batch {
        let (acknowledged, open, under_way) = (false, false, 0);
        Batch { first, count, kind, acknowledged, open, under_way, padding }
    }

    pub fn events(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.count
    }

    /// A whole request.
    pub fn request(&self, chunked: bool) -> Vec<u8> {
        let mut body = format!(r#"{{"app_id":"{APP}","events":["#);
        for number in self.events() {
            if number > self.first {
                body.push(',');
            }
            self.write_event(number, &mut body);
        }
        body.push_str("]}");
        let head = format!("POST /api/v1/events HTTP/1.1\r\nHost: h\r\nX-API-Key: {KEY}\r\n");
        let mut request = head.into_bytes();
        if chunked {
            request.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            let middle = body.len() / 2;
            for part in [&body[..middle], &body[middle..]] {
                request.extend_from_slice(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes());
            }
            request.extend_from_slice(b"0\r\n\r\n");
        } else {
            let length = body.len();
            request.extend_from_slice(format!("Content-Length: {length}\r\n\r\n{body}").as_bytes());
        }
        request
    }

    fn write_event(&self, number: u64, body: &mut String) {
        // The last event of an invalid batch has no name.
        let invalid = self.kind == Kind::Invalid && number + 1 == self.first + self.count;
        let name = if invalid { String::new() } else { name(number) };
        let user = user(number, self.kind == Kind::Poison);
        let _ = write!(
            body,
            r#"{{"event_id":"00000000-0000-7000-8000-{number:012x}","event_name":"{name}","user_id":"{user}","timestamp":"{}","properties":{{"n":{number},"p":""#,
            timestamp(number)
        );
        body.push_str(&"x".repeat(self.padding));
        body.push_str("\"}}");
    }
}

fn name(number: u64) -> String {
    format!("event_{}", number % 3)
}

fn user(number: u64, poison: bool) -> String {
    if poison { POISON_USER.to_owned() } else { format!("user_{}", number % 17) }
}

fn timestamp_ms(number: u64) -> i64 {
    START_MS - 1_000 - (number % 1_000) as i64
}

/// The same in RFC 3339: within the last two seconds of 2025.
fn timestamp(number: u64) -> String {
    let ms = 59_000 - number % 1_000;
    format!("2025-12-31T23:59:{}.{:03}Z", ms / 1_000, ms % 1_000)
}

/// The event's number, if the row is what was sent for it.
pub fn number_of(row: &Row<'_>) -> Result<u64, String> {
    let mut number = [0; 8];
    number[2..].copy_from_slice(&row.event_id[10..]);
    let number = u64::from_be_bytes(number);
    let poison = row.user_id == POISON_USER.as_bytes();
    let good = row.event_id[..10] == [0, 0, 0, 0, 0, 0, 0x70, 0, 0x80, 0]
        && row.event_name == name(number).as_bytes()
        && row.user_id == user(number, poison).as_bytes()
        && row.timestamp_ms == timestamp_ms(number)
        && row.properties.starts_with(format!(r#"{{"n":{number},"#).as_bytes());
    if good { Ok(number) } else { Err(format!("a row that nobody sent: {row:?}")) }
}
