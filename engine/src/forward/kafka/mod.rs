//! Blocks to Kafka: so many lanes, each with a thread, a producer and the journals whose index
//! falls to it.
//!
//! ```text
//! journal ──► lane ──► librdkafka ──► Kafka          reports ──► ledger ──► mark ──► journal, shard
//!                └───► handover ──► the forwarder ──► ClickHouse, when Kafka is long away
//! ```
//!
//! - `lane`, `slot`: one lane, and one journal in it; pure, so that a simulation can turn them
//! - `ledger`, `circuit`, `route`, `failure`, `topic_rules`, `trace`: what decides, pure
//! - `sink`: what a lane asks of whoever carries its records, and hears of them
//! - `lane_thread`: a lane's time and sleep; `producer`, `topic`: librdkafka; `bell`, `handover`,
//!   `status`: between threads
//!
//! Knows a journal only as a [`FrameSource`](super::FrameSource), of shards only who waits.
//! Invariants: only durable blocks are sent; a block is marked when Kafka has acknowledged it with
//! acks=all, or when it is in ClickHouse or among the dead letters, and all before it are; what
//! cannot be sent stays in the journal.

mod bell;
mod circuit;
mod failure;
mod handover;
mod lane;
mod lane_thread;
mod ledger;
mod producer;
mod route;
mod sink;
mod slot;
mod status;
mod topic;
mod topic_rules;
mod trace;

pub use bell::Bell;
pub use failure::{Failure, SendFailure, Sign};
pub use handover::{HandedBlocks, Handover, handover};
pub use lane::{Lane, LaneLimits, LaneParts, Turn};
pub use sink::{Complaint, RecordSink, Refusal, Report, Reports, SinkMaker, Tag};
pub use slot::{Slot, Waiter};
pub use status::KafkaStatus;
pub use trace::traceparent;

use super::{BlockSource, FrameSource};
use crate::admin::Health;
use crate::config::{Config, Kafka};
use crate::metrics::Metrics;
use anyhow::Context;
use lane_thread::LaneThread;
use producer::Producer;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use topic::TopicWatch;

/// One journal for the lanes.
pub struct Source {
    pub frames: Box<dyn FrameSource>,
    /// The shard that may wait for deliveries.
    pub waiter: Option<Waiter>,
}

/// All lanes, running.
pub struct KafkaLanes {
    lanes: Vec<RunningLane>,
    _topic: TopicWatch,
}

struct RunningLane {
    bell: Arc<Bell>,
    stop: Arc<OnceLock<Instant>>,
    idle: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl KafkaLanes {
    /// Source `i` goes to lane `i % bells.len()`, which `bells[i % bells.len()]` wakes. Gives the
    /// sources of the direct route, for the one forwarder.
    pub fn start(
        config: &Config,
        sources: Vec<Source>,
        bells: &[Arc<Bell>],
        metrics: &Metrics,
        health: &Arc<Health>,
    ) -> anyhow::Result<(KafkaLanes, Vec<Box<dyn BlockSource>>)> {
        producer::check_properties(&config.kafka)?;
        let status = KafkaStatus::new(Arc::clone(health), bells.len());
        let topic = TopicWatch::start(config.kafka.clone(), Arc::clone(&status))?;
        let mut slots: Vec<Vec<Slot>> = bells.iter().map(|_| Vec::new()).collect();
        let mut direct: Vec<Box<dyn BlockSource>> = Vec::with_capacity(sources.len());
        for (index, source) in sources.into_iter().enumerate() {
            let lane = index % bells.len();
            let (handover, handed) = handover(&bells[lane]);
            slots[lane].push(Slot::new(source.frames, handover, source.waiter));
            direct.push(Box::new(handed));
        }
        let mut lanes = Vec::with_capacity(bells.len());
        for (index, (slots, bell)) in slots.into_iter().zip(bells).enumerate() {
            let (stop, idle) = (Arc::new(OnceLock::new()), Arc::new(AtomicBool::new(false)));
            let complaint = Arc::<Complaint>::default();
            let parts = LaneParts {
                index,
                limits: lane_limits(&config.kafka),
                slots,
                status: Arc::clone(&status),
                counters: metrics.lane(index),
                make_sink: producer_maker(&config.kafka, bell, &complaint),
                complaint,
            };
            let lane = LaneThread {
                lane: Lane::new(parts),
                index,
                bell: Arc::clone(bell),
                idle: Arc::clone(&idle),
                stop: Arc::clone(&stop),
            };
            let nice = config.server.nice;
            let thread = std::thread::Builder::new().name(format!("kafka-{index}"));
            let thread = thread.spawn(move || {
                // librdkafka's threads have their niceness from the one that makes them.
                super::be_nice(nice);
                lane.run();
            });
            let thread = Some(thread.context("starting a lane to Kafka")?);
            lanes.push(RunningLane { bell: Arc::clone(bell), stop, idle, thread });
        }
        Ok((KafkaLanes { lanes, _topic: topic }, direct))
    }

    /// Whether every block that the journals had when they were last asked has arrived.
    pub fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.idle.load(Ordering::Acquire))
    }

    /// Sends what there is until `deadline`, or until both ways are found to be closed; the rest
    /// stays in the journals.
    pub fn stop(&mut self, deadline: Instant) {
        for lane in &self.lanes {
            let _ = lane.stop.set(deadline);
            lane.bell.ring();
        }
        for lane in &mut self.lanes {
            if let Some(thread) = lane.thread.take()
                && thread.join().is_err()
            {
                lane.idle.store(false, Ordering::Release);
                tracing::error!("a lane ended by a panic; what it held is still in the journal");
            }
        }
    }
}

/// A record is a small thing to a broker's request: where no 200 waits, those of a few milliseconds go
/// together. With it a broker takes half the CPU at 40,000 single requests a second.
const LINGER: Duration = Duration::from_millis(5);

fn lane_limits(kafka: &Kafka) -> LaneLimits {
    LaneLimits {
        linger: LINGER,
        queue_bytes_max: kafka.queue_bytes_max,
        breaker_failures: kafka.breaker_failures,
        open_for: Duration::from_millis(kafka.breaker_open_ms),
        stall: Duration::from_millis(kafka.stall_ms),
        direct_after: Duration::from_millis(kafka.direct_insert_after_ms),
        topic: kafka.topic.clone(),
    }
}

fn producer_maker(kafka: &Kafka, bell: &Arc<Bell>, complaint: &Arc<Complaint>) -> SinkMaker {
    let (kafka, bell, complaint) = (kafka.clone(), Arc::clone(bell), Arc::clone(complaint));
    Box::new(move |reports, linger| {
        let (bell, complaint) = (Arc::clone(&bell), Arc::clone(&complaint));
        Ok(Box::new(Producer::new(&kafka, linger, reports, bell, complaint)?))
    })
}

impl Drop for KafkaLanes {
    fn drop(&mut self) {
        self.stop(Instant::now());
    }
}
