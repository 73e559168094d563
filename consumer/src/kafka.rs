//! librdkafka as this program uses it: its configuration, and a context that turns callbacks into
//! events for whoever polls.
//!
//! Assignments are answered by the poller, not in the callback: a revoked partition is given back when
//! its INSERT has ended, and polling goes on until then.

use crate::health::{Component, Health};
use anyhow::{Context as _, bail};
use bytes::Bytes;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::{RDKafkaConfRes, RDKafkaRespErr};
use rdkafka::{Message, Offset, TopicPartitionList};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What librdkafka fetches ahead, of all partitions together.
pub const QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Of one answer of a broker, which may come on top of that.
pub const FETCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Ours, because correctness or the bound of memory stands on them.
const PINNED: [&str; 17] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "partition.assignment.strategy",
    "group.protocol",
    "allow.auto.create.topics",
    "queued.max.messages.kbytes",
    "fetch.max.bytes",
    "enable.partition.eof",
    "isolation.level",
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "statistics.interval.ms",
];

/// Where Kafka is, and what the operator passes through to librdkafka. No `Debug`: properties may hold
/// passwords.
#[derive(Clone)]
pub struct Kafka {
    pub brokers: String,
    pub properties: Vec<(String, String)>,
}

impl Kafka {
    /// `properties` are `key=value`; those that are pinned are refused by name.
    pub fn new(brokers: &str, properties: &[String]) -> anyhow::Result<Kafka> {
        let mut pairs = Vec::new();
        for property in properties {
            let (key, value) =
                property
                    .split_once('=')
                    .filter(|(key, _)| !key.trim().is_empty())
                    .context("--property must look like key=value; the value is not shown")?;
            let key = key.trim();
            if PINNED.contains(&key) {
                bail!("--property {key}: the consumer sets this itself; it cannot be changed");
            }
            pairs.push((key.to_owned(), value.trim().to_owned()));
        }
        Ok(Kafka { brokers: brokers.to_owned(), properties: pairs })
    }

    fn base(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("client.id", "unmogrowp-consumer")
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.max.ms", "2000")
            .set_log_level(RDKafkaLogLevel::Warning);
        config
    }

    fn finish(&self, mut config: ClientConfig, pinned: &[(&str, &str)]) -> ClientConfig {
        for (key, value) in &self.properties {
            config.set(key, value);
        }
        config.set("bootstrap.servers", &self.brokers);
        for (key, value) in pinned {
            config.set(*key, *value);
        }
        config
    }

    /// A reader: of a group, or, with a group name that nobody joins, of what it is told to read.
    pub fn reader(&self, group: &str, eof: bool) -> ClientConfig {
        let mut config = self.base();
        config
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "2000")
            .set("topic.metadata.refresh.interval.ms", "5000")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.message.max.bytes", "2097152")
            // The default of 1 s would leave the queue empty for most of it.
            .set("fetch.queue.backoff.ms", "10");
        let queue_kbytes = (QUEUE_BYTES_MAX / 1024).to_string();
        let fetch_bytes = FETCH_BYTES_MAX.to_string();
        self.finish(
            config,
            &[
                ("group.id", group),
                ("partition.assignment.strategy", "cooperative-sticky"),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("auto.offset.reset", "error"),
                ("allow.auto.create.topics", "false"),
                ("queued.max.messages.kbytes", &queue_kbytes),
                ("fetch.max.bytes", &fetch_bytes),
                ("enable.partition.eof", if eof { "true" } else { "false" }),
            ],
        )
    }

    /// A producer that has delivered only what all replicas in sync have.
    pub fn producer(&self) -> ClientConfig {
        let mut config = self.base();
        config
            .set("message.max.bytes", "10000000")
            .set("queue.buffering.max.kbytes", "16384")
            .set("compression.type", "lz4")
            .set("linger.ms", "0")
            .set("message.timeout.ms", "20000");
        self.finish(config, &[("acks", "all"), ("enable.idempotence", "true")])
    }
}

/// What happened in the group since the last poll.
#[derive(Clone, Debug)]
pub enum GroupEvent {
    Assigned(Vec<i32>),
    /// `lost`: they may be another member's already.
    Revoked {
        partitions: Vec<i32>,
        lost: bool,
    },
}

pub struct Context {
    health: Option<Arc<Health>>,
    events: Mutex<VecDeque<GroupEvent>>,
}

impl Context {
    pub fn new(health: Option<Arc<Health>>) -> Context {
        Context { health, events: Mutex::default() }
    }

    fn push(&self, event: GroupEvent) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
    }

    pub fn next_event(&self) -> Option<GroupEvent> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Debug => {
                tracing::debug!(facility, "librdkafka: {message}");
            }
            _ => tracing::warn!(facility, "librdkafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "Kafka");
        if let Some(health) = &self.health {
            health.set_down(Component::Kafka, &format!("{error}: {reason}"));
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Context>,
        error: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let partitions = list.elements().iter().map(|element| element.partition()).collect();
        self.push(match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                GroupEvent::Assigned(partitions)
            }
            _ => GroupEvent::Revoked { partitions, lost: consumer.assignment_lost() },
        });
    }
}

/// What is wrong with a property without its value, which may be a password: librdkafka's own text and
/// the error of its wrapper both show it. For every client that is made.
pub fn conceal(error: KafkaError) -> KafkaError {
    match error {
        KafkaError::ClientConfig(kind, _, key, _) => {
            let what = match kind {
                RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN => "there is no property",
                _ => "the value (not shown) cannot be that of",
            };
            KafkaError::ClientConfig(kind, what.to_owned(), key, String::new())
        }
        other => other,
    }
}

/// A reader for the rest of the process's life: only so can a record's bytes be held, in slices and on
/// any thread, without a copy.
pub type Reader = &'static BaseConsumer<Context>;

pub fn open(config: &ClientConfig, health: Option<Arc<Health>>) -> anyhow::Result<Reader> {
    let consumer: BaseConsumer<Context> = config
        .create_with_context(Context::new(health))
        .map_err(conceal)
        .context("librdkafka refuses its configuration")?;
    Ok(Box::leak(Box::new(consumer)))
}

const COPY_BELOW_BYTES: usize = 64 * 1024;

struct Value(BorrowedMessage<'static>);

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self.0.payload().unwrap_or_default()
    }
}

/// The record's bytes. Large ones stay where librdkafka has them, and are freed with the last slice of
/// them.
///
/// A message that is not compressed lies in the broker's answer, which stays as a whole while one
/// message of it is held: a small one would pin megabytes that nobody counts, so it is copied.
pub fn value(message: BorrowedMessage<'static>) -> Bytes {
    match message.payload() {
        Some(payload) if payload.len() < COPY_BELOW_BYTES => Bytes::copy_from_slice(payload),
        _ => Bytes::from_owner(Value(message)),
    }
}

/// The partitions of a topic; empty while it does not exist.
pub fn partitions(reader: Reader, topic: &str, patience: Duration) -> KafkaResult<Vec<i32>> {
    let metadata = reader.fetch_metadata(Some(topic), patience)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let mut ids: Vec<i32> = found
        .map(|topic| topic.partitions().iter().map(|partition| partition.id()).collect())
        .unwrap_or_default();
    ids.sort_unstable();
    Ok(ids)
}

/// `(partition, offset)` as librdkafka takes them.
pub fn list(topic: &str, offsets: impl IntoIterator<Item = (i32, i64)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, partition, Offset::Offset(offset))
            .expect("an offset of a record is not negative");
    }
    list
}

/// The same without offsets.
pub fn names(topic: &str, partitions: &[i32]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(topic, *partition);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(property: &str, expected: Result<(), &str>) {
        let found = Kafka::new("b:1", &[property.to_owned()]);
        match (found, expected) {
            (Ok(kafka), Ok(())) => {
                let key = property.split('=').next().unwrap();
                assert!(kafka.reader("g", false).get(key).is_some());
            }
            (Err(error), Err(part)) => {
                let text = format!("{error:#}");
                assert!(text.contains(part), "{text}");
                assert!(!text.contains("secret"), "a value is never shown");
            }
            (found, _) => panic!("{property}: accepted {}", found.is_ok()),
        }
    }

    #[test]
    fn properties_pass_unless_they_are_pinned() {
        check("security.protocol=SASL_SSL", Ok(()));
        check("session.timeout.ms=45000", Ok(()));
        check("sasl.password=secret=1", Ok(()));
        check("enable.auto.commit=secret", Err("enable.auto.commit"));
        check("auto.offset.reset=secret", Err("auto.offset.reset"));
        check("=secret", Err("key=value"));
        check("secret", Err("key=value"));
    }

    #[test]
    fn a_value_that_librdkafka_refuses_is_not_shown() {
        for (key, value) in [("sasl.pasword", "hunter2"), ("security.protocol", "hunter2")] {
            let kafka = Kafka::new("b:1", &[format!("{key}={value}")]).unwrap();
            let reader = open(&kafka.reader("g", false), None).err().unwrap();
            let letters = crate::dead::DeadTopic::new(&kafka, "dead").err().unwrap();
            for text in [format!("{reader:#} {reader:?}"), format!("{letters:#} {letters:?}")] {
                assert!(text.contains(key) && !text.contains(value), "{text}");
            }
        }
    }

    #[test]
    fn what_is_pinned_is_set_last() {
        let kafka = Kafka { brokers: "b:1".to_owned(), properties: vec![] };
        let config = kafka.reader("g", false);
        assert_eq!(config.get("auto.offset.reset"), Some("error"));
        assert_eq!(config.get("enable.auto.commit"), Some("false"));
        assert_eq!(config.get("partition.assignment.strategy"), Some("cooperative-sticky"));
        assert_eq!(kafka.producer().get("acks"), Some("all"));
        open(&config, None).expect("librdkafka knows every key");
        let producer: KafkaResult<rdkafka::producer::BaseProducer> = kafka.producer().create();
        producer.expect("librdkafka knows every key");
    }
}
