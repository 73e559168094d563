//! The bounds of the ingestion contract. A bound that users may configure has `_DEFAULT` in its name.

/// Events in one request.
pub const EVENTS_PER_BATCH_MAX: usize = 1_000;

/// Length of `event_name` in Unicode code points after unescaping, 1 to this many.
pub const EVENT_NAME_CHARS_MAX: usize = 100;

/// Length of `user_id` in Unicode code points after unescaping, 1 to this many.
pub const USER_ID_CHARS_MAX: usize = 255;

/// One event's JSON text, from its `{` to its `}`.
pub const EVENT_BYTES_MAX: usize = 64 * 1024;

/// Nesting of arrays and objects in a body, the outermost object counted as 1.
pub const JSON_DEPTH_MAX: usize = 64;

/// A body as declared, and the same body inflated.
pub const BODY_BYTES_MAX_DEFAULT: usize = 16 * 1024 * 1024;

/// How far back an event's timestamp may lie.
pub const TIMESTAMP_PAST_DAYS_MAX_DEFAULT: u32 = 400;

/// How far ahead of the server's clock an event's timestamp may lie.
pub const TIMESTAMP_FUTURE_MS_MAX: i64 = 5 * 60 * 1_000;

/// Rejected events that a `?partial=1` answer names, one by one.
pub const PARTIAL_ERRORS_MAX: usize = 100;

/// Days in the range of one analytics question.
pub const RANGE_DAYS_MAX: i64 = 400;

/// Rows in the answer of a user's timeline, and how many when nothing is asked for.
pub const TIMELINE_ROWS_MAX: u32 = 1_000;
pub const TIMELINE_ROWS_DEFAULT: u32 = 100;

/// A block with its header: one frame of the journal.
pub const BLOCK_BYTES_MAX: usize = 512 * 1024;

/// Rows of one block.
pub const BLOCK_PAYLOAD_BYTES_MAX: usize = BLOCK_BYTES_MAX - crate::block::HEADER_BYTES;

/// The longest row that one event can become. Every part of a row is at most as long as the JSON
/// that it came from (see [`crate::row`]), and the fixed columns are shorter than the member names
/// around them.
pub const ROW_BYTES_MAX: usize = EVENT_BYTES_MAX;

const _: () = assert!(ROW_BYTES_MAX <= BLOCK_PAYLOAD_BYTES_MAX, "a block holds any one row");
const _: () = assert!(BLOCK_PAYLOAD_BYTES_MAX <= u32::MAX as usize, "a header's length field fits");
const _: () = assert!(EVENTS_PER_BATCH_MAX <= u32::MAX as usize);
const _: () = assert!(EVENT_NAME_CHARS_MAX * 4 < 1 << 14, "a name's length is a 2-byte varint");
const _: () = assert!(USER_ID_CHARS_MAX * 4 < 1 << 14, "a user's length is a 2-byte varint");
const _: () = assert!(EVENT_BYTES_MAX < 1 << 21, "a properties length is a 3-byte varint");
const _: () = assert!(BODY_BYTES_MAX_DEFAULT >= EVENTS_PER_BATCH_MAX * 1024);
