//! Lanes with journals in memory, and what the mock cluster got.

use super::forward_stand_in::{block, wait_until};
use engine::admin::{Component, Health, Level};
use engine::config::{Config, Secret};
use engine::forward::kafka::{Bell, Source, Waiter};
use engine::forward::{Forwarding, Frame, FrameSource, SourceError};
use engine::metrics::Metrics;
use engine::shard::DeliveryWatch;
use proto::{Block, BlockHeader};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const TOPIC: &str = "events_of_test";
const PARTITIONS: i32 = 3;
/// Nobody listens on port 1.
pub const NO_CLICKHOUSE: &str = "http://127.0.0.1:1";

pub type Cluster = MockCluster<'static, DefaultProducerContext>;

pub fn cluster() -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
    cluster
}

/// One journal. Sequences begin with 1.
#[derive(Default)]
pub struct Journal {
    frames: Vec<Frame>,
    next: usize,
    unread: usize,
    pub marked: Vec<u64>,
    pub seeks: usize,
    pub panic_next: bool,
}

impl Journal {
    pub fn push(&mut self, block: Block) {
        let mut bytes = block.header.encode().to_vec();
        bytes.extend_from_slice(&block.payload);
        self.frames.push(Frame { header: block.header, bytes: bytes.into() });
    }
}

pub type SharedJournal = Arc<Mutex<Journal>>;

/// Blocks 1 to `count` of ten rows each.
pub fn blocks(source: u8, count: u64) -> SharedJournal {
    let journal = SharedJournal::default();
    for sequence in 1..=count {
        journal.lock().unwrap().push(numbered(source, sequence));
    }
    journal
}

fn numbered(source: u8, sequence: u64) -> Block {
    let first = u64::from(source) * 1_000_000 + sequence * 10;
    block(source, sequence, first..first + 10, false)
}

struct Frames(SharedJournal);

impl FrameSource for Frames {
    fn next_frame(&mut self) -> Result<Option<Frame>, SourceError> {
        let mut journal = self.0.lock().unwrap();
        if journal.panic_next {
            drop(journal);
            panic!("scripted");
        }
        let frame = journal.frames.get(journal.next).cloned();
        if frame.is_some() {
            journal.next += 1;
            journal.unread = journal.unread.max(journal.next);
        }
        Ok(frame)
    }

    fn seek(&mut self, sequence: Option<u64>) {
        let mut journal = self.0.lock().unwrap();
        let at = sequence.map_or(journal.unread, |sequence| sequence as usize - 1);
        assert!(at <= journal.unread, "what was never given out comes in order");
        journal.next = at;
        journal.seeks += 1;
    }

    fn has_unread(&self) -> bool {
        let journal = self.0.lock().unwrap();
        journal.unread < journal.frames.len()
    }

    fn mark_forwarded(&mut self, sequence: u64) -> Result<(), SourceError> {
        let mut journal = self.0.lock().unwrap();
        assert!(journal.marked.last().is_none_or(|last| *last < sequence), "marks only grow");
        assert!(sequence as usize <= journal.unread, "only what was given out can have arrived");
        journal.marked.push(sequence);
        Ok(())
    }
}

pub struct Stage {
    forwarding: Option<Forwarding>,
    pub feeds: Vec<SharedJournal>,
    pub watches: Vec<Arc<DeliveryWatch>>,
    bells: Vec<Arc<Bell>>,
    pub metrics: Metrics,
    health: Arc<Health>,
    _directory: tempfile::TempDir,
}

impl Stage {
    /// One lane for all journals.
    pub fn start(
        cluster: &Cluster,
        clickhouse: &str,
        feeds: Vec<SharedJournal>,
        change: impl FnOnce(&mut Config),
    ) -> Stage {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.journal.dir = directory.path().to_owned();
        config.clickhouse.url = clickhouse.to_owned();
        config.clickhouse.password = Secret::default();
        config.clickhouse.retry_min_ms = 5;
        config.clickhouse.breaker_open_ms = 50;
        let kafka = &mut config.kafka;
        kafka.brokers = cluster.bootstrap_servers();
        kafka.topic = TOPIC.to_owned();
        kafka.breaker_open_ms = 100;
        kafka.stall_ms = 500;
        kafka.direct_insert_after_ms = 60_000;
        change(&mut config);
        let health = Health::new(0);
        let bells = vec![Arc::<Bell>::default()];
        let metrics = Metrics::with_lanes(0, 1, &[], health.clone());
        let watches: Vec<Arc<DeliveryWatch>> = feeds.iter().map(|_| Arc::default()).collect();
        let sources = feeds.iter().zip(&watches).map(|(feed, watch)| Source {
            frames: Box::new(Frames(feed.clone())),
            waiter: Some(Waiter { watch: watch.clone(), wake: Box::new(|| {}) }),
        });
        let sources = sources.collect();
        let forwarding = Forwarding::start(&config, sources, &bells, &metrics, &health).unwrap();
        Stage {
            forwarding: Some(forwarding),
            feeds,
            watches,
            bells,
            metrics,
            health,
            _directory: directory,
        }
    }

    pub fn ring(&self) {
        self.bells[0].ring();
    }

    pub fn add(&self, feed: usize, sequences: std::ops::RangeInclusive<u64>) {
        for sequence in sequences {
            self.feeds[feed].lock().unwrap().push(numbered(feed as u8 + 1, sequence));
        }
        self.ring();
    }

    pub fn last_mark(&self, feed: usize) -> u64 {
        self.feeds[feed].lock().unwrap().marked.last().copied().unwrap_or(0)
    }

    pub fn seeks(&self, feed: usize) -> usize {
        self.feeds[feed].lock().unwrap().seeks
    }

    #[track_caller]
    pub fn wait_marked(&self, marks: &[u64]) {
        let marked = || (0..marks.len()).all(|feed| self.last_mark(feed) == marks[feed]);
        wait_until(&format!("all is marked: {marks:?}"), marked);
    }

    pub fn is_idle(&self) -> bool {
        let forwarding = self.forwarding.as_ref().unwrap();
        wait_until("the lanes are idle", || forwarding.is_idle());
        true
    }

    pub fn level(&self, component: Component) -> Level {
        self.health.level(component)
    }

    pub fn reason(&self, component: Component) -> String {
        let report = self.health.report();
        let found = report.ailments.into_iter().find(|ailment| ailment.component == component);
        found.map_or(String::new(), |ailment| ailment.reason)
    }

    /// A value by its name in the exposition, without our prefix.
    #[track_caller]
    pub fn counter(&self, name: &str) -> u64 {
        let text = self.metrics.encode().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("unmogrowp_{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    pub fn stop(mut self, within: Duration) -> bool {
        self.forwarding.take().unwrap().stop(Instant::now() + within)
    }
}

pub struct Record {
    pub value: Vec<u8>,
    pub has_key: bool,
    headers: Vec<(String, String)>,
}

impl Record {
    #[track_caller]
    pub fn header(&self, name: &str) -> String {
        self.headers.iter().find(|(key, _)| key == name).unwrap().1.clone()
    }
}

/// All records, at least `count`; waits a little for more than that.
pub fn read_records(cluster: &Cluster, count: usize) -> Vec<Record> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "reader")
        .create()
        .unwrap();
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions.add_partition_offset(TOPIC, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&partitions).unwrap();
    let mut records = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut quiet_since = Instant::now();
    while records.len() < count || quiet_since.elapsed() < Duration::from_millis(300) {
        assert!(Instant::now() < deadline, "{} of {count} records", records.len());
        let Some(message) = consumer.poll(Duration::from_millis(50)) else { continue };
        let message = message.unwrap();
        let headers = message.headers().unwrap().iter().map(|header| {
            let value = std::str::from_utf8(header.value.unwrap()).unwrap();
            (header.key.to_owned(), value.to_owned())
        });
        records.push(Record {
            value: message.payload().unwrap().to_vec(),
            has_key: message.key().is_some(),
            headers: headers.collect(),
        });
        quiet_since = Instant::now();
    }
    records
}

/// Sorted, with repetitions.
pub fn sequences(records: &[Record]) -> Vec<u64> {
    let sequence =
        |record: &Record| BlockHeader::decode_block(&record.value).unwrap().0.id.sequence;
    let mut found: Vec<u64> = records.iter().map(sequence).collect();
    found.sort_unstable();
    found
}
