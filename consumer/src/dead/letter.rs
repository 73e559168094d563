//! One dead letter, as a row of the table and as a record of the topic.

use crate::partition::BadRecord;
use bytes::Bytes;
use proto::insert::DeadRow;
use proto::names::TABLE_EVENTS_DEAD;
use proto::row::push_length;
use proto::{BlockId, JournalId};
use sha2::{Digest, Sha256};

/// The `layout` of a letter that is a whole record and no row.
pub const WHOLE_RECORD: u16 = 0;

/// The columns of the table in the order in which [`Letter::encode`] writes them.
pub const COLUMNS: &str = "journal_id, epoch, sequence, row_index, partition, offset, layout, \
                           code, reason, raw, died_at, retried_at";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Of a record that is no block: the digest of its bytes, 0, 0.
    pub block: BlockId,
    pub row_index: u32,
    pub partition: i32,
    pub offset: i64,
    /// Row layout of `raw`, or [`WHOLE_RECORD`].
    pub layout: u16,
    /// ClickHouse's, 0 where it was not asked.
    pub code: u32,
    pub reason: String,
    pub raw: Bytes,
    /// Milliseconds since 1970; 0 in `retried_at_ms` is never.
    pub died_at_ms: i64,
    pub retried_at_ms: i64,
}

impl Letter {
    pub fn of_row(row: DeadRow, partition: i32, offset: i64, layout: u16, now_ms: i64) -> Letter {
        Letter {
            block: row.block,
            row_index: row.row_index,
            partition,
            offset,
            layout,
            code: row.code,
            reason: row.reason,
            raw: row.bytes,
            died_at_ms: now_ms,
            retried_at_ms: 0,
        }
    }

    pub fn of_record(record: BadRecord, partition: i32, now_ms: i64) -> Letter {
        Letter {
            block: BlockId { journal_id: digest(&record.bytes), epoch: 0, sequence: 0 },
            row_index: 0,
            partition,
            offset: record.offset,
            layout: WHOLE_RECORD,
            code: 0,
            reason: record.why.to_string(),
            raw: record.bytes,
            died_at_ms: now_ms,
            retried_at_ms: 0,
        }
    }

    /// What `dead list` shows and `dead retry --id` takes.
    pub fn id(&self) -> String {
        let BlockId { journal_id, epoch, sequence } = self.block;
        let (row, partition, offset) = (self.row_index, self.partition, self.offset);
        format!("{journal_id}-{epoch}-{sequence}-{row}-{partition}-{offset}")
    }

    /// Appends the letter as `RowBinary` of [`COLUMNS`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        let text = |out: &mut Vec<u8>, bytes: &[u8]| {
            push_length(out, bytes.len());
            out.extend_from_slice(bytes);
        };
        text(out, self.block.journal_id.to_string().as_bytes());
        out.extend_from_slice(&self.block.epoch.to_le_bytes());
        out.extend_from_slice(&self.block.sequence.to_le_bytes());
        out.extend_from_slice(&self.row_index.to_le_bytes());
        out.extend_from_slice(&self.partition.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.layout.to_le_bytes());
        out.extend_from_slice(&self.code.to_le_bytes());
        text(out, self.reason.as_bytes());
        text(out, &self.raw);
        out.extend_from_slice(&self.died_at_ms.to_le_bytes());
        out.extend_from_slice(&self.retried_at_ms.to_le_bytes());
    }
}

/// Tells letters of one offset apart: in a topic that was made again offsets begin anew, and the table
/// keeps one letter of a key.
fn digest(raw: &[u8]) -> JournalId {
    let digest = Sha256::digest(raw);
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    JournalId(id)
}

/// Of the INSERT of letters into the table.
pub fn statement(database: &str) -> String {
    format!("INSERT INTO {database}.{TABLE_EVENTS_DEAD} ({COLUMNS}) FORMAT RowBinary")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Unreadable;
    use proto::block::BlockError;

    #[test]
    fn a_letter_is_a_row_of_the_table() {
        let why = Unreadable::Block(BlockError::Magic);
        let record = BadRecord { offset: 7, bytes: Bytes::from_static(b"raw"), why };
        let letter = Letter::of_record(record, 3, 99);
        let mut row = Vec::new();
        letter.encode(&mut row);
        let fixed = 8 + 8 + 4 + 4 + 8 + 2 + 4 + 8 + 8;
        assert_eq!(row.len(), (1 + 32) + fixed + (1 + letter.reason.len()) + (1 + 3));
        assert!(letter.id().ends_with("-0-0-0-3-7"), "{}", letter.id());
        assert_eq!(&row[33 + 20..33 + 24], &3i32.to_le_bytes(), "the partition");
    }

    #[test]
    fn records_of_one_offset_are_letters_of_their_own() {
        let id = |bytes: &'static [u8]| {
            let why = Unreadable::Block(BlockError::Magic);
            let record = BadRecord { offset: 7, bytes: Bytes::from_static(bytes), why };
            Letter::of_record(record, 3, 99).id()
        };
        assert_eq!(id(b"one"), id(b"one"), "the same record twice is one letter");
        assert_ne!(id(b"one"), id(b"two"));
    }

    /// The table is made by the api; the two must agree.
    #[test]
    fn the_migration_has_these_columns_in_this_order() {
        let migrations = include_str!("../../../api/src/migrations.rs");
        let table = migrations.split("fn create_events_dead").nth(1).expect("the migration");
        let positions: Vec<Option<usize>> = COLUMNS
            .split(", ")
            .map(|column| table.find(&format!("            {column} ")))
            .collect();
        assert!(positions.iter().all(Option::is_some) && positions.is_sorted(), "{positions:?}");
    }
}
