//! Records of a [`Broker`]'s topics, read and written as any client would.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::servers::Broker;
use crate::wait::{seconds, wait_for};

const ANSWER_WITHIN: Duration = seconds(20);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub headers: Vec<(String, Vec<u8>)>,
    pub value: Vec<u8>,
}

impl Broker {
    fn reader(&self, group: &str) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", self.address())
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "false")
            .create()
            .expect("a consumer needs no server to be made")
    }

    /// First and next offset of every partition.
    pub fn watermarks(&self, topic: &str) -> Vec<(i64, i64)> {
        let reader = self.reader("watermarks");
        // Its partitions have no leaders for a moment after the broker's start.
        let partitions = wait_for("the topic is there", ANSWER_WITHIN, || self.partitions(topic));
        let of = |partition: usize| {
            let marks = reader.fetch_watermarks(topic, partition as i32, ANSWER_WITHIN);
            marks.expect("the broker knows its watermarks")
        };
        (0..partitions).map(of).collect()
    }

    /// Records in the topic now.
    pub fn record_count(&self, topic: &str) -> i64 {
        self.watermarks(topic).iter().map(|(first, next)| next - first).sum()
    }

    /// Records that the group has not committed yet; everything where it never committed.
    pub fn lag(&self, topic: &str, group: &str) -> i64 {
        self.uncommitted(topic, group).iter().map(|(from, next)| next - from).sum()
    }

    /// Of every partition the offset that the group goes on from, the first where it never committed,
    /// and the next offset.
    pub fn uncommitted(&self, topic: &str, group: &str) -> Vec<(i64, i64)> {
        let marks = self.watermarks(topic);
        let mut list = TopicPartitionList::new();
        for partition in 0..marks.len() {
            list.add_partition(topic, partition as i32);
        }
        let committed = self.reader(group).committed_offsets(list, ANSWER_WITHIN);
        let committed = committed.expect("the broker knows a group's offsets");
        let of = |(partition, (first, next)): (usize, (i64, i64))| {
            let element = committed.find_partition(topic, partition as i32);
            match element.map(|element| element.offset()) {
                Some(Offset::Offset(offset)) => (offset, next),
                _ => (first, next),
            }
        };
        marks.into_iter().enumerate().map(of).collect()
    }

    /// Every record that is in the topic now.
    pub fn records(&self, topic: &str) -> Vec<Record> {
        let marks = self.watermarks(topic);
        let reader = self.reader("records");
        let mut list = TopicPartitionList::new();
        for partition in 0..marks.len() {
            list.add_partition_offset(topic, partition as i32, Offset::Beginning)
                .expect("the beginning is an offset");
        }
        reader.assign(&list).expect("partitions can be assigned");
        let expected: i64 = marks.iter().map(|(first, next)| next - first).sum();
        let mut records = Vec::new();
        while (records.len() as i64) < expected {
            let message = reader.poll(ANSWER_WITHIN).expect("a record within the deadline");
            let message = message.expect("a record and no error");
            let header = |header: rdkafka::message::Header<'_, &[u8]>| {
                (header.key.to_owned(), header.value.unwrap_or_default().to_vec())
            };
            records.push(Record {
                partition: message.partition(),
                offset: message.offset(),
                headers: message.headers().iter().flat_map(|all| all.iter().map(header)).collect(),
                value: message.payload().unwrap_or_default().to_vec(),
            });
        }
        records
    }

    /// Writes one record and waits until the broker has it.
    pub fn produce(&self, topic: &str, partition: i32, headers: &[(&str, &str)], value: &[u8]) {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", self.address())
            .set("acks", "all")
            .set("message.max.bytes", "2000000")
            .create()
            .expect("a producer needs no server to be made");
        let mut all = OwnedHeaders::new();
        for (key, value) in headers {
            all = all.insert(rdkafka::message::Header { key, value: Some(*value) });
        }
        let record: BaseRecord<'_, (), [u8]> =
            BaseRecord::to(topic).partition(partition).payload(value).headers(all);
        producer.send(record).map_err(|(error, _)| error).expect("the queue is empty");
        producer.flush(ANSWER_WITHIN).expect("the broker takes the record");
    }
}
