//! A lane on virtual time: journals in memory, a Kafka and a direct route that do as a test says. No
//! threads, no sleeps, no librdkafka.

use crate::admin::{Component, Health, Level};
use crate::forward::kafka::{
    Bell, Complaint, Failure, HandedBlocks, KafkaStatus, Lane, LaneLimits, LaneParts, RecordSink,
    Refusal, Report, Reports, SendFailure, Sign, SinkMaker, Slot, Tag, Turn, Waiter, handover,
};
use crate::forward::{BlockSource, Frame, FrameSource, SourceError};
use crate::metrics::KafkaCounters;
use crate::shard::DeliveryWatch;
use bytes::Bytes;
use proto::limits::BLOCK_BYTES_MAX;
use proto::{BlockHeader, BlockId, JournalId};
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

pub const OPEN_FOR_MS: u64 = 1_000;
/// Where no 200 waits; the stage begins with 200s that do.
pub const LINGER: Duration = Duration::from_millis(5);
pub const STALL_MS: u64 = 2_000;
pub const DIRECT_AFTER_MS: u64 = 10_000;
pub const BREAKER_FAILURES: u32 = 3;
/// Records that the sink holds at most.
pub const IN_FLIGHT_MAX: usize = 40;
/// Header and one byte.
const RECORD_BYTES: usize = 65;
/// Far more than any test needs: a lane that turns for ever is found.
const TURNS_MAX: usize = 10_000;

pub fn failure(kind: SendFailure, sign: Sign) -> Failure {
    Failure { kind, sign, text: "scripted".to_owned() }
}

/// What Kafka does with a record as it comes.
#[derive(Clone, Debug)]
pub enum Mode {
    Delivers,
    /// Nothing is said before [`Stage::land`].
    Silent,
    Fails(Failure),
    Refuses(Refusal),
}

/// Which block of which journal.
pub type Name = (usize, u64);

#[derive(Default)]
struct Journal {
    last: u64,
    next: u64,
    unread: u64,
    marked: u64,
    seeks: usize,
    fails: VecDeque<SourceError>,
}

/// Everything outside the lane.
pub struct World {
    pub mode: Mode,
    /// Blocks that Kafka refuses whatever it does with others.
    pub unfit: BTreeSet<Name>,
    /// Every record that was ever taken.
    sent: Vec<Name>,
    /// Taken, and nothing said of it yet.
    held: Vec<Tag>,
    /// In Kafka or in ClickHouse, or told to be lost.
    arrived: BTreeSet<Name>,
    reports: Option<Reports>,
    /// Why no sink can be made.
    pub unmakeable: Option<&'static str>,
    made: usize,
    /// Of the last one.
    pub linger: Duration,
    /// Somebody has rung since the last turn.
    rung: bool,
    journals: Vec<Journal>,
}

impl World {
    /// What becomes of a record.
    fn answer(&mut self, tag: Tag, outcome: Result<(), Failure>) {
        if outcome.is_ok() {
            self.arrived.insert((tag.source, tag.sequence));
        }
        self.rung = true;
        let reports = self.reports.as_ref().expect("who answers was made");
        let _ = reports.send(Report { tag, outcome });
    }
}

type Shared = Arc<Mutex<World>>;

struct Sink(Shared);

impl RecordSink for Sink {
    fn send(&self, header: &BlockHeader, block: &Bytes, tag: Tag) -> Result<(), Refusal> {
        assert_eq!((header.id.sequence, block.len()), (tag.sequence, tag.bytes));
        let mut world = self.0.lock().unwrap();
        let name = (tag.source, tag.sequence);
        if let Mode::Refuses(refusal) = world.mode.clone() {
            return Err(refusal);
        }
        world.sent.push(name);
        match world.mode.clone() {
            Mode::Delivers if world.unfit.contains(&name) => {
                world.answer(tag, Err(failure(SendFailure::Reject, Sign::Alive)));
            }
            Mode::Delivers => world.answer(tag, Ok(())),
            Mode::Fails(failure) => world.answer(tag, Err(failure)),
            _ => world.held.push(tag),
        }
        Ok(())
    }

    fn purge(&self) {
        // A test that fails leaves it poisoned.
        let Ok(mut world) = self.0.lock() else { return };
        for tag in std::mem::take(&mut world.held) {
            world.answer(tag, Err(failure(SendFailure::Unknown, Sign::Nothing)));
        }
    }

    fn fatal_error(&self) -> Option<String> {
        None
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.purge();
    }
}

struct Frames(Shared, usize);

impl FrameSource for Frames {
    fn next_frame(&mut self) -> Result<Option<Frame>, SourceError> {
        let mut world = self.0.lock().unwrap();
        let journal = &mut world.journals[self.1];
        if let Some(error) = journal.fails.pop_front() {
            if let SourceError::Lost { first_sequence, last_sequence } = error {
                assert_eq!(journal.next, first_sequence);
                journal.next = last_sequence + 1;
                journal.unread = journal.unread.max(journal.next);
                let lost = (first_sequence..=last_sequence).map(|sequence| (self.1, sequence));
                world.arrived.extend(lost);
            }
            return Err(error);
        }
        if journal.next > journal.last {
            return Ok(None);
        }
        let sequence = journal.next;
        journal.next += 1;
        journal.unread = journal.unread.max(journal.next);
        let id = BlockId { journal_id: JournalId([self.1 as u8; 16]), epoch: 1, sequence };
        let header = BlockHeader::seal(id, 0, 0, 0, 1, &[0]);
        let bytes = [&header.encode()[..], &[0]].concat();
        assert_eq!(bytes.len(), RECORD_BYTES);
        Ok(Some(Frame { header, bytes: bytes.into() }))
    }

    fn seek(&mut self, sequence: Option<u64>) {
        let journal = &mut self.0.lock().unwrap().journals[self.1];
        let sequence = sequence.unwrap_or(journal.unread);
        assert!(sequence <= journal.unread, "what was never given out comes in order");
        journal.next = sequence;
        journal.seeks += 1;
    }

    fn has_unread(&self) -> bool {
        let journal = &self.0.lock().unwrap().journals[self.1];
        journal.unread <= journal.last
    }

    fn mark_forwarded(&mut self, sequence: u64) -> Result<(), SourceError> {
        let mut world = self.0.lock().unwrap();
        let from = world.journals[self.1].marked;
        assert!(from <= sequence, "marks only grow");
        for marked in from + 1..=sequence {
            assert!(world.arrived.contains(&(self.1, marked)), "{marked} has not arrived");
        }
        world.journals[self.1].marked = sequence;
        Ok(())
    }
}

pub struct Stage {
    pub lane: Lane,
    world: Shared,
    handed: Vec<HandedBlocks>,
    /// Taken by the direct route and not yet inserted.
    taken: Vec<VecDeque<u64>>,
    pub watches: Vec<Arc<DeliveryWatch>>,
    pub counters: Arc<KafkaCounters>,
    pub status: Arc<KafkaStatus>,
    health: Arc<Health>,
    now: Instant,
}

impl Stage {
    /// Journal `i` has the blocks 1 to `blocks[i]`. Kafka delivers, ClickHouse is there.
    pub fn new(blocks: &[u64]) -> Stage {
        let journal =
            |last: &u64| Journal { last: *last, next: 1, unread: 1, ..Journal::default() };
        let world = Shared::new(Mutex::new(World {
            mode: Mode::Delivers,
            unfit: BTreeSet::new(),
            sent: Vec::new(),
            held: Vec::new(),
            arrived: BTreeSet::new(),
            reports: None,
            unmakeable: None,
            made: 0,
            linger: Duration::ZERO,
            rung: false,
            journals: blocks.iter().map(journal).collect(),
        }));
        let health = Health::new(0);
        let status = KafkaStatus::new(Arc::clone(&health), 1);
        status.set_topic(String::new());
        status.allow_acks(true);
        let (bell, counters) = (Arc::<Bell>::default(), Arc::<KafkaCounters>::default());
        let (mut slots, mut handed, mut watches) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..blocks.len() {
            let (to_direct, of_direct) = handover(&bell);
            let watch = Arc::<DeliveryWatch>::default();
            let waiter = Waiter { watch: Arc::clone(&watch), wake: Box::new(|| {}) };
            let frames = Box::new(Frames(Arc::clone(&world), index));
            slots.push(Slot::new(frames, to_direct, Some(waiter)));
            handed.push(of_direct);
            watches.push(watch);
        }
        let limits = LaneLimits {
            queue_bytes_max: BLOCK_BYTES_MAX + (IN_FLIGHT_MAX - 1) * RECORD_BYTES,
            linger: LINGER,
            breaker_failures: BREAKER_FAILURES,
            open_for: Duration::from_millis(OPEN_FOR_MS),
            stall: Duration::from_millis(STALL_MS),
            direct_after: Duration::from_millis(DIRECT_AFTER_MS),
            topic: "events_of_test".to_owned(),
        };
        let lane = Lane::new(LaneParts {
            index: 0,
            limits,
            slots,
            status: Arc::clone(&status),
            counters: Arc::clone(&counters),
            make_sink: maker(&world),
            complaint: Arc::<Complaint>::default(),
        });
        let taken = vec![VecDeque::new(); blocks.len()];
        let now = Instant::now();
        let stage = Stage { lane, world, handed, taken, watches, counters, status, health, now };
        stage.direct_takes(true);
        stage
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub fn set(&self, mode: Mode) {
        self.world().mode = mode;
    }

    pub fn direct_takes(&self, takes: bool) {
        let level = if takes { Level::Ok } else { Level::Degraded };
        self.health.set(Component::Clickhouse, level, "");
    }

    pub fn add(&self, journal: usize, count: u64) {
        self.world().journals[journal].last += count;
    }

    pub fn fail_read(&self, journal: usize, error: SourceError) {
        self.world().journals[journal].fails.push_back(error);
    }

    /// Turns as a lane's thread would until `ms` have passed; gives what the last turn left.
    pub fn pass(&mut self, ms: u64) -> Turn {
        let end = self.now + Duration::from_millis(ms);
        for _ in 0..TURNS_MAX {
            self.world().rung = false;
            let turn = self.lane.turn(self.now);
            assert!(self.world().held.len() <= IN_FLIGHT_MAX);
            assert!(turn.rest_until > self.now, "time must pass");
            if turn.ended {
                return turn;
            }
            let rung = self.world().rung;
            if !turn.more && !rung {
                if self.now == end {
                    return turn;
                }
                self.now = turn.rest_until.min(end);
            }
        }
        panic!("the lane turns for ever");
    }

    pub fn stop_within(&mut self, ms: u64) {
        self.lane.stop_by(self.now + Duration::from_millis(ms));
    }

    /// Kafka's word on all that it has and was silent of.
    pub fn land_all(&self, outcome: Result<(), Failure>) {
        let mut world = self.world();
        for tag in std::mem::take(&mut world.held) {
            world.answer(tag, outcome.clone());
        }
    }

    /// On one of them.
    pub fn land(&self, (source, sequence): Name, outcome: Result<(), Failure>) {
        let mut world = self.world();
        let found = |tag: &Tag| (tag.source, tag.sequence) == (source, sequence);
        let at = world.held.iter().position(found).expect("Kafka has it");
        let tag = world.held.remove(at);
        world.answer(tag, outcome);
    }

    /// The direct route takes what it was handed, and has not inserted it.
    pub fn take_handed(&mut self) -> Vec<Name> {
        let mut names = Vec::new();
        for (journal, handed) in self.handed.iter_mut().enumerate() {
            while let Some(block) = handed.next_block().unwrap() {
                let sequence = block.header.id.sequence;
                self.taken[journal].push_back(sequence);
                names.push((journal, sequence));
            }
        }
        names
    }

    /// The direct route inserts all that it was handed.
    pub fn insert(&mut self) -> Vec<Name> {
        self.take_handed();
        let mut names = Vec::new();
        for journal in 0..self.taken.len() {
            for sequence in std::mem::take(&mut self.taken[journal]) {
                self.world().arrived.insert((journal, sequence));
                self.handed[journal].mark_forwarded(sequence).unwrap();
                names.push((journal, sequence));
            }
        }
        names
    }

    /// How many sinks there were.
    pub fn made(&self) -> usize {
        self.world().made
    }

    /// Every record that was ever taken, in that order.
    pub fn names_sent(&self) -> Vec<Name> {
        self.world().sent.clone()
    }

    /// The same, where there is one journal.
    pub fn sent(&self) -> Vec<u64> {
        self.world().sent.iter().map(|(_, sequence)| *sequence).collect()
    }

    pub fn marks(&self) -> Vec<u64> {
        self.world().journals.iter().map(|journal| journal.marked).collect()
    }

    pub fn lasts(&self) -> Vec<u64> {
        self.world().journals.iter().map(|journal| journal.last).collect()
    }

    pub fn seeks(&self) -> usize {
        self.world().journals.iter().map(|journal| journal.seeks).sum()
    }

    /// What `/readyz` says of Kafka.
    pub fn reason(&self) -> String {
        let ailments = self.health.report().ailments;
        let found = ailments.into_iter().find(|ailment| ailment.component == Component::Kafka);
        found.map_or(String::new(), |ailment| ailment.reason)
    }

    pub fn is_direct(&self) -> bool {
        value(&self.counters.route) == 1
    }
}

pub fn value(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn maker(world: &Shared) -> SinkMaker {
    let world = Arc::clone(world);
    Box::new(move |reports, linger| {
        let mut inside = world.lock().unwrap();
        if let Some(reason) = inside.unmakeable {
            anyhow::bail!(reason);
        }
        inside.made += 1;
        inside.linger = linger;
        inside.reports = Some(reports);
        drop(inside);
        Ok(Box::new(Sink(Arc::clone(&world))))
    })
}
