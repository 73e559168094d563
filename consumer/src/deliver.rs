//! One range on its way to ClickHouse: sent until every row has a place, in the table or among the
//! dead letters.

use crate::dead::{DeadSink, Letter};
use crate::fault::{self, Point};
use crate::health::{Component, Health};
use crate::metrics::Metrics;
use crate::pace::{Pacer, is_news};
use crate::partition::{BadRecord, Range};
use crate::warehouse::Inserter;
use proto::breaker::{Admission, Breaker};
use proto::insert::{DeadRow, Delivery, Failure, InsertFailure, Step, Witness};
use proto::{Block, BlockId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const BREAKER_FAILURES: u32 = 5;
const BREAKER_OPEN: Duration = Duration::from_secs(1);
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Shared by all ranges in flight.
pub struct Deliverer {
    inserter: Inserter,
    dead: DeadSink,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    breaker: Mutex<Breaker>,
    pacer: Pacer,
    witness: Witness,
    /// Partitions whose range needs somebody's hand, and why.
    stalled: Mutex<BTreeMap<i32, String>>,
}

/// What became of a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub rows: usize,
    pub dead_rows: usize,
    pub dead_records: usize,
}

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    Done(Outcome),
    /// Refused whole, and nothing else was taken meanwhile: not to be sent again before `pause` is
    /// over. `moment` is the witness's.
    Refused {
        pause: Duration,
        moment: u64,
    },
}

impl Deliverer {
    pub fn new(
        inserter: Inserter,
        dead: DeadSink,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> Deliverer {
        Deliverer {
            inserter,
            dead,
            health,
            metrics,
            breaker: Mutex::new(Breaker::new(BREAKER_FAILURES, BREAKER_OPEN)),
            pacer: Pacer::new(),
            witness: Witness::default(),
            stalled: Mutex::default(),
        }
    }

    /// Returns when every row of the range is in the table or among the dead letters, or when it was
    /// refused whole: then none is. `run` is a replay's. Dropped before that, it has done a part.
    pub async fn deliver(&self, range: Range, run: Option<[u8; 16]>) -> Delivered {
        let Range { partition, blocks, offsets, bad, rows, received_at_ns, .. } = range;
        let earlier = Earlier { refusals: range.refusals, refused_at: range.refused_at };
        let mut outcome = Outcome { dead_records: bad.len(), ..Outcome::default() };
        let mut letters = Vec::new();
        if !blocks.is_empty() {
            let layout = blocks[0].header.layout;
            let offset_of = offsets_of(&blocks, &offsets);
            let delivery = Delivery::of_run(blocks, run);
            let dead = match self.insert(delivery, partition, earlier).await {
                Ok(dead) => dead,
                Err(refused) => return refused,
            };
            self.metrics.saw_row(received_at_ns);
            outcome.dead_rows = dead.len();
            outcome.rows = rows.saturating_sub(dead.len());
            letters.extend(dead.into_iter().map(|row| {
                let offset = offset_of.get(&row.block).copied().unwrap_or_default();
                Letter::of_row(row, partition, offset, layout, now_ms())
            }));
        }
        letters.extend(self.of_records(bad, partition));
        if !letters.is_empty() {
            let first = &letters[0].reason;
            let count = letters.len();
            tracing::error!(partition, count, reason = first, "put aside as dead letters");
            self.dead.write(&letters).await;
            self.metrics.dead_rows.inc_by(outcome.dead_rows as u64);
            self.metrics.dead_records.inc_by(outcome.dead_records as u64);
        }
        Delivered::Done(outcome)
    }

    /// The partition is not ours any more.
    pub fn forget(&self, partition: i32) {
        Stall { deliverer: self, partition, kept: false }.end();
    }

    fn of_records(&self, bad: Vec<BadRecord>, partition: i32) -> impl Iterator<Item = Letter> {
        let now_ms = now_ms();
        bad.into_iter().map(move |record| Letter::of_record(record, partition, now_ms))
    }

    /// Sends a delivery piece by piece; gives the rows that are dead.
    async fn insert(
        &self,
        mut delivery: Delivery,
        partition: i32,
        earlier: Earlier,
    ) -> Result<Vec<DeadRow>, Delivered> {
        let mut stall = Stall { deliverer: self, partition, kept: false };
        // Outages in a row, and times that somebody's hand was needed.
        let (mut outages, mut stalls) = (0, 0);
        let mut refused_at = earlier.refused_at;
        loop {
            let failure = match self.send(&delivery).await {
                Ok(()) => {
                    stall.end();
                    (outages, stalls) = (0, 0);
                    if delivery.on_taken() == Step::Finished {
                        return Ok(delivery.into_dead_rows());
                    }
                    continue;
                }
                Err(failure) => failure,
            };
            if failure.is_outage() {
                outages += 1;
                let news = self.health.set_down(Component::Clickhouse, &failure.text);
                if news && is_news(outages) {
                    tracing::warn!(outages, error = %failure.text, "INSERT failed");
                }
                tokio::time::sleep(self.pacer.pause(failure.pace, outages)).await;
                continue;
            }
            outages = 0;
            if failure.kind == InsertFailure::Refused {
                let moment = *refused_at.get_or_insert_with(|| self.witness.moment());
                match delivery.on_refused(&failure, self.witness.since(moment)) {
                    Step::Send => continue,
                    Step::Finished => {
                        stall.end();
                        return Ok(delivery.into_dead_rows());
                    }
                    Step::Stalled => {
                        stall.begin(&format!("ClickHouse refuses events: {}", failure.text));
                        stall.kept = true;
                        let pause = self.pacer.pause(failure.pace, earlier.refusals + 1);
                        return Err(Delivered::Refused { pause, moment });
                    }
                }
            }
            stalls += 1;
            stall.begin(&format!("ClickHouse refuses events: {}", failure.text));
            tokio::time::sleep(self.pacer.pause(failure.pace, stalls)).await;
        }
    }

    /// One INSERT of the delivery's current piece, once the breaker lets it through.
    async fn send(&self, delivery: &Delivery) -> Result<(), Failure> {
        let (rows, payloads) = (delivery.row_count(), delivery.payloads());
        let bytes = payloads.iter().map(bytes::Bytes::len).sum();
        let token = delivery.token();
        self.admit().await;
        fault::pass(Point::BeforeInsert);
        let mut attempt = Attempt { deliverer: self, answered: false };
        let number = self.witness.begin();
        let sent_at = Instant::now();
        let outcome = self.inserter.insert(payloads, rows, &token).await;
        attempt.answered = true;
        match &outcome {
            Ok(()) => {
                fault::pass(Point::AfterInsert);
                self.metrics.on_insert(rows, bytes, sent_at.elapsed());
                self.witness.on_taken(number);
                self.on_answer();
            }
            Err(failure) => {
                self.metrics.on_failure(failure.kind);
                if failure.is_outage() { self.on_outage() } else { self.on_answer() }
            }
        }
        outcome
    }

    fn with_breaker<T>(&self, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut breaker);
        self.metrics.breaker_state.set(breaker.state() as i64);
        result
    }

    async fn admit(&self) {
        loop {
            match self.with_breaker(|breaker| breaker.admit(Instant::now())) {
                Admission::Go => return,
                Admission::Wait(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    fn on_answer(&self) {
        self.with_breaker(Breaker::on_answer);
        self.health.set_up(Component::Clickhouse);
    }

    fn on_outage(&self) {
        self.with_breaker(|breaker| breaker.on_failure(Instant::now()));
    }

    /// Tells whether ClickHouse is there while nothing else would.
    pub async fn probe(&self) {
        loop {
            let idle = self.metrics.inserts_in_flight.get() == 0;
            if idle || !self.health.is_up(Component::Clickhouse) {
                match self.inserter.probe().await {
                    Ok(()) => self.health.set_up(Component::Clickhouse),
                    Err(failure) => {
                        if self.health.set_down(Component::Clickhouse, &failure.text) {
                            tracing::warn!(error = %failure.text, "ClickHouse is not well");
                        }
                    }
                }
            }
            tokio::time::sleep(PROBE_EVERY).await;
        }
    }
}

/// An attempt that the breaker let through. Cut off, it counts as failed: a probe without an outcome
/// would leave the breaker half open for ever.
struct Attempt<'a> {
    deliverer: &'a Deliverer,
    answered: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.deliverer.on_outage();
        }
    }
}

/// A range that needs somebody's hand; no more when this is dropped.
struct Stall<'a> {
    deliverer: &'a Deliverer,
    partition: i32,
    /// It goes on: the range was given back and comes again.
    kept: bool,
}

/// What a range brings with it from before it was given back.
#[derive(Clone, Copy)]
struct Earlier {
    refusals: u32,
    refused_at: Option<u64>,
}

impl Stall<'_> {
    fn begin(&mut self, reason: &str) {
        let Deliverer { stalled, metrics, health, .. } = self.deliverer;
        let mut stalled = stalled.lock().unwrap_or_else(PoisonError::into_inner);
        if stalled.insert(self.partition, reason.to_owned()).as_deref() != Some(reason) {
            tracing::error!(reason, "inserting needs attention; nothing is lost or committed");
        }
        metrics.stalled.set(stalled.len() as i64);
        health.set_down(Component::Inserts, reason);
    }

    fn end(&mut self) {
        let Deliverer { stalled, metrics, health, .. } = self.deliverer;
        let mut stalled = stalled.lock().unwrap_or_else(PoisonError::into_inner);
        if stalled.remove(&self.partition).is_none() {
            return;
        }
        metrics.stalled.set(stalled.len() as i64);
        match stalled.values().next() {
            Some(reason) => drop(health.set_down(Component::Inserts, reason)),
            None => health.set_up(Component::Inserts),
        }
    }
}

impl Drop for Stall<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.end();
        }
    }
}

fn offsets_of(blocks: &[Block], offsets: &[i64]) -> BTreeMap<BlockId, i64> {
    blocks.iter().zip(offsets).map(|(block, offset)| (block.header.id, *offset)).collect()
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}
