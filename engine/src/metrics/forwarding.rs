//! Counters of the forwarder, written by its thread.

use super::Histogram;
use proto::insert::InsertFailure;
use std::sync::atomic::AtomicU64;

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
