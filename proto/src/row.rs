//! Row layout 1: one event as the ClickHouse input format `RowBinary` writes it.
//!
//! ```text
//! offset  bytes  column
//!      0     16  app_id       UUID: two u64, little-endian, the high half first
//!     16     16  event_id     UUID, the same
//!     32      8  timestamp    DateTime64(3, 'UTC'): i64 milliseconds, little-endian
//!     40      8  received_at  DateTime64(9, 'UTC'): i64 nanoseconds, little-endian
//!     48      …  event_name   String: LEB128 length, UTF-8 bytes
//!      …      …  user_id      String
//!      …      …  properties   String: the JSON object's text as it was sent
//! ```
//!
//! The fixed columns come first so that app_id can be patched once it is known, and so that the walk
//! over rows reads three lengths and nothing else. A row is never longer than the JSON it came from:
//! 48 fixed bytes stand against two quoted UUIDs, a quoted date and the five member names.

/// The number of this layout in block headers.
pub const LAYOUT: u16 = 1;

pub const APP_ID_OFFSET: usize = 0;
pub const EVENT_ID_OFFSET: usize = 16;
pub const TIMESTAMP_OFFSET: usize = 32;
pub const RECEIVED_AT_OFFSET: usize = 40;
/// Bytes of the columns whose size does not depend on the event.
pub const FIXED_BYTES: usize = 48;

/// A UUID's 16 bytes in the order they are written (big-endian), as `RowBinary` stores them.
#[inline]
pub fn uuid_to_row(uuid: [u8; 16]) -> [u8; 16] {
    let high = u64::from_be_bytes(uuid[..8].try_into().expect("8 of 16 bytes"));
    let low = u64::from_be_bytes(uuid[8..].try_into().expect("8 of 16 bytes"));
    let mut row = [0; 16];
    row[..8].copy_from_slice(&high.to_le_bytes());
    row[8..].copy_from_slice(&low.to_le_bytes());
    row
}

/// The inverse of [`uuid_to_row`]; swapping the bytes of each half is its own inverse.
#[inline]
pub fn uuid_from_row(row: [u8; 16]) -> [u8; 16] {
    uuid_to_row(row)
}

/// One row, decoded without copying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// Big-endian, the order in which a UUID is written.
    pub app_id: [u8; 16],
    /// Big-endian.
    pub event_id: [u8; 16],
    /// Milliseconds since 1970-01-01 UTC.
    pub timestamp_ms: i64,
    /// Nanoseconds since 1970-01-01 UTC; no two rows of a shard share one, so of two copies one is
    /// the first.
    pub received_at_ns: i64,
    pub event_name: &'a [u8],
    pub user_id: &'a [u8],
    pub properties: &'a [u8],
}

/// Why bytes are not a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    #[error("the row ends before its last column")]
    Truncated,
    #[error("a length is not a LEB128 number of at most 4 bytes")]
    Length,
}

impl<'a> Row<'a> {
    /// Appends this row to `out`. The engine's JSON pass writes rows in place; this is for tests,
    /// tools and everything that is not the hot path.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&uuid_to_row(self.app_id));
        out.extend_from_slice(&uuid_to_row(self.event_id));
        out.extend_from_slice(&self.timestamp_ms.to_le_bytes());
        out.extend_from_slice(&self.received_at_ns.to_le_bytes());
        for text in [self.event_name, self.user_id, self.properties] {
            push_length(out, text.len());
            out.extend_from_slice(text);
        }
    }

    /// Reads the row at the start of `bytes`; gives it and its length in bytes.
    pub fn decode(bytes: &'a [u8]) -> Result<(Row<'a>, usize), RowError> {
        let fixed = bytes.get(..FIXED_BYTES).ok_or(RowError::Truncated)?;
        let sixteen = |at: usize| uuid_from_row(fixed[at..at + 16].try_into().expect("16 bytes"));
        let eight = |at: usize| i64::from_le_bytes(fixed[at..at + 8].try_into().expect("8 bytes"));
        let mut at = FIXED_BYTES;
        let mut text = || {
            let (length, length_bytes) = read_length(&bytes[at..])?;
            at += length_bytes;
            let text = bytes[at..].get(..length).ok_or(RowError::Truncated)?;
            at += length;
            Ok(text)
        };
        let (event_name, user_id, properties) = (text()?, text()?, text()?);
        let row = Row {
            app_id: sixteen(APP_ID_OFFSET),
            event_id: sixteen(EVENT_ID_OFFSET),
            timestamp_ms: eight(TIMESTAMP_OFFSET),
            received_at_ns: eight(RECEIVED_AT_OFFSET),
            event_name,
            user_id,
            properties,
        };
        Ok((row, at))
    }
}

/// Walks the rows of a block's payload from boundary to boundary. After an error there is no next.
pub struct Rows<'a> {
    rest: &'a [u8],
}

impl<'a> Rows<'a> {
    pub fn new(payload: &'a [u8]) -> Self {
        Rows { rest: payload }
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = Result<Row<'a>, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match Row::decode(self.rest) {
            Ok((row, length)) => {
                self.rest = &self.rest[length..];
                Some(Ok(row))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

/// Writes `length` as LEB128 and gives the bytes it took, at most 4.
#[inline]
pub fn push_length(out: &mut Vec<u8>, length: usize) {
    let mut rest = length;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[inline]
fn read_length(bytes: &[u8]) -> Result<(usize, usize), RowError> {
    let mut value = 0usize;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((value, index + 1));
        }
    }
    Err(if bytes.len() < 4 { RowError::Truncated } else { RowError::Length })
}
