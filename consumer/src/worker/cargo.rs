//! What is known of a range while it is on its way, and how it becomes dead letters. Pure.

use crate::dead::{Letter, Mail};
use crate::partition::{BadRecord, Range};
use proto::insert::DeadRow;
use proto::{Block, BlockId};
use std::collections::BTreeMap;

pub struct Cargo {
    pub partition: i32,
    pub rows: usize,
    /// Of the newest row.
    pub received_at_ns: i64,
    /// A part of it has its outcome, and the next one goes at once.
    pub searching: bool,
    pub dead_rows: usize,
    pub dead_records: usize,
    /// Being written, once the INSERT has its end.
    pub mail: Option<Mail>,
    bad: Vec<BadRecord>,
    layout: u16,
    offset_of: BTreeMap<BlockId, i64>,
}

impl Cargo {
    /// Gives the blocks, which are for the INSERT.
    pub fn of(range: Range) -> (Cargo, Vec<Block>) {
        let Range { blocks, offsets, bad, .. } = range;
        let ids = blocks.iter().map(|block| block.header.id);
        let cargo = Cargo {
            partition: range.partition,
            rows: range.rows,
            received_at_ns: range.received_at_ns,
            searching: false,
            dead_rows: 0,
            dead_records: bad.len(),
            mail: None,
            bad,
            layout: blocks.first().map_or(0, |block| block.header.layout),
            offset_of: ids.zip(offsets).collect(),
        };
        (cargo, blocks)
    }

    /// What has no place in the table of events: these rows, and the records that are no blocks.
    pub fn take_letters(&mut self, dead: Vec<DeadRow>, now_ms: i64) -> Vec<Letter> {
        self.dead_rows = dead.len();
        let rows = dead.into_iter().map(|row| {
            let offset = self.offset_of.get(&row.block).copied().unwrap_or_default();
            Letter::of_row(row, self.partition, offset, self.layout, now_ms)
        });
        let mut letters: Vec<Letter> = rows.collect();
        let bad = std::mem::take(&mut self.bad).into_iter();
        letters.extend(bad.map(|record| Letter::of_record(record, self.partition, now_ms)));
        letters
    }
}
