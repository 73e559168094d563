//! `export`: a part of the topic as JSON, one event a line, for consumers that are not ours.
//!
//! Standard output has events and nothing else; a reader that goes away ends it quietly.

use crate::cli::{Export, Format};
use crate::kafka::Kafka;
use crate::reader::{Scan, Scanned};
use crate::record::Record;
use anyhow::Context as _;
use proto::error_code::push_json_escaped;
use proto::row::{Row, Rows};
use std::io::{BufWriter, ErrorKind, Write};
use std::time::Duration;
use time::OffsetDateTime;

const BUFFER_BYTES: usize = 64 * 1024;
const POLL_MAX: Duration = Duration::from_millis(200);

pub async fn run(options: Export) -> anyhow::Result<()> {
    let Format::Ndjson = options.format;
    let kafka = Kafka::new(&options.kafka.brokers, &options.kafka.property)?;
    let exporting = tokio::task::spawn_blocking(move || {
        let (from, to) = (options.from.as_ref(), options.to.as_ref());
        let scan = Scan::start(&kafka, &options.kafka.topic, from, to, options.follow)?;
        export(scan, options.limit.unwrap_or(u64::MAX))
    });
    exporting.await.context("the export ended by a panic")?
}

fn export(mut scan: Scan, limit: u64) -> anyhow::Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, std::io::stdout().lock());
    let mut left = limit;
    while left > 0 {
        let written = match scan.next(POLL_MAX)? {
            Scanned::End => break,
            Scanned::Idle => out.flush(),
            Scanned::Record { partition, offset, value } => match Record::read(value) {
                Record::Bad { why, .. } => {
                    tracing::warn!(partition, offset, %why, "left out");
                    Ok(())
                }
                Record::Block { block, .. } => write_rows(&mut out, &block.payload, &mut left),
            },
        };
        if ended(written)? {
            return Ok(());
        }
    }
    ended(out.flush()).map(drop)
}

/// Whether the reader of our output has gone.
fn ended(written: std::io::Result<()>) -> anyhow::Result<bool> {
    match written {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(true),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

fn write_rows(out: &mut impl Write, payload: &[u8], left: &mut u64) -> std::io::Result<()> {
    let mut line = Vec::new();
    for row in Rows::new(payload).take(usize::try_from(*left).unwrap_or(usize::MAX)) {
        let row = row.expect("the rows of a good record were walked");
        line.clear();
        push_line(&mut line, &row);
        out.write_all(&line)?;
        *left -= 1;
    }
    Ok(())
}

fn push_line(line: &mut Vec<u8>, row: &Row<'_>) {
    line.extend_from_slice(b"{\"app_id\":\"");
    push_uuid(line, row.app_id);
    line.extend_from_slice(b"\",\"event_id\":\"");
    push_uuid(line, row.event_id);
    line.extend_from_slice(b"\",\"timestamp\":");
    push_moment(line, i128::from(row.timestamp_ms) * 1_000_000, 3);
    line.extend_from_slice(b",\"received_at\":");
    push_moment(line, i128::from(row.received_at_ns), 9);
    line.extend_from_slice(b",\"event_name\":\"");
    push_json_escaped(line, &String::from_utf8_lossy(row.event_name));
    line.extend_from_slice(b"\",\"user_id\":\"");
    push_json_escaped(line, &String::from_utf8_lossy(row.user_id));
    line.extend_from_slice(b"\",\"properties\":");
    // In JSON a line break stands between tokens only: a space says the same.
    let on_one_line = |byte: &u8| if matches!(*byte, b'\n' | b'\r') { b' ' } else { *byte };
    line.extend(row.properties.iter().map(on_one_line));
    line.extend_from_slice(b"}\n");
}

fn push_uuid(line: &mut Vec<u8>, uuid: [u8; 16]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for (index, byte) in uuid.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            line.push(b'-');
        }
        line.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

/// RFC 3339 in quotes with 3 or 9 digits of the second; `null` for what no calendar has.
fn push_moment(line: &mut Vec<u8>, nanoseconds: i128, digits: usize) {
    let Ok(moment) = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds) else {
        line.extend_from_slice(b"null");
        return;
    };
    let fraction = moment.nanosecond() / 10u32.pow(9 - digits as u32);
    let (date, (hour, minute, second)) = (moment.date(), moment.to_hms());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    write!(
        line,
        "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:0digits$}Z\""
    )
    .expect("writing to memory does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row<'static> {
        Row {
            app_id: [0xab; 16],
            event_id: [1; 16],
            timestamp_ms: 1_771_000_000_123,
            received_at_ns: 1_771_000_000_123_456_789,
            event_name: b"sign \"up\"",
            user_id: b"line\nbreak",
            properties: b"{\"a\":\r\n [1, \"\\n\"]}",
        }
    }

    #[test]
    fn an_event_is_one_line_of_json() {
        let mut line = Vec::new();
        push_line(&mut line, &row());
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let event: serde_json::Value = serde_json::from_slice(&line).unwrap();
        let expected = serde_json::json!({
            "app_id": "abababab-abab-abab-abab-abababababab",
            "event_id": "01010101-0101-0101-0101-010101010101",
            "timestamp": "2026-02-13T16:26:40.123Z",
            "received_at": "2026-02-13T16:26:40.123456789Z",
            "event_name": "sign \"up\"",
            "user_id": "line\nbreak",
            "properties": { "a": [1, "\n"] },
        });
        assert_eq!(event, expected);
    }

    #[test]
    fn a_moment_out_of_any_calendar_is_null() {
        let mut line = Vec::new();
        push_moment(&mut line, i128::from(i64::MAX) * 1_000_000, 3);
        assert_eq!(line, b"null");
    }

    #[test]
    fn the_limit_counts_events() {
        let mut payload = Vec::new();
        (0..3).for_each(|_| row().encode(&mut payload));
        let (mut out, mut left) = (Vec::new(), 2);
        write_rows(&mut out, &payload, &mut left).unwrap();
        assert_eq!((out.iter().filter(|byte| **byte == b'\n').count(), left), (2, 0));
    }
}
