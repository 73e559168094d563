//! Takes durable blocks from every shard's journal to Kafka ([`kafka`]), or INSERTs them into
//! ClickHouse: without Kafka all of them, with it what Kafka does not take.
//!
//! Owns batches, tokens, retries, the breaker and dead letters. Knows a journal only as a
//! [`BlockSource`], and of SQL one INSERT. What decides ([`DirectForwarder`] with its [`Batcher`],
//! and [`proto::insert`]) is a state machine without clock, socket or randomness; [`run`] moves bytes
//! and time.
//!
//! Invariants: a block is marked forwarded only when its rows are in ClickHouse or durably among the
//! dead letters, and all blocks before it are; an INSERT is repeated with the same token and the
//! same rows; what cannot be forwarded stays in the journal.

mod batcher;
pub mod dead;
mod direct;
mod insert;
pub mod kafka;
mod run;
mod source;

pub use batcher::{Batch, BatchBlock, BatchLimits, Batcher};
pub use dead::DeadFile;
pub use direct::{DirectForwarder, DirectLimits, DirectParts};
pub use source::{BlockSource, Blocks, Frame, FrameSource, SourceError};

use crate::admin::{Component, Health, Level};
use crate::config::Config;
use crate::metrics::{ForwardCounters, Metrics};
use anyhow::Context;
use kafka::{Bell, KafkaLanes, Source};
use proto::backoff::Backoff;
use proto::limits::BLOCK_BYTES_MAX;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long an INSERT of the direct route waits for more rows.
const DIRECT_LINGER: Duration = Duration::from_millis(500);
/// The next block of a chain may have gone to Kafka.
const DIRECT_CHAIN_WAIT: Duration = Duration::from_secs(1);

/// All that takes blocks out of the journals: the lanes to Kafka, where it is configured, and the
/// forwarder.
pub struct Forwarding {
    lanes: Option<KafkaLanes>,
    forwarder: Forwarder,
}

impl Forwarding {
    /// `bells` has one for each lane, none without Kafka; see [`KafkaLanes::start`].
    pub fn start(
        config: &Config,
        sources: Vec<Source>,
        bells: &[Arc<Bell>],
        metrics: &Metrics,
        health: &Arc<Health>,
    ) -> anyhow::Result<Forwarding> {
        let (counters, health_of_forwarder) = (metrics.forward(), Arc::clone(health));
        if bells.is_empty() {
            let blocks = |source: Source| Box::new(Blocks(source.frames)) as Box<dyn BlockSource>;
            let sources = sources.into_iter().map(blocks).collect();
            let forwarder = Forwarder::start(config, sources, counters, health_of_forwarder)?;
            return Ok(Forwarding { lanes: None, forwarder });
        }
        let (lanes, direct) = KafkaLanes::start(config, sources, bells, metrics, health)?;
        let pace = (DIRECT_LINGER, Some(DIRECT_CHAIN_WAIT));
        let forwarder = Forwarder::begin(config, pace, direct, counters, health_of_forwarder)?;
        Ok(Forwarding { lanes: Some(lanes), forwarder })
    }

    /// Whether every block that the journals had when they were last asked has arrived and is marked.
    pub fn is_idle(&self) -> bool {
        match &self.lanes {
            // What the forwarder has is not done for its lane either.
            Some(lanes) => lanes.is_idle(),
            None => self.forwarder.is_idle(),
        }
    }

    /// Hands on what there is until `deadline`, or until nobody takes it; the rest stays in the
    /// journal. Gives whether nothing is left.
    pub fn stop(self, deadline: Instant) -> bool {
        let Forwarding { lanes, forwarder } = self;
        let Some(mut lanes) = lanes else { return forwarder.stop(deadline) };
        // The lanes first: what they hand on last must find the forwarder running.
        lanes.stop(deadline);
        let empty = lanes.is_idle();
        forwarder.stop(deadline.min(Instant::now()));
        empty
    }
}

fn direct_limits(
    config: &Config,
    (linger, chain_wait): (Duration, Option<Duration>),
) -> DirectLimits {
    let clickhouse = &config.clickhouse;
    DirectLimits {
        batch: BatchLimits {
            rows_max: clickhouse.rows_per_insert_max,
            bytes_max: clickhouse.bytes_per_insert_max,
            chain_bytes_max: config.limits.body_bytes_max + 2 * BLOCK_BYTES_MAX,
            linger,
            chain_wait,
        },
        inserts_in_flight_max: clickhouse.inserts_in_flight_max,
        backoff: Backoff {
            min: Duration::from_millis(clickhouse.retry_min_ms),
            max: Duration::from_millis(clickhouse.retry_max_ms),
        },
        breaker_failures: clickhouse.breaker_failures,
        breaker_open_for: Duration::from_millis(clickhouse.breaker_open_ms),
    }
}

/// Asks each source for one block after the other, round by round, until a round gives none or `most`
/// have been given; gives whether it was the latter, so that there may be more.
fn in_rotation(sources: usize, most: usize, mut pull_from: impl FnMut(usize) -> bool) -> bool {
    let mut given = 0;
    let mut any = true;
    while any {
        any = false;
        for index in 0..sources {
            if pull_from(index) {
                any = true;
                given += 1;
            }
        }
        if given >= most {
            return true;
        }
    }
    false
}

fn be_nice(nice: i32) {
    // On Linux this is the calling thread's alone.
    if nice != 0
        && let Err(error) = rustix::process::nice(nice)
    {
        tracing::warn!(%error, nice, "a forwarding thread keeps its priority");
    }
}

/// Tells of a panic of the forwarder while the engine goes on: nobody joins it before the stop. In
/// builds where a panic aborts, the process ends instead.
struct LastWords {
    health: Arc<Health>,
    idle: Arc<AtomicBool>,
}

impl Drop for LastWords {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let text = "the forwarder ended by a panic: its blocks wait in the journal for a restart";
        tracing::error!("{text}");
        self.idle.store(false, Ordering::Release);
        self.health.set(Component::Forwarder, Level::Degraded, text);
    }
}

/// The forwarder's thread.
pub struct Forwarder {
    stop: watch::Sender<Option<Instant>>,
    idle: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Starts the thread. Dead letters go to `dead/` in the journal's directory.
    pub fn start(
        config: &Config,
        sources: Vec<Box<dyn BlockSource>>,
        counters: Arc<ForwardCounters>,
        health: Arc<Health>,
    ) -> anyhow::Result<Forwarder> {
        let linger = Duration::from_millis(config.clickhouse.linger_ms);
        Forwarder::begin(config, (linger, None), sources, counters, health)
    }

    /// `pace`: how long a batch waits for more, and a chain for its next block.
    fn begin(
        config: &Config,
        pace: (Duration, Option<Duration>),
        sources: Vec<Box<dyn BlockSource>>,
        counters: Arc<ForwardCounters>,
        health: Arc<Health>,
    ) -> anyhow::Result<Forwarder> {
        let nice = config.server.nice;
        let (stop, stopped) = watch::channel(None);
        let idle = Arc::new(AtomicBool::new(false));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the forwarder's runtime")?;
        let dead = dead::DeadLetters::open(&config.journal.dir.join("dead"))
            .context("cannot open the dead letters")?;
        let last_words = LastWords { health: Arc::clone(&health), idle: idle.clone() };
        let parts = DirectParts {
            limits: direct_limits(config, pace),
            sources,
            dead: Box::new(dead),
            counters,
            health,
            // Without randomness the instances merely march in step.
            seed: getrandom::u64().unwrap_or(0),
        };
        let runner = run::Runner {
            inserter: Arc::new(insert::Inserter::new(&config.clickhouse)?),
            forwarder: DirectForwarder::new(parts, Instant::now()),
            idle: idle.clone(),
            stop: stopped,
        };
        let thread = std::thread::Builder::new()
            .name("forwarder".to_owned())
            .spawn(move || {
                let _last_words = last_words;
                be_nice(nice);
                runtime.block_on(runner.run());
            })
            .context("cannot start the forwarder's thread")?;
        Ok(Forwarder { stop, idle, thread: Some(thread) })
    }

    /// Whether every block that its sources had when they were last asked is forwarded and marked.
    pub fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Acquire)
    }

    /// Forwards what there is without lingering, until `deadline`, or until ClickHouse is found to
    /// be away; the rest stays in the journal. Gives whether nothing is left.
    pub fn stop(mut self, deadline: Instant) -> bool {
        self.end(deadline);
        self.is_idle()
    }

    fn end(&mut self, deadline: Instant) {
        self.stop.send_replace(Some(deadline));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            self.idle.store(false, Ordering::Release);
            tracing::error!("the forwarder ended by a panic; what it held is still in the journal");
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.end(Instant::now());
    }
}
