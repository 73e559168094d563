//! Where a good batch goes: nowhere, or to Kafka as one record, an event a line, as ClickHouse's
//! `JSONEachRow` reads it. Knows nothing of HTTP.

use anyhow::Context as _;
use clap::ValueEnum;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::util::Timeout;
use serde::Serialize;
use serde_json::value::RawValue;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::batch::Batch;

/// What a stop waits for Kafka at most.
const FLUSH_WITHIN: Duration = Duration::from_secs(10);
/// What an event's line has beside its own texts.
const LINE_BYTES_TYPICAL: usize = 384;

#[derive(Clone, Copy, ValueEnum)]
pub enum SinkName {
    None,
    Kafka,
}

pub enum Sink {
    None,
    Kafka { producer: FutureProducer, topic: String },
}

#[derive(Serialize)]
struct Row<'a> {
    app_id: Uuid,
    received_at: &'a str,
    event_id: Uuid,
    event_name: &'a str,
    user_id: &'a str,
    timestamp: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<&'a RawValue>,
}

impl Sink {
    pub fn open(name: SinkName, brokers: &str, topic: &str) -> anyhow::Result<Sink> {
        if matches!(name, SinkName::None) {
            return Ok(Sink::None);
        }
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            // A request waits for it, so little; the default of 5 ms is for more throughput.
            .set("linger.ms", "1")
            .create()
            .context("--brokers")?;
        Ok(Sink::Kafka { producer, topic: topic.to_owned() })
    }

    /// Once this is Ok the batch may be acknowledged.
    pub async fn store(
        &self,
        batch: &Batch<'_>,
        received_at: OffsetDateTime,
    ) -> anyhow::Result<()> {
        let Sink::Kafka { producer, topic } = self else { return Ok(()) };
        let received_at = received_at.format(&Rfc3339).context("the clock")?;
        let mut lines = Vec::with_capacity(batch.events.len() * LINE_BYTES_TYPICAL);
        for event in &batch.events {
            let row = Row {
                app_id: batch.app_id,
                received_at: &received_at,
                event_id: event.event_id,
                event_name: &event.event_name,
                user_id: &event.user_id,
                timestamp: &event.timestamp,
                properties: event.properties,
            };
            serde_json::to_writer(&mut lines, &row)?;
            lines.push(b'\n');
        }
        let record = FutureRecord::<(), _>::to(topic).payload(&lines);
        producer.send(record, Timeout::Never).await.map_err(|(error, _)| error)?;
        Ok(())
    }

    pub fn flush(&self) -> anyhow::Result<()> {
        match self {
            Sink::None => Ok(()),
            Sink::Kafka { producer, .. } => producer.flush(FLUSH_WITHIN).context("Kafka"),
        }
    }
}
