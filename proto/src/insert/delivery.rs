//! One batch on its way: sent whole, or, when ClickHouse refuses it, in halves until the rows that
//! it refuses are found. Pure.
//!
//! A row becomes a dead letter only when it was refused alone, twice, and something else of the same
//! kind was taken since the batch was first refused; so that a missing right or a wrong schema never
//! puts rows aside. Before anything was taken, halving could spend itself on bad rows alone: single
//! rows from all over the batch are tried instead, as scouts. The first that is taken is the
//! witness. When none is, the batch is stalled and tried again as it was, then further scouts, so
//! that in the end every row was one.

use super::answer::Failure;
use super::token::Token;
use crate::block::{Block, BlockId};
use crate::row::Row;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// Scouts refused in a row after which the batch rests.
const REFUSALS_MAX: usize = 48;

/// A part of a batch that is sent as one INSERT.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// Whole blocks, as indices into the batch.
    Blocks(Range<usize>),
    /// Rows of one block; `starts` has one entry more than the block has rows.
    Rows { block: usize, rows: Range<usize>, starts: Arc<[usize]> },
}

/// A row that ClickHouse refuses for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadRow {
    pub block: BlockId,
    pub row_index: u32,
    pub code: u32,
    pub reason: String,
    pub bytes: Bytes,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send the current piece.
    Send,
    /// Everything is refused; send again after a while.
    Stalled,
    /// Every row is in ClickHouse or in [`Delivery::into_dead_rows`].
    Finished,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Sent as it came; nothing of it was taken.
    Whole,
    /// One row at a time, so many more before the next rest; nothing was taken.
    Scouting { left: usize },
    /// Something was taken: who is refused now is refused for itself.
    Halving,
    /// The rows that were refused alone, once more.
    Confirming,
}

/// Where the next scout is: all over the batch, and each row once before any comes again.
#[derive(Clone, Debug)]
struct Scouts {
    /// Rows of each block; one where they cannot be told apart.
    rows_of: Vec<usize>,
    rows: usize,
    step: usize,
    next: usize,
}

pub struct Delivery {
    blocks: Vec<Block>,
    /// Of a replay, so that its INSERTs are not taken for those that went before.
    run: Option<[u8; 16]>,
    /// A stack: the last one is current.
    pending: Vec<Piece>,
    suspects: Vec<Piece>,
    phase: Phase,
    /// From the first refusal without a witness on.
    scouts: Option<Scouts>,
    dead: Vec<DeadRow>,
}

impl Delivery {
    /// `blocks` are of one layout, and at least one.
    pub fn new(blocks: Vec<Block>) -> Delivery {
        Delivery::of_run(blocks, None)
    }

    /// The same for a replay: `run` makes its tokens differ from those of the first way.
    pub fn of_run(blocks: Vec<Block>, run: Option<[u8; 16]>) -> Delivery {
        assert!(!blocks.is_empty(), "a delivery is never empty");
        let layout = blocks[0].header.layout;
        assert!(blocks.iter().all(|block| block.header.layout == layout), "one layout per INSERT");
        Delivery {
            pending: vec![Piece::Blocks(0..blocks.len())],
            blocks,
            run,
            suspects: Vec::new(),
            phase: Phase::Whole,
            scouts: None,
            dead: Vec::new(),
        }
    }

    fn current(&self) -> &Piece {
        self.pending.last().expect("an unfinished delivery has a current piece")
    }

    /// The bytes of the current piece, in order.
    pub fn payloads(&self) -> Vec<Bytes> {
        match self.current() {
            Piece::Blocks(range) => {
                self.blocks[range.clone()].iter().map(|block| block.payload.clone()).collect()
            }
            Piece::Rows { block, rows, starts } => {
                vec![self.blocks[*block].payload.slice(starts[rows.start]..starts[rows.end])]
            }
        }
    }

    /// Rows of the current piece.
    pub fn row_count(&self) -> usize {
        match self.current() {
            Piece::Blocks(range) => {
                self.blocks[range.clone()].iter().map(|block| block.header.row_count as usize).sum()
            }
            Piece::Rows { rows, .. } => rows.len(),
        }
    }

    /// The `insert_deduplication_token` of the current piece: the same blocks and rows always have
    /// the same one, in this process and in the next.
    pub fn token(&self) -> String {
        let mut token = Token::new(self.run);
        match self.current() {
            Piece::Blocks(range) => {
                self.blocks[range.clone()].iter().for_each(|block| token.add(&block.header));
            }
            Piece::Rows { block, rows, .. } => {
                token.add(&self.blocks[*block].header);
                token.add_rows(rows);
            }
        }
        token.finish()
    }

    /// The current piece was taken.
    pub fn on_taken(&mut self) -> Step {
        let piece = self.pending.pop().expect("an unfinished delivery has a current piece");
        if let Phase::Scouting { .. } = self.phase {
            self.pending = self.around(&piece);
        }
        if self.phase != Phase::Confirming {
            self.phase = Phase::Halving;
        }
        self.advance()
    }

    /// The current piece was refused. `witness`: another INSERT of the same kind was taken since
    /// this batch was first refused.
    pub fn on_refused(&mut self, failure: &Failure, witness: bool) -> Step {
        let piece = self.pending.pop().expect("an unfinished delivery has a current piece");
        match self.phase {
            Phase::Whole | Phase::Scouting { .. } if witness => {
                self.phase = Phase::Halving;
                self.split(Piece::Blocks(0..self.blocks.len()));
            }
            Phase::Whole => return self.scout(REFUSALS_MAX),
            Phase::Scouting { left } => return self.scout(left),
            Phase::Halving => self.split(piece),
            Phase::Confirming => self.bury(&piece, failure),
        }
        self.advance()
    }

    fn split(&mut self, piece: Piece) {
        match self.halves(&piece) {
            Some((first, second)) => self.pending.extend([second, first]),
            None => self.suspects.push(piece),
        }
    }

    fn advance(&mut self) -> Step {
        if !self.pending.is_empty() {
            return Step::Send;
        }
        if self.suspects.is_empty() {
            return Step::Finished;
        }
        self.phase = Phase::Confirming;
        self.pending = std::mem::take(&mut self.suspects);
        Step::Send
    }

    /// The next scout, if `left` allows for one; else the whole again, after a rest.
    fn scout(&mut self, left: usize) -> Step {
        let blocks = &self.blocks;
        let scouts = self.scouts.get_or_insert_with(|| Scouts::over(blocks));
        // A scout of the only row would be the whole again.
        let left = if scouts.rows > 1 { left.min(scouts.rows) } else { 0 };
        let (phase, piece, step) = match left.checked_sub(1) {
            Some(left) => {
                let (block, row) = scouts.pick();
                (Phase::Scouting { left }, unit(blocks, block, row), Step::Send)
            }
            None => (Phase::Whole, Piece::Blocks(0..blocks.len()), Step::Stalled),
        };
        self.phase = phase;
        self.pending = vec![piece];
        step
    }

    /// What is left of the batch without this scout, the first part last.
    fn around(&self, scout: &Piece) -> Vec<Piece> {
        let (from, to) = match scout {
            Piece::Blocks(range) => (range.start, range.end),
            Piece::Rows { block, .. } => (*block, block + 1),
        };
        let mut left = vec![Piece::Blocks(to..self.blocks.len())];
        if let Piece::Rows { block, rows, starts } = scout {
            let part = |rows| Piece::Rows { block: *block, rows, starts: Arc::clone(starts) };
            left.extend([part(rows.end..starts.len() - 1), part(0..rows.start)]);
        }
        left.push(Piece::Blocks(0..from));
        left.retain(|piece| match piece {
            Piece::Blocks(range) | Piece::Rows { rows: range, .. } => !range.is_empty(),
        });
        left
    }

    fn halves(&self, piece: &Piece) -> Option<(Piece, Piece)> {
        let halve = |range: &Range<usize>| {
            let middle = range.start + range.len() / 2;
            (range.len() > 1).then_some((range.start..middle, middle..range.end))
        };
        match piece {
            Piece::Blocks(range) => match halve(range) {
                Some((first, second)) => Some((Piece::Blocks(first), Piece::Blocks(second))),
                None => {
                    let starts: Arc<[usize]> = row_starts(&self.blocks[range.start])?.into();
                    let whole =
                        Piece::Rows { block: range.start, rows: 0..starts.len() - 1, starts };
                    self.halves(&whole)
                }
            },
            Piece::Rows { block, rows, starts } => {
                let (first, second) = halve(rows)?;
                let part = |rows| Piece::Rows { block: *block, rows, starts: Arc::clone(starts) };
                Some((part(first), part(second)))
            }
        }
    }

    fn bury(&mut self, piece: &Piece, failure: &Failure) {
        let (block, row_index, bytes) = match piece {
            // A block of one row, or one whose rows cannot be told apart: whole.
            Piece::Blocks(range) => (range.start, 0, self.blocks[range.start].payload.clone()),
            Piece::Rows { block, rows, starts } => {
                let bytes = self.blocks[*block].payload.slice(starts[rows.start]..starts[rows.end]);
                (*block, rows.start as u32, bytes)
            }
        };
        self.dead.push(DeadRow {
            block: self.blocks[block].header.id,
            row_index,
            code: failure.code,
            reason: failure.text.clone(),
            bytes,
        });
    }

    /// Of all its rows.
    pub fn bytes(&self) -> usize {
        self.blocks.iter().map(|block| block.payload.len()).sum()
    }

    /// The blocks as they came: for who takes back a delivery of which nothing was taken.
    pub fn into_blocks(self) -> Vec<Block> {
        assert_eq!(self.phase, Phase::Whole, "rows of it have found their place");
        self.blocks
    }

    pub fn into_dead_rows(self) -> Vec<DeadRow> {
        self.dead
    }
}

impl Scouts {
    fn over(blocks: &[Block]) -> Scouts {
        let rows_in = |block| row_starts(block).map_or(1, |starts| (starts.len() - 1).max(1));
        let rows_of: Vec<usize> = blocks.iter().map(rows_in).collect();
        let rows: usize = rows_of.iter().sum();
        // The golden section spreads any number of scouts evenly; a step without a factor in common
        // with the rows comes by each of them.
        let golden = (rows as f64 * 0.618) as usize;
        let step = (golden.max(1)..).find(|step| gcd(*step, rows) == 1);
        let step = step.expect("a prime above the number of rows has no factor in common with it");
        Scouts { rows_of, rows, step, next: 0 }
    }

    /// The next scout's block, and which of its rows.
    fn pick(&mut self) -> (usize, usize) {
        let mut row = self.next;
        self.next = (self.next + self.step) % self.rows;
        for (block, rows) in self.rows_of.iter().enumerate() {
            match row.checked_sub(*rows) {
                Some(behind) => row = behind,
                None => return (block, row),
            }
        }
        unreachable!("a scout is one of the rows");
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// One row as a piece, the same one that halving comes to.
fn unit(blocks: &[Block], block: usize, row: usize) -> Piece {
    match row_starts(&blocks[block]) {
        Some(starts) if starts.len() > 2 => {
            Piece::Rows { block, rows: row..row + 1, starts: starts.into() }
        }
        _ => Piece::Blocks(block..block + 1),
    }
}

/// Where each row begins, and where the last one ends. `None` when the payload is not rows.
fn row_starts(block: &Block) -> Option<Vec<usize>> {
    let mut starts = vec![0];
    let mut at = 0;
    while at < block.payload.len() {
        let (_, bytes) = Row::decode(&block.payload[at..]).ok()?;
        at += bytes;
        starts.push(at);
    }
    Some(starts)
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
