//! What became of one journal's blocks: which are in Kafka's or the direct route's hands, which must
//! be read again, and how far all before are done.
//!
//! Pure; knows sequences, no blocks. Memory of a block is dropped as soon as it is sent, so what
//! failed is read again from the journal. Invariants: the mark moves over done blocks alone and never
//! back; a block that is given out twice at the same time was given to both routes; nothing that
//! is done is given out again.

use std::collections::{BTreeSet, VecDeque};

/// Blocks that may be given out beyond the first one that is not done.
const BLOCKS_AHEAD_MAX: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Kafka has it and has not said anything.
    InFlight,
    /// To be read and sent again.
    Again,
    /// The direct route has it.
    Handed,
    Done,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    sequence: u64,
    fate: Fate,
    /// Kafka refused the batch that it was in: it goes again, as a batch of its own.
    alone: bool,
    /// Kafka will never take it, or never can.
    direct_only: bool,
    /// A copy is with the direct route, whatever else was tried since.
    handed: bool,
}

impl Entry {
    fn new(sequence: u64, fate: Fate) -> Entry {
        Entry { sequence, fate, alone: false, direct_only: false, handed: false }
    }
}

/// What to read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A block that was given out before.
    Again(u64),
    /// The first that never was.
    Unread,
}

#[derive(Debug, Default)]
pub struct Ledger {
    /// In the order of their sequences, which may have holes where the journal is damaged. The first
    /// is never done.
    entries: VecDeque<Entry>,
    /// To be read again, in three parts: what may share a batch, what goes to Kafka alone, and what
    /// Kafka will never take.
    again: BTreeSet<u64>,
    again_alone: BTreeSet<u64>,
    again_direct: BTreeSet<u64>,
    /// Blocks whose copy is with the direct route.
    handed: usize,
    /// Open blocks that Kafka will never take.
    direct_only: usize,
    mark: Option<u64>,
}

impl Ledger {
    /// Whether a block that was never given out may be now.
    pub fn has_room(&self) -> bool {
        self.entries.len() < BLOCKS_AHEAD_MAX
    }

    /// The next block for Kafka, of those that may share a batch.
    pub fn next_for_kafka(&self) -> Wanted {
        self.again.first().map_or(Wanted::Unread, |sequence| Wanted::Again(*sequence))
    }

    /// The next block that Kafka gets while it has nothing else.
    pub fn next_alone(&self) -> Option<u64> {
        self.again_alone.first().copied()
    }

    /// The next block for the direct route while that is the route.
    pub fn next_for_direct(&self) -> Wanted {
        let firsts = [&self.again, &self.again_alone, &self.again_direct].map(BTreeSet::first);
        let first = firsts.into_iter().flatten().min();
        first.map_or(Wanted::Unread, |sequence| Wanted::Again(*sequence))
    }

    /// The next block that can only go the direct way, whatever the route.
    pub fn next_direct_only(&self) -> Option<u64> {
        self.again_direct.first().copied()
    }

    /// Whether the direct route has a copy already: then nothing need be sent.
    pub fn is_with_direct(&self, sequence: u64) -> bool {
        self.find(sequence).is_some_and(|at| self.entries[at].handed)
    }

    pub fn on_sent(&mut self, sequence: u64) {
        self.give_out(sequence, Fate::InFlight);
    }

    pub fn on_handed(&mut self, sequence: u64) {
        let at = self.give_out(sequence, Fate::Handed);
        if !std::mem::replace(&mut self.entries[at].handed, true) {
            self.handed += 1;
        }
    }

    /// Kafka has it for good.
    pub fn on_delivered(&mut self, sequence: u64) {
        if let Some(at) = self.find(sequence) {
            self.finish(at);
        }
    }

    /// Kafka's outcome was no delivery. The direct route may have been faster.
    pub fn on_failed(&mut self, sequence: u64) {
        if let Some(at) = self.find(sequence)
            && self.entries[at].fate == Fate::InFlight
        {
            self.want_again(at);
        }
    }

    /// Kafka refused the batch with this block. Sent alone, it was the block itself, and Kafka will
    /// never take it.
    pub fn on_rejected(&mut self, sequence: u64) {
        if let Some(at) = self.find(sequence)
            && self.entries[at].fate == Fate::InFlight
        {
            if std::mem::replace(&mut self.entries[at].alone, true) {
                self.leave_to_direct_alone(at);
            }
            self.want_again(at);
        }
    }

    /// The direct route has it in ClickHouse, or among the dead letters.
    pub fn on_direct_done(&mut self, sequence: u64) {
        if let Some(at) = self.find(sequence) {
            self.finish(at);
        }
    }

    /// The journal cannot give these any more. It has told of it; nothing waits for them, but for
    /// those of which the direct route has a copy: the last.
    pub fn on_lost(&mut self, first: u64, last: u64) {
        let again = [&self.again, &self.again_alone, &self.again_direct];
        let lost = again.into_iter().flat_map(|part| part.range(first..=last).copied());
        for sequence in lost.collect::<Vec<u64>>() {
            let at = self.find(sequence).expect("what is to be sent again has an entry");
            if self.entries[at].handed {
                self.give_out(sequence, Fate::Handed);
                self.leave_to_direct_alone(at);
            } else {
                self.finish(at);
            }
        }
        // Those that were never given out are done with, too, or the mark would wait before the end
        // of a journal for a block that comes behind them.
        if self.entries.back().is_none_or(|back| back.sequence < last) {
            self.entries.push_back(Entry::new(last, Fate::Done));
            self.move_mark();
        }
    }

    /// The direct route has stopped moving: what it has goes to Kafka as well. Event ids make one of
    /// the two.
    pub fn reclaim_handed(&mut self) {
        for at in 0..self.entries.len() {
            if self.entries[at].fate == Fate::Handed && !self.entries[at].direct_only {
                self.want_again(at);
            }
        }
    }

    /// The direct route is the route again and still has a copy of `sequence`.
    pub fn leave_to_direct(&mut self, sequence: u64) {
        self.give_out(sequence, Fate::Handed);
    }

    /// No answer will come for what Kafka had.
    pub fn on_producer_gone(&mut self) {
        for at in 0..self.entries.len() {
            if self.entries[at].fate == Fate::InFlight {
                self.want_again(at);
            }
        }
    }

    /// The last sequence of the contiguous done prefix, once for each time that it moved.
    pub fn take_mark(&mut self) -> Option<u64> {
        self.mark.take()
    }

    /// Nothing is in anybody's hands or to be sent again.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn has_handed(&self) -> bool {
        self.handed > 0
    }

    /// Whether only the direct route can take what is open.
    pub fn is_left_to_direct(&self) -> bool {
        self.entries.iter().all(|entry| entry.fate == Fate::Done || entry.direct_only)
    }

    /// How many blocks only the direct route can take now.
    pub fn direct_only(&self) -> usize {
        self.direct_only
    }

    fn find(&self, sequence: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&sequence, |entry| entry.sequence).ok()
    }

    fn want_again(&mut self, at: usize) {
        let entry = &mut self.entries[at];
        entry.fate = Fate::Again;
        let part = match *entry {
            Entry { direct_only: true, .. } => &mut self.again_direct,
            Entry { alone: true, .. } => &mut self.again_alone,
            _ => &mut self.again,
        };
        part.insert(entry.sequence);
    }

    fn leave_to_direct_alone(&mut self, at: usize) {
        if !std::mem::replace(&mut self.entries[at].direct_only, true) {
            self.direct_only += 1;
        }
    }

    fn forget(&mut self, sequence: u64) {
        self.again.remove(&sequence);
        self.again_alone.remove(&sequence);
        self.again_direct.remove(&sequence);
    }

    fn give_out(&mut self, sequence: u64, fate: Fate) -> usize {
        let found = self.entries.binary_search_by_key(&sequence, |entry| entry.sequence);
        self.forget(sequence);
        match found {
            Ok(at) => {
                let entry = &mut self.entries[at];
                assert_eq!(entry.fate, Fate::Again, "block {sequence} is given out once at a time");
                entry.fate = fate;
                at
            }
            Err(at) => {
                assert_eq!(at, self.entries.len(), "unread blocks come in order: {sequence}");
                self.entries.push_back(Entry::new(sequence, fate));
                at
            }
        }
    }

    fn finish(&mut self, at: usize) {
        let entry = &mut self.entries[at];
        entry.fate = Fate::Done;
        if std::mem::take(&mut entry.handed) {
            self.handed -= 1;
        }
        if std::mem::take(&mut entry.direct_only) {
            self.direct_only -= 1;
        }
        let sequence = entry.sequence;
        self.forget(sequence);
        self.move_mark();
    }

    fn move_mark(&mut self) {
        while let Some(first) = self.entries.front()
            && first.fate == Fate::Done
        {
            self.mark = Some(first.sequence);
            self.entries.pop_front();
        }
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
