//! A segment's first page, and what segments are called.
//!
//! ```text
//! offset  bytes  field            all numbers little-endian
//!      0      8  magic            "UMGJSEG" and the version, "1"
//!      8      8  reserved         zero
//!     16     16  journal_id
//!     32      8  epoch            of the start that prepared the segment
//!     40      8  number           the same as in the file's name
//!     48      8  sequence_floor   no frame of a lower sequence belongs to this segment
//!     56      4  reserved         zero
//!     60      4  crc32c           over bytes 0..60
//! ```
//!
//! A segment is prepared before anyone knows which block will open it, so the header gives a floor:
//! the first sequence that was not synced when it was prepared. All that an earlier use of the file
//! left behind in this epoch lies below it. In the first segment of an epoch the floor is exact.

use proto::JournalId;

use super::buffer::PAGE_BYTES;

/// Where the first frame lies.
pub const FRAMES_OFFSET: u64 = PAGE_BYTES as u64;
pub const SEGMENT_BYTES_MIN: u64 = 1024 * 1024;

const SEGMENT_NUMBER_MAX: u64 = u64::MAX / 2;

const MAGIC: [u8; 8] = *b"UMGJSEG1";
const USED_BYTES: usize = 64;
const CRC_OFFSET: usize = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub journal_id: JournalId,
    pub epoch: u64,
    pub number: u64,
    pub sequence_floor: u64,
}

impl SegmentHeader {
    /// The first bytes of the page; the rest of it is zero.
    pub fn encode(&self) -> [u8; USED_BYTES] {
        let mut bytes = [0; USED_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[16..32].copy_from_slice(&self.journal_id.0);
        bytes[32..40].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.number.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.sequence_floor.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..CRC_OFFSET]);
        bytes[CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// None: damaged, or not a segment's header.
    pub fn decode(bytes: &[u8]) -> Option<SegmentHeader> {
        let bytes: &[u8; USED_BYTES] = bytes.first_chunk()?;
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        if bytes[0..8] != MAGIC
            || bytes[CRC_OFFSET..] != crc32c::crc32c(&bytes[..CRC_OFFSET]).to_le_bytes()
        {
            return None;
        }
        Some(SegmentHeader {
            journal_id: JournalId(bytes[16..32].try_into().expect("16 bytes")),
            epoch: u64_at(32),
            number: u64_at(40),
            sequence_floor: u64_at(48),
        })
    }
}

pub fn segment_name(number: u64) -> String {
    format!("segment-{number:020}.jnl")
}

pub fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("segment-")?.strip_suffix(".jnl")?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // A number that could not be counted on from is not one of ours.
    digits.parse().ok().filter(|number| *number <= SEGMENT_NUMBER_MAX)
}

pub fn shard_name(shard_index: usize) -> String {
    format!("shard-{shard_index:02}")
}

pub fn shard_index(name: &str) -> Option<usize> {
    let digits = name.strip_prefix("shard-")?;
    let index = digits.parse().ok()?;
    (shard_name(index) == name).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_page_and_any_flipped_bit_is_seen() {
        let header = SegmentHeader {
            journal_id: JournalId(*b"0123456789abcdef"),
            epoch: 3,
            number: 17,
            sequence_floor: 1 << 40,
        };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Some(header));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&flipped), None, "bit {bit}");
        }
        assert_eq!(SegmentHeader::decode(&[0; 4096]), None);
        assert_eq!(SegmentHeader::decode(&bytes[..63]), None);
    }

    #[test]
    fn names_are_read_back_and_nothing_else_is() {
        let check = |name: &str, expected| assert_eq!(segment_number(name), expected, "{name}");
        check(&segment_name(0), Some(0));
        check(&segment_name(SEGMENT_NUMBER_MAX), Some(SEGMENT_NUMBER_MAX));
        check(&segment_name(SEGMENT_NUMBER_MAX + 1), None);
        check("segment-1.jnl", None);
        check("segment-00000000000000000001.jnl.quarantined", None);
        check("segment-0000000000000000+001.jnl", None);
        assert_eq!(shard_index(&shard_name(7)), Some(7));
        assert_eq!(shard_index(&shard_name(107)), Some(107));
        assert_eq!(shard_index("shard-7"), None);
    }
}
