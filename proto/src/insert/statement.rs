//! The statement and the settings of every INSERT of events.

use crate::names::{EVENTS_COLUMNS, EVENTS_FORMAT, TABLE_EVENTS};

/// Pinned. They keep one INSERT one block: split by threads, bytes or partitions it could be taken in
/// part, and a token would cover a part of it.
pub const SETTINGS: [(&str, &str); 6] = [
    ("async_insert", "0"),
    ("insert_deduplicate", "1"),
    ("min_insert_block_size_rows", "0"),
    ("min_insert_block_size_bytes", "0"),
    ("max_insert_threads", "1"),
    ("max_partitions_per_insert_block", "0"),
];

/// Must be more than the INSERT's rows.
pub const SETTING_BLOCK_ROWS: &str = "max_insert_block_size";

/// Takes a [`super::Token`].
pub const SETTING_TOKEN: &str = "insert_deduplication_token";

/// `INSERT INTO database.events (…) FORMAT …`, for rows of layout 1.
pub fn statement(database: &str) -> String {
    format!("INSERT INTO {database}.{TABLE_EVENTS} ({EVENTS_COLUMNS}) FORMAT {EVENTS_FORMAT}")
}
