//! Blocks from the journals into ClickHouse by INSERTs: which batch goes when, what an outcome means,
//! which rows are put aside and what the journals are told.
//!
//! Pure but for the sources and the file of dead letters that it was given: time comes in as an
//! argument, jitter from a seed, INSERTs and pings go out as values. Knows no HTTP, no thread, no
//! clock. Whoever drives it calls [`DirectForwarder::turn`] after every outcome and when
//! [`DirectForwarder::due`] says so, and then takes what is to be sent.
//!
//! Invariants: the dead rows of a batch are in the file, synced, before a block of it is marked; a
//! block is marked once, in order, after all before it; what is on its way or waits for the file is
//! at most `inserts_in_flight_max` batches, and one more that is full stops the sources.

mod contact;
mod parked;
mod slot;
mod stalls;

use super::dead::DeadFile;
use super::{BatchLimits, Batcher, BlockSource, in_rotation};
use crate::admin::Health;
use crate::metrics::{ForwardCounters, add, set};
use contact::{Contact, Traffic};
use parked::{Parked, ParkingLot};
use proto::backoff::Backoff;
use proto::breaker::{Breaker, BreakerState};
use proto::insert::{DeadRow, Delivery, Dispatcher, Failure, Insert, Progress, Refusals};
use slot::{Given, Slot};
use stalls::Stalls;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Blocks taken before outcomes get their turn again.
const BLOCKS_PER_TURN: usize = 16;
/// How long a source, or the file of dead letters, is left alone after a failure.
const FILE_RETRY: Duration = Duration::from_secs(1);
/// Refused whole and set aside; together of no more bytes than one batch.
const PARKED_BATCHES_MAX: usize = 64;

#[derive(Clone, Copy, Debug)]
pub struct DirectLimits {
    pub batch: BatchLimits,
    pub inserts_in_flight_max: usize,
    pub backoff: Backoff,
    /// Failures in a row that open the breaker.
    pub breaker_failures: u32,
    pub breaker_open_for: Duration,
}

/// What a [`DirectForwarder`] is made from.
pub struct DirectParts {
    pub limits: DirectLimits,
    pub sources: Vec<Box<dyn BlockSource>>,
    pub dead: Box<dyn DeadFile>,
    pub counters: Arc<ForwardCounters>,
    pub health: Arc<Health>,
    /// Of the jitter.
    pub seed: u64,
}

/// A batch whose rows are all in ClickHouse or in `dead`.
struct Arrived {
    batch: u64,
    dead: Vec<DeadRow>,
}

/// An INSERT under way.
struct Sent {
    at: Instant,
    rows: usize,
    bytes: usize,
}

pub struct DirectForwarder {
    slots: Vec<Slot>,
    batcher: Batcher,
    dispatcher: Dispatcher,
    parked: ParkingLot,
    sent: BTreeMap<u64, Sent>,
    /// Their dead rows are not yet in the file, nor are their blocks told.
    unburied: Vec<Arrived>,
    bury_again_at: Option<Instant>,
    dead: Box<dyn DeadFile>,
    inserts_in_flight_max: usize,
    contact: Contact,
    stalls: Stalls,
    counters: Arc<ForwardCounters>,
    /// The last turn ended before the sources did.
    more: bool,
}

impl DirectForwarder {
    pub fn new(parts: DirectParts, now: Instant) -> DirectForwarder {
        let DirectParts { limits, sources, dead, counters, health, seed } = parts;
        let breaker = Breaker::new(limits.breaker_failures, limits.breaker_open_for);
        let slots = sources.into_iter().enumerate();
        let slots: Vec<Slot> = slots.map(|(index, source)| Slot::new(index, source)).collect();
        DirectForwarder {
            batcher: Batcher::new(limits.batch, slots.len()),
            slots,
            dispatcher: Dispatcher::new(breaker, limits.backoff, seed),
            parked: ParkingLot::new(limits.batch.bytes_max, PARKED_BATCHES_MAX),
            sent: BTreeMap::new(),
            unburied: Vec::new(),
            bury_again_at: None,
            dead,
            inserts_in_flight_max: limits.inserts_in_flight_max,
            contact: Contact::new(Arc::clone(&health), now),
            stalls: Stalls::new(Arc::clone(&counters), health),
            counters,
            more: true,
        }
    }

    /// Tells the journals what has arrived, and takes from them what there is room for. Gives
    /// whether another turn would take more at once. `unix_ms` is for the dead letters; `stopping`
    /// sends what there is without lingering.
    pub fn turn(&mut self, now: Instant, unix_ms: i64, stopping: bool) -> bool {
        self.settle(now, unix_ms);
        self.more = self.pull(now);
        while self.has_room()
            && let Some(Parked { batch, back, .. }) =
                self.parked.take(now, self.dispatcher.witness())
        {
            self.dispatcher.add(batch, Delivery::new(back.blocks), back.refusals);
        }
        while self.has_room()
            && let Some(batch) = self.batcher.take(now, stopping)
        {
            let blocks = batch.blocks.into_iter().map(|entry| entry.block).collect();
            self.dispatcher.add(batch.id, Delivery::new(blocks), Refusals::default());
        }
        let wanted = |slot: &Slot| slot.held_back && self.batcher.wants(slot.index);
        self.more |= self.slots.iter().any(wanted);
        set(&self.counters.inserts_in_flight, self.dispatcher.len() as u64);
        self.contact.look(self.traffic(now), now);
        self.more
    }

    fn traffic(&self, now: Instant) -> Traffic {
        let dispatcher = &self.dispatcher;
        match dispatcher.in_flight() {
            0 if dispatcher.is_empty() => Traffic::Nothing,
            0 if dispatcher.rests(now) => Traffic::Rests,
            0 => Traffic::Goes,
            _ => Traffic::UnderWay,
        }
    }

    /// The next INSERT to send, until there is none. Its outcome must be told.
    pub fn next_insert(&mut self, now: Instant) -> Option<Insert> {
        let others = self.dispatcher.in_flight();
        let insert = self.dispatcher.next_insert(now);
        self.show_breaker();
        let insert = insert?;
        let bytes = insert.payloads.iter().map(bytes::Bytes::len).sum();
        self.sent.insert(insert.id, Sent { at: now, rows: insert.rows, bytes });
        self.contact.on_sent(others, now);
        Some(insert)
    }

    /// The INSERT of batch `id` ended.
    pub fn on_outcome(&mut self, id: u64, outcome: Result<(), Failure>, now: Instant) {
        let Some(progress) = self.dispatcher.on_outcome(id, &outcome, now) else { return };
        let sent = self.sent.remove(&id).expect("what has an outcome was sent");
        self.show_breaker();
        let text = match outcome {
            Ok(()) => {
                self.count(&sent, now);
                self.contact.on_answer(now);
                self.stalls.remove(id);
                String::new()
            }
            Err(failure) => {
                add(&self.counters.failures[failure.kind as usize], 1);
                if failure.is_outage() {
                    self.contact.on_outage(&failure, now);
                } else {
                    self.contact.on_answer(now);
                }
                failure.text
            }
        };
        match progress {
            Progress::Goes => {}
            Progress::Finished(dead) => self.unburied.push(Arrived { batch: id, dead }),
            Progress::Outage { times: outages } => {
                tracing::warn!(batch = id, outages, error = %text, "INSERT failed");
            }
            Progress::NeedsHand { .. } => {
                self.stalls.add(id, &format!("ClickHouse refuses events: {text}"));
            }
            Progress::Refused { .. } => {
                self.stalls.add(id, &format!("ClickHouse refuses events: {text}"));
                self.park(id);
            }
        }
    }

    /// Where there is no room for it the batch rests among those on their way.
    fn park(&mut self, batch: u64) {
        let bytes = self.dispatcher.bytes_of(batch);
        if self.parked.has_room(bytes) {
            let back = self.dispatcher.take_back(batch);
            self.parked.park(Parked { batch, bytes, back });
        }
    }

    /// Whether ClickHouse shall be asked now whether it is there: true once for each question, whose
    /// outcome must be told.
    pub fn take_ping(&mut self) -> bool {
        self.contact.take_ping()
    }

    pub fn on_ping(&mut self, outcome: Result<(), Failure>, now: Instant) {
        self.contact.on_ping(&outcome, now);
    }

    /// When to turn though nothing happened. Of new blocks in the sources it knows nothing: they are
    /// to be asked now and then.
    pub fn due(&self) -> Instant {
        let batch = self.batcher.due().filter(|_| self.has_room());
        let file = self.bury_again_at.filter(|_| !self.unburied.is_empty());
        let rests = self.slots.iter().filter_map(Slot::retry_at);
        let parked = self.parked.due().filter(|_| self.has_room());
        let soonest =
            [batch, file, parked, self.dispatcher.due()].into_iter().flatten().chain(rests);
        soonest.fold(self.contact.due(), Instant::min)
    }

    /// Whether every block that the sources had at the last turn is forwarded and marked.
    pub fn is_idle(&self) -> bool {
        // What is unburied is in flight to the batcher.
        !self.more && self.batcher.is_empty() && self.slots.iter().all(Slot::is_settled)
    }

    /// Whether a stop need not wait any longer: nothing is left, or nothing that can be sent,
    /// ClickHouse is found to be away, or it is time.
    pub fn may_end(&self, now: Instant, deadline: Instant) -> bool {
        let away = self.dispatcher.breaker_state() != BreakerState::Closed;
        self.is_idle() || self.is_stuck(now) || away || now >= deadline
    }

    /// What is left was refused and rests, or is in a journal that is out. What else there is waits
    /// for the room that the refused ones take: a turn of a stop sends all that it has room for.
    fn is_stuck(&self, now: Instant) -> bool {
        let parked = self.parked.rests(now, self.dispatcher.witness());
        let told = self.unburied.is_empty() && self.slots.iter().all(Slot::is_told);
        !self.more && told && parked && self.dispatcher.is_stuck(now)
    }

    fn has_room(&self) -> bool {
        self.dispatcher.len() + self.unburied.len() < self.inserts_in_flight_max
    }

    fn show_breaker(&self) {
        set(&self.counters.breaker_state, self.dispatcher.breaker_state() as u64);
    }

    fn count(&self, sent: &Sent, now: Instant) {
        let took = now.saturating_duration_since(sent.at);
        self.counters.insert_us.record(took.as_micros() as u64);
        add(&self.counters.inserts, 1);
        add(&self.counters.rows, sent.rows as u64);
        add(&self.counters.bytes, sent.bytes as u64);
    }

    /// Puts dead rows aside, then tells the journals what is forwarded.
    fn settle(&mut self, now: Instant, unix_ms: i64) {
        let file_rests = self.bury_again_at.is_some_and(|at| now < at);
        for arrived in std::mem::take(&mut self.unburied) {
            if file_rests && !arrived.dead.is_empty() {
                self.unburied.push(arrived);
                continue;
            }
            if let Err(error) = self.bury(&arrived, unix_ms) {
                self.bury_again_at = Some(now + FILE_RETRY);
                let text = format!("dead letters cannot be written: {error}");
                self.stalls.add(arrived.batch, &text);
                self.unburied.push(arrived);
                continue;
            }
            self.stalls.remove(arrived.batch);
            let blocks = self.batcher.block_count(arrived.batch);
            add(&self.counters.blocks, blocks as u64);
            for (source, sequence) in self.batcher.done(arrived.batch) {
                self.slots[source].on_forwarded(sequence);
            }
        }
        for slot in &mut self.slots {
            slot.settle(now);
        }
    }

    fn bury(&mut self, arrived: &Arrived, unix_ms: i64) -> std::io::Result<()> {
        let Some(first) = arrived.dead.first() else { return Ok(()) };
        self.dead.append(&arrived.dead, unix_ms)?;
        let count = arrived.dead.len();
        let (code, reason) = (first.code, &first.reason);
        tracing::error!(count, code, %reason, "rows that ClickHouse refuses were put aside");
        add(&self.counters.dead_rows, count as u64);
        Ok(())
    }

    /// Takes blocks while there are any and there is room; gives whether it stopped before either
    /// ended.
    fn pull(&mut self, now: Instant) -> bool {
        in_rotation(self.slots.len(), BLOCKS_PER_TURN, |index| self.pull_from(index, now))
    }

    fn pull_from(&mut self, index: usize, now: Instant) -> bool {
        let slot = &mut self.slots[index];
        let rests = slot.rests(now);
        slot.held_back = !rests && !self.batcher.wants(index);
        if rests || slot.held_back {
            return false;
        }
        match slot.next_block(now) {
            Given::Block(block) => {
                self.batcher.push(index, block, now);
                true
            }
            Given::Nothing => false,
            Given::Lost(last) => {
                // Behind them there may be nothing for long whose mark would cover them.
                if let Some(sequence) = self.batcher.lost(index, last, now) {
                    slot.on_forwarded(sequence);
                    slot.settle(now);
                }
                true
            }
            Given::Out(text) => {
                self.stalls.add(stalls::SOURCE, &text);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
