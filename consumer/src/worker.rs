//! The consumer's worker: everything between a record of the topic and the commit of its offset,
//! without a thread, a clock, randomness or a client. Records, outcomes and time come in, [`Action`]s
//! go out; whoever drives it carries them out and tells how they ended.
//!
//! Put together from [`crate::desk`] (what is read, sent and committed when), [`Dispatcher`] (attempts
//! of an INSERT, breaker, rests, halves) and [`Mail`] (dead letters). [`Health`] and [`Metrics`] are
//! told and never asked.
//!
//! Invariants: an offset is committed after every row below it is in the table, or among the dead
//! letters in topic and table; of a partition one range is on its way; a range that is refused whole
//! with nothing of the kind taken goes back to the desk and has no place; a revocation is answered when
//! none of its partitions has anything under way, or at its deadline; the same calls with the same seed
//! give the same actions.

mod action;
mod cargo;
mod limits;
mod stalls;

pub use action::{Action, Parcel, Totals};
pub use limits::WorkerLimits;

use crate::dead::{Mail, NotWritten, Posted};
use crate::desk::{self, Desk, Intake};
use crate::health::{Component, Health};
use crate::metrics::Metrics;
use crate::pace::is_news;
use crate::partition::{Range, RangeId};
use crate::record::Record;
use bytes::Bytes;
use cargo::Cargo;
use proto::breaker::Breaker;
use proto::insert::{DeadRow, Delivery, Dispatcher, Failure, Progress};
use stalls::Stalls;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// Partitions that Kafka wants back, and which of them are still busy.
struct Revocation {
    all: Vec<i32>,
    busy: Vec<i32>,
}

pub struct Worker {
    limits: WorkerLimits,
    /// Of a replay, for its tokens.
    run: Option<[u8; 16]>,
    desk: Desk,
    dispatcher: Dispatcher,
    cargo: BTreeMap<RangeId, Cargo>,
    /// To be done before anything else.
    outbox: VecDeque<Action>,
    revocation: Option<Revocation>,
    stalls: Stalls,
    clickhouse_is_up: bool,
    /// None while one is under way, or where none is wanted.
    probe_at: Option<Instant>,
    /// The wall clock's, for the dates of letters.
    date_ms: i64,
    totals: Totals,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

impl Worker {
    /// `run` is a replay's; `seed` decides the rests between attempts.
    pub fn new(
        limits: WorkerLimits,
        run: Option<[u8; 16]>,
        seed: u64,
        now: Instant,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> Worker {
        let breaker = Breaker::new(limits.breaker_failures_max, limits.breaker_open);
        Worker {
            run,
            desk: Desk::new(limits.desk),
            dispatcher: Dispatcher::new(breaker, limits.backoff, seed),
            cargo: BTreeMap::new(),
            outbox: VecDeque::new(),
            revocation: None,
            stalls: Stalls::new(Arc::clone(&health), Arc::clone(&metrics)),
            clickhouse_is_up: false,
            probe_at: limits.probe_every.map(|_| now),
            date_ms: 0,
            totals: Totals::default(),
            limits,
            health,
            metrics,
        }
    }

    /// The date on letters written from now on, in milliseconds since 1970. Decides nothing.
    pub fn tell_date(&mut self, unix_ms: i64) {
        self.date_ms = unix_ms;
    }

    /// The partition is ours and is read from `offset` on.
    pub fn assign(&mut self, now: Instant, partition: i32, offset: i64) {
        if self.desk.has(partition) {
            self.drop_partition(now, partition);
        }
        self.desk.assign(partition, offset);
    }

    /// The group wants these partitions back; answered by [`Action::GiveBack`].
    pub fn revoke(&mut self, now: Instant, partitions: Vec<i32>) {
        let until = now + self.limits.revoke_patience;
        partitions.iter().for_each(|partition| self.desk.revoke(*partition, until));
        self.await_release(partitions);
    }

    /// The same of partitions that may be another member's already: nothing of them is committed.
    pub fn lose(&mut self, now: Instant, partitions: Vec<i32>) {
        partitions.iter().for_each(|partition| self.drop_partition(now, *partition));
        self.await_release(partitions);
    }

    /// The topic is gone or was made again: nothing of it is committed, nobody waits for an answer.
    /// Gives whether any partition was ours.
    pub fn lose_all(&mut self, now: Instant) -> bool {
        let ours: Vec<i32> = self.desk.positions().map(|(partition, _, _)| partition).collect();
        ours.iter().for_each(|partition| self.drop_partition(now, *partition));
        !ours.is_empty()
    }

    /// Takes no more records; what is under way may end. [`Self::is_empty`] tells when it has.
    pub fn stop(&mut self, now: Instant) {
        self.probe_at = None;
        self.limits.probe_every = None;
        self.desk.revoke_all(now + self.limits.stop_patience);
    }

    /// Whether the next record may be taken. To be asked before every one.
    pub fn intake(&mut self, now: Instant) -> Intake {
        self.desk.intake(now)
    }

    /// Takes a record as it came; gives whether it was expected.
    pub fn push(&mut self, now: Instant, partition: i32, offset: i64, value: Bytes) -> bool {
        let (bytes, expected) = (value.len(), self.desk.expected(partition));
        let taken = self.desk.push(now, partition, offset, Record::read(value), bytes);
        // What comes while the partition is given back is left to the next member, and no gap.
        if let Some(expected) = expected.filter(|at| taken && offset > *at) {
            self.metrics.offset_gaps.inc();
            tracing::warn!(partition, expected, offset, "records are missing in the topic");
        }
        taken
    }

    pub fn on_commit(&mut self, now: Instant, partition: i32, offset: i64, done: bool) {
        self.desk.on_commit(now, partition, offset, done);
    }

    /// How the INSERT of this range ended.
    pub fn on_insert(&mut self, now: Instant, id: RangeId, outcome: &Result<(), Failure>) {
        let Some(progress) = self.dispatcher.on_outcome(id.0, outcome, now) else { return };
        self.show_breaker();
        tracing::debug!(range = id.0, ?progress, "an INSERT ended");
        let cargo = self.cargo.get_mut(&id).expect("what the dispatcher has is cargo");
        cargo.searching = matches!(progress, Progress::Goes);
        let partition = cargo.partition;
        if let (Progress::Outage { times }, Err(failure)) = (&progress, outcome) {
            return self.on_outage(*times, failure);
        }
        self.clickhouse_is_up = true;
        self.health.set_up(Component::Clickhouse);
        match outcome {
            Ok(()) => self.stalls.end(partition),
            Err(failure) => {
                if let Progress::NeedsHand { .. } | Progress::Refused { .. } = progress {
                    let reason = format!("ClickHouse refuses events: {}", failure.text);
                    self.stalls.begin(partition, &reason);
                }
                if let Progress::Refused { .. } = progress {
                    let back = self.dispatcher.take_back(id.0);
                    self.cargo.remove(&id);
                    return self.desk.on_refused(id, back.until, back.refusals);
                }
            }
        }
        if let Progress::Finished(dead) = progress {
            self.stalls.end(partition);
            self.on_inserted(id, Some(dead));
        }
    }

    fn on_outage(&mut self, times: u32, failure: &Failure) {
        self.clickhouse_is_up = false;
        let news = self.health.set_down(Component::Clickhouse, &failure.text);
        if news && is_news(times) {
            tracing::warn!(outages = times, error = %failure.text, "INSERT failed");
        }
    }

    /// Every row of the range is in the table, or is one of these. `None`: it had no rows.
    fn on_inserted(&mut self, id: RangeId, dead: Option<Vec<DeadRow>>) {
        let cargo = self.cargo.get_mut(&id).expect("a range on its way is cargo");
        if dead.is_some() {
            self.metrics.saw_row(cargo.received_at_ns);
        }
        let letters = cargo.take_letters(dead.unwrap_or_default(), self.date_ms);
        if letters.is_empty() {
            return self.finish(id);
        }
        let (partition, count, reason) = (cargo.partition, letters.len(), &letters[0].reason);
        tracing::error!(partition, count, reason, "put aside as dead letters");
        cargo.mail = Some(Mail::new(letters));
    }

    /// How the writing of the range's letters ended. What is left of them goes again.
    pub fn on_letters(&mut self, now: Instant, id: RangeId, outcome: Result<(), NotWritten>) {
        let mail = self.cargo.get_mut(&id).and_then(|cargo| cargo.mail.as_mut());
        let Some(mail) = mail else { return };
        let trouble = outcome.as_ref().err().map(|failure| (failure.pace, failure.text.clone()));
        match (mail.on_outcome(outcome), trouble) {
            (Posted::Failed { times }, Some((pace, reason))) => {
                mail.rest(now + self.dispatcher.pause(pace, times));
                if self.health.set_down(Component::DeadLetters, &reason) || is_news(times) {
                    let attempts = times;
                    tracing::error!(
                        reason,
                        attempts,
                        "dead letters cannot be kept; nothing is committed"
                    );
                }
            }
            (Posted::All, _) => {
                self.health.set_up(Component::DeadLetters);
                self.finish(id);
            }
            (Posted::More | Posted::Failed { .. }, _) => {}
        }
    }

    /// Everything of the range has its place.
    fn finish(&mut self, id: RangeId) {
        let cargo = self.cargo.remove(&id).expect("a range on its way is cargo");
        let (dead_rows, dead_records) = (cargo.dead_rows as u64, cargo.dead_records as u64);
        self.metrics.dead_rows.inc_by(dead_rows);
        self.metrics.dead_records.inc_by(dead_records);
        self.totals.rows += (cargo.rows as u64).saturating_sub(dead_rows);
        self.totals.dead_rows += dead_rows;
        self.totals.dead_records += dead_records;
        self.desk.on_done(id);
    }

    /// How a probe ended.
    pub fn on_probe(&mut self, now: Instant, outcome: &Result<(), Failure>) {
        self.probe_at = self.limits.probe_every.map(|every| now + every);
        self.clickhouse_is_up = outcome.is_ok();
        match outcome {
            Ok(()) => self.health.set_up(Component::Clickhouse),
            Err(failure) => {
                if self.health.set_down(Component::Clickhouse, &failure.text) {
                    tracing::warn!(error = %failure.text, "ClickHouse is not well");
                }
            }
        }
    }

    /// What to do now; ask again until there is nothing.
    pub fn next_action(&mut self, now: Instant) -> Option<Action> {
        while self.outbox.is_empty() {
            match self.desk.next_action(now) {
                Some(desk::Action::Insert(range)) => self.load(range),
                Some(desk::Action::Commit(offsets)) => return Some(Action::Commit(offsets)),
                Some(desk::Action::Pause(partition)) => return Some(Action::Pause(partition)),
                Some(desk::Action::Resume(partition)) => return Some(Action::Resume(partition)),
                Some(desk::Action::Release { partition, unfinished, uncommitted }) => {
                    self.stalls.end(partition);
                    if uncommitted {
                        tracing::warn!(partition, "given back before its commit had ended");
                        self.outbox.push_back(Action::ForgetCommits);
                    }
                    if let Some(id) = unfinished {
                        tracing::warn!(partition, "given back before its INSERT had ended");
                        self.abandon(now, id);
                    }
                }
                None => return self.next_errand(now),
            }
        }
        self.outbox.pop_front()
    }

    /// What the desk does not decide.
    fn next_errand(&mut self, now: Instant) -> Option<Action> {
        if let Some(revocation) = &mut self.revocation {
            revocation.busy.retain(|partition| self.desk.has(*partition));
        }
        if let Some(over) = self.revocation.take_if(|revocation| revocation.busy.is_empty()) {
            return Some(Action::GiveBack(over.all));
        }
        let insert = self.dispatcher.next_insert(now);
        self.show_breaker();
        if let Some(insert) = insert {
            return Some(Action::Insert(insert));
        }
        for (&range, cargo) in &mut self.cargo {
            let parcel = cargo.mail.as_mut().and_then(|mail| mail.next_parcel(now));
            if let Some((place, letters)) = parcel {
                return Some(Action::Letters(Parcel { range, place, letters }));
            }
        }
        self.probe(now)
    }

    fn probe(&mut self, now: Instant) -> Option<Action> {
        let every = self.limits.probe_every?;
        self.probe_at.take_if(|at| *at <= now)?;
        if self.desk.in_flight() > 0 && self.clickhouse_is_up {
            self.probe_at = Some(now + every);
            return None;
        }
        Some(Action::Probe)
    }

    fn load(&mut self, range: Range) {
        let (id, refusals) = (range.id, range.refusals);
        let (cargo, blocks) = Cargo::of(range);
        self.cargo.insert(id, cargo);
        if blocks.is_empty() {
            self.on_inserted(id, None);
        } else {
            self.dispatcher.add(id.0, Delivery::of_run(blocks, self.run), refusals);
        }
    }

    fn await_release(&mut self, mut partitions: Vec<i32>) {
        let ours = partitions.iter().copied().filter(|partition| self.desk.has(*partition));
        let mut busy: Vec<i32> = ours.collect();
        // librdkafka has one rebalance open at a time; should there be two, one answer is for both.
        if let Some(earlier) = self.revocation.take() {
            partitions.extend(earlier.all);
            busy.extend(earlier.busy);
        }
        self.revocation = Some(Revocation { all: partitions, busy });
    }

    fn drop_partition(&mut self, now: Instant, partition: i32) {
        self.outbox.push_back(Action::ForgetCommits);
        self.stalls.end(partition);
        if let Some(id) = self.desk.lose(partition) {
            self.abandon(now, id);
        }
    }

    fn abandon(&mut self, now: Instant, id: RangeId) {
        self.dispatcher.remove(id.0, now);
        self.show_breaker();
        self.cargo.remove(&id);
        self.outbox.push_back(Action::Abandon(id));
    }

    /// When something is to be done even if nothing comes in.
    pub fn next_deadline(&self) -> Option<Instant> {
        let mails = self.cargo.values().filter_map(|cargo| cargo.mail.as_ref()?.due());
        let others = [self.desk.next_deadline(), self.dispatcher.due(), self.probe_at];
        others.into_iter().flatten().chain(mails).min()
    }

    /// Whether it is looking for the rows that ClickHouse refuses: many small INSERTs, one after the
    /// other, whose outcomes are not to wait.
    pub fn is_searching(&self) -> bool {
        self.cargo.values().any(|cargo| cargo.searching)
    }

    fn show_breaker(&self) {
        self.metrics.breaker_state.set(self.dispatcher.breaker_state() as i64);
    }

    /// Brings the gauges up to date.
    pub fn show(&self) {
        self.metrics.paused_partitions.set(self.desk.paused() as i64);
        self.metrics.buffered_bytes.set(self.desk.held_bytes() as i64);
        self.metrics.inserts_in_flight.set(self.desk.in_flight() as i64);
    }

    pub fn has(&self, partition: i32) -> bool {
        self.desk.has(partition)
    }

    /// No partition is ours.
    pub fn is_empty(&self) -> bool {
        self.desk.is_empty()
    }

    /// Of all records that are not done.
    pub fn held_bytes(&self) -> usize {
        self.desk.held_bytes()
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// `(partition, next offset to read, everything below is done)` of each partition.
    pub fn positions(&self) -> impl Iterator<Item = (i32, i64, i64)> + '_ {
        self.desk.positions()
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "worker_model_tests.rs"]
mod model_tests;
