//! Names of tables and columns, spelled in one place.

/// Every accepted event, one row each; see `docs/adr/` for its key and engine.
pub const TABLE_EVENTS: &str = "events";

/// Rows that ClickHouse refused, raw, with the reason.
pub const TABLE_EVENTS_DEAD: &str = "events_dead";

/// One record a block: header and payload as they lie in the journal.
pub const TOPIC_EVENTS: &str = "events";

/// What `TABLE_EVENTS_DEAD` holds, where Kafka is.
pub const TOPIC_EVENTS_DEAD: &str = "events_dead";

/// Record header: the row layout as decimal digits, so that a reader can tell without the block.
pub const RECORD_HEADER_LAYOUT: &str = "unmogrowp-layout";

/// Record header: W3C Trace Context.
pub const RECORD_HEADER_TRACE: &str = "traceparent";

/// The columns of row layout 1 in the order of their bytes: the column list of every INSERT.
pub const EVENTS_COLUMNS: &str =
    "app_id, event_id, timestamp, received_at, event_name, user_id, properties";

/// The input format of row layout 1, for `INSERT … FORMAT`.
pub const EVENTS_FORMAT: &str = "RowBinary";

/// The database that the project creates and uses when none is named.
pub const DATABASE_DEFAULT: &str = "unmogrowp";
