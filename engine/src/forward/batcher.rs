//! Blocks into batches, one INSERT each, and completions in any order into contiguous marks.
//!
//! Pure: time comes in as an argument. A request that spans several blocks goes into one batch whole,
//! so that it becomes visible at once; only a chain longer than any request may be is cut.

use proto::Block;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Blocks of one source that may be handed out beyond its first unfinished one.
const BLOCKS_AHEAD_MAX: usize = 1 << 16;

#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    pub rows_max: usize,
    pub bytes_max: usize,
    /// A chain longer than this is no single request and is cut.
    pub chain_bytes_max: usize,
    /// How long a batch that is not full waits for more.
    pub linger: Duration,
    /// How long a chain waits for its next block. `None`: it surely comes. Where it may have gone
    /// another way, what is here goes alone then.
    pub chain_wait: Option<Duration>,
}

#[derive(Clone, Debug)]
pub struct BatchBlock {
    pub source: usize,
    pub block: Block,
    /// Counts the blocks of a source as they came, which need not be in the order of sequences.
    ticket: u64,
}

/// What one INSERT sends. Never empty, of one row layout.
#[derive(Clone, Debug)]
pub struct Batch {
    pub id: u64,
    pub layout: u16,
    pub blocks: Vec<BatchBlock>,
    pub rows: usize,
    pub bytes: usize,
    /// When it is sent even though it is not full.
    due: Instant,
}

#[derive(Default)]
struct Source {
    /// Blocks whose last request goes on in a block that is not here yet.
    chain: Vec<BatchBlock>,
    chain_bytes: usize,
    /// When the last of them came.
    chain_since: Option<Instant>,
    /// Sequences taken and not yet marked, as they came, and whether each is finished.
    unmarked: VecDeque<(u64, bool)>,
    /// Ticket of the first of them.
    first_ticket: u64,
}

impl Source {
    /// The last sequence of the finished prefix, if it grew.
    fn move_mark(&mut self) -> Option<u64> {
        let mut through = None;
        while let Some((sequence, true)) = self.unmarked.front().copied() {
            through = Some(sequence);
            self.unmarked.pop_front();
            self.first_ticket += 1;
        }
        through
    }
}

pub struct Batcher {
    limits: BatchLimits,
    sources: Vec<Source>,
    open: Option<Batch>,
    sealed: VecDeque<Batch>,
    /// Sources and tickets.
    in_flight: BTreeMap<u64, Vec<(usize, u64)>>,
    next_id: u64,
}

impl Batcher {
    pub fn new(limits: BatchLimits, sources: usize) -> Batcher {
        Batcher {
            limits,
            sources: (0..sources).map(|_| Source::default()).collect(),
            open: None,
            sealed: VecDeque::new(),
            in_flight: BTreeMap::new(),
            next_id: 0,
        }
    }

    /// Whether a block of this source may be pushed now. False while a full batch waits, which
    /// bounds what is held in memory.
    pub fn wants(&self, source: usize) -> bool {
        self.sealed.is_empty() && self.sources[source].unmarked.len() < BLOCKS_AHEAD_MAX
    }

    pub fn push(&mut self, source: usize, block: Block, now: Instant) {
        let from = &mut self.sources[source];
        let ticket = from.first_ticket + from.unmarked.len() as u64;
        from.unmarked.push_back((block.header.id.sequence, false));
        from.chain_bytes += block.payload.len();
        // One layout per INSERT, and so per chain.
        let ends = !block.header.continues() || from.chain_bytes >= self.limits.chain_bytes_max;
        from.chain.push(BatchBlock { source, block, ticket });
        from.chain_since = Some(now);
        if ends {
            self.end_chain(source, now);
        }
    }

    fn end_chain(&mut self, source: usize, now: Instant) {
        let from = &mut self.sources[source];
        (from.chain_bytes, from.chain_since) = (0, None);
        let unit = std::mem::take(&mut from.chain);
        self.append(unit, now);
    }

    fn cut_chains(&mut self, now: Instant) {
        let Some(wait) = self.limits.chain_wait else { return };
        for source in 0..self.sources.len() {
            if self.sources[source].chain_since.is_some_and(|since| now >= since + wait) {
                self.end_chain(source, now);
            }
        }
    }

    fn append(&mut self, unit: Vec<BatchBlock>, now: Instant) {
        let rows: usize = unit.iter().map(|entry| entry.block.header.row_count as usize).sum();
        let bytes: usize = unit.iter().map(|entry| entry.block.payload.len()).sum();
        let layout = unit[0].block.header.layout;
        let fits = |open: &Batch| {
            open.layout == layout
                && open.rows + rows <= self.limits.rows_max
                && open.bytes + bytes <= self.limits.bytes_max
        };
        if self.open.as_ref().is_some_and(|open| !fits(open)) {
            self.seal();
        }
        let open = self.open.get_or_insert_with(|| {
            self.next_id += 1;
            let due = now + self.limits.linger;
            Batch { id: self.next_id, layout, blocks: Vec::new(), rows: 0, bytes: 0, due }
        });
        open.rows += rows;
        open.bytes += bytes;
        open.blocks.extend(unit);
        if open.rows >= self.limits.rows_max || open.bytes >= self.limits.bytes_max {
            self.seal();
        }
    }

    fn seal(&mut self) {
        self.sealed.extend(self.open.take());
    }

    /// The next batch to send: a full one, or one that has waited long enough, or with `flush` any.
    /// It counts as in flight until [`Batcher::done`].
    pub fn take(&mut self, now: Instant, flush: bool) -> Option<Batch> {
        self.cut_chains(now);
        if self.sealed.is_empty() && self.open.as_ref().is_some_and(|open| flush || now >= open.due)
        {
            self.seal();
        }
        let batch = self.sealed.pop_front()?;
        let tickets = batch.blocks.iter().map(|entry| (entry.source, entry.ticket));
        self.in_flight.insert(batch.id, tickets.collect());
        Some(batch)
    }

    /// When the batch being filled is due, or a chain that waits goes alone.
    pub fn due(&self) -> Option<Instant> {
        let open = self.open.as_ref().map(|open| open.due);
        let waiting = self.sources.iter().filter_map(|source| source.chain_since).min();
        let alone = self.limits.chain_wait.zip(waiting).map(|(wait, since)| since + wait);
        open.into_iter().chain(alone).min()
    }

    /// Of a batch in flight.
    pub fn block_count(&self, id: u64) -> usize {
        self.in_flight.get(&id).map_or(0, Vec::len)
    }

    /// Batch `id` is finished for good. Gives, for each source whose contiguous prefix grew, the
    /// last sequence of it, in the order in which the blocks came.
    pub fn done(&mut self, id: u64) -> Vec<(usize, u64)> {
        let finished = self.in_flight.remove(&id).expect("a batch is taken before it is done");
        let mut touched: Vec<usize> = Vec::new();
        for (source, ticket) in finished {
            let from = &mut self.sources[source];
            let at = ticket.checked_sub(from.first_ticket).map(|at| at as usize);
            let entry = at.and_then(|at| from.unmarked.get_mut(at));
            entry.expect("an unfinished block is unmarked").1 = true;
            if !touched.contains(&source) {
                touched.push(source);
            }
        }
        let mut marks = Vec::new();
        for source in touched {
            marks.extend(self.sources[source].move_mark().map(|sequence| (source, sequence)));
        }
        marks
    }

    /// The blocks of `source` up to `last` that it has not given are lost, and nothing waits for them.
    /// Gives how far its contiguous prefix grew by that, if it did.
    pub fn lost(&mut self, source: usize, last: u64, now: Instant) -> Option<u64> {
        if !self.sources[source].chain.is_empty() {
            // Its end may be among them, and was acknowledged.
            self.end_chain(source, now);
        }
        let from = &mut self.sources[source];
        from.unmarked.push_back((last, true));
        from.move_mark()
    }

    /// Nothing is held or in flight. A chain whose end has not come does not count: its request was
    /// never acknowledged.
    pub fn is_empty(&self) -> bool {
        self.open.is_none() && self.sealed.is_empty() && self.in_flight.is_empty()
    }
}

#[cfg(test)]
#[path = "batcher_tests.rs"]
mod tests;
