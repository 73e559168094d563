//! The consumer's decisions: what is read, what is inserted when, what is committed, what is given
//! back. A state machine without threads, clock or randomness: records, completions and time come in,
//! [`Action`]s go out.
//!
//! Invariants, with those of [`crate::partition`]: at most `inserts_max` ranges in flight; bytes held
//! stay within `bytes_max` and one record; a partition that is paused is resumed when its bytes are
//! half of its share; after [`Desk::lose`] nothing of the partition is committed.
//!
//! Back-pressure has two steps. When a partition has its share of the memory, all reading stops for
//! up to `hold_max`: mostly an INSERT ends within that, and what librdkafka has fetched is kept. Only
//! then the partition is paused, which throws away what was fetched of it, and the others go on.

use crate::partition::{Partition, Range, RangeId, RangeLimits};
use crate::record::Record;
use proto::insert::Refusals;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub struct DeskLimits {
    pub range: RangeLimits,
    pub inserts_max: usize,
    /// Of all partitions, buffered and in flight.
    pub bytes_max: usize,
    /// How long reading stops before a full partition is paused.
    pub hold_max: Duration,
}

#[derive(Clone, Debug)]
pub enum Action {
    /// Send it, then call [`Desk::on_done`] or [`Desk::on_refused`].
    Insert(Range),
    /// Commit these `(partition, offset)`, then call [`Desk::on_commit`].
    Commit(Vec<(i32, i64)>),
    Pause(i32),
    Resume(i32),
    /// The partition may be given back. What is still under way of it, an INSERT or a commit, took too
    /// long: nobody waits for it any more, and the commit must not come behind the next member's.
    Release {
        partition: i32,
        unfinished: Option<RangeId>,
        uncommitted: bool,
    },
}

/// Whether the next record may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    Open,
    /// Not before this moment, unless something is done earlier.
    Held(Instant),
}

pub struct Desk {
    limits: DeskLimits,
    partitions: BTreeMap<i32, Partition>,
    flights: BTreeMap<RangeId, i32>,
    next_range: u64,
    /// The partition after this one is asked first.
    last_served: i32,
    held_since: Option<Instant>,
}

impl Desk {
    pub fn new(limits: DeskLimits) -> Desk {
        assert!(limits.inserts_max > 0 && limits.bytes_max > 0, "a desk can take something");
        Desk {
            limits,
            partitions: BTreeMap::new(),
            flights: BTreeMap::new(),
            next_range: 0,
            last_served: -1,
            held_since: None,
        }
    }

    /// The partition is ours, and is read from `offset` on.
    pub fn assign(&mut self, partition: i32, offset: i64) {
        self.lose(partition);
        self.partitions.insert(partition, Partition::new(offset));
    }

    /// Takes a record; gives whether it was expected.
    pub fn push(
        &mut self,
        now: Instant,
        partition: i32,
        offset: i64,
        record: Record,
        value_bytes: usize,
    ) -> bool {
        let books = self.partitions.get_mut(&partition);
        books.is_some_and(|books| books.push(now, offset, record, value_bytes))
    }

    /// The rows of a range are in ClickHouse or among the dead letters.
    pub fn on_done(&mut self, id: RangeId) {
        if let Some(partition) = self.flights.remove(&id) {
            let books = self.partitions.get_mut(&partition);
            books.expect("a flight's partition is known").finish();
        }
    }

    /// A range was refused whole; not to be sent before `until`, and then with what has come behind
    /// it.
    pub fn on_refused(&mut self, id: RangeId, until: Instant, refusals: Refusals) {
        if let Some(partition) = self.flights.remove(&id) {
            let books = self.partitions.get_mut(&partition);
            books.expect("a flight's partition is known").give_back(until, refusals);
        }
    }

    pub fn on_commit(&mut self, now: Instant, partition: i32, offset: i64, done: bool) {
        if let Some(books) = self.partitions.get_mut(&partition) {
            books.on_commit(now, offset, done);
        }
    }

    /// The partition goes to another member: its running INSERT may end until `until`.
    pub fn revoke(&mut self, partition: i32, until: Instant) {
        if let Some(books) = self.partitions.get_mut(&partition) {
            books.leave(until);
        }
    }

    /// The partition is another member's already. Gives the INSERT that is still running.
    pub fn lose(&mut self, partition: i32) -> Option<RangeId> {
        let unfinished = self.partitions.remove(&partition)?.in_flight();
        if let Some(id) = unfinished {
            self.flights.remove(&id);
        }
        unfinished
    }

    pub fn revoke_all(&mut self, until: Instant) {
        self.partitions.values_mut().for_each(|books| books.leave(until));
    }

    /// What to do now; ask again until there is nothing.
    pub fn next_action(&mut self, now: Instant) -> Option<Action> {
        if let Some(release) = self.release(now) {
            return Some(release);
        }
        let commits: Vec<(i32, i64)> = self
            .partitions
            .iter_mut()
            .filter_map(|(partition, books)| Some((*partition, books.take_commit(now)?)))
            .collect();
        if !commits.is_empty() {
            return Some(Action::Commit(commits));
        }
        self.insert(now).or_else(|| self.pause_or_resume(now))
    }

    fn release(&mut self, now: Instant) -> Option<Action> {
        let leaves = |books: &Partition| books.leaving.is_some_and(|until| now >= until);
        let settled = |books: &Partition| books.leaving.is_some() && books.is_settled();
        let mut partitions = self.partitions.iter();
        let (&partition, books) = partitions.find(|(_, books)| leaves(books) || settled(books))?;
        let uncommitted = books.commit_is_under_way();
        Some(Action::Release { partition, unfinished: self.lose(partition), uncommitted })
    }

    fn insert(&mut self, now: Instant) -> Option<Action> {
        if self.flights.len() >= self.limits.inserts_max {
            return None;
        }
        let after = self.partitions.range(self.last_served + 1..);
        let in_turn = after.chain(self.partitions.range(..=self.last_served));
        let crowded = self.held_bytes() >= self.limits.bytes_max;
        let (share, limits) = (self.share_bytes(), self.limits.range);
        let (&partition, _) = in_turn.into_iter().find(|(_, books)| {
            books.is_ready(now, &limits, crowded || books.held_bytes() >= share)
        })?;
        self.next_range += 1;
        self.last_served = partition;
        let id = RangeId(self.next_range);
        self.flights.insert(id, partition);
        let books = self.partitions.get_mut(&partition).expect("it was just found");
        Some(Action::Insert(books.cut(id, partition, &limits)))
    }

    fn pause_or_resume(&mut self, now: Instant) -> Option<Action> {
        let share = self.share_bytes();
        let crowded = self.held_bytes() >= self.limits.bytes_max;
        let hold_is_over = self.held_since.is_some_and(|since| now >= since + self.limits.hold_max);
        for (partition, books) in &mut self.partitions {
            let held = books.held_bytes();
            if !books.paused && (held >= share || crowded) && hold_is_over {
                books.paused = true;
                return Some(Action::Pause(*partition));
            }
            if books.paused && held <= share / 2 && !crowded {
                books.paused = false;
                return Some(Action::Resume(*partition));
            }
        }
        None
    }

    /// Whether a record may be taken. To be asked before every one.
    pub fn intake(&mut self, now: Instant) -> Intake {
        if !self.is_full() {
            self.held_since = None;
            return Intake::Open;
        }
        Intake::Held(*self.held_since.get_or_insert(now) + self.limits.hold_max)
    }

    /// Whether a partition that is read has its share, or all of them have everything.
    fn is_full(&self) -> bool {
        let share = self.share_bytes();
        let crowded = self.held_bytes() >= self.limits.bytes_max;
        self.partitions
            .values()
            .any(|books| !books.paused && (crowded || books.held_bytes() >= share))
    }

    /// When something is to be done even if nothing comes in.
    pub fn next_deadline(&self) -> Option<Instant> {
        let limits = &self.limits.range;
        let may_insert = self.flights.len() < self.limits.inserts_max;
        let of_one = |books: &Partition| {
            let due = books.due(limits).filter(|_| may_insert);
            [due, books.commit_due(), books.leaving].into_iter().flatten().min()
        };
        // Whoever has nothing to read asks for no intake, and so never ends a hold.
        let held = self.held_since.filter(|_| self.is_full());
        let held = held.map(|since| since + self.limits.hold_max);
        self.partitions.values().filter_map(of_one).chain(held).min()
    }

    /// What one partition may hold.
    fn share_bytes(&self) -> usize {
        self.limits.bytes_max / self.partitions.len().max(1)
    }

    pub fn held_bytes(&self) -> usize {
        self.partitions.values().map(Partition::held_bytes).sum()
    }

    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    pub fn paused(&self) -> usize {
        self.partitions.values().filter(|books| books.paused).count()
    }

    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// `(partition, next offset to read, everything below is done)` of each partition.
    pub fn positions(&self) -> impl Iterator<Item = (i32, i64, i64)> + '_ {
        let partitions = self.partitions.iter();
        partitions.map(|(id, books)| (*id, books.next_offset(), books.done_offset()))
    }

    /// The next offset of a partition, unless records of the topic are gone: we write neither
    /// transactions nor to a topic that is compacted.
    pub fn expected(&self, partition: i32) -> Option<i64> {
        self.partitions.get(&partition).map(Partition::next_offset)
    }

    pub fn has(&self, partition: i32) -> bool {
        self.partitions.contains_key(&partition)
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
