//! The block: rows of one shard under one header. The same bytes are a frame of the journal
//! and, without the header, a part of an INSERT.
//!
//! ```text
//! offset  bytes  field            all numbers little-endian
//!      0      4  magic            "UMGB"
//!      4      2  layout           of the rows, see [`crate::row`]
//!      6      2  flags            bit 0: the request in this block goes on in the next one
//!      8     16  journal_id       random, made with the journal directory
//!     24      8  epoch            one per start of the journal
//!     32      8  sequence         one per block, never reused within a journal
//!     40      8  durable_through  highest sequence known to be synced when this block was sealed
//!     48      2  lane             0 as yet; for spreading blocks over receivers
//!     50      2  reserved         zero
//!     52      4  row_count
//!     56      4  payload_bytes
//!     60      4  crc32c           over bytes 0..60 and the payload
//! ```

use crate::limits::BLOCK_PAYLOAD_BYTES_MAX;
use crate::row;
use bytes::Bytes;

pub const HEADER_BYTES: usize = 64;
const CRC_OFFSET: usize = 60;
const MAGIC: [u8; 4] = *b"UMGB";

/// The request whose rows end this block goes on in the block of the next sequence: neither counts
/// without the other.
pub const FLAG_CONTINUES: u16 = 1;
const FLAGS_KNOWN: u16 = FLAG_CONTINUES;

/// Random 128 bits that name one shard's journal directory for its whole life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JournalId(pub [u8; 16]);

impl std::fmt::Display for JournalId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A block's identity, the same in the journal and in a deduplication token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId {
    pub journal_id: JournalId,
    pub epoch: u64,
    pub sequence: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    pub layout: u16,
    pub flags: u16,
    pub id: BlockId,
    pub durable_through: u64,
    pub lane: u16,
    pub row_count: u32,
    pub payload_bytes: u32,
    /// Over the header before it and the payload.
    pub crc32c: u32,
}

/// A block taken apart. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct Block {
    pub header: BlockHeader,
    /// The rows, without header and padding.
    pub payload: Bytes,
}

/// Why bytes are not a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    #[error("fewer bytes than a block's header, or than its payload")]
    Truncated,
    #[error("the first four bytes are not UMGB")]
    Magic,
    #[error("row layout {0} is not known to this version")]
    Layout(u16),
    #[error("flags {0:#06x} are not known to this version")]
    Flags(u16),
    #[error("a payload of {0} bytes is longer than a block may be")]
    Length(u32),
    #[error("the checksum does not match")]
    Checksum,
}

impl BlockHeader {
    /// The header of a block of this layout; `crc32c` is computed here.
    pub fn seal(
        id: BlockId,
        durable_through: u64,
        lane: u16,
        flags: u16,
        row_count: u32,
        payload: &[u8],
    ) -> BlockHeader {
        assert!(payload.len() <= BLOCK_PAYLOAD_BYTES_MAX, "a block never outgrows its buffer");
        let mut header = BlockHeader {
            layout: row::LAYOUT,
            flags,
            id,
            durable_through,
            lane,
            row_count,
            payload_bytes: payload.len() as u32,
            crc32c: 0,
        };
        header.crc32c = header.checksum(payload);
        header
    }

    fn checksum(&self, payload: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.encode()[..CRC_OFFSET]), payload)
    }

    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&self.layout.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.flags.to_le_bytes());
        bytes[8..24].copy_from_slice(&self.id.journal_id.0);
        bytes[24..32].copy_from_slice(&self.id.epoch.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.id.sequence.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.durable_through.to_le_bytes());
        bytes[48..50].copy_from_slice(&self.lane.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.row_count.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[CRC_OFFSET..].copy_from_slice(&self.crc32c.to_le_bytes());
        bytes
    }

    /// Reads a header and checks everything that can be checked without the payload.
    pub fn decode(bytes: &[u8]) -> Result<BlockHeader, BlockError> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(BlockError::Truncated)?;
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        if bytes[0..4] != MAGIC {
            return Err(BlockError::Magic);
        }
        let header = BlockHeader {
            layout: u16_at(4),
            flags: u16_at(6),
            id: BlockId {
                journal_id: JournalId(bytes[8..24].try_into().expect("16 bytes")),
                epoch: u64_at(24),
                sequence: u64_at(32),
            },
            durable_through: u64_at(40),
            lane: u16_at(48),
            row_count: u32_at(52),
            payload_bytes: u32_at(56),
            crc32c: u32_at(CRC_OFFSET),
        };
        if header.layout != row::LAYOUT {
            return Err(BlockError::Layout(header.layout));
        }
        if header.flags & !FLAGS_KNOWN != 0 {
            return Err(BlockError::Flags(header.flags));
        }
        if header.payload_bytes as usize > BLOCK_PAYLOAD_BYTES_MAX {
            return Err(BlockError::Length(header.payload_bytes));
        }
        Ok(header)
    }

    /// Reads a whole block, checksum included; gives its header and its rows.
    pub fn decode_block(bytes: &[u8]) -> Result<(BlockHeader, &[u8]), BlockError> {
        let header = Self::decode(bytes)?;
        let payload = bytes[HEADER_BYTES..]
            .get(..header.payload_bytes as usize)
            .ok_or(BlockError::Truncated)?;
        if bytes[50..52] != [0, 0] || header.checksum(payload) != header.crc32c {
            return Err(BlockError::Checksum);
        }
        Ok((header, payload))
    }

    /// Whether the next block's rows belong to a request that began here or earlier.
    pub fn continues(&self) -> bool {
        self.flags & FLAG_CONTINUES != 0
    }

    /// Header and payload, without the padding that a journal adds.
    pub fn block_bytes(&self) -> usize {
        HEADER_BYTES + self.payload_bytes as usize
    }
}
