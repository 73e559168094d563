//! Looks after the topic, on a thread of its own: makes it when it is missing, now or later, says on
//! `/readyz` what is too small, decides whether a 200 may wait for Kafka, and tells the lanes that
//! Kafka answers again.

use super::producer::{client_config, log};
use super::status::KafkaStatus;
use super::topic_rules::{self, TopicFacts};
use crate::config::Kafka;
use anyhow::{Context as _, anyhow};
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// While something is wrong, and while all is well.
const ASK_SOON: Duration = Duration::from_secs(1);
const ASK_LATER: Duration = Duration::from_secs(30);
/// How late a lane's trouble is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(2);
const MAKE_PATIENCE: Duration = Duration::from_secs(10);

pub struct TopicWatch {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl TopicWatch {
    pub fn start(kafka: Kafka, status: Arc<KafkaStatus>) -> anyhow::Result<TopicWatch> {
        let (stop, mut stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = std::thread::Builder::new().name("kafka-topic".to_owned());
        let thread = thread.spawn(move || {
            let watcher = Watcher { kafka, status, client: None, said: None };
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped.changed() => {}
                    () = watcher.look_again_and_again() => {}
                }
            });
        });
        Ok(TopicWatch { stop, thread: Some(thread.context("starting the topic's thread")?) })
    }
}

impl Drop for TopicWatch {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the topic's watcher ended by a panic");
        }
    }
}

struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }
}

struct Watcher {
    kafka: Kafka,
    status: Arc<KafkaStatus>,
    client: Option<AdminClient<Quiet>>,
    /// What was last said in the log.
    said: Option<String>,
}

impl Watcher {
    async fn look_again_and_again(mut self) {
        loop {
            let well = self.look().await;
            let asked = Instant::now();
            loop {
                let soon = !well || !self.status.all_lanes_well();
                if asked.elapsed() >= if soon { ASK_SOON } else { ASK_LATER } {
                    break;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Asks once; gives whether Kafka answered.
    async fn look(&mut self) -> bool {
        let facts = self.ask().await;
        let (text, well) = match &facts {
            Ok(facts) => {
                self.status.on_answer();
                self.status.allow_acks(topic_rules::acks_allowed(facts, self.kafka.ack));
                (topic_rules::complaints(facts, &self.kafka).join("; "), true)
            }
            Err(error) => (format!("{error:#}"), false),
        };
        if self.said.as_ref() != Some(&text) {
            match (text.is_empty(), &facts) {
                (true, Ok(facts)) => {
                    let (topic, acks) = (&self.kafka.topic, self.status.acks_allowed());
                    tracing::info!(%topic, ?facts, acks_wait_for_kafka = acks, "the topic is good");
                }
                _ => tracing::warn!("{text}"),
            }
            self.said = Some(text.clone());
        }
        self.status.set_topic(text);
        well
    }

    async fn ask(&mut self) -> anyhow::Result<TopicFacts> {
        let kafka = &self.kafka;
        let client = match &mut self.client {
            Some(client) => client,
            none => {
                // The error's own text may repeat a property's value.
                let made = client_config(kafka).create_with_context(Quiet);
                none.insert(made.map_err(|_| anyhow!("cannot make a Kafka client"))?)
            }
        };
        let partitions = match read_partitions(client, &kafka.topic) {
            Ok(partitions) => partitions,
            Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                make_topic(client, kafka).await?;
                read_made_partitions(client, &kafka.topic).await?
            }
            Err(code) => return Err(anyhow!("Kafka at {} does not answer: {code}", kafka.brokers)),
        };
        read_settings(client, kafka, partitions).await
    }
}

/// How many replicas each partition has.
fn read_partitions(
    client: &AdminClient<Quiet>,
    topic: &str,
) -> Result<Vec<usize>, RDKafkaErrorCode> {
    let code = |error: KafkaError| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
    let metadata = client.inner().fetch_metadata(Some(topic), PATIENCE).map_err(code)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let found = found.ok_or(RDKafkaErrorCode::UnknownTopicOrPartition)?;
    if let Some(error) = found.error() {
        return Err(error.into());
    }
    Ok(found.partitions().iter().map(|partition| partition.replicas().len()).collect())
}

/// A topic is there a moment after it was made: the controller tells the brokers.
async fn read_made_partitions(
    client: &AdminClient<Quiet>,
    topic: &str,
) -> anyhow::Result<Vec<usize>> {
    let made = Instant::now();
    loop {
        match read_partitions(client, topic) {
            Err(code) if made.elapsed() >= MAKE_PATIENCE => {
                return Err(anyhow!("topic {topic}, just made: {code}"));
            }
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            Ok(partitions) => return Ok(partitions),
        }
    }
}

async fn make_topic(client: &AdminClient<Quiet>, kafka: &Kafka) -> anyhow::Result<()> {
    let retention_ms = kafka.retention_ms.to_string();
    let min_insync = topic_rules::min_insync_made(kafka.replication).to_string();
    let message_bytes = topic_rules::MESSAGE_BYTES_MAX_MADE.to_string();
    let replication = TopicReplication::Fixed(kafka.replication as i32);
    let topic = NewTopic::new(&kafka.topic, kafka.partitions as i32, replication)
        .set("retention.ms", &retention_ms)
        .set("min.insync.replicas", &min_insync)
        .set("max.message.bytes", &message_bytes);
    let options = AdminOptions::new()
        .operation_timeout(Some(MAKE_PATIENCE))
        .request_timeout(Some(MAKE_PATIENCE));
    let made = client.create_topics([&topic], &options).await;
    let made = made.with_context(|| format!("cannot make topic {}", kafka.topic))?;
    match made.into_iter().next() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((name, code))) => Err(anyhow!(
            "topic {name} is missing and cannot be made: {code}; make it, or see kafka.partitions and \
             kafka.replication"
        )),
        _ => {
            let (topic, partitions, replication) =
                (&kafka.topic, kafka.partitions, kafka.replication);
            tracing::info!(%topic, partitions, replication, "the topic was missing and is made");
            Ok(())
        }
    }
}

async fn read_settings(
    client: &AdminClient<Quiet>,
    kafka: &Kafka,
    partitions: Vec<usize>,
) -> anyhow::Result<TopicFacts> {
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let of_topic = ResourceSpecifier::Topic(&kafka.topic);
    let described = client.describe_configs([&of_topic], &options).await;
    // A right to write is not yet one to read settings: what we may not see is not judged.
    let resource = described.ok().and_then(|found| found.into_iter().next()?.ok());
    let setting = |name: &str| resource.as_ref()?.get(name)?.value.clone();
    Ok(TopicFacts {
        partitions: partitions.len(),
        replication: partitions.iter().copied().min().unwrap_or(0),
        min_insync: setting("min.insync.replicas").and_then(|text| text.parse().ok()),
        retention_ms: setting("retention.ms").and_then(|text| text.parse().ok()),
        message_bytes_max: setting("max.message.bytes").and_then(|text| text.parse().ok()),
    })
}
