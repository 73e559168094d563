//! The consumer group's member: moves records, completions and time into the [`Desk`], and carries out
//! what it decides.
//!
//! One thread polls and decides; INSERTs run on the runtime's threads and report through a channel.

mod membership;

use crate::commit::{Committer, Offsets};
use crate::deliver::{Delivered, Deliverer};
use crate::desk::{Action, Desk, DeskLimits, Intake};
use crate::health::{Component, Health};
use crate::kafka::{self, Reader};
use crate::metrics::Metrics;
use crate::partition::RangeId;
use crate::record::Record;
use anyhow::Context as _;
use crossbeam_channel::{Receiver, Sender};
use rdkafka::Message;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Of one poll: how late a completion or a signal may be seen.
const POLL_MAX: Duration = Duration::from_millis(10);
/// Records taken before completions are looked at again.
const RECORDS_PER_TURN_MAX: usize = 64;
/// At a stop; with leaving the group it stays below 10 s.
const STOP_PATIENCE: Duration = Duration::from_secs(7);
const LEAVE_PATIENCE: Duration = Duration::from_millis(1_500);
const LEAVE_ERROR_PAUSE: Duration = Duration::from_millis(250);
const RESOLVE_PAUSE: Duration = Duration::from_millis(500);

/// `(partition, next offset that is not done)`, for whoever measures the lag.
pub type Positions = Arc<Mutex<Vec<(i32, i64)>>>;

pub struct Member {
    pub reader: Reader,
    pub topic: String,
    pub accept_gap: bool,
    pub deliverer: Arc<Deliverer>,
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
    pub positions: Positions,
    /// A revoked partition's INSERT may take so long.
    pub revoke_patience: Duration,
    pub stop: Arc<AtomicBool>,
    pub runtime: Handle,
}

/// Partitions that Kafka wants back, and which of them are still busy.
struct Revocation {
    all: Vec<i32>,
    busy: Vec<i32>,
}

struct Run {
    member: Member,
    committer: Committer,
    desk: Desk,
    done: Receiver<(RangeId, Delivered)>,
    report: Sender<(RangeId, Delivered)>,
    flights: HashMap<RangeId, JoinHandle<()>>,
    /// Assigned, but their positions are not known yet; asked again at this moment.
    unresolved: Option<(Vec<i32>, Instant)>,
    revocation: Option<Revocation>,
    out_of_range: Option<Instant>,
}

impl Member {
    /// Reads, inserts and commits until it is told to stop, or until somebody has to decide.
    ///
    /// Blocks. Leaves the group before it returns.
    pub fn run(self, limits: DeskLimits) -> anyhow::Result<()> {
        self.reader.subscribe(&[&self.topic]).context("cannot subscribe to the topic")?;
        let (report, done) = crossbeam_channel::unbounded();
        let committer = Committer::start(self.reader, &self.topic)?;
        let mut run = Run {
            member: self,
            committer,
            desk: Desk::new(limits),
            done,
            report,
            flights: HashMap::new(),
            unresolved: None,
            revocation: None,
            out_of_range: None,
        };
        let outcome = run.work();
        if let Err(error) = &outcome {
            run.member.health.set_down(Component::Position, &format!("{error:#}"));
            tracing::error!("{error:#}");
        }
        run.leave();
        outcome
    }
}

impl Run {
    fn work(&mut self) -> anyhow::Result<()> {
        while !self.member.stop.load(Ordering::Acquire) {
            self.turn(true)?;
        }
        Ok(())
    }

    /// One turn: completions and group events in, actions out, then records.
    fn turn(&mut self, may_read: bool) -> anyhow::Result<()> {
        while let Ok((id, outcome)) = self.done.try_recv() {
            self.on_done(id, outcome);
        }
        while let Ok((offsets, done)) = self.committer.outcomes.try_recv() {
            self.on_commit(offsets, done);
        }
        while let Some(event) = self.member.reader.context().next_event() {
            self.on_group_event(event);
        }
        if may_read {
            self.resolve()?;
            self.check_out_of_range()?;
        } else {
            self.decline();
        }
        self.act();
        self.give_back();
        self.show();
        if may_read {
            self.read()
        } else {
            self.poll(Duration::ZERO)?;
            self.wait(Instant::now() + POLL_MAX);
            Ok(())
        }
    }

    fn read(&mut self) -> anyhow::Result<()> {
        for _ in 0..RECORDS_PER_TURN_MAX {
            let now = Instant::now();
            // Not polling is bounded by the hold: after it the full partitions are paused.
            if let Intake::Held(until) = self.desk.intake(now) {
                self.wait(until.min(now + POLL_MAX));
                return Ok(());
            }
            let deadline = self.desk.next_deadline();
            let patience = deadline.map_or(POLL_MAX, |at| at.saturating_duration_since(now));
            if !self.poll(patience.min(POLL_MAX))? || !self.done.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sleeps until something is done, or until `until`.
    fn wait(&mut self, until: Instant) {
        if let Ok((id, outcome)) = self.done.recv_deadline(until) {
            self.on_done(id, outcome);
        }
    }

    /// Takes at most one record; gives whether there may be more.
    fn poll(&mut self, patience: Duration) -> anyhow::Result<bool> {
        let message = match self.member.reader.poll(patience) {
            None => return Ok(false),
            Some(Ok(message)) => message,
            Some(Err(error)) => {
                self.on_error(error)?;
                return Ok(true);
            }
        };
        let (partition, offset) = (message.partition(), message.offset());
        if !self.desk.has(partition) {
            return Ok(true);
        }
        self.member.health.set_up(Component::Kafka);
        let value = kafka::value(message);
        let bytes = value.len();
        let record = Record::read(value);
        if let Some(expected) = self.desk.expected(partition).filter(|at| offset > *at) {
            self.member.metrics.offset_gaps.inc();
            tracing::warn!(partition, expected, offset, "records are missing in the topic");
        }
        self.desk.push(Instant::now(), partition, offset, record, bytes);
        Ok(true)
    }

    fn on_error(&mut self, error: KafkaError) -> anyhow::Result<()> {
        use RDKafkaErrorCode::{AutoOffsetReset, OffsetOutOfRange, PartitionEOF};
        use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
        if let KafkaError::MessageConsumptionFatal(code) = error {
            anyhow::bail!("the Kafka client gave up: {code}");
        }
        match error.rdkafka_error_code() {
            Some(PartitionEOF) => {}
            Some(AutoOffsetReset | OffsetOutOfRange) => self.out_of_range = Some(Instant::now()),
            Some(UnknownTopicOrPartition | UnknownTopic | UnknownPartition) => {
                let reason = format!("topic {}: {error}", self.member.topic);
                if self.member.health.set_down(Component::Kafka, &reason) {
                    tracing::warn!(reason, "waiting for the topic");
                }
                self.rejoin();
            }
            _ => {
                if self.member.health.set_down(Component::Kafka, &error.to_string()) {
                    tracing::warn!(%error, "Kafka");
                }
            }
        }
        Ok(())
    }

    fn on_done(&mut self, id: RangeId, outcome: Delivered) {
        tracing::debug!(range = id.0, ?outcome, "done");
        self.flights.remove(&id);
        match outcome {
            Delivered::Done(_) => self.desk.on_done(id),
            Delivered::Refused { pause, moment } => {
                self.desk.on_refused(id, Instant::now() + pause, moment);
            }
        }
    }

    fn on_commit(&mut self, offsets: Offsets, done: bool) {
        let Member { metrics, .. } = &self.member;
        if done {
            metrics.commits.inc()
        } else {
            metrics.commit_failures.inc()
        };
        for (partition, offset) in offsets {
            self.desk.on_commit(Instant::now(), partition, offset, done);
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.desk.next_action(Instant::now()) {
            match action {
                Action::Insert(range) => {
                    let (deliverer, report) =
                        (Arc::clone(&self.member.deliverer), self.report.clone());
                    let id = range.id;
                    let flight = self.member.runtime.spawn(async move {
                        let outcome = deliverer.deliver(range, None).await;
                        // Nobody listens any more only when the process is on its way down.
                        let _ = report.send((id, outcome));
                    });
                    self.flights.insert(id, flight);
                }
                Action::Commit(offsets) => self.committer.commit(offsets),
                Action::Pause(partition) => self.pause(partition, true),
                Action::Resume(partition) => self.pause(partition, false),
                Action::Release { partition, unfinished } => {
                    self.member.deliverer.forget(partition);
                    if let Some(id) = unfinished {
                        tracing::warn!(partition, "given back before its INSERT had ended");
                        self.flights.remove(&id).inspect(JoinHandle::abort);
                    }
                }
            }
        }
    }

    fn pause(&self, partition: i32, pause: bool) {
        let Member { reader, topic, .. } = &self.member;
        let list = kafka::names(topic, &[partition]);
        let outcome = if pause { reader.pause(&list) } else { reader.resume(&list) };
        if let Err(error) = outcome {
            tracing::warn!(%error, partition, pause, "cannot pause or resume");
        }
    }

    fn show(&self) {
        let Member { metrics, positions, .. } = &self.member;
        metrics.paused_partitions.set(self.desk.paused() as i64);
        metrics.buffered_bytes.set(self.desk.held_bytes() as i64);
        metrics.inserts_in_flight.set(self.desk.in_flight() as i64);
        let mut positions = positions.lock().unwrap_or_else(PoisonError::into_inner);
        positions.clear();
        positions.extend(self.desk.positions().map(|(partition, _, done)| (partition, done)));
    }

    /// Lets running INSERTs end and commits them, then leaves the group.
    fn leave(&mut self) {
        self.desk.revoke_all(Instant::now() + STOP_PATIENCE);
        self.decline();
        while !self.desk.is_empty() {
            if let Err(error) = self.turn(false) {
                tracing::warn!("{error:#}");
                // A client that gave up fails at every poll.
                self.wait(Instant::now() + LEAVE_ERROR_PAUSE);
            }
        }
        if let Err(error) = self.member.reader.close_queue() {
            tracing::warn!(%error, "cannot leave the group; it will time out");
            return;
        }
        let deadline = Instant::now() + LEAVE_PATIENCE;
        while !self.member.reader.closed() && Instant::now() < deadline {
            if let Err(error) = self.turn(false) {
                tracing::debug!("{error:#}");
                self.wait(Instant::now() + POLL_MAX);
            }
        }
        tracing::info!(left = self.member.reader.closed(), "stopped");
    }
}
