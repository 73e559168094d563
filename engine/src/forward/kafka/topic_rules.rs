//! Whether a topic is fit for events, and for being waited for. Pure.

use super::producer::RECORD_BYTES_MAX;
use crate::config::{Ack, Kafka};

/// Of a topic made here; a little above what is needed.
pub const MESSAGE_BYTES_MAX_MADE: usize = 1 << 20;
const REPLICATION_SAFE: usize = 3;
const MIN_INSYNC_SAFE: usize = 2;

/// What was read of the topic. `None`: this Kafka does not tell us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicFacts {
    pub partitions: usize,
    /// Of the partition that has the fewest.
    pub replication: usize,
    pub min_insync: Option<usize>,
    /// Negative: for ever.
    pub retention_ms: Option<i64>,
    pub message_bytes_max: Option<usize>,
}

/// What should be changed, each with key, value and the way out.
pub fn complaints(facts: &TopicFacts, kafka: &Kafka) -> Vec<String> {
    let topic = &kafka.topic;
    let alter = |key: &str, value: &dyn std::fmt::Display| {
        format!("kafka-configs.sh --alter --topic {topic} --add-config {key}={value}")
    };
    let mut found = Vec::new();
    if let Some(bytes) = facts.message_bytes_max
        && bytes < RECORD_BYTES_MAX
    {
        found.push(format!(
            "topic {topic} has max.message.bytes = {bytes}, blocks need {RECORD_BYTES_MAX}; those that \
             do not fit are inserted directly: {}",
            alter("max.message.bytes", &MESSAGE_BYTES_MAX_MADE)
        ));
    }
    if let Some(retention_ms) = facts.retention_ms
        && retention_ms >= 0
        && (retention_ms as u64) < kafka.retention_ms
    {
        found.push(format!(
            "topic {topic} has retention.ms = {retention_ms}, kafka.retention_ms asks for {}; events \
             that no consumer took in that time are lost: {}",
            kafka.retention_ms,
            alter("retention.ms", &kafka.retention_ms)
        ));
    }
    if facts.replication < kafka.replication as usize {
        found.push(format!(
            "topic {topic} has {} replicas, kafka.replication asks for {}: add some with \
             kafka-reassign-partitions.sh, or lower kafka.replication",
            facts.replication, kafka.replication
        ));
    }
    let waits_for_kafka = kafka.ack == Ack::Kafka;
    if let Some(min_insync) = facts.min_insync
        && min_insync < MIN_INSYNC_SAFE
        && (facts.replication >= REPLICATION_SAFE || waits_for_kafka && facts.replication > 1)
    {
        found.push(format!(
            "topic {topic} has min.insync.replicas = {min_insync} of {} replicas, so that one broker's \
             word is enough: {}",
            facts.replication,
            alter("min.insync.replicas", &MIN_INSYNC_SAFE)
        ));
    }
    found
}

/// Whether a 200 may stand for Kafka's acknowledgement.
pub fn acks_allowed(facts: &TopicFacts, ack: Ack) -> bool {
    match ack {
        Ack::Journal => false,
        Ack::Kafka => true,
        Ack::Auto => {
            facts.replication >= REPLICATION_SAFE
                && facts.min_insync.is_some_and(|count| count >= MIN_INSYNC_SAFE)
        }
    }
}

/// Of a topic made here: with three replicas and more, two must have a record.
pub fn min_insync_made(replication: u32) -> usize {
    if replication as usize >= REPLICATION_SAFE { MIN_INSYNC_SAFE } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: TopicFacts = TopicFacts {
        partitions: 8,
        replication: 3,
        min_insync: Some(2),
        retention_ms: Some(7 * 86_400_000),
        message_bytes_max: Some(MESSAGE_BYTES_MAX_MADE),
    };

    #[test]
    fn what_is_too_small_is_named_with_the_way_out() {
        let check = |facts: TopicFacts, words: &[&str]| {
            let found = complaints(&facts, &Kafka::default()).join("\n");
            assert_eq!(found.is_empty(), words.is_empty(), "{facts:?}: {found}");
            for word in words {
                assert!(found.contains(word), "{word:?} is missing in: {found}");
            }
        };
        check(GOOD, &[]);
        check(TopicFacts { retention_ms: Some(-1), ..GOOD }, &[]);
        let unknown =
            TopicFacts { min_insync: None, retention_ms: None, message_bytes_max: None, ..GOOD };
        check(unknown, &[]);
        check(
            TopicFacts { message_bytes_max: Some(1_000), ..GOOD },
            &["topic events", "max.message.bytes = 1000", "--add-config max.message.bytes=1048576"],
        );
        check(
            TopicFacts { retention_ms: Some(60_000), ..GOOD },
            &["retention.ms = 60000", "--add-config retention.ms=604800000"],
        );
        check(TopicFacts { min_insync: Some(1), ..GOOD }, &["min.insync.replicas = 1", "of 3"]);
        check(TopicFacts { replication: 0, ..GOOD }, &["has 0 replicas", "asks for 1"]);
    }

    #[test]
    fn auto_waits_for_kafka_only_where_two_brokers_must_have_it() {
        let check = |replication, min_insync, ack, allowed: bool| {
            let facts = TopicFacts { replication, min_insync, ..GOOD };
            assert_eq!(acks_allowed(&facts, ack), allowed, "{facts:?} {ack:?}");
        };
        check(3, Some(2), Ack::Auto, true);
        check(3, Some(1), Ack::Auto, false);
        check(2, Some(2), Ack::Auto, false);
        check(3, None, Ack::Auto, false);
        check(1, Some(1), Ack::Kafka, true);
        check(3, Some(2), Ack::Journal, false);
    }
}
