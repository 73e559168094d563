//! One lane: the journals it owns, its sink, its breaker and its route. Pure: whoever turns it brings
//! the time, waits for its bell and gives it a sink ([`super::lane_thread`]).
//!
//! A turn moves blocks, reports and time between the deciding parts ([`super::ledger`],
//! [`super::circuit`], [`super::route`]). Invariant: the same turns with the same answers from sink,
//! journals and direct route give out the same blocks in the same order.

use super::circuit::{Circuit, CircuitLimits};
use super::failure::{Failure, SendFailure};
use super::ledger::Wanted;
use super::route::{Change, Route, RouteLimits, Signs, Way};
use super::sink::{Complaint, RecordSink, Refusal, Report, Reports, SinkMaker, Tag};
use super::slot::Slot;
use super::status::KafkaStatus;
use crate::forward::{Frame, in_rotation};
use crate::metrics::{KafkaCounters, add, set};
use crossbeam_channel::{Receiver, unbounded};
use proto::breaker::BreakerState;
use proto::limits::BLOCK_BYTES_MAX;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Blocks sent before reports get their turn again.
const BLOCKS_PER_TURN: usize = 32;
/// The longest rest: checkpoints and rests of journals have no bell.
const REST_MAX: Duration = Duration::from_millis(100);
/// Between two attempts to make a sink, or to take blocks back from a ClickHouse that is away.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How long no records are gathered after Kafka has refused some: those that may be why go one by one,
/// and each would wait for others that do not come.
const APART_FOR: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct LaneLimits {
    /// Blocks that the sink holds; at least one of the longest.
    pub queue_bytes_max: usize,
    /// How long the sink may gather records while no 200 waits for them.
    pub linger: Duration,
    /// In a row, they open the breaker.
    pub breaker_failures: u32,
    /// The breaker, before a block may try.
    pub open_for: Duration,
    /// Without any delivery for so long, while there is something to deliver, the breaker opens.
    pub stall: Duration,
    /// The breaker was open for so long: go directly.
    pub direct_after: Duration,
    /// For texts.
    pub topic: String,
}

/// What a lane is made from.
pub struct LaneParts {
    pub index: usize,
    pub limits: LaneLimits,
    pub slots: Vec<Slot>,
    pub status: Arc<KafkaStatus>,
    pub counters: Arc<KafkaCounters>,
    pub make_sink: SinkMaker,
    /// What the sinks complain of.
    pub complaint: Arc<Complaint>,
}

/// What a turn leaves to whoever turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// There was more to do than one turn does: turn again at once.
    pub more: bool,
    /// Else turn again at this time, or sooner when somebody rings. Never long from now.
    pub rest_until: Instant,
    /// All blocks that the journals had have arrived, and the journals know.
    pub idle: bool,
    /// The stop is done; there are no further turns.
    pub ended: bool,
}

pub struct Lane {
    index: usize,
    limits: LaneLimits,
    slots: Vec<Slot>,
    status: Arc<KafkaStatus>,
    counters: Arc<KafkaCounters>,
    make_sink: SinkMaker,
    complaint: Arc<Complaint>,
    /// Once it shall end: the last moment.
    stop_by: Option<Instant>,
    sink: Option<Box<dyn RecordSink>>,
    /// What the sink was made with.
    sink_linger: Duration,
    /// Of the sink.
    generation: u64,
    make_at: Option<Instant>,
    reports: (Reports, Receiver<Report>),
    in_flight_bytes: usize,
    /// The sink's queue was full: nothing is sent before the next report.
    queue_full: bool,
    /// Kafka has one block that shall share no batch.
    alone: bool,
    /// Kafka has refused records: none are gathered before this.
    apart_until: Option<Instant>,
    circuit: Circuit,
    route: Route,
    /// A try through Kafka may take one block.
    try_left: bool,
    answers_at_try: u64,
    reclaim_at: Option<Instant>,
    /// The last refusal that needs somebody's hand, until a delivery.
    trouble: Option<String>,
    shown: String,
}

impl Lane {
    pub fn new(parts: LaneParts) -> Lane {
        let LaneParts { index, limits, slots, status, counters, make_sink, complaint } = parts;
        let LaneLimits { open_for, stall, direct_after, .. } = limits;
        let circuit = CircuitLimits { failures_max: limits.breaker_failures, open_for, stall };
        let route = RouteLimits { direct_after, try_every: open_for, try_for: stall };
        Lane {
            index,
            limits,
            slots,
            status,
            counters,
            make_sink,
            complaint,
            stop_by: None,
            sink: None,
            sink_linger: Duration::ZERO,
            generation: 0,
            make_at: None,
            reports: unbounded(),
            in_flight_bytes: 0,
            queue_full: false,
            alone: false,
            apart_until: None,
            circuit: Circuit::new(circuit),
            route: Route::new(route),
            try_left: false,
            answers_at_try: 0,
            reclaim_at: None,
            trouble: None,
            shown: String::new(),
        }
    }

    /// Sends what there is until `deadline`, or until the ways that it could go are found to be closed;
    /// a turn then says that it has ended.
    pub fn stop_by(&mut self, deadline: Instant) {
        self.stop_by = Some(deadline);
    }

    /// Does all that can be done now.
    pub fn turn(&mut self, now: Instant) -> Turn {
        self.take_reports(now);
        self.provide_sink(now);
        self.settle(now);
        self.judge(now);
        let more = self.pull(now);
        self.show();
        let idle = self.slots.iter().all(Slot::is_idle);
        let out_of_time = |deadline: Instant| idle || now >= deadline || self.is_away();
        let ended = self.stop_by.is_some_and(out_of_time);
        if ended {
            self.end_acks();
        }
        Turn { more, rest_until: self.rest_until(now), idle, ended }
    }

    /// It ends without having been stopped: nobody waits for it, and `text` is what is told.
    pub fn abandon(&self, text: &str) {
        self.end_acks();
        self.status.set_lane(self.index, text.to_owned());
    }

    fn end_acks(&self) {
        for slot in &self.slots {
            slot.set_acks(false);
        }
    }

    /// Kafka may be expected to take blocks. Without a sink nothing is sent that could fail and
    /// open the breaker.
    fn is_closed(&self) -> bool {
        self.circuit.is_closed() && self.sink.is_some()
    }

    /// Where a stop need not wait.
    fn is_away(&self) -> bool {
        let kafka_takes = match self.route.way() {
            Way::Kafka if !self.is_closed() => return true,
            Way::Kafka => !self.slots.iter().all(Slot::is_left_to_direct),
            Way::Direct | Way::Trying => false,
        };
        !kafka_takes && !self.status.direct_takes()
    }

    /// What a 200 waits for goes at once, and so does what goes alone.
    fn linger(&self, now: Instant) -> Duration {
        let apart = self.apart_until.is_some_and(|until| now < until);
        if apart || self.status.acks_allowed() { Duration::ZERO } else { self.limits.linger }
    }

    /// Whether records shall be gathered, or no longer, otherwise than when the sink was made. It is
    /// given nothing more then, and makes room for another once it has delivered what it has.
    fn is_sink_outdated(&self, now: Instant) -> bool {
        self.sink.is_some() && self.sink_linger != self.linger(now)
    }

    fn provide_sink(&mut self, now: Instant) {
        if self.is_sink_outdated(now) && self.circuit.in_flight() == 0 {
            self.sink = None;
            self.generation += 1;
        }
        if self.sink.is_some() || self.make_at.is_some_and(|at| now < at) {
            return;
        }
        let linger = self.linger(now);
        match (self.make_sink)(self.reports.0.clone(), linger) {
            Ok(sink) => (self.sink, self.sink_linger) = (Some(sink), linger),
            Err(error) => {
                tracing::error!(lane = self.index, "{error:#}");
                self.trouble = Some(format!("{error:#}"));
                self.make_at = Some(now + RETRY_EVERY);
            }
        }
    }

    /// After a fatal error: what it held is sent again by the next one.
    fn drop_sink(&mut self, now: Instant, why: &str) {
        tracing::error!(lane = self.index, why, "a Kafka producer must be made anew");
        add(&self.counters.producers_remade, 1);
        self.sink = None;
        self.generation += 1;
        self.make_at = Some(now + RETRY_EVERY);
        self.in_flight_bytes = 0;
        // No report of the next one would say that there is room.
        self.queue_full = false;
        self.circuit.on_producer_gone();
        for slot in &mut self.slots {
            slot.ledger.on_producer_gone();
        }
    }

    fn take_reports(&mut self, now: Instant) {
        while let Ok(Report { tag, outcome }) = self.reports.1.try_recv() {
            if tag.generation == self.generation {
                self.queue_full = false;
                self.in_flight_bytes -= tag.bytes;
                match outcome {
                    Ok(()) => self.on_delivered(&tag, now),
                    Err(failure) => self.on_failed(&tag, failure, now),
                }
            } else if outcome.is_ok() {
                // What an earlier sink delivered is in Kafka all the same.
                self.note_delivered(&tag, now);
            }
        }
        set(&self.counters.in_flight_bytes, self.in_flight_bytes as u64);
    }

    fn on_delivered(&mut self, tag: &Tag, now: Instant) {
        self.note_delivered(tag, now);
        self.circuit.on_delivered(now);
        self.trouble = None;
    }

    fn note_delivered(&mut self, tag: &Tag, now: Instant) {
        let took = now.saturating_duration_since(tag.sent_at);
        self.counters.delivery_us.record(took.as_micros() as u64);
        add(&self.counters.records, 1);
        add(&self.counters.bytes, tag.bytes as u64);
        self.slots[tag.source].ledger.on_delivered(tag.sequence);
    }

    fn on_failed(&mut self, tag: &Tag, failure: Failure, now: Instant) {
        let Failure { kind, sign, text } = failure;
        add(&self.counters.failures[kind as usize], 1);
        self.circuit.on_failed(now, sign);
        let Tag { source, sequence, bytes, .. } = *tag;
        let ledger = &mut self.slots[source].ledger;
        match kind {
            SendFailure::Reject => {
                let code = text;
                tracing::warn!(source, sequence, bytes, %code, "Kafka refuses a block or its batch");
                ledger.on_rejected(sequence);
                self.apart_until = Some(now + APART_FOR);
            }
            SendFailure::Config => {
                self.trouble = Some(format!("topic {}: {text}", self.limits.topic));
                ledger.on_failed(sequence);
            }
            SendFailure::Retry | SendFailure::Unknown => {
                tracing::debug!(source, sequence, code = %text, "not delivered");
                ledger.on_failed(sequence);
            }
            SendFailure::Fatal => {
                ledger.on_failed(sequence);
                let fatal = self.sink.as_ref().and_then(|sink| sink.fatal_error());
                self.drop_sink(now, &fatal.unwrap_or(text));
            }
        }
    }

    fn settle(&mut self, now: Instant) {
        for slot in &mut self.slots {
            slot.settle(now);
        }
    }

    /// Breaker and route, by what the time and the signs say.
    fn judge(&mut self, now: Instant) {
        if self.circuit.tick(now) {
            let complaint = self.complaint.text();
            tracing::warn!(lane = self.index, complaint, "Kafka acknowledges nothing");
        }
        let signs = Signs {
            breaker_closed: self.is_closed(),
            has_work: self.slots.iter().any(Slot::has_work),
            direct_takes: self.status.direct_takes(),
            kafka_answers: self.status.answers() > self.answers_at_try,
        };
        match self.route.judge(now, signs) {
            None => {}
            Some(Change::Try) => {
                self.try_left = true;
                self.answers_at_try = self.status.answers();
                if !signs.direct_takes {
                    // There may be nothing else to try with.
                    self.reclaim_handed();
                }
            }
            Some(Change::ToDirect) => {
                tracing::warn!(
                    lane = self.index,
                    "Kafka is long away: blocks are inserted directly"
                );
                self.answers_at_try = self.status.answers();
                self.take_back();
            }
            Some(Change::TryFailed) => self.take_back(),
            Some(Change::ToKafka) => {
                tracing::info!(lane = self.index, "blocks go through Kafka again");
            }
        }
        let kafka = self.route.way() == Way::Kafka;
        if kafka && !signs.direct_takes && self.reclaim_at.is_none_or(|at| now >= at) {
            self.reclaim_at = Some(now + RETRY_EVERY);
            self.reclaim_handed();
        }
        let acks = kafka && signs.breaker_closed && self.status.acks_allowed();
        for slot in &self.slots {
            slot.set_acks(acks);
        }
    }

    fn reclaim_handed(&mut self) {
        let handed = self.slots.iter_mut().filter(|slot| slot.ledger.has_handed());
        handed.for_each(|slot| slot.ledger.reclaim_handed());
    }

    fn take_back(&mut self) {
        self.try_left = false;
        if let Some(sink) = &self.sink {
            sink.purge();
        }
    }

    /// Gives blocks out while there are any and there is room; gives whether it stopped before either
    /// ended.
    fn pull(&mut self, now: Instant) -> bool {
        in_rotation(self.slots.len(), BLOCKS_PER_TURN, |index| self.pull_from(index, now))
    }

    fn pull_from(&mut self, index: usize, now: Instant) -> bool {
        if self.slots[index].rests(now) {
            return false;
        }
        if let Some(sequence) = self.slots[index].ledger.next_direct_only()
            && self.hand(index, Wanted::Again(sequence), now)
        {
            return true;
        }
        if self.route.way() == Way::Kafka {
            return self.send(index, now);
        }
        if self.try_left {
            if self.send(index, now) {
                self.try_left = false;
                return true;
            }
            if !self.status.direct_takes() {
                // Given back to the direct route, the block to try with would be gone again.
                return false;
            }
        }
        let wanted = self.slots[index].ledger.next_for_direct();
        self.hand(index, wanted, now)
    }

    /// A sink makes one batch of what it has, and Kafka refuses a batch as a whole: a block that was
    /// refused waits until all others have landed, and they for it.
    fn wanted_by_kafka(&self, index: usize, now: Instant) -> Option<Wanted> {
        let mut ready = self.slots.iter().filter(|slot| !slot.rests(now));
        let landed = self.circuit.in_flight() == 0;
        if ready.any(|slot| slot.ledger.next_alone().is_some()) {
            let alone = self.slots[index].ledger.next_alone();
            return alone.filter(|_| landed).map(Wanted::Again);
        }
        (landed || !self.alone).then(|| self.slots[index].ledger.next_for_kafka())
    }

    /// One block to Kafka; false when there is none, or no room.
    fn send(&mut self, index: usize, now: Instant) -> bool {
        let full =
            self.queue_full || self.in_flight_bytes + BLOCK_BYTES_MAX > self.limits.queue_bytes_max;
        let Some(sink) = self.sink.as_ref().filter(|_| !full && !self.is_sink_outdated(now)) else {
            return false;
        };
        if !self.circuit.may_send(now) {
            return false;
        }
        let Some(wanted) = self.wanted_by_kafka(index, now) else { return false };
        let slot = &mut self.slots[index];
        let Some(frame) = slot.read(wanted, now) else { return false };
        let Frame { header, bytes } = frame;
        let sequence = header.id.sequence;
        let generation = self.generation;
        let tag = Tag { source: index, sequence, bytes: bytes.len(), generation, sent_at: now };
        self.alone = slot.ledger.next_alone() == Some(sequence);
        slot.ledger.on_sent(sequence);
        match sink.send(&header, &bytes, tag) {
            Ok(()) => {
                self.circuit.on_sent(now);
                self.in_flight_bytes += tag.bytes;
                true
            }
            Err(Refusal::Full) => {
                slot.ledger.on_failed(sequence);
                self.queue_full = self.circuit.in_flight() > 0;
                false
            }
            Err(Refusal::Failed(failure)) => {
                self.circuit.on_sent(now);
                self.on_failed(&tag, failure, now);
                true
            }
        }
    }

    /// One block to the direct route; false when there is none, or no room.
    fn hand(&mut self, index: usize, wanted: Wanted, now: Instant) -> bool {
        let slot = &mut self.slots[index];
        if let Wanted::Again(sequence) = wanted
            && slot.ledger.is_with_direct(sequence)
        {
            slot.ledger.leave_to_direct(sequence);
            return true;
        }
        if !slot.handover.has_room() {
            return false;
        }
        let Some(frame) = slot.read(wanted, now) else { return false };
        slot.ledger.on_handed(frame.header.id.sequence);
        slot.handover.hand(frame.into_block());
        add(&self.counters.direct_blocks, 1);
        true
    }

    /// Metrics, and the words on `/readyz`.
    fn show(&mut self) {
        let state = match self.sink {
            Some(_) => self.circuit.state(),
            None => BreakerState::Open,
        };
        set(&self.counters.breaker_state, state as u64);
        let direct = self.route.way() != Way::Kafka;
        set(&self.counters.route, u64::from(direct));
        let stuck: usize = self.slots.iter().map(|slot| slot.ledger.direct_only()).sum();
        let stuck = if self.status.direct_takes() { 0 } else { stuck };
        let back = self.route.is_presumed_back() && self.sink.is_some();
        let well = (self.is_closed() && !direct || back) && self.trouble.is_none();
        if well && stuck == 0 {
            if !self.shown.is_empty() {
                self.shown.clear();
                self.status.set_lane(self.index, String::new());
            }
            return;
        }
        let what =
            if direct { "blocks are inserted directly" } else { "blocks wait in the journal" };
        let why = match (&self.trouble, self.complaint.text()) {
            (Some(trouble), _) => trouble.clone(),
            (None, complaint) if !complaint.is_empty() => complaint,
            (None, _) => format!("no acknowledgement within {} ms", self.limits.stall.as_millis()),
        };
        let text = if well {
            format!(
                "Kafka refuses {stuck} blocks, and they cannot be inserted directly now: the journal \
                 keeps them and all behind them"
            )
        } else {
            format!("Kafka does not take blocks, {what}: {why}")
        };
        if text != self.shown {
            self.status.set_lane(self.index, text.clone());
            self.shown = text;
        }
    }

    fn rest_until(&self, now: Instant) -> Instant {
        let dues = [self.circuit.due(), self.route.due(), self.make_at];
        let rests = self.slots.iter().map(Slot::retry_at);
        let soonest = dues.into_iter().chain(rests).flatten().filter(|due| *due > now).min();
        let longest = now + REST_MAX;
        soonest.map_or(longest, |due| due.min(longest))
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
