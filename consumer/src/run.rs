//! The consumer group's member: moves records, outcomes, the group's events and time into the
//! [`Worker`], and carries out what it decides.
//!
//! One thread polls and has the worker decide; INSERTs run on the runtime's threads and report through
//! a channel.

mod membership;

use crate::commit::{Committer, Offsets};
use crate::deliver::Deliverer;
use crate::desk::Intake;
use crate::errands::Errands;
use crate::health::{Component, Health};
use crate::kafka::{self, Reader};
use crate::metrics::Metrics;
use crate::pace;
use crate::worker::{Action, Worker, WorkerLimits};
use anyhow::Context as _;
use rdkafka::Message;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Of one poll: how late a completion or a signal may be seen.
const POLL_MAX: Duration = Duration::from_millis(10);
/// The same while rows that ClickHouse refuses are being looked for.
const POLL_SEARCHING_MAX: Duration = Duration::from_millis(1);
/// Records taken before completions are looked at again.
const RECORDS_PER_TURN_MAX: usize = 64;
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
    pub stop: Arc<AtomicBool>,
    pub runtime: Handle,
}

struct Run {
    member: Member,
    committer: Committer,
    worker: Worker,
    errands: Errands,
    /// Assigned, but their positions are not known yet; asked again at this moment.
    unresolved: Option<(Vec<i32>, Instant)>,
    out_of_range: Option<Instant>,
}

impl Member {
    /// Reads, inserts and commits until it is told to stop, or until somebody has to decide.
    ///
    /// Blocks. Leaves the group before it returns.
    pub fn run(self, limits: WorkerLimits) -> anyhow::Result<()> {
        self.reader.subscribe(&[&self.topic]).context("cannot subscribe to the topic")?;
        let committer = Committer::start(self.reader, &self.topic)?;
        let (health, metrics) = (Arc::clone(&self.health), Arc::clone(&self.metrics));
        let worker = Worker::new(limits, None, pace::seed(), Instant::now(), health, metrics);
        let errands = Errands::new(Arc::clone(&self.deliverer), self.runtime.clone());
        let mut run =
            Run { member: self, committer, worker, errands, unresolved: None, out_of_range: None };
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

    /// One turn: outcomes and group events in, actions out, then records.
    fn turn(&mut self, may_read: bool) -> anyhow::Result<()> {
        self.errands.tell(&mut self.worker);
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
            if let Intake::Held(until) = self.worker.intake(now) {
                self.wait(until.min(now + POLL_MAX));
                return Ok(());
            }
            let deadline = self.worker.next_deadline();
            let most = if self.worker.is_searching() { POLL_SEARCHING_MAX } else { POLL_MAX };
            let patience = deadline.map_or(most, |at| at.saturating_duration_since(now));
            if !self.poll(patience.min(most))? || self.errands.has_reports() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sleeps until something has ended, or until `until`.
    fn wait(&mut self, until: Instant) {
        self.errands.wait(&mut self.worker, until);
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
        if !self.worker.has(partition) {
            return Ok(true);
        }
        self.member.health.set_up(Component::Kafka);
        self.worker.push(Instant::now(), partition, offset, kafka::value(message));
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

    fn on_commit(&mut self, offsets: Offsets, done: bool) {
        let Member { metrics, .. } = &self.member;
        if done {
            metrics.commits.inc()
        } else {
            metrics.commit_failures.inc()
        };
        for (partition, offset) in offsets {
            self.worker.on_commit(Instant::now(), partition, offset, done);
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.worker.next_action(Instant::now()) {
            match action {
                Action::Insert(insert) => self.errands.insert(insert),
                Action::Letters(parcel) => self.errands.write(parcel),
                Action::Probe => self.errands.probe(),
                Action::Abandon(range) => self.errands.abandon(range),
                Action::Commit(offsets) => self.committer.commit(offsets),
                Action::ForgetCommits => self.committer.forget(),
                Action::Pause(partition) => self.pause(partition, true),
                Action::Resume(partition) => self.pause(partition, false),
                Action::GiveBack(partitions) => self.give_back(&partitions),
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
        self.worker.show();
        let mut positions = self.member.positions.lock().unwrap_or_else(PoisonError::into_inner);
        positions.clear();
        positions.extend(self.worker.positions().map(|(partition, _, done)| (partition, done)));
    }

    /// Lets running INSERTs end and commits them, then leaves the group.
    fn leave(&mut self) {
        self.worker.stop(Instant::now());
        self.decline();
        while !self.worker.is_empty() {
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
