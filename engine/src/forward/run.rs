//! The forwarder's loop: blocks from the sources into the batcher, batches onto the wire, outcomes
//! back into marks. Everything that decides is in the pure parts; here are clock, sockets, files.
//!
//! Cancel-safety: a batch's task may be dropped at any point; its blocks are then unmarked and still
//! in the journal.

use super::dead::DeadLetters;
use super::insert::Inserter;
use super::{Batch, BatchLimits, Batcher, BlockSource, SourceError};
use crate::admin::{Component, Health, Level};
use crate::config::Config;
use crate::metrics::{ForwardCounters, add, set};
use proto::backoff::{Backoff, Pace};
use proto::breaker::{Admission, Breaker, BreakerState};
use proto::insert::{DeadRow, Delivery, Failure, InsertFailure, Step, Witness};
use proto::limits::BLOCK_BYTES_MAX;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};

/// How often the sources are asked while they have nothing.
const POLL: Duration = Duration::from_millis(20);
/// Blocks taken before sockets get their turn again.
const BLOCKS_PER_TURN: usize = 16;
/// How long a source, or the file of dead letters, is left alone after a failure.
const FILE_RETRY: Duration = Duration::from_secs(1);
/// How often ClickHouse is asked whether it is there while nothing is sent to it.
const PING_EVERY: Duration = Duration::from_secs(1);
/// An INSERT without an answer for so long is told of, long before it is given up.
const SILENCE_TOLD_AFTER: Duration = Duration::from_secs(3);

/// What the loop and the batches' tasks share, all on one thread.
struct Shared {
    inserter: Inserter,
    breaker: RefCell<Breaker>,
    backoff: Backoff,
    counters: Arc<ForwardCounters>,
    health: Arc<Health>,
    witness: Witness,
    /// Batches that need somebody's hand, and why.
    stalled: RefCell<BTreeMap<u64, String>>,
    /// INSERTs that wait for an answer.
    on_the_wire: Cell<usize>,
    /// When ClickHouse last answered, or was asked after a rest.
    last_contact: Cell<Instant>,
}

/// A batch whose rows are all in ClickHouse or in `dead`.
struct Delivered {
    batch: u64,
    blocks: usize,
    dead: Vec<DeadRow>,
}

struct SourceSlot {
    source: Box<dyn BlockSource>,
    /// The last contiguous sequence, while the journal could not be told.
    unmarked: Option<u64>,
    retry_at: Option<Instant>,
    failed: bool,
}

pub(super) struct Runner {
    shared: Shared,
    batcher: Batcher,
    sources: Vec<SourceSlot>,
    dead: DeadLetters,
    inserts_in_flight_max: usize,
    idle: Arc<AtomicBool>,
    stop: watch::Receiver<Option<Instant>>,
}

/// What the runner shares with other threads.
pub(super) struct Outside {
    pub counters: Arc<ForwardCounters>,
    pub health: Arc<Health>,
    pub idle: Arc<AtomicBool>,
    pub stop: watch::Receiver<Option<Instant>>,
}

impl Runner {
    pub fn new(
        config: &Config,
        (linger, chain_wait): (Duration, Option<Duration>),
        sources: Vec<Box<dyn BlockSource>>,
        dead: DeadLetters,
        outside: Outside,
    ) -> anyhow::Result<Runner> {
        let Outside { counters, health, idle, stop } = outside;
        let clickhouse = &config.clickhouse;
        let limits = BatchLimits {
            rows_max: clickhouse.rows_per_insert_max,
            bytes_max: clickhouse.bytes_per_insert_max,
            chain_bytes_max: config.limits.body_bytes_max + 2 * BLOCK_BYTES_MAX,
            linger,
            chain_wait,
        };
        let open_for = Duration::from_millis(clickhouse.breaker_open_ms);
        Ok(Runner {
            shared: Shared {
                inserter: Inserter::new(clickhouse)?,
                breaker: RefCell::new(Breaker::new(clickhouse.breaker_failures, open_for)),
                backoff: Backoff {
                    min: Duration::from_millis(clickhouse.retry_min_ms),
                    max: Duration::from_millis(clickhouse.retry_max_ms),
                },
                counters,
                health,
                witness: Witness::default(),
                stalled: RefCell::new(BTreeMap::new()),
                on_the_wire: Cell::new(0),
                last_contact: Cell::new(Instant::now()),
            },
            batcher: Batcher::new(limits, sources.len()),
            sources: sources
                .into_iter()
                .map(|source| SourceSlot { source, unmarked: None, retry_at: None, failed: false })
                .collect(),
            dead,
            inserts_in_flight_max: clickhouse.inserts_in_flight_max,
            idle,
            stop,
        })
    }

    pub async fn run(self) {
        LocalSet::new().run_until(self.turn_until_stopped()).await;
    }

    async fn turn_until_stopped(self) {
        let Runner { shared, batcher, sources, dead, inserts_in_flight_max, idle, mut stop } = self;
        let shared = Rc::new(shared);
        let mut desk = Desk {
            shared: shared.clone(),
            batcher,
            sources,
            dead,
            unburied: Vec::new(),
            bury_again_at: None,
        };
        let mut flying: JoinSet<Delivered> = JoinSet::new();
        let pinger = tokio::task::spawn_local(ping(shared.clone()));
        loop {
            let deadline = *stop.borrow_and_update();
            while let Some(outcome) = flying.try_join_next() {
                desk.unburied.push(outcome.expect("a delivery does not panic"));
            }
            let now = Instant::now();
            desk.settle(now);
            let more = desk.pull(now);
            let flush = deadline.is_some();
            while flying.len() + desk.unburied.len() < inserts_in_flight_max
                && let Some(batch) = desk.batcher.take(now, flush)
            {
                flying.spawn_local(deliver(shared.clone(), batch));
            }
            let in_flight = flying.len() as u64;
            set(&shared.counters.inserts_in_flight, in_flight);
            let nothing_left = !more && desk.is_empty();
            idle.store(nothing_left, Ordering::Release);
            if let Some(deadline) = deadline {
                let away = shared.breaker.borrow().state() != BreakerState::Closed;
                if nothing_left || away || now >= deadline {
                    break;
                }
            }
            let free = flying.len() + desk.unburied.len() < inserts_in_flight_max;
            let pause = match desk.batcher.due() {
                _ if more => Duration::ZERO,
                Some(due) if free => due.saturating_duration_since(now).min(POLL),
                _ => POLL,
            };
            if pause.is_zero() {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                Some(outcome) = flying.join_next() => {
                    desk.unburied.push(outcome.expect("a delivery does not panic"));
                }
                _ = stop.changed(), if deadline.is_none() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        pinger.abort();
    }
}

/// The loop's own side: sources, batcher, dead letters.
struct Desk {
    shared: Rc<Shared>,
    batcher: Batcher,
    sources: Vec<SourceSlot>,
    dead: DeadLetters,
    /// Delivered, but their dead rows are not yet in the file.
    unburied: Vec<Delivered>,
    bury_again_at: Option<Instant>,
}

impl Desk {
    fn is_empty(&self) -> bool {
        // A source that rests after an error may have more than it could give.
        let told =
            |slot: &SourceSlot| slot.unmarked.is_none() && slot.retry_at.is_none() && !slot.failed;
        self.batcher.is_empty() && self.unburied.is_empty() && self.sources.iter().all(told)
    }

    /// Puts dead rows aside, then tells the journals what is forwarded.
    fn settle(&mut self, now: Instant) {
        let file_rests = self.bury_again_at.is_some_and(|at| now < at);
        for delivered in std::mem::take(&mut self.unburied) {
            if file_rests && !delivered.dead.is_empty() {
                self.unburied.push(delivered);
                continue;
            }
            if let Err(error) = self.bury(&delivered) {
                self.bury_again_at = Some(now + FILE_RETRY);
                let text = format!("dead letters cannot be written: {error}");
                self.shared.stall(delivered.batch, &text);
                self.unburied.push(delivered);
                continue;
            }
            self.shared.unstall(delivered.batch);
            add(&self.shared.counters.blocks, delivered.blocks as u64);
            for (source, sequence) in self.batcher.done(delivered.batch) {
                self.sources[source].unmarked = Some(sequence);
            }
        }
        for index in 0..self.sources.len() {
            let slot = &mut self.sources[index];
            if slot.retry_at.is_some_and(|at| now < at) {
                continue;
            }
            slot.retry_at = None;
            if let Some(sequence) = slot.unmarked
                && let Err(error) = slot.source.mark_forwarded(sequence)
            {
                tracing::warn!(shard = index, %error, "cannot mark blocks as forwarded");
                slot.retry_at = Some(now + FILE_RETRY);
                continue;
            }
            slot.unmarked = None;
        }
    }

    fn bury(&mut self, delivered: &Delivered) -> std::io::Result<()> {
        if delivered.dead.is_empty() {
            return Ok(());
        }
        self.dead.append(&delivered.dead)?;
        let count = delivered.dead.len();
        let (code, reason) = (delivered.dead[0].code, &delivered.dead[0].reason);
        tracing::error!(count, code, %reason, "rows that ClickHouse refuses were put aside");
        add(&self.shared.counters.dead_rows, count as u64);
        Ok(())
    }

    /// Takes blocks while there are any and there is room; gives whether it stopped before either
    /// ended.
    fn pull(&mut self, now: Instant) -> bool {
        let mut taken = 0;
        let mut any = true;
        while any {
            any = false;
            for index in 0..self.sources.len() {
                if self.pull_from(index, now) {
                    any = true;
                    taken += 1;
                }
            }
            if taken >= BLOCKS_PER_TURN {
                return true;
            }
        }
        false
    }

    fn pull_from(&mut self, index: usize, now: Instant) -> bool {
        let slot = &mut self.sources[index];
        let resting = slot.failed || slot.retry_at.is_some_and(|at| now < at);
        if resting || !self.batcher.wants(index) {
            return false;
        }
        match slot.source.next_block() {
            Ok(Some(block)) => {
                self.batcher.push(index, block, now);
                true
            }
            Ok(None) => false,
            Err(error) => {
                tracing::error!(shard = index, %error, "no blocks from this journal");
                match error {
                    SourceError::Retry(_) | SourceError::Lost { .. } => {
                        slot.retry_at = Some(now + FILE_RETRY);
                    }
                    SourceError::Fatal(text) => {
                        slot.failed = true;
                        let text = format!("shard {index}: {text}");
                        // Ids of batches begin at 1; a source that is out stays listed below them.
                        self.shared.stall(0, &text);
                    }
                }
                false
            }
        }
    }
}

impl Shared {
    fn stall(&self, batch: u64, reason: &str) {
        let mut stalled = self.stalled.borrow_mut();
        let known = stalled.insert(batch, reason.to_owned());
        if known.as_deref() != Some(reason) {
            tracing::error!(batch, reason, "forwarding needs attention; nothing is lost");
        }
        set(&self.counters.stopped, 1);
        self.health.set(Component::Forwarder, Level::Degraded, reason);
    }

    fn unstall(&self, batch: u64) {
        let mut stalled = self.stalled.borrow_mut();
        if stalled.remove(&batch).is_none() {
            return;
        }
        match stalled.values().next() {
            Some(reason) => self.health.set(Component::Forwarder, Level::Degraded, reason),
            None => {
                set(&self.counters.stopped, 0);
                self.health.set(Component::Forwarder, Level::Ok, "");
            }
        }
    }

    /// Waits until the breaker lets an attempt through.
    async fn admit(&self) {
        loop {
            let admission = self.breaker.borrow_mut().admit(Instant::now());
            self.show_breaker();
            match admission {
                Admission::Go => return,
                Admission::Wait(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    fn show_breaker(&self) {
        set(&self.counters.breaker_state, self.breaker.borrow().state() as u64);
    }

    fn on_sent(&self, now: Instant) {
        if self.on_the_wire.get() == 0 {
            self.last_contact.set(now);
        }
        self.on_the_wire.update(|count| count + 1);
    }

    fn on_answer(&self) {
        self.breaker.borrow_mut().on_answer();
        self.show_breaker();
        self.last_contact.set(Instant::now());
        self.health.set(Component::Clickhouse, Level::Ok, "");
    }

    fn on_outage(&self, failure: &Failure) {
        self.breaker.borrow_mut().on_failure(Instant::now());
        self.show_breaker();
        self.last_contact.set(Instant::now());
        self.health.set(Component::Clickhouse, Level::Degraded, &failure.text);
    }

    fn pause(&self, pace: Pace, attempts: u32) -> Duration {
        // Without randomness the instances merely march in step.
        let jitter = getrandom::u32().map_or(0.0, |random| f64::from(random) / f64::from(u32::MAX));
        self.backoff.delay(pace, attempts, jitter)
    }
}

/// Sends one batch until every row of it has a place.
async fn deliver(shared: Rc<Shared>, batch: Batch) -> Delivered {
    let blocks = batch.blocks.iter().map(|entry| entry.block.clone()).collect();
    let mut delivery = Delivery::new(blocks);
    // Outages in a row, and times that somebody's hand was needed.
    let (mut outages, mut stalls) = (0, 0);
    let mut first_refusal = None;
    loop {
        shared.admit().await;
        let (rows, payloads) = (delivery.row_count(), delivery.payloads());
        let bytes: usize = payloads.iter().map(bytes::Bytes::len).sum();
        let sent_at = Instant::now();
        let number = shared.witness.begin();
        shared.on_sent(sent_at);
        let outcome = shared.inserter.insert(payloads, rows, &delivery.token()).await;
        shared.on_the_wire.update(|count| count - 1);
        let counters = &shared.counters;
        let failure = match outcome {
            Ok(()) => {
                counters.insert_us.record(sent_at.elapsed().as_micros() as u64);
                add(&counters.inserts, 1);
                add(&counters.rows, rows as u64);
                add(&counters.bytes, bytes as u64);
                shared.witness.on_taken(number);
                shared.on_answer();
                shared.unstall(batch.id);
                (outages, stalls) = (0, 0);
                if delivery.on_taken() == Step::Finished {
                    break;
                }
                continue;
            }
            Err(failure) => failure,
        };
        add(&counters.failures[failure.kind as usize], 1);
        if failure.is_outage() {
            outages += 1;
            tracing::warn!(batch = batch.id, outages, error = %failure.text, "INSERT failed");
            shared.on_outage(&failure);
            tokio::time::sleep(shared.pause(failure.pace, outages)).await;
            continue;
        }
        outages = 0;
        shared.on_answer();
        if failure.kind == InsertFailure::Refused {
            let since = *first_refusal.get_or_insert_with(|| shared.witness.moment());
            match delivery.on_refused(&failure, shared.witness.since(since)) {
                Step::Send => continue,
                Step::Finished => break,
                Step::Stalled => {}
            }
        }
        stalls += 1;
        shared.stall(batch.id, &format!("ClickHouse refuses events: {}", failure.text));
        tokio::time::sleep(shared.pause(failure.pace, stalls)).await;
    }
    Delivered { batch: batch.id, blocks: batch.blocks.len(), dead: delivery.into_dead_rows() }
}

/// Tells whether ClickHouse is there while nothing else would.
async fn ping(shared: Rc<Shared>) {
    loop {
        let rests = shared.counters.inserts_in_flight.load(Ordering::Relaxed) == 0;
        let unknown = shared.health.level(Component::Clickhouse) != Level::Ok;
        let silence = shared.last_contact.get().elapsed();
        if shared.on_the_wire.get() > 0 && silence >= SILENCE_TOLD_AFTER {
            let text = format!("an INSERT has had no answer for {} s", silence.as_secs());
            shared.health.set(Component::Clickhouse, Level::Degraded, &text);
        } else if rests && (unknown || silence >= PING_EVERY) {
            match shared.inserter.ping().await {
                Ok(()) => {
                    shared.last_contact.set(Instant::now());
                    shared.health.set(Component::Clickhouse, Level::Ok, "");
                }
                Err(failure) => {
                    shared.health.set(Component::Clickhouse, Level::Degraded, &failure.text);
                }
            }
        }
        tokio::time::sleep(PING_EVERY).await;
    }
}
