//! Counters of the forwarder, written by its thread.

use super::Histogram;
use std::sync::atomic::AtomicU64;

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

#[derive(Debug, Default)]
pub struct ForwardCounters {
    pub inserts: AtomicU64,
    pub rows: AtomicU64,
    pub bytes: AtomicU64,
    pub blocks: AtomicU64,
    /// In the order of [`InsertFailure::ALL`].
    pub failures: [AtomicU64; InsertFailure::ALL.len()],
    /// From sending an INSERT to its 200.
    pub insert_us: Histogram,
    pub dead_rows: AtomicU64,
    /// Gauge: 0 closed, 1 half-open, 2 open.
    pub breaker_state: AtomicU64,
    /// Gauge.
    pub inserts_in_flight: AtomicU64,
    /// Gauge: 1 while ClickHouse refuses what is sent, so that somebody must look.
    pub stopped: AtomicU64,
}
