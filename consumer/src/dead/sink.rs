//! Where dead letters go: one attempt at a time. When another follows, [`super::mail`] decides.

use super::letter::{Letter, statement};
use super::mail::{NotWritten, Place};
use crate::kafka::{self, Kafka};
use crate::warehouse::Inserter;
use anyhow::Context as _;
use proto::backoff::Pace;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::time::Duration;
use tokio::sync::OnceCell;

/// Of the topic, should we have to make it: more than any record of `events`.
const TOPIC_MESSAGE_BYTES_MAX: &str = "10000000";
/// Dead letters wait for people: 30 days.
const TOPIC_RETENTION_MS: &str = "2592000000";
const TOPIC_TIME_MAX: Duration = Duration::from_secs(5);

/// The producing end of the topic of dead letters.
pub struct DeadTopic {
    name: String,
    config: ClientConfig,
    producer: FutureProducer,
    /// Asked for once, with the first letter.
    made: OnceCell<()>,
}

impl DeadTopic {
    pub fn new(kafka: &Kafka, name: &str) -> anyhow::Result<DeadTopic> {
        let config = kafka.producer();
        let producer = config.create().map_err(kafka::conceal);
        let producer = producer.context("librdkafka refuses its configuration")?;
        Ok(DeadTopic { name: name.to_owned(), config, producer, made: OnceCell::new() })
    }

    async fn write(&self, letters: &[Letter]) -> Result<(), NotWritten> {
        // A letter to a topic that is not there fails only when librdkafka has given up on it.
        self.made.get_or_init(|| self.make()).await;
        let (left, error) = self.produce(letters).await;
        let Some(error) = error else { return Ok(()) };
        let missing = matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition)
        );
        let made = if missing { self.create().await } else { Ok(()) };
        let text = match made {
            Ok(()) => format!("topic {}: {error}", self.name),
            Err(creation) => format!("topic {} cannot be made: {creation}", self.name),
        };
        Err(NotWritten { left, pace: Pace::Slow, text })
    }

    /// Hands all letters to librdkafka and then waits. Gives those that are not on all replicas in
    /// sync, and the first failure.
    async fn produce(&self, letters: &[Letter]) -> (Vec<Letter>, Option<KafkaError>) {
        let (mut failed, mut first) = (Vec::new(), None);
        let mut under_way = Vec::with_capacity(letters.len());
        for letter in letters {
            let record: FutureRecord<'_, [u8], [u8]> =
                FutureRecord::to(&self.name).payload(&letter.raw[..]).headers(headers(letter));
            match self.producer.send_result(record) {
                Ok(delivery) => under_way.push((letter, delivery)),
                Err((error, _)) => {
                    failed.push(letter.clone());
                    first.get_or_insert(error);
                }
            }
        }
        for (letter, delivery) in under_way {
            let error = match delivery.await {
                Ok(Ok(_)) => continue,
                Ok(Err((error, _))) => error,
                Err(_) => KafkaError::Canceled,
            };
            failed.push(letter.clone());
            first.get_or_insert(error);
        }
        (failed, first)
    }

    /// Whoever may not make topics can still write to one.
    async fn make(&self) {
        if let Err(error) = self.create().await {
            tracing::warn!(topic = self.name, %error, "the topic of dead letters is not made");
        }
    }

    /// Makes the topic with the brokers' own replication; one that is there is left as it is.
    async fn create(&self) -> Result<(), KafkaError> {
        let admin: AdminClient<DefaultClientContext> =
            self.config.create().map_err(kafka::conceal)?;
        let topic = NewTopic::new(&self.name, 1, TopicReplication::Fixed(-1))
            .set("max.message.bytes", TOPIC_MESSAGE_BYTES_MAX)
            .set("retention.ms", TOPIC_RETENTION_MS);
        let options = AdminOptions::new()
            .operation_timeout(Some(TOPIC_TIME_MAX))
            .request_timeout(Some(TOPIC_TIME_MAX));
        for made in admin.create_topics(&[topic], &options).await? {
            match made {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(KafkaError::AdminOp(code)),
            }
        }
        Ok(())
    }
}

pub struct DeadSink {
    /// None where there is no Kafka to write to.
    topic: Option<DeadTopic>,
    inserter: Inserter,
    statement: String,
}

impl DeadSink {
    pub fn new(topic: Option<DeadTopic>, inserter: Inserter, database: &str) -> DeadSink {
        DeadSink { topic, inserter, statement: statement(database) }
    }

    /// One attempt. `Ok` when the place has confirmed every letter.
    pub async fn write(&self, place: Place, letters: Vec<Letter>) -> Result<(), NotWritten> {
        match (place, &self.topic) {
            (Place::Table, _) => self.write_table(letters).await,
            (Place::Topic, Some(topic)) => topic.write(&letters).await,
            (Place::Topic, None) => Ok(()),
        }
    }

    async fn write_table(&self, letters: Vec<Letter>) -> Result<(), NotWritten> {
        let mut rows = Vec::new();
        letters.iter().for_each(|letter| letter.encode(&mut rows));
        let outcome = self.inserter.insert_rows(&self.statement, rows.into()).await;
        outcome.map_err(|failure| NotWritten {
            left: letters,
            pace: failure.pace,
            text: format!("table events_dead: {}", failure.text),
        })
    }
}

/// Everything but the raw bytes, which are the record's value.
fn headers(letter: &Letter) -> OwnedHeaders {
    let Letter { block, row_index, partition, offset, layout, code, .. } = letter;
    let pairs = [
        ("unmogrowp-reason", letter.reason.clone()),
        ("unmogrowp-code", code.to_string()),
        (proto::names::RECORD_HEADER_LAYOUT, layout.to_string()),
        ("unmogrowp-journal-id", block.journal_id.to_string()),
        ("unmogrowp-epoch", block.epoch.to_string()),
        ("unmogrowp-sequence", block.sequence.to_string()),
        ("unmogrowp-row-index", row_index.to_string()),
        ("unmogrowp-partition", partition.to_string()),
        ("unmogrowp-offset", offset.to_string()),
        ("unmogrowp-died-at-ms", letter.died_at_ms.to_string()),
    ];
    let mut headers = OwnedHeaders::new_with_capacity(pairs.len());
    for (key, value) in &pairs {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    headers
}
