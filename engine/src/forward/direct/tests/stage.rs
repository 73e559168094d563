//! The world around a forwarder under test: journals, the file, ClickHouse's memory, the time.

use super::super::*;
use crate::admin::Component;
use crate::forward::SourceError;
use proto::backoff::Pace;
use proto::insert::InsertFailure;
use proto::{Block, samples};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Mutex, MutexGuard};

/// Where the wall clock stands at the start.
pub const START_UNIX_MS: i64 = 1_700_000_000_000;

#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Take,
    /// It is stored, and nobody is told.
    TakeSilently,
    /// Nothing is stored.
    Away,
    NoTable,
    Refuse,
}

#[derive(Default)]
pub struct Journal {
    pub waiting: VecDeque<Block>,
    /// Sequences given out and not yet marked, with their rows.
    pub given: VecDeque<(u64, Vec<u64>)>,
    pub marked: Vec<u64>,
    pub failing_marks: usize,
    pub failing_read: Option<SourceError>,
}

#[derive(Default)]
pub struct World {
    pub sources: Vec<Journal>,
    pub failing_appends: usize,
    /// Rows, and when they were put aside.
    pub dead: Vec<(u64, i64)>,
    /// How often ClickHouse has each row, tokens deduplicated as it does.
    pub stored: BTreeMap<u64, u64>,
    taken: BTreeSet<String>,
    /// The rows of each token that was seen.
    tokens: BTreeMap<String, Vec<u64>>,
}

impl World {
    pub fn dead_rows(&self) -> Vec<u64> {
        self.dead.iter().map(|(row, _)| *row).collect()
    }

    fn has_a_place(&self, row: &u64) -> bool {
        self.stored.contains_key(row) || self.dead.iter().any(|(dead, _)| dead == row)
    }
}

type SharedWorld = Arc<Mutex<World>>;

fn lock(world: &SharedWorld) -> MutexGuard<'_, World> {
    world.lock().expect("no test goes on after a panic")
}

struct ScriptedSource {
    world: SharedWorld,
    index: usize,
}

impl BlockSource for ScriptedSource {
    fn next_block(&mut self) -> Result<Option<Block>, SourceError> {
        let journal = &mut lock(&self.world).sources[self.index];
        if let Some(error) = journal.failing_read.take() {
            if let SourceError::Lost { last_sequence, .. } = error {
                journal.given.push_back((last_sequence, Vec::new()));
            }
            return Err(error);
        }
        let block = journal.waiting.pop_front();
        let given =
            block.iter().map(|block| (block.header.id.sequence, samples::users(&block.payload)));
        journal.given.extend(given);
        Ok(block)
    }

    fn mark_forwarded(&mut self, sequence: u64) -> Result<(), SourceError> {
        let mut world = lock(&self.world);
        let journal = &mut world.sources[self.index];
        if journal.failing_marks > 0 {
            journal.failing_marks -= 1;
            return Err(SourceError::Retry("scripted".to_owned()));
        }
        let through = journal.given.iter().position(|(given, _)| *given == sequence);
        let through = through.expect("what is marked was given, and never marked before");
        let marked: Vec<_> = journal.given.drain(..=through).collect();
        journal.marked.push(sequence);
        for (sequence, rows) in marked {
            let placed = rows.iter().all(|row| world.has_a_place(row));
            assert!(placed, "block {sequence} is marked, but its rows are nowhere");
        }
        Ok(())
    }
}

struct ScriptedFile(SharedWorld);

impl DeadFile for ScriptedFile {
    fn append(&mut self, rows: &[DeadRow], at_ms: i64) -> io::Result<()> {
        let mut world = lock(&self.0);
        if world.failing_appends > 0 {
            world.failing_appends -= 1;
            return Err(io::Error::other("scripted"));
        }
        let dead = rows.iter().flat_map(|row| samples::users(&row.bytes)).map(|row| (row, at_ms));
        world.dead.extend(dead);
        Ok(())
    }
}

pub fn limits() -> DirectLimits {
    let second = Duration::from_secs(1);
    DirectLimits {
        batch: BatchLimits {
            rows_max: 4,
            bytes_max: 1 << 20,
            chain_bytes_max: 1 << 20,
            linger: Duration::from_millis(100),
            chain_wait: Some(second),
        },
        inserts_in_flight_max: 2,
        backoff: Backoff { min: second, max: 4 * second },
        breaker_failures: 3,
        breaker_open_for: 2 * second,
    }
}

pub struct Stage {
    pub forwarder: DirectForwarder,
    pub counters: Arc<ForwardCounters>,
    pub start: Instant,
    pub now: Instant,
    /// INSERTs without an answer.
    pub under_way: Vec<Insert>,
    health: Arc<Health>,
    world: SharedWorld,
}

impl Stage {
    pub fn new(limits: DirectLimits, sources: usize, seed: u64) -> Stage {
        let world = SharedWorld::default();
        lock(&world).sources.resize_with(sources, Journal::default);
        let scripted = |index| ScriptedSource { world: Arc::clone(&world), index };
        let (counters, health) = (Arc::<ForwardCounters>::default(), Health::new(0));
        let parts = DirectParts {
            limits,
            sources: (0..sources).map(|index| Box::new(scripted(index)) as _).collect(),
            dead: Box::new(ScriptedFile(Arc::clone(&world))),
            counters: Arc::clone(&counters),
            health: Arc::clone(&health),
            seed,
        };
        let start = Instant::now();
        let forwarder = DirectForwarder::new(parts, start);
        let (now, under_way) = (start, Vec::new());
        Stage { forwarder, counters, start, now, under_way, health, world }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    pub fn at(&mut self, ms: u64) {
        let now = self.start + Duration::from_millis(ms);
        assert!(now >= self.now, "time does not go back");
        self.now = now;
    }

    pub fn unix_ms(&self) -> i64 {
        START_UNIX_MS + (self.now - self.start).as_millis() as i64
    }

    pub fn turn(&mut self, stopping: bool) -> bool {
        let (now, unix_ms) = (self.now, self.unix_ms());
        self.forwarder.turn(now, unix_ms, stopping)
    }

    /// A block of so many rows; see [`super::Step`] for their numbers.
    pub fn give(&mut self, source: usize, sequence: u64, rows: u64, continues: bool) {
        let users = sequence * 10..sequence * 10 + rows;
        let block = samples::block(source as u8, sequence, users, continues);
        self.world().sources[source].waiting.push_back(block);
    }

    pub fn fail_read(&self, source: usize, for_good: bool) {
        let error = match for_good {
            true => SourceError::Fatal("scripted damage".to_owned()),
            false => SourceError::Retry("scripted".to_owned()),
        };
        self.world().sources[source].failing_read = Some(error);
    }

    pub fn says(&self, component: Component) -> String {
        let found = self.health.report().ailments.into_iter();
        let mut found = found.filter(|ailment| ailment.component == component);
        found.next().map_or(String::new(), |ailment| ailment.reason)
    }

    /// One INSERT onto the wire. The same token always stands for the same rows.
    pub fn send_one(&mut self) -> Option<Insert> {
        let insert = self.forwarder.next_insert(self.now)?;
        let rows = rows_in(&insert);
        assert_eq!(rows.len(), insert.rows);
        let mut world = self.world();
        let known = world.tokens.entry(insert.token.clone()).or_insert_with(|| rows.clone());
        assert_eq!(*known, rows, "one token, other rows");
        drop(world);
        assert!(self.under_way.iter().all(|other| other.id != insert.id), "one INSERT a batch");
        self.under_way.push(insert.clone());
        Some(insert)
    }

    /// All INSERTs that go now, by their rows.
    pub fn send(&mut self) -> Vec<Vec<u64>> {
        std::iter::from_fn(|| self.send_one()).map(|insert| rows_in(&insert)).collect()
    }

    #[track_caller]
    pub fn answer(&mut self, first_row: u64, answer: Answer) {
        let begins = |insert: &Insert| rows_in(insert)[0] == first_row;
        let at = self.under_way.iter().position(begins).expect("such an INSERT is under way");
        self.answer_at(at, answer);
    }

    pub fn answer_at(&mut self, at: usize, answer: Answer) {
        let insert = self.under_way.remove(at);
        let stores = matches!(answer, Answer::Take | Answer::TakeSilently);
        let mut world = self.world();
        if stores && world.taken.insert(insert.token.clone()) {
            for row in rows_in(&insert) {
                *world.stored.entry(row).or_default() += 1;
            }
        }
        drop(world);
        // Only who is there has a code for it.
        let code = if let Answer::Away = answer { 0 } else { 7 };
        let fails = |kind, pace| Err(Failure::new(kind, pace, code, "scripted"));
        let outcome = match answer {
            Answer::Take => Ok(()),
            Answer::TakeSilently => fails(InsertFailure::Unknown, Pace::Busy),
            Answer::Away => fails(InsertFailure::Retry, Pace::Away),
            Answer::NoTable => fails(InsertFailure::Schema, Pace::Slow),
            Answer::Refuse => fails(InsertFailure::Refused, Pace::Slow),
        };
        self.forwarder.on_outcome(insert.id, outcome, self.now);
    }
}

pub fn rows_in(insert: &Insert) -> Vec<u64> {
    insert.payloads.iter().flat_map(|payload| samples::users(payload)).collect()
}
