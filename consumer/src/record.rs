//! One record of the topic: a block, or bytes that are none. Pure; slices what it is given and copies
//! nothing.

use bytes::Bytes;
use proto::block::{BlockError, HEADER_BYTES};
use proto::row::{RowError, Rows};
use proto::{Block, BlockHeader};

#[derive(Clone, Debug)]
pub enum Record {
    Block {
        block: Block,
        /// Of its newest row, in nanoseconds since 1970.
        received_at_ns: i64,
    },
    Bad {
        bytes: Bytes,
        why: Unreadable,
    },
}

/// Why a record is not a block of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the record is no block: {0}")]
    Block(#[from] BlockError),
    #[error("row {row_index} of the block cannot be read: {error}")]
    Row { row_index: u32, error: RowError },
    #[error("the block's header says {said} rows, it has {found}")]
    RowCount { said: u32, found: u32 },
}

impl Record {
    /// Reads a record's value: header, checksum, and every row's boundaries.
    pub fn read(value: Bytes) -> Record {
        match walk(&value) {
            Ok((header, received_at_ns)) => {
                let payload = value.slice(HEADER_BYTES..header.block_bytes());
                Record::Block { block: Block { header, payload }, received_at_ns }
            }
            Err(why) => Record::Bad { bytes: value, why },
        }
    }

    pub fn row_count(&self) -> usize {
        match self {
            Record::Block { block, .. } => block.header.row_count as usize,
            Record::Bad { .. } => 0,
        }
    }
}

fn walk(value: &[u8]) -> Result<(BlockHeader, i64), Unreadable> {
    let (header, payload) = BlockHeader::decode_block(value)?;
    let (mut found, mut received_at_ns) = (0, i64::MIN);
    for row in Rows::new(payload) {
        let row = row.map_err(|error| Unreadable::Row { row_index: found, error })?;
        received_at_ns = received_at_ns.max(row.received_at_ns);
        found += 1;
    }
    if found != header.row_count {
        return Err(Unreadable::RowCount { said: header.row_count, found });
    }
    Ok((header, received_at_ns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{record, sealed};

    #[track_caller]
    fn check(value: Vec<u8>, expected: Result<usize, Unreadable>) {
        let found = match Record::read(value.into()) {
            Record::Bad { why, .. } => Err(why),
            good => Ok(good.row_count()),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_record_is_a_block_with_its_rows_or_it_is_bad() {
        let good = record(1, 10..13);
        check(good.clone(), Ok(3));
        check([&good[..], b"padding"].concat(), Ok(3));
        check(Vec::new(), Err(BlockError::Truncated.into()));
        check(
            b"{\"json\": \"of somebody else's, long enough to be a block's header\"}".to_vec(),
            Err(BlockError::Magic.into()),
        );
        check(good[..good.len() - 1].to_vec(), Err(BlockError::Truncated.into()));
        let mut flipped = good.clone();
        flipped[HEADER_BYTES + 3] ^= 1;
        check(flipped, Err(BlockError::Checksum.into()));
        let mut newer = good.clone();
        newer[4] = 9;
        check(newer, Err(BlockError::Layout(9).into()));
        let payload = &good[HEADER_BYTES..];
        check(sealed(1, 4, payload), Err(Unreadable::RowCount { said: 4, found: 3 }));
        check(
            sealed(1, 3, &payload[..payload.len() - 1]),
            Err(Unreadable::Row { row_index: 2, error: RowError::Truncated }),
        );
    }

    #[test]
    fn the_newest_row_tells_the_freshness() {
        let Record::Block { received_at_ns, .. } = Record::read(record(1, 10..13).into()) else {
            panic!("a good record")
        };
        assert_eq!(received_at_ns, 12);
    }
}
