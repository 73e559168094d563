//! Counters of one lane to Kafka, written by its thread.

use super::Histogram;
use crate::forward::kafka::SendFailure;
use std::sync::atomic::AtomicU64;

#[derive(Debug, Default)]
pub struct KafkaCounters {
    /// Delivered with acks=all.
    pub records: AtomicU64,
    pub bytes: AtomicU64,
    /// From handing a record to librdkafka to Kafka's acknowledgement.
    pub delivery_us: Histogram,
    /// In the order of [`SendFailure::ALL`].
    pub failures: [AtomicU64; SendFailure::ALL.len()],
    /// Gauge.
    pub in_flight_bytes: AtomicU64,
    /// Gauge: 0 closed, 1 half-open, 2 open.
    pub breaker_state: AtomicU64,
    /// Gauge: 0 through Kafka, 1 directly.
    pub route: AtomicU64,
    /// Blocks handed to the forwarder for a direct INSERT.
    pub direct_blocks: AtomicU64,
    /// Producers made anew after a fatal error.
    pub producers_remade: AtomicU64,
}
