//! Blocks to Kafka: so many lanes, each with a thread, a producer and the journals whose index
//! falls to it.
//!
//! ```text
//! journal ──► lane ──► librdkafka ──► Kafka          reports ──► ledger ──► mark ──► journal, shard
//!                └───► handover ──► the forwarder ──► ClickHouse, when Kafka is long away
//! ```
//!
//! - `lane`, `slot`: the loop, and one journal in it
//! - `ledger`, `circuit`, `route`, `failure`, `topic_rules`, `trace`: what decides, pure
//! - `producer`, `topic`: librdkafka; `bell`, `handover`, `status`: between threads
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
mod ledger;
mod producer;
mod route;
mod slot;
mod status;
mod topic;
mod topic_rules;
mod trace;

pub use bell::Bell;
pub use failure::SendFailure;
pub use slot::Waiter;
pub use trace::traceparent;

use super::{BlockSource, FrameSource};
use crate::admin::Health;
use crate::config::Config;
use crate::metrics::Metrics;
use anyhow::Context;
use lane::{Lane, LaneParts};
use slot::Slot;
use status::KafkaStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Instant;
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
            let (handover, handed) = handover::handover(&bells[lane]);
            slots[lane].push(Slot::new(source.frames, handover, source.waiter));
            direct.push(Box::new(handed));
        }
        let mut lanes = Vec::with_capacity(bells.len());
        for (index, (slots, bell)) in slots.into_iter().zip(bells).enumerate() {
            let (stop, idle) = (Arc::new(OnceLock::new()), Arc::new(AtomicBool::new(false)));
            let lane = LaneParts {
                index,
                kafka: config.kafka.clone(),
                slots,
                bell: Arc::clone(bell),
                status: Arc::clone(&status),
                counters: metrics.lane(index),
                idle: Arc::clone(&idle),
                stop: Arc::clone(&stop),
            };
            let nice = config.server.nice;
            let thread = std::thread::Builder::new().name(format!("kafka-{index}"));
            let thread = thread.spawn(move || {
                // librdkafka's threads have their niceness from the one that makes them.
                super::be_nice(nice);
                Lane::new(lane).run();
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

impl Drop for KafkaLanes {
    fn drop(&mut self) {
        self.stop(Instant::now());
    }
}
