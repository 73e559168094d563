//! What must hold, whatever happened. Draws no randomness, touches nothing that it looks at.
//!
//! - every event of every 200 is in the answers once, or among the dead letters where ClickHouse
//!   refuses it
//! - nothing is there that was never sent, or that was refused
//! - recovery never takes acknowledged data for a torn tail, and a block that it dropped never comes
//!   back
//! - an identity is of one block for ever

use crate::batch::{Batch, Kind, number_of};
use crc32c::crc32c;
use proto::row::Rows;
use proto::{BlockHeader, BlockId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

/// What is known of one shard's journal.
#[derive(Debug, Default)]
pub struct JournalKnowledge {
    pub id: Option<[u8; 16]>,
    /// All up to here was durable when the process ended.
    pub durable_through: u64,
    /// All up to here has arrived.
    pub forwarded_through: u64,
    /// Where each epoch ended, by the recovery that closed it.
    pub ends: BTreeMap<u64, u64>,
}

#[derive(Debug, Default)]
pub struct Oracle {
    pub batches: Vec<Batch>,
    pub journals: BTreeMap<usize, JournalKnowledge>,
    /// Events that ClickHouse refused for good.
    pub dead: BTreeSet<u64>,
    /// Blocks whose only copy has rotted, by shard and sequence, and their events.
    pub rotten: BTreeMap<(usize, u64), Vec<u64>>,
    /// Those that recovery or the feed has told of.
    told: BTreeSet<(usize, u64)>,
    pub next_number: u64,
    /// Checksum of every block that was given out.
    contents: BTreeMap<BlockId, u32>,
}

impl Oracle {
    pub fn add(&mut self, count: u64, kind: Kind, padding: usize) -> usize {
        let batch = Batch::new(self.next_number, count, kind, padding);
        self.next_number += count;
        self.batches.push(batch);
        self.batches.len() - 1
    }

    /// A recovery ended with this; gives whether the journal is another than the one before.
    pub fn on_recovered(&mut self, shard: usize, report: &engine::journal::RecoveryReport) -> bool {
        let known = self.journals.entry(shard).or_default();
        let id = report.journal_id.0;
        let renewed = known.id != Some(id);
        if renewed {
            let needed = known.durable_through > known.forwarded_through;
            assert!(!needed, "a journal that holds blocks has lost its name: {known:?}");
            *known = JournalKnowledge::default();
        }
        known.id = Some(id);
        let durable = known.durable_through;
        let last = report.last_sequence;
        assert!(last >= durable, "durable through {durable} was taken for a torn tail: {report:?}");
        known.durable_through = last;
        // An epoch that wrote nothing may leave no trace; then its number is used again.
        known.ends.retain(|epoch, _| *epoch <= report.epoch_found);
        known.ends.insert(report.epoch_found, last);
        renewed
    }

    /// A block leaves the journal for whoever forwards it.
    pub fn on_block(&mut self, shard: usize, header: &BlockHeader, payload: &[u8]) {
        let id = header.id;
        let known = &self.journals[&shard];
        assert_eq!(known.id, Some(id.journal_id.0), "a block of another journal");
        // Of an epoch without an end of its own, the next one's says where it ended.
        if let Some((_, end)) = known.ends.range(id.epoch..).next() {
            assert!(id.sequence <= *end, "block {id:?} was dropped by a recovery and is back");
        }
        let checksum = crc32c(payload);
        let first = *self.contents.entry(id).or_insert(checksum);
        assert_eq!(first, checksum, "two blocks have the identity {id:?}");
        for row in Rows::new(payload) {
            let row = row.expect("a block's rows can be walked");
            let number = number_of(&row).unwrap_or_else(|error| panic!("{error}"));
            assert!(number < self.next_number, "event {number} was never sent");
        }
    }

    /// Somebody was told that these acknowledged blocks cannot be read.
    pub fn on_lost(&mut self, shard: usize, first: u64, last: u64, by: &dyn Debug) {
        for sequence in first..=last {
            let block = (shard, sequence);
            let rotten = self.rotten.contains_key(&block);
            // Where something bad opens the oldest segment nobody knows how far it reached: what
            // has arrived may be called lost, too.
            let arrived = sequence <= self.journals[&shard].forwarded_through;
            assert!(rotten || arrived, "block {block:?} is lost and never rotted: {by:?}");
            self.told.insert(block);
        }
    }

    /// A row is among the dead letters.
    pub fn on_dead(&mut self, row: &[u8]) {
        for row in Rows::new(row) {
            let row = row.expect("a dead row is a row");
            self.dead.insert(number_of(&row).unwrap_or_else(|error| panic!("{error}")));
        }
    }

    /// Everything came to rest. `stored`: the events in the answers.
    pub fn check_answers(&self, stored: &crate::table::Table) {
        let told = self.rotten.iter().filter(|(block, _)| self.told.contains(*block));
        let excused: BTreeSet<u64> = told.flat_map(|(_, numbers)| numbers).copied().collect();
        for batch in &self.batches {
            for number in batch.events() {
                let (there, dead) = (stored.has(number), self.dead.contains(&number));
                assert!(!(there && dead), "event {number} is in the table and among the dead");
                if batch.acknowledged && !there && !dead && !excused.contains(&number) {
                    let rotten = self.rotten.iter().find(|(_, numbers)| numbers.contains(&number));
                    let rotten = rotten.map(|(block, _)| block);
                    panic!(
                        "event {number} was acknowledged and is lost: {batch:?}, rotten: {rotten:?}"
                    );
                }
                assert!(!dead || batch.kind == Kind::Poison, "event {number} is dead for nothing");
                let may_be = batch.acknowledged || batch.open || batch.under_way > 0;
                assert!(may_be || !there && !dead, "event {number} was refused and is there");
            }
        }
        let beyond = stored.numbers().find(|number| *number >= self.next_number);
        assert_eq!(beyond, None, "an event that nobody sent");
    }
}
