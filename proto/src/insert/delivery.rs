//! One batch on its way: sent whole, or, when ClickHouse refuses it, in halves until the rows that
//! it refuses are found. Pure.
//!
//! A row becomes a dead letter only when it was refused alone, twice, and something else of the same
//! kind was taken since the batch was first refused; so that a missing right or a wrong schema never
//! puts rows aside. Until then a wholly refused batch is stalled and tried again as it was.

use super::answer::Failure;
use super::token::Token;
use crate::block::{Block, BlockId};
use crate::row::Row;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// Refusals without one success after which the halving gives up for now.
const REFUSALS_MAX: u32 = 48;

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

pub struct Delivery {
    blocks: Vec<Block>,
    /// Of a replay, so that its INSERTs are not taken for those that went before.
    run: Option<[u8; 16]>,
    /// A stack: the last one is current.
    pending: Vec<Piece>,
    suspects: Vec<Piece>,
    confirming: bool,
    /// Something of the same kind was taken since the first refusal.
    witnessed: bool,
    refusals: u32,
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
            confirming: false,
            witnessed: false,
            refusals: 0,
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
        self.witnessed = true;
        self.pending.pop();
        self.advance()
    }

    /// The current piece was refused. `witness`: another INSERT of the same kind was taken since
    /// this batch was first refused.
    pub fn on_refused(&mut self, failure: &Failure, witness: bool) -> Step {
        self.witnessed |= witness;
        self.refusals += 1;
        let piece = self.pending.pop().expect("an unfinished delivery has a current piece");
        match self.halves(&piece) {
            Some((first, second)) => self.pending.extend([second, first]),
            None if self.confirming => self.bury(&piece, failure),
            None => self.suspects.push(piece),
        }
        if !self.witnessed && self.refusals >= REFUSALS_MAX {
            return self.stall();
        }
        self.advance()
    }

    fn advance(&mut self) -> Step {
        if !self.pending.is_empty() {
            return Step::Send;
        }
        if self.suspects.is_empty() {
            return Step::Finished;
        }
        if !self.witnessed {
            return self.stall();
        }
        self.confirming = true;
        self.pending = std::mem::take(&mut self.suspects);
        Step::Send
    }

    /// From the beginning: nothing of the batch was taken.
    fn stall(&mut self) -> Step {
        self.refusals = 0;
        self.suspects.clear();
        self.pending = vec![Piece::Blocks(0..self.blocks.len())];
        Step::Stalled
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

    pub fn into_dead_rows(self) -> Vec<DeadRow> {
        self.dead
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
