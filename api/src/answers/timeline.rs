//! One user's newest events.
//!
//! Read without FINAL, which would merge whole key ranges to show a few rows: the inner query takes
//! of the rows of one identity the one with the highest version, which is the first received, as
//! FINAL does. Event ids are compared as text, the order in which clients see them; ClickHouse's
//! own order of UUIDs is by halves.

use serde::de::IgnoredAny;
use serde_json::json;

use proto::error_code::push_json_escaped;

use super::{Asking, refuse};
use crate::clock::push_rfc3339;
use crate::params::TimelineParams;
use crate::reply::{AnswerBody, AnswerBuffer, Refusal};
use crate::warehouse::WarehouseError;

pub(super) const SQL: &str = "
    SELECT id, name, timestamp_ms, received_ms, properties_text
    FROM (
        SELECT toString(event_id) AS id,
            event_name AS name,
            toUnixTimestamp64Milli(timestamp) AS timestamp_ms,
            toUnixTimestamp64Milli(received_at) AS received_ms,
            properties AS properties_text
        FROM events
        WHERE app_id = {app_id:UUID} AND user_id = {user_id:String}
        ORDER BY version DESC
        LIMIT 1 BY toDate(timestamp), event_name, event_id
    )
    ORDER BY timestamp_ms DESC, id, name
    LIMIT {limit:UInt32}";

#[derive(clickhouse::Row, serde::Deserialize)]
struct EventRow<'a> {
    id: &'a str,
    name: &'a str,
    timestamp_ms: i64,
    received_ms: i64,
    properties_text: &'a str,
}

pub async fn answer(asking: &Asking<'_>, params: &TimelineParams) -> Result<AnswerBody, Refusal> {
    let question = async {
        let mut cursor = asking
            .warehouse
            .question(SQL)
            .param("app_id", params.app_id.to_string())
            .param("user_id", &params.user_id)
            .param("limit", params.limit)
            .fetch::<EventRow<'_>>()?;
        let mut buffer = asking.begin()?;
        buffer.push(b"[")?;
        let mut count = 0;
        while let Some(row) = cursor.next().await? {
            if count > 0 {
                buffer.push(b",")?;
            }
            push_event(&mut buffer, &row.shown(&params.user_id))?;
            count += 1;
        }
        buffer.push(b"]")?;
        let meta = json!({ "user_id": params.user_id, "limit": params.limit });
        Ok(asking.finish(buffer, count, meta)?)
    };
    let refused = |error| refuse(error, "failed to fetch the user's events");
    asking.warehouse.ask(question).await.map_err(refused)
}

impl<'a> EventRow<'a> {
    fn shown(&self, user_id: &'a str) -> ShownEvent<'a> {
        let EventRow { id, name, timestamp_ms, received_ms, properties_text } = *self;
        ShownEvent { id, name, user_id, timestamp_ms, received_ms, properties_text }
    }
}

/// An event as answers show it.
#[derive(clickhouse::Row, serde::Deserialize)]
pub struct ShownEvent<'a> {
    pub id: &'a str,
    pub name: &'a str,
    pub user_id: &'a str,
    pub timestamp_ms: i64,
    pub received_ms: i64,
    pub properties_text: &'a str,
}

pub fn push_event(buffer: &mut AnswerBuffer, row: &ShownEvent<'_>) -> Result<(), WarehouseError> {
    // A control character becomes six bytes; member names, ids and times take under 256.
    const ESCAPED_BYTES_MAX: usize = 6;
    let text_bytes = row.name.len() + row.user_id.len() + row.properties_text.len();
    let out = buffer.room(256 + text_bytes * ESCAPED_BYTES_MAX)?;
    out.extend_from_slice(b"{\"event_id\":\"");
    out.extend_from_slice(row.id.as_bytes());
    out.extend_from_slice(b"\",\"event_name\":\"");
    push_json_escaped(out, row.name);
    out.extend_from_slice(b"\",\"user_id\":\"");
    push_json_escaped(out, row.user_id);
    out.extend_from_slice(b"\",\"timestamp\":\"");
    push_rfc3339(out, row.timestamp_ms);
    out.extend_from_slice(b"\",\"received_at\":\"");
    push_rfc3339(out, row.received_ms);
    out.extend_from_slice(b"\",\"properties\":");
    push_properties(out, row.properties_text);
    out.push(b'}');
    Ok(())
}

/// The engine stores checked JSON, which goes out as it came in. Text that somebody else inserted
/// and that is not JSON goes out as a string, so that the answer around it stays readable.
fn push_properties(out: &mut Vec<u8>, text: &str) {
    if serde_json::from_str::<IgnoredAny>(text).is_ok() {
        out.extend_from_slice(text.as_bytes());
    } else {
        out.push(b'"');
        push_json_escaped(out, text);
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_embedded_verbatim_or_as_a_string() {
        let check = |text: &str, expected: &str| {
            let mut out = Vec::new();
            push_properties(&mut out, text);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check("{}", "{}");
        check(r#"{ "a" : 1.50e1 , "b":"\u00e9" }"#, r#"{ "a" : 1.50e1 , "b":"\u00e9" }"#);
        check(
            r#"{"a":1e999,"b":12345678901234567890123}"#,
            r#"{"a":1e999,"b":12345678901234567890123}"#,
        );
        check("", "\"\"");
        check(r#"{"a":1}},{"#, r#""{\"a\":1}},{""#);
    }
}
