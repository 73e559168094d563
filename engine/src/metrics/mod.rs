//! What the engine counts, and how Prometheus reads it.
//!
//! Owns the counters and their exposition. A [`ShardCounters`] has one writer, its shard's thread:
//! it adds with a plain load and store, no lock prefix, and a scrape that reads in between sees a
//! value at most one step old. Merging happens at the scrape alone.

mod exposition;
mod forwarding;
mod histogram;
mod kafka;
mod process;

pub use exposition::{Metrics, PROMETHEUS_CONTENT_TYPE};
pub use forwarding::ForwardCounters;
pub use histogram::{HISTOGRAM_BUCKETS, Histogram};
pub use kafka::KafkaCounters;

use proto::ErrorCode;
use std::sync::atomic::{AtomicU64, Ordering};

/// Outcomes of requests: 200, and every [`ErrorCode`].
pub const OUTCOMES: usize = ErrorCode::ALL.len() + 1;
/// Room for the framing rejects' labels; the parser's list must be shorter.
pub const FRAMING_REJECTS_MAX: usize = 96;

/// Adds to a counter that only the calling thread writes.
#[inline]
pub fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

/// Takes from a gauge that only the calling thread writes.
#[inline]
pub fn sub(gauge: &AtomicU64, n: u64) {
    gauge.store(gauge.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
}

/// Sets a gauge.
#[inline]
pub fn set(gauge: &AtomicU64, n: u64) {
    gauge.store(n, Ordering::Relaxed);
}

#[inline]
pub(crate) fn get(value: &AtomicU64) -> u64 {
    value.load(Ordering::Relaxed)
}

/// Why a connection was given up for time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutKind {
    Idle,
    Head,
    Body,
    BodyRate,
    /// Draining after an early answer.
    Drain,
    /// The client does not read its answers.
    Write,
    /// The journal did not make a batch durable in time.
    Ack,
}

impl TimeoutKind {
    pub const ALL: [TimeoutKind; 7] = [
        TimeoutKind::Idle,
        TimeoutKind::Head,
        TimeoutKind::Body,
        TimeoutKind::BodyRate,
        TimeoutKind::Drain,
        TimeoutKind::Write,
        TimeoutKind::Ack,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            TimeoutKind::Idle => "idle",
            TimeoutKind::Head => "head",
            TimeoutKind::Body => "body",
            TimeoutKind::BodyRate => "body_rate",
            TimeoutKind::Drain => "drain",
            TimeoutKind::Write => "write",
            TimeoutKind::Ack => "ack",
        }
    }
}

/// One shard's counters, written by its thread alone. Aligned so that no two shards share a line,
/// nor the pair of lines that CPUs fetch together.
#[derive(Debug)]
#[repr(align(128))]
pub struct ShardCounters {
    pub connections_accepted: AtomicU64,
    /// A gauge.
    pub connections_open: AtomicU64,
    pub connections_refused: AtomicU64,
    /// Index 0 is 200, the others are [`ErrorCode::ALL`] in its order: see [`outcome_index`].
    pub requests: [AtomicU64; OUTCOMES],
    /// Indexed as the labels given to [`Metrics::new`].
    pub framing_rejects: [AtomicU64; FRAMING_REJECTS_MAX],
    pub events_accepted: AtomicU64,
    pub events_rejected: AtomicU64,
    /// As they came over the wire, without framing.
    pub body_bytes: AtomicU64,
    /// What compressed bodies became.
    pub inflated_bytes: AtomicU64,
    pub blocks_sealed: AtomicU64,
    pub journal_writes: AtomicU64,
    pub journal_bytes: AtomicU64,
    /// Gauges: what is durable here and not yet forwarded.
    pub journal_backlog_bytes: AtomicU64,
    pub journal_backlog_blocks: AtomicU64,
    /// Found by recovery at this start: acknowledged and unreadable.
    pub journal_damaged_blocks: AtomicU64,
    pub journal_sync_us: Histogram,
    /// From the last byte of a request to its 200.
    pub ack_latency_us: Histogram,
    /// Times that a request waited for a free block buffer.
    pub buffers_busy_stalls: AtomicU64,
    pub body_budget_refused: AtomicU64,
    pub journal_full_refused: AtomicU64,
    /// In the order of [`TimeoutKind::ALL`].
    pub timeouts: [AtomicU64; TimeoutKind::ALL.len()],
}

impl Default for ShardCounters {
    fn default() -> Self {
        ShardCounters {
            connections_accepted: AtomicU64::default(),
            connections_open: AtomicU64::default(),
            connections_refused: AtomicU64::default(),
            requests: zeros(),
            framing_rejects: zeros(),
            events_accepted: AtomicU64::default(),
            events_rejected: AtomicU64::default(),
            body_bytes: AtomicU64::default(),
            inflated_bytes: AtomicU64::default(),
            blocks_sealed: AtomicU64::default(),
            journal_writes: AtomicU64::default(),
            journal_bytes: AtomicU64::default(),
            journal_backlog_bytes: AtomicU64::default(),
            journal_backlog_blocks: AtomicU64::default(),
            journal_damaged_blocks: AtomicU64::default(),
            journal_sync_us: Histogram::default(),
            ack_latency_us: Histogram::default(),
            buffers_busy_stalls: AtomicU64::default(),
            body_budget_refused: AtomicU64::default(),
            journal_full_refused: AtomicU64::default(),
            timeouts: zeros(),
        }
    }
}

fn zeros<const N: usize>() -> [AtomicU64; N] {
    std::array::from_fn(|_| AtomicU64::default())
}

/// Where a request with this outcome is counted in [`ShardCounters::requests`].
#[inline]
pub const fn outcome_index(outcome: Option<ErrorCode>) -> usize {
    match outcome {
        None => 0,
        Some(code) => code as usize + 1,
    }
}

impl ShardCounters {
    /// Counts one answered request; `None` is a 200.
    #[inline]
    pub fn count_request(&self, outcome: Option<ErrorCode>) {
        add(&self.requests[outcome_index(outcome)], 1);
    }

    #[inline]
    pub fn count_timeout(&self, kind: TimeoutKind) {
        add(&self.timeouts[kind as usize], 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_own_place() {
        for (index, code) in ErrorCode::ALL.into_iter().enumerate() {
            assert_eq!(outcome_index(Some(code)), index + 1, "{code:?}");
        }
        assert_eq!(outcome_index(None), 0);
    }

    #[test]
    fn every_timeout_has_its_own_place() {
        for (index, kind) in TimeoutKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index, "{kind:?}");
        }
    }

    #[test]
    fn shards_share_no_cache_line() {
        assert_eq!(std::mem::align_of::<ShardCounters>() % 128, 0);
    }
}
