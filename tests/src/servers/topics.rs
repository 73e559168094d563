//! Topics of a [`Broker`]: made, deleted, looked at, by librdkafka's admin client.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;

use crate::servers::Broker;
use crate::wait::{seconds, wait_for};

/// Of one request to the broker.
const ANSWER_WITHIN: Duration = seconds(10);
/// Until what was asked for is seen by clients.
const SEEN_WITHIN: Duration = seconds(20);

/// A topic as the broker describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub partitions: usize,
    pub replicas: usize,
    /// Every setting with its value, defaults too.
    pub settings: BTreeMap<String, String>,
}

impl Broker {
    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new()
            .set("bootstrap.servers", self.address())
            .create()
            .expect("an admin client needs no server")
    }

    fn options() -> AdminOptions {
        AdminOptions::new()
            .request_timeout(Some(ANSWER_WITHIN))
            .operation_timeout(Some(ANSWER_WITHIN))
    }

    /// Makes a topic and waits until clients can use it.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let made = self.ask_for_topic(name, partitions, settings);
        made.unwrap_or_else(|code| panic!("topic {name}: {code}"));
        wait_for("the topic can be used", SEEN_WITHIN, || self.partitions(name));
    }

    fn ask_for_topic(
        &self,
        name: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> Result<(), RDKafkaErrorCode> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let made = block_on(self.admin().create_topics([&topic], &Self::options()));
        let mut made = made.expect("the broker answers");
        made.remove(0).map(|_| ()).map_err(|(_, code)| code)
    }

    /// Deletes a topic that was written to and waits until no client sees it: it is not there, or it is
    /// one that somebody found missing and made since.
    pub fn delete_topic(&self, name: &str) {
        self.ask_to_delete_topic(name);
        wait_for("the topic is gone", SEEN_WITHIN, || {
            (self.partitions(name).is_none() || self.is_untouched(name)).then_some(())
        });
    }

    /// Nothing was ever written to it.
    fn is_untouched(&self, name: &str) -> bool {
        let (admin, partitions) = (self.admin(), self.partitions(name).unwrap_or(0));
        let untouched = |partition: usize| {
            let marks = admin.inner().fetch_watermarks(name, partition as i32, ANSWER_WITHIN);
            marks.is_ok_and(|(_, next)| next == 0)
        };
        partitions > 0 && (0..partitions).all(untouched)
    }

    /// Deletes a topic and makes it again with another number of partitions, or lets it be made by a
    /// server that is there for that and finds it missing first; waits until clients see the new one.
    pub fn replace_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        assert_ne!(self.partitions(name), Some(partitions as usize), "told apart by their number");
        self.ask_to_delete_topic(name);
        match self.ask_for_topic(name, partitions, settings) {
            Ok(()) | Err(RDKafkaErrorCode::TopicAlreadyExists) => {}
            Err(code) => panic!("topic {name}: {code}"),
        }
        wait_for("the new topic can be used", SEEN_WITHIN, || {
            (self.partitions(name)? == partitions as usize).then_some(())
        });
    }

    fn ask_to_delete_topic(&self, name: &str) {
        let gone = block_on(self.admin().delete_topics(&[name], &Self::options()));
        let gone = gone.expect("the broker answers");
        gone[0].as_ref().unwrap_or_else(|(name, code)| panic!("topic {name}: {code}"));
    }

    /// Of a topic that is there and whose partitions have leaders.
    pub fn partitions(&self, name: &str) -> Option<usize> {
        let admin = self.admin();
        let metadata = admin.inner().fetch_metadata(Some(name), ANSWER_WITHIN).ok()?;
        let topic = metadata.topics().first()?;
        let led = topic.partitions().iter().all(|partition| partition.leader() >= 0);
        (topic.error().is_none() && led && !topic.partitions().is_empty())
            .then_some(topic.partitions().len())
    }

    pub fn topic(&self, name: &str) -> Option<Topic> {
        let partitions = self.partitions(name)?;
        let admin = self.admin();
        let metadata = admin.inner().fetch_metadata(Some(name), ANSWER_WITHIN).ok()?;
        let replicas = metadata.topics().first()?.partitions().first()?.replicas().len();
        let asked = [ResourceSpecifier::Topic(name)];
        let described = block_on(admin.describe_configs(&asked, &Self::options())).ok()?;
        let described = described.into_iter().next()?.ok()?;
        let value =
            |entry: rdkafka::admin::ConfigEntry| (entry.name, entry.value.unwrap_or_default());
        let settings = described.entries.into_iter().map(value).collect();
        Some(Topic { partitions, replicas, settings })
    }

    /// Gives a topic more partitions.
    pub fn grow_topic(&self, name: &str, partitions: usize) {
        let more = rdkafka::admin::NewPartitions::new(name, partitions);
        let grown = block_on(self.admin().create_partitions([&more], &Self::options()));
        let grown = grown.expect("the broker answers");
        grown[0].as_ref().unwrap_or_else(|(name, code)| panic!("topic {name}: {code}"));
        wait_for("the partitions are there", SEEN_WITHIN, || {
            (self.partitions(name)? == partitions).then_some(())
        });
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without timers and sockets")
        .block_on(future)
}
