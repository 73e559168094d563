//! Where dead letters go, and staying with it until they are there.

use super::letter::{Letter, statement};
use crate::health::{Component, Health};
use crate::kafka::{self, Kafka};
use crate::pace::{Pacer, is_news};
use crate::warehouse::Inserter;
use anyhow::Context as _;
use proto::backoff::Pace;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// Of the topic, should we have to make it: more than any record of `events`.
const TOPIC_MESSAGE_BYTES_MAX: &str = "10000000";
/// Dead letters wait for people: 30 days.
const TOPIC_RETENTION_MS: &str = "2592000000";
const TOPIC_TIME_MAX: Duration = Duration::from_secs(5);
/// Of one INSERT of letters.
const INSERT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Letters handed to librdkafka at once; its queue has room for them.
const CHUNK_LETTERS_MAX: usize = 256;
const CHUNK_BYTES_MAX: usize = 8 * 1024 * 1024;

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

    /// Hands all letters to librdkafka and then waits. Gives those that are not on all replicas in
    /// sync, and the first failure.
    async fn produce<'a>(&self, letters: &[&'a Letter]) -> (Vec<&'a Letter>, Option<KafkaError>) {
        let (mut failed, mut first) = (Vec::new(), None);
        let mut under_way = Vec::with_capacity(letters.len());
        for &letter in letters {
            let record: FutureRecord<'_, [u8], [u8]> =
                FutureRecord::to(&self.name).payload(&letter.raw[..]).headers(letter.headers());
            match self.producer.send_result(record) {
                Ok(delivery) => under_way.push((letter, delivery)),
                Err((error, _)) => {
                    failed.push(letter);
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
            failed.push(letter);
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
    pub topic: Option<DeadTopic>,
    inserter: Inserter,
    statement: String,
    health: Arc<Health>,
    pacer: Pacer,
}

impl DeadSink {
    pub fn new(
        topic: Option<DeadTopic>,
        inserter: Inserter,
        database: &str,
        health: Arc<Health>,
    ) -> DeadSink {
        DeadSink { topic, inserter, statement: statement(database), health, pacer: Pacer::new() }
    }

    /// Returns when every letter is in the topic and in the table; tries for as long as it takes.
    pub async fn write(&self, letters: &[Letter]) {
        if letters.is_empty() {
            return;
        }
        if let Some(topic) = &self.topic {
            // A letter to a topic that is not there fails only when librdkafka has given up on it.
            topic.made.get_or_init(|| topic.make()).await;
            let mut rest = letters;
            while !rest.is_empty() {
                let (chunk, later) = rest.split_at(chunk_of(rest));
                self.write_topic(topic, chunk.iter().collect()).await;
                rest = later;
            }
        }
        let mut rows = Vec::new();
        for (index, letter) in letters.iter().enumerate() {
            letter.encode(&mut rows);
            if rows.len() >= INSERT_BYTES_MAX || index + 1 == letters.len() {
                self.write_table(std::mem::take(&mut rows)).await;
            }
        }
        self.health.set_up(Component::DeadLetters);
    }

    async fn write_topic(&self, topic: &DeadTopic, mut letters: Vec<&Letter>) {
        let mut attempts = 0;
        loop {
            let (failed, error) = topic.produce(&letters).await;
            let Some(error) = error else { return };
            letters = failed;
            attempts += 1;
            let missing = matches!(
                error.rdkafka_error_code(),
                Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition)
            );
            let made = if missing { topic.create().await } else { Ok(()) };
            let reason = match made {
                Ok(()) => format!("topic {}: {error}", topic.name),
                Err(creation) => format!("topic {} cannot be made: {creation}", topic.name),
            };
            self.told(&reason, attempts);
            tokio::time::sleep(self.pacer.pause(Pace::Slow, attempts)).await;
        }
    }

    async fn write_table(&self, rows: Vec<u8>) {
        let rows = bytes::Bytes::from(rows);
        let mut attempts = 0;
        while let Err(failure) = self.inserter.insert_rows(&self.statement, rows.clone()).await {
            attempts += 1;
            self.told(&format!("table events_dead: {}", failure.text), attempts);
            tokio::time::sleep(self.pacer.pause(failure.pace, attempts)).await;
        }
    }

    fn told(&self, reason: &str, attempts: u32) {
        if self.health.set_down(Component::DeadLetters, reason) || is_news(attempts) {
            tracing::error!(reason, attempts, "dead letters cannot be kept; nothing is committed");
        }
    }
}

/// How many of the letters go together: at least one.
fn chunk_of(letters: &[Letter]) -> usize {
    let mut bytes = 0;
    let fitting = letters.iter().take(CHUNK_LETTERS_MAX).take_while(|letter| {
        bytes += letter.raw.len();
        bytes <= CHUNK_BYTES_MAX
    });
    fitting.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::BadRecord;
    use crate::record::Unreadable;
    use proto::block::BlockError;

    #[test]
    fn letters_go_in_chunks_that_librdkafka_has_room_for() {
        let check = |count: usize, bytes: usize, expected: usize| {
            let raw = bytes::Bytes::from(vec![0; bytes]);
            let why = Unreadable::Block(BlockError::Magic);
            let letter = Letter::of_record(BadRecord { offset: 0, bytes: raw, why }, 0, 0);
            assert_eq!(chunk_of(&vec![letter; count]), expected, "{count} of {bytes} bytes");
        };
        check(1, 1, 1);
        check(1_000, 1, 256);
        check(9, 1024 * 1024, 8);
        check(2, 9 * 1024 * 1024, 1);
    }
}
