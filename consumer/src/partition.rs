//! One partition's books: what is buffered, what is on its way to ClickHouse, what may be committed.
//!
//! Pure: time comes in as an argument. Knows no Kafka client and no ClickHouse.
//!
//! Invariants: records are handed out in the order of their offsets, each once; one range is in
//! flight at a time; the offset to commit never passes a record that is not done; a commit never goes
//! back.

use crate::record::{Record, Unreadable};
use bytes::Bytes;
use proto::Block;
use proto::insert::Refusals;
use proto::planted::{Planted, is_planted};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What one record costs beside its bytes: librdkafka's and ours. It bounds a flood of empty records.
pub const RECORD_OVERHEAD_BYTES: usize = 1024;
/// Before a commit that failed is tried again.
const COMMIT_PAUSE: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RangeId(pub u64);

#[derive(Clone, Copy, Debug)]
pub struct RangeLimits {
    pub rows_max: usize,
    pub bytes_max: usize,
    /// How long a range that is not full waits for more.
    pub linger: Duration,
}

/// A record that is no block: a dead letter as it is.
#[derive(Clone, Debug)]
pub struct BadRecord {
    pub offset: i64,
    pub bytes: Bytes,
    pub why: Unreadable,
}

/// Contiguous records of one partition and one row layout: what one INSERT sends. Never empty, but it
/// may hold bad records alone.
#[derive(Clone, Debug)]
pub struct Range {
    pub id: RangeId,
    pub partition: i32,
    pub first_offset: i64,
    /// What is committed once the range is done.
    pub next_offset: i64,
    pub blocks: Vec<Block>,
    /// Of each block.
    pub offsets: Vec<i64>,
    pub bad: Vec<BadRecord>,
    pub rows: usize,
    pub bytes: usize,
    /// Of the newest row; `i64::MIN` without rows.
    pub received_at_ns: i64,
    /// Of it; where records have joined, only how often its beginning was refused.
    pub refusals: Refusals,
}

/// A refusal of a whole range, kept for the next range that begins with its records.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    refusals: Refusals,
    next_offset: i64,
    /// No range before this.
    until: Instant,
}

#[derive(Clone)]
struct Entry {
    offset: i64,
    record: Record,
    bytes: usize,
    arrived: Instant,
}

struct InFlight {
    id: RangeId,
    next_offset: i64,
    bytes: usize,
    /// As they were cut, should they be given back.
    entries: Vec<Entry>,
}

pub struct Partition {
    /// The lowest offset that is still expected.
    next_offset: i64,
    buffered: VecDeque<Entry>,
    buffered_rows: usize,
    buffered_bytes: usize,
    in_flight: Option<InFlight>,
    refusal: Option<Refusal>,
    /// Everything below is done.
    done: i64,
    committed: i64,
    commit_sent: i64,
    commit_after: Option<Instant>,
    pub paused: bool,
    /// Set while the partition is being given back: when waiting ends.
    pub leaving: Option<Instant>,
}

impl Partition {
    /// Reading begins at `offset`.
    pub fn new(offset: i64) -> Partition {
        Partition {
            next_offset: offset,
            buffered: VecDeque::new(),
            buffered_rows: 0,
            buffered_bytes: 0,
            in_flight: None,
            refusal: None,
            done: offset,
            committed: offset,
            commit_sent: offset,
            commit_after: None,
            paused: false,
            leaving: None,
        }
    }

    /// Takes a record. One that was taken before, or that comes while the partition is given back, is
    /// dropped. Gives whether it was taken.
    pub fn push(&mut self, now: Instant, offset: i64, record: Record, value_bytes: usize) -> bool {
        if offset < self.next_offset || self.leaving.is_some() {
            return false;
        }
        let bytes = value_bytes + RECORD_OVERHEAD_BYTES;
        self.next_offset = offset + 1;
        self.buffered_rows += record.row_count();
        self.buffered_bytes += bytes;
        self.buffered.push_back(Entry { offset, record, bytes, arrived: now });
        true
    }

    pub fn held_bytes(&self) -> usize {
        self.buffered_bytes + self.in_flight.as_ref().map_or(0, |range| range.bytes)
    }

    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    pub fn done_offset(&self) -> i64 {
        self.done
    }

    pub fn in_flight(&self) -> Option<RangeId> {
        self.in_flight.as_ref().map(|range| range.id)
    }

    /// When the oldest buffered record has waited long enough; `None` while nothing can be sent.
    pub fn due(&self, limits: &RangeLimits) -> Option<Instant> {
        if self.in_flight.is_some() || self.leaving.is_some() {
            return None;
        }
        let lingered = self.buffered.front()?.arrived + limits.linger;
        Some(self.refusal.map_or(lingered, |refusal| lingered.max(refusal.until)))
    }

    /// Whether a range can be cut now. `urgent`: there is no more room, waiting would not fill it.
    pub fn is_ready(&self, now: Instant, limits: &RangeLimits, urgent: bool) -> bool {
        let full = self.buffered_rows >= limits.rows_max || self.buffered_bytes >= limits.bytes_max;
        let refused = self.refusal.is_some_and(|refusal| now < refusal.until);
        !refused && self.due(limits).is_some_and(|due| full || urgent || now >= due)
    }

    /// Cuts the next range from the front: one layout, at most the limits, at least one record. It
    /// is in flight from now on.
    pub fn cut(&mut self, id: RangeId, partition: i32, limits: &RangeLimits) -> Range {
        assert!(self.in_flight.is_none(), "one range in flight per partition");
        let first_offset = self.buffered.front().expect("a ready partition has a record").offset;
        let mut range = Range {
            id,
            partition,
            first_offset,
            next_offset: first_offset,
            blocks: Vec::new(),
            offsets: Vec::new(),
            bad: Vec::new(),
            rows: 0,
            bytes: 0,
            received_at_ns: i64::MIN,
            refusals: self.refusal.map_or(Refusals::default(), |refusal| refusal.refusals),
        };
        let mut entries = Vec::new();
        while let Some(entry) = self.buffered.front() {
            let first = range.next_offset == first_offset;
            if !first && !fits(&range, entry, limits) {
                break;
            }
            let entry = self.buffered.pop_front().expect("the front was just looked at");
            self.buffered_rows -= entry.record.row_count();
            self.buffered_bytes -= entry.bytes;
            range.next_offset = entry.offset + 1;
            range.bytes += entry.bytes;
            entries.push(entry.clone());
            match entry.record {
                Record::Bad { bytes, why } => {
                    range.bad.push(BadRecord { offset: entry.offset, bytes, why });
                }
                Record::Block { block, received_at_ns } if block.header.row_count > 0 => {
                    range.rows += block.header.row_count as usize;
                    range.received_at_ns = range.received_at_ns.max(received_at_ns);
                    range.offsets.push(entry.offset);
                    range.blocks.push(block);
                }
                // A block without rows is done as it is.
                Record::Block { .. } => {}
            }
        }
        let (next_offset, bytes) = (range.next_offset, range.bytes);
        self.in_flight = Some(InFlight { id, next_offset, bytes, entries });
        if self.refusal.is_some_and(|refusal| refusal.next_offset != next_offset) {
            range.refusals.moment = None;
        }
        range
    }

    /// The range in flight has its place, bad records included.
    pub fn finish(&mut self) {
        let range = self.in_flight.take().expect("only a range in flight is finished");
        self.done = range.next_offset;
        self.refusal = None;
    }

    /// The range in flight was refused whole: nothing of it has a place.
    /// Its records are cut again after `until`, with those that have come behind them: rows that are
    /// taken tell that the others are to blame themselves.
    pub fn give_back(&mut self, until: Instant, refusals: Refusals) {
        let range = self.in_flight.take().expect("only a range in flight is given back");
        if self.leaving.is_some() {
            self.next_offset = self.done;
            return;
        }
        self.refusal = Some(Refusal { refusals, next_offset: range.next_offset, until });
        self.buffered_bytes += range.bytes;
        for entry in range.entries.into_iter().rev() {
            self.buffered_rows += entry.record.row_count();
            self.buffered.push_front(entry);
        }
    }

    /// What to commit now, once; one commit is under way at a time.
    pub fn take_commit(&mut self, now: Instant) -> Option<i64> {
        if is_planted(Planted::CommitBeforeInsert)
            && let Some(range) = &self.in_flight
        {
            self.done = range.next_offset;
        }
        let waits = self.commit_after.is_some_and(|after| now < after);
        if waits || self.commit_is_under_way() || self.done <= self.commit_sent {
            return None;
        }
        self.commit_after = None;
        self.commit_sent = self.done;
        Some(self.done)
    }

    /// A commit was asked for and has no outcome yet.
    pub fn commit_is_under_way(&self) -> bool {
        self.commit_sent > self.committed
    }

    pub fn on_commit(&mut self, now: Instant, offset: i64, done: bool) {
        if offset != self.commit_sent {
            // Of an earlier assignment.
        } else if done {
            self.committed = offset;
        } else {
            self.commit_sent = self.committed;
            self.commit_after = Some(now + COMMIT_PAUSE);
        }
    }

    /// When a failed commit is tried again.
    pub fn commit_due(&self) -> Option<Instant> {
        self.commit_after.filter(|_| self.done > self.commit_sent)
    }

    /// Stops taking records; those not yet on their way are dropped, as whoever reads the partition
    /// next reads them again.
    pub fn leave(&mut self, until: Instant) {
        self.leaving = Some(self.leaving.map_or(until, |earlier| earlier.min(until)));
        self.buffered.clear();
        (self.buffered_rows, self.buffered_bytes) = (0, 0);
        self.next_offset = self.in_flight.as_ref().map_or(self.done, |range| range.next_offset);
    }

    /// Nothing is under way: no range, no commit.
    pub fn is_settled(&self) -> bool {
        self.in_flight.is_none() && self.committed == self.done
    }
}

fn fits(range: &Range, entry: &Entry, limits: &RangeLimits) -> bool {
    let same_layout = match (&entry.record, range.blocks.first()) {
        (Record::Block { block, .. }, Some(first)) => block.header.layout == first.header.layout,
        _ => true,
    };
    same_layout
        && range.rows + entry.record.row_count() <= limits.rows_max
        && range.bytes + entry.bytes <= limits.bytes_max
}
