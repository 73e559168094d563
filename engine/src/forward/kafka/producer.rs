//! librdkafka as a lane's [`RecordSink`]: one producer with its settings and its records. Its codes
//! are sorted here and go no further.
//!
//! Reports come on librdkafka's polling thread and go to the lane through a channel, which never
//! holds more than the producer's queue does. librdkafka copies a block when it is sent and keeps it
//! until the report.

use super::bell::Bell;
use super::failure::Failure;
use super::sink::{Complaint, RecordSink, Refusal, Report, Reports, Tag};
use super::trace;
use crate::config::Kafka;
use anyhow::Context as _;
use bytes::Bytes;
use proto::BlockHeader;
use proto::limits::BLOCK_BYTES_MAX;
use proto::names::{RECORD_HEADER_LAYOUT, RECORD_HEADER_TRACE};
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};
use std::sync::Arc;
use std::time::Duration;

/// A record's headers and framing beside the block.
pub const RECORD_OVERHEAD_BYTES: usize = 16 * 1024;
/// What a topic must allow.
pub const RECORD_BYTES_MAX: usize = BLOCK_BYTES_MAX + RECORD_OVERHEAD_BYTES;

/// Small records go together up to this, which is well within what a topic allows of a batch; a larger
/// one goes alone. Readers unpack a whole batch at once: the larger it is, the more memory they need.
const BATCH_BYTES_MAX: usize = 128 * 1024;

/// Given up only after this, so that a broker that is paused or restarted for minutes gets each
/// record once: what is given up is sent anew, and may then be there twice.
const MESSAGE_TIMEOUT_MS: u64 = 15 * 60 * 1_000;
/// The broker's part of one request; a leader that waits longer for its replicas says so.
const REQUEST_TIMEOUT_MS: u64 = 30_000;
const SOCKET_TIMEOUT_MS: u64 = 60_000;
const CONNECT_TIMEOUT_MS: u64 = 5_000;
const RECONNECT_MAX_MS: u64 = 1_000;
/// How late a new or moved topic is noticed at most.
const METADATA_REFRESH_MS: u64 = 30_000;
const TOPIC_PROPAGATION_MS: u64 = 5_000;

pub struct Context {
    reports: Reports,
    bell: Arc<Bell>,
    complaint: Arc<Complaint>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.complaint.set(reason);
        tracing::debug!(%error, reason, "librdkafka");
        self.bell.ring();
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Tag>;

    fn delivery(&self, result: &DeliveryResult<'_>, tag: Box<Tag>) {
        let outcome = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(Failure::reported(code_of(error))),
        };
        // Nobody listens any more when the lane has ended; the journal keeps the block.
        let _ = self.reports.send(Report { tag: *tag, outcome });
        self.bell.ring();
    }
}

fn code_of(error: &KafkaError) -> RDKafkaErrorCode {
    error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)
}

/// librdkafka says the same about every connection; what it complains of is on `/readyz` too.
pub fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "librdkafka", facility, "{message}");
        }
        _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

/// What every client of ours is told; [`crate::config::PINNED_PROPERTIES`] may not be given.
pub fn client_config(kafka: &Kafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in &kafka.properties.0 {
        config.set(name, value);
    }
    let mut pin_unless_given = |name: &str, value: String| {
        if !kafka.properties.0.contains_key(name) {
            config.set(name, value);
        }
    };
    pin_unless_given("client.id", "unmogrowp-engine".to_owned());
    pin_unless_given("reconnect.backoff.max.ms", RECONNECT_MAX_MS.to_string());
    pin_unless_given("socket.connection.setup.timeout.ms", CONNECT_TIMEOUT_MS.to_string());
    pin_unless_given("socket.timeout.ms", SOCKET_TIMEOUT_MS.to_string());
    pin_unless_given("socket.keepalive.enable", true.to_string());
    pin_unless_given("topic.metadata.refresh.interval.ms", METADATA_REFRESH_MS.to_string());
    pin_unless_given("topic.metadata.propagation.max.ms", TOPIC_PROPAGATION_MS.to_string());
    config.set("bootstrap.servers", &kafka.brokers);
    // The topic is made by us, with our settings, or by its owner; never by accident.
    config.set("allow.auto.create.topics", "false");
    config.set("statistics.interval.ms", "0");
    config
}

fn producer_config(kafka: &Kafka, linger: Duration) -> ClientConfig {
    let mut config = client_config(kafka);
    config.set("acks", "all");
    config.set("enable.idempotence", "true");
    config.set("compression.type", kafka.compression.as_str());
    config.set("linger.ms", linger.as_millis().to_string());
    config.set("message.max.bytes", RECORD_BYTES_MAX.to_string());
    config.set("batch.size", BATCH_BYTES_MAX.to_string());
    config.set("queue.buffering.max.kbytes", (kafka.queue_bytes_max / 1024).to_string());
    config.set("message.timeout.ms", MESSAGE_TIMEOUT_MS.to_string());
    config.set("request.timeout.ms", REQUEST_TIMEOUT_MS.to_string());
    config
}

/// Refuses properties that librdkafka does not know or cannot use, without repeating their values.
pub fn check_properties(kafka: &Kafka) -> anyhow::Result<()> {
    match producer_config(kafka, Duration::ZERO).create_native_config() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(_, _, name, _)) => anyhow::bail!(
            "kafka.properties has {name}, which librdkafka does not know, or not with this value: see \
             its CONFIGURATION.md"
        ),
        Err(error) => Err(error).context("kafka.properties"),
    }
}

pub struct Producer {
    inner: ThreadedProducer<Context>,
    topic: String,
}

impl Producer {
    pub fn new(
        kafka: &Kafka,
        linger: Duration,
        reports: Reports,
        bell: Arc<Bell>,
        complaint: Arc<Complaint>,
    ) -> anyhow::Result<Producer> {
        let context = Context { reports, bell, complaint };
        let inner = producer_config(kafka, linger)
            .create_with_context(context)
            .map_err(|error: KafkaError| match error {
                // Its text repeats the value.
                KafkaError::ClientConfig(_, _, name, _) => {
                    anyhow::anyhow!("librdkafka refuses the property {name}")
                }
                error => error.into(),
            })
            .context("cannot make a Kafka producer")?;
        Ok(Producer { inner, topic: kafka.topic.clone() })
    }
}

impl RecordSink for Producer {
    fn send(&self, header: &BlockHeader, block: &Bytes, tag: Tag) -> Result<(), Refusal> {
        let layout = header.layout.to_string();
        let trace = trace::traceparent(header.id);
        let headers = OwnedHeaders::new_with_capacity(2)
            .insert(Header { key: RECORD_HEADER_LAYOUT, value: Some(&layout) })
            .insert(Header { key: RECORD_HEADER_TRACE, value: Some(&trace) });
        let record = BaseRecord::<(), [u8], Box<Tag>>::with_opaque_to(&self.topic, Box::new(tag))
            .payload(block)
            .headers(headers);
        self.inner.send(record).map_err(|(error, _)| match code_of(&error) {
            RDKafkaErrorCode::QueueFull => Refusal::Full,
            code => Refusal::Failed(Failure::before_sending(code)),
        })
    }

    fn purge(&self) {
        self.inner.purge(PurgeConfig::default().queue().inflight());
    }

    fn fatal_error(&self) -> Option<String> {
        self.inner.client().fatal_error().map(|(code, text)| format!("{code}: {text}"))
    }
}
