//! The section `[kafka]`.
//!
//! `kafka.properties` goes to librdkafka as it is, but for what the engine's promises rest on: those
//! names are pinned and refused. Values of properties are never printed, whatever they are.

use proto::names;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;

/// What a 200 waits for beside the sync of its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// `Kafka` where the topic has at least three replicas of which two must have a record, else
    /// `Journal`.
    Auto,
    /// For nothing.
    Journal,
    /// For Kafka's acknowledgement, but no longer than `ack_deadline_ms`.
    Kafka,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    Lz4,
    Zstd,
    None,
}

impl Compression {
    pub const fn as_str(self) -> &'static str {
        match self {
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
            Compression::None => "none",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    /// `host:port`, separated by commas; empty: no Kafka, blocks are inserted into ClickHouse.
    pub brokers: String,
    pub topic: String,
    /// These three are for a topic that is made here.
    pub partitions: u32,
    pub replication: u32,
    pub retention_ms: u64,
    pub compression: Compression,
    /// Of the whole process; 0 is as many as there are shards, at most 8.
    pub producers: usize,
    /// Per producer: blocks that librdkafka holds.
    pub queue_bytes_max: usize,
    pub ack: Ack,
    /// From the moment when a request's rows went to the journal.
    pub ack_deadline_ms: u64,
    /// Failures in a row that open the breaker.
    pub breaker_failures: u32,
    pub breaker_open_ms: u64,
    /// Without any delivery for so long, while there is something to deliver, the breaker opens.
    pub stall_ms: u64,
    /// After the breaker was open for so long, blocks go to ClickHouse directly.
    pub direct_insert_after_ms: u64,
    pub properties: Properties,
}

impl Default for Kafka {
    fn default() -> Self {
        Kafka {
            brokers: String::new(),
            topic: names::TOPIC_EVENTS.to_owned(),
            partitions: 8,
            replication: 1,
            retention_ms: 7 * 24 * 60 * 60 * 1_000,
            compression: Compression::Lz4,
            producers: 0,
            queue_bytes_max: 32 << 20,
            ack: Ack::Auto,
            ack_deadline_ms: 5,
            breaker_failures: 5,
            breaker_open_ms: 1_000,
            stall_ms: 2_000,
            direct_insert_after_ms: 30_000,
            properties: Properties::default(),
        }
    }
}

impl Kafka {
    pub fn is_configured(&self) -> bool {
        !self.brokers.is_empty()
    }

    /// How many lanes there are for `sources` journals.
    pub fn lanes(&self, shards: usize) -> usize {
        const PRODUCERS_MAX_DEFAULT: usize = 8;
        match (self.is_configured(), self.producers) {
            (false, _) => 0,
            (true, 0) => shards.clamp(1, PRODUCERS_MAX_DEFAULT),
            (true, given) => given.min(shards.max(1)),
        }
    }
}

/// Pairs for librdkafka, among them passwords.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Properties(pub BTreeMap<String, String>);

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|name| (name, "(hidden)"))).finish()
    }
}

/// What librdkafka is told by the engine alone: the promises, the bounds and other keys of
/// `[kafka]` stand on them.
pub const PINNED_PROPERTIES: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "batch.num.messages",
    "batch.size",
    "bootstrap.servers",
    "compression.codec",
    "compression.type",
    "delivery.report.only.error",
    "delivery.timeout.ms",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "linger.ms",
    "log.queue",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.max.bytes",
    "message.send.max.retries",
    "message.timeout.ms",
    "metadata.broker.list",
    "produce.offset.report",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "request.required.acks",
    "retries",
    "statistics.interval.ms",
    "transactional.id",
];
