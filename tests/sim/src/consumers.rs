//! The consumers: the real worker, and librdkafka, the group and the errands as far as it sees them.

use crate::clock::us_of;
use crate::faults::Fault;
use crate::forwarding::Asker;
use crate::world::{Event, World};
use consumer::dead::{NotWritten, Place};
use consumer::desk::{DeskLimits, Intake};
use consumer::health::Health;
use consumer::metrics::Metrics;
use consumer::partition::{RangeId, RangeLimits};
use consumer::worker::{Action, Parcel, Worker, WorkerLimits};
use proto::backoff::{Backoff, Pace};
use proto::insert::Failure;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Members of the group.
pub const CONSUMERS: usize = 2;
/// Of all records that a consumer holds, and of the longest one.
const HELD_BYTES_MAX: usize = 4 << 20;
const RECORD_BYTES_MAX: usize = 1 << 20;
/// How long a dead member's partitions stay its own.
const SESSION_US: u64 = 200_000;

pub struct Consumer {
    worker: Worker,
    /// Next offset to fetch of each partition.
    fetching: BTreeMap<i32, i64>,
    paused: BTreeSet<i32>,
    /// Asked back, answer outstanding.
    asked_back: BTreeSet<i32>,
    turn_at: Option<u64>,
}

fn limits() -> WorkerLimits {
    let desk = DeskLimits {
        range: RangeLimits { rows_max: 200, bytes_max: 2 << 20, linger: Duration::from_millis(20) },
        inserts_max: 2,
        bytes_max: HELD_BYTES_MAX,
        hold_max: Duration::from_millis(50),
    };
    WorkerLimits {
        backoff: Backoff { min: Duration::from_millis(5), max: Duration::from_secs(5) },
        breaker_open: Duration::from_millis(200),
        revoke_patience: Duration::from_millis(500),
        stop_patience: Duration::from_millis(500),
        ..WorkerLimits::of(desk)
    }
}

impl World {
    pub fn start_consumer(&mut self) {
        if self.kafka.is_none() || self.consumers.len() >= CONSUMERS {
            return;
        }
        let member = self.next_member;
        self.next_member += 1;
        let (health, metrics) = (Arc::new(Health::starting()), Arc::<Metrics>::default());
        let seed = self.random.next_u64();
        let worker = Worker::new(limits(), None, seed, self.now(), health, metrics);
        let (fetching, paused, asked_back) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let consumer = Consumer { worker, fetching, paused, asked_back, turn_at: None };
        self.consumers.insert(member, consumer);
        self.note("consumer starts", member, 0);
        self.rebalance();
        self.schedule_consumer_end(member);
        self.turn_consumer(member);
    }

    fn schedule_consumer_end(&mut self, member: u64) {
        if !self.calm && self.faults.is_on(Fault::ConsumerCrash) {
            let at = self.now_us + self.between(1_000, 4 * self.life_us_max.max(10_000));
            self.at(at, Event::ConsumerEnds(member));
        }
    }

    /// Killed: its INSERTs may still take effect, its commits too.
    pub fn end_consumer(&mut self, member: u64) {
        if self.consumers.remove(&member).is_none() {
            return;
        }
        self.note("consumer dies", member, 0);
        self.stats.crashes += 1;
        let at = self.now_us + self.between(1_000, SESSION_US);
        self.at(at, Event::SessionEnds(member));
        let at = self.now_us + self.between(1_000, 100_000);
        self.at(at, Event::ConsumerStarts);
    }

    /// Its partitions are another's; it learns so.
    pub fn fence(&mut self, member: u64) {
        let now = self.now();
        let Some(kafka) = &mut self.kafka else { return };
        kafka.owners.retain(|_, owner| *owner != member);
        let Some(consumer) = self.consumers.get_mut(&member) else { return };
        let had: Vec<i32> = std::mem::take(&mut consumer.fetching).into_keys().collect();
        consumer.asked_back.clear();
        consumer.paused.clear();
        consumer.worker.lose(now, had);
        self.note("consumer is fenced", member, 0);
        self.turn_consumer(member);
        self.rebalance();
    }

    pub fn give_partition(&mut self, member: u64, partition: i32) {
        let now = self.now();
        let Some(kafka) = &mut self.kafka else { return };
        let Some(consumer) = self.consumers.get_mut(&member) else { return };
        let offset = kafka.committed(partition);
        kafka.owners.insert(partition, member);
        consumer.fetching.insert(partition, offset);
        consumer.paused.remove(&partition);
        consumer.worker.assign(now, partition, offset);
        self.note("assigned", member, partition as u64);
        self.wake_consumer_soon(member);
    }

    pub fn ask_back(&mut self, member: u64, partition: i32) {
        let now = self.now();
        let Some(consumer) = self.consumers.get_mut(&member) else { return };
        if consumer.asked_back.insert(partition) {
            consumer.fetching.remove(&partition);
            consumer.worker.revoke(now, vec![partition]);
            self.note("revoked", member, partition as u64);
            self.wake_consumer_soon(member);
        }
    }

    pub fn wake_consumer_soon(&mut self, member: u64) {
        let at = self.now_us + self.between(50, 3_000);
        self.turn_consumer_at(member, at);
    }

    fn turn_consumer_at(&mut self, member: u64, at_us: u64) {
        let now_us = self.now_us;
        let Some(consumer) = self.consumers.get_mut(&member) else { return };
        if consumer.turn_at.is_some_and(|at| at <= at_us && at > now_us) {
            return;
        }
        consumer.turn_at = Some(at_us);
        self.at(at_us, Event::ConsumerTurn(member));
    }

    /// Actions out, records in, until neither moves.
    pub fn turn_consumer(&mut self, member: u64) {
        let now = self.now();
        for _ in 0..10_000 {
            let moved = self.act_for(member) | self.fetch_for(member);
            let Some(consumer) = self.consumers.get(&member) else { return };
            let held = consumer.worker.held_bytes();
            assert!(held <= HELD_BYTES_MAX + RECORD_BYTES_MAX, "{held} bytes are held");
            if !moved {
                if let Some(due) = consumer.worker.next_deadline() {
                    assert!(due > now, "a deadline is over, and nothing was done about it");
                    self.turn_consumer_at(member, us_of(due));
                }
                return;
            }
        }
        panic!("the consumer turns for ever");
    }

    fn act_for(&mut self, member: u64) -> bool {
        let now = self.now();
        let mut moved = false;
        while let Some(consumer) = self.consumers.get_mut(&member)
            && let Some(action) = consumer.worker.next_action(now)
        {
            moved = true;
            match action {
                Action::Insert(insert) => {
                    self.note("consumer inserts", insert.id, insert.rows as u64);
                    let what = Arc::new((insert.payloads, insert.rows, insert.token));
                    self.carry_insert(Asker::Consumer(member), insert.id, what);
                }
                Action::Letters(parcel) => {
                    let at = self.now_us + self.between(100, 3_000);
                    self.at(at, Event::LettersArrive(member, parcel));
                }
                Action::Probe => {
                    let at = self.now_us + self.between(100, 2_000);
                    self.at(at, Event::ConsumerProbed(member));
                }
                Action::Commit(offsets) => {
                    let at = self.now_us + self.between(100, 5_000);
                    self.at(at, Event::CommitArrives(member, offsets));
                }
                // The broker refuses what comes from who owns it no more.
                Action::ForgetCommits | Action::Abandon(_) => {}
                Action::Pause(partition) => drop(consumer.paused.insert(partition)),
                Action::Resume(partition) => drop(consumer.paused.remove(&partition)),
                Action::GiveBack(partitions) => self.take_back(member, &partitions),
            }
        }
        moved
    }

    fn take_back(&mut self, member: u64, partitions: &[i32]) {
        let Some(kafka) = &mut self.kafka else { return };
        let Some(consumer) = self.consumers.get_mut(&member) else { return };
        for partition in partitions {
            consumer.asked_back.remove(partition);
            if kafka.owners.get(partition) == Some(&member) {
                kafka.owners.remove(partition);
            }
        }
        self.note("given back", member, partitions.len() as u64);
        self.rebalance();
    }

    fn fetch_for(&mut self, member: u64) -> bool {
        let now = self.now();
        let Some(kafka) = self.kafka.as_ref().filter(|kafka| !kafka.is_down) else { return false };
        let Some(consumer) = self.consumers.get_mut(&member) else { return false };
        let mut moved = false;
        for (partition, next) in &mut consumer.fetching {
            if consumer.paused.contains(partition) {
                continue;
            }
            while let Some(value) = kafka.record(*partition, *next) {
                if consumer.worker.intake(now) != Intake::Open {
                    return moved;
                }
                consumer.worker.push(now, *partition, *next, value);
                *next += 1;
                moved = true;
            }
        }
        moved
    }

    pub fn on_consumer_insert(&mut self, member: u64, id: u64, outcome: &Result<(), Failure>) {
        let now = self.now();
        let Some(consumer) = self.consumers.get_mut(&member) else { return };
        consumer.worker.on_insert(now, RangeId(id), outcome);
        self.turn_consumer(member);
    }

    pub fn on_letters_arrive(&mut self, member: u64, parcel: Parcel) {
        let fails = self.table.ping().is_err();
        let Parcel { range, place, letters } = parcel;
        let outcome = if fails {
            let text = "not now".to_owned();
            Err(NotWritten { left: letters, pace: Pace::Busy, text })
        } else {
            if place == Place::Table {
                letters.iter().for_each(|letter| self.oracle.on_dead(&letter.raw));
            }
            Ok(())
        };
        let now = self.now();
        let Some(consumer) = self.consumers.get_mut(&member) else { return };
        consumer.worker.on_letters(now, range, outcome);
        self.turn_consumer(member);
    }

    pub fn on_consumer_probed(&mut self, member: u64) {
        let (now, outcome) = (self.now(), self.table.ping());
        let Some(consumer) = self.consumers.get_mut(&member) else { return };
        consumer.worker.on_probe(now, &outcome);
        self.turn_consumer(member);
    }

    /// A commit reaches the coordinator; where its sender is dead, it does so all the same.
    pub fn on_commit_arrives(&mut self, member: u64, offsets: Vec<(i32, i64)>) {
        let Some(kafka) = &mut self.kafka else { return };
        let lost = kafka.is_down;
        let mut outcomes = Vec::new();
        for (partition, offset) in offsets {
            let done = !lost && kafka.commit(member, partition, offset);
            outcomes.push((partition, offset, done));
        }
        for (partition, offset, done) in &outcomes {
            self.note("commit", *partition as u64, *offset as u64 * 2 + u64::from(*done));
        }
        let now = self.now();
        let Some(consumer) = self.consumers.get_mut(&member) else { return };
        for (partition, offset, done) in outcomes {
            consumer.worker.on_commit(now, partition, offset, done);
        }
        self.turn_consumer(member);
    }
}
