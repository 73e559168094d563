//! Names of tables and columns, spelled in one place.

/// Every accepted event, one row each; see `docs/adr/` for its key and engine.
pub const TABLE_EVENTS: &str = "events";

/// The columns of row layout 1 in the order of their bytes: the column list of every INSERT.
pub const EVENTS_COLUMNS: &str =
    "app_id, event_id, timestamp, received_at, event_name, user_id, properties";

/// The input format of row layout 1, for `INSERT … FORMAT`.
pub const EVENTS_FORMAT: &str = "RowBinary";

/// The database that the project creates and uses when none is named.
pub const DATABASE_DEFAULT: &str = "unmogrowp";
