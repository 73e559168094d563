//! The block codec: golden bytes of layout 1, round trips, truncation, flipped bits.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use proptest::prelude::*;
use proto::block::{BlockError, FLAG_CONTINUES, HEADER_BYTES};
use proto::limits::BLOCK_PAYLOAD_BYTES_MAX;
use proto::row::Rows;
use proto::{BlockHeader, BlockId, JournalId};

/// A header as version 1 wrote it, over [`GOLDEN_ROWS`]. Blocks like it lie on disks:
/// never change it. The checksum was computed by an independent bitwise CRC32C.
const GOLDEN_HEADER: &str = concat!(
    "554d4742",                         // magic
    "0100",                             // layout
    "0100",                             // flags: continues
    "000102030405060708090a0b0c0d0e0f", // journal_id
    "0300000000000000",                 // epoch
    "0807060504030201",                 // sequence
    "2900000000000000",                 // durable_through
    "0700",                             // lane
    "0000",                             // reserved
    "02000000",                         // row_count
    "ff000000",                         // payload_bytes
    "9dd8cb01",                         // crc32c
);

/// Two rows; `row.rs` says what they mean.
const GOLDEN_ROWS: &str = concat!(
    "7766554433221100ffeeddccbbaa9988efcdab8967452301efcdab8967452301",
    "7b68e5cf8b010000c869e5cf8b010000",
    "087075726368617365",
    "03752d31",
    "077b2261223a317d",
    "7766554433221100ffeeddccbbaa99881032547698badcfe1032547698badcfe",
    "ffffffffffffffffc869e5cf8b010000",
    "02c3a9",
    "8201",
    "78787878787878787878787878787878787878787878787878787878787878787878787878787878",
    "78787878787878787878787878787878787878787878787878787878787878787878787878787878",
    "78787878787878787878787878787878787878787878787878787878787878787878787878787878",
    "78787878787878787878",
    "027b7d",
);

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn golden_id() -> BlockId {
    let journal_id = JournalId(std::array::from_fn(|index| index as u8));
    BlockId { journal_id, epoch: 3, sequence: 0x0102_0304_0506_0708 }
}

#[test]
fn old_blocks_stay_readable() {
    let payload = bytes(GOLDEN_ROWS);
    let block = [bytes(GOLDEN_HEADER), payload.clone()].concat();
    let (header, rows) = BlockHeader::decode_block(&block).unwrap();
    assert_eq!(header.layout, 1);
    assert_eq!(header.flags, FLAG_CONTINUES);
    assert!(header.continues());
    assert_eq!(header.id, golden_id());
    assert_eq!(header.durable_through, 41);
    assert_eq!(header.lane, 7);
    assert_eq!(header.row_count, 2);
    assert_eq!(header.block_bytes(), block.len());
    assert_eq!(rows, payload);
    assert!(Rows::new(rows).all(|row| row.is_ok()));
    assert_eq!(Rows::new(rows).count(), 2);
}

#[test]
fn new_blocks_have_the_same_bytes() {
    let payload = bytes(GOLDEN_ROWS);
    let header = BlockHeader::seal(golden_id(), 41, 7, FLAG_CONTINUES, 2, &payload);
    assert_eq!(header.encode()[..], bytes(GOLDEN_HEADER));
}

fn sealed(payload: &[u8]) -> Vec<u8> {
    let header = BlockHeader::seal(golden_id(), 41, 0, 0, 1, payload);
    [&header.encode()[..], payload].concat()
}

#[test]
fn a_block_cut_short_is_no_block() {
    let block = sealed(b"payload");
    for length in 0..block.len() {
        let cut = BlockHeader::decode_block(&block[..length]);
        assert_eq!(cut.err(), Some(BlockError::Truncated), "{length} bytes");
    }
    // What follows it, padding or the next block, is not its own.
    assert!(BlockHeader::decode_block(&[block, vec![0xff; 100]].concat()).is_ok());
}

#[test]
fn every_flipped_bit_is_seen() {
    let block = sealed(b"some rows");
    for bit in 0..block.len() * 8 {
        let mut flipped = block.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(BlockHeader::decode_block(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let check = |change: &dyn Fn(&mut Vec<u8>), expected| {
        let mut block = sealed(b"payload");
        change(&mut block);
        assert_eq!(BlockHeader::decode_block(&block).err(), Some(expected));
    };
    check(&|block| block[0] = b'u', BlockError::Magic);
    check(&|block| block.fill(0), BlockError::Magic);
    check(&|block| block[4] = 2, BlockError::Layout(2));
    check(&|block| block[6] = 2, BlockError::Flags(2));
    check(&|block| block[7] = 0x80, BlockError::Flags(0x8000));
    check(&|block| block[50] = 1, BlockError::Checksum);
    check(&|block| block[HEADER_BYTES] ^= 1, BlockError::Checksum);
    let long = BLOCK_PAYLOAD_BYTES_MAX as u32 + 1;
    check(&|block| block[56..60].copy_from_slice(&long.to_le_bytes()), BlockError::Length(long));
}

#[test]
fn the_longest_and_the_shortest_block() {
    for length in [0, BLOCK_PAYLOAD_BYTES_MAX] {
        let payload = vec![7; length];
        let block = sealed(&payload);
        assert_eq!(BlockHeader::decode_block(&block).unwrap().1, payload);
    }
}

#[test]
#[should_panic(expected = "never outgrows")]
fn a_longer_block_is_a_bug() {
    sealed(&vec![7; BLOCK_PAYLOAD_BYTES_MAX + 1]);
}

#[test]
fn a_journal_id_is_shown_as_hex() {
    assert_eq!(golden_id().journal_id.to_string(), "000102030405060708090a0b0c0d0e0f");
}

proptest! {
    #[test]
    fn any_block_is_read_back(
        journal_id in any::<[u8; 16]>(),
        (epoch, sequence, durable_through) in any::<(u64, u64, u64)>(),
        (lane, row_count) in any::<(u16, u32)>(),
        flags in 0..=FLAG_CONTINUES,
        payload in prop::collection::vec(any::<u8>(), 0..5_000),
    ) {
        let id = BlockId { journal_id: JournalId(journal_id), epoch, sequence };
        let header = BlockHeader::seal(id, durable_through, lane, flags, row_count, &payload);
        let block = [&header.encode()[..], &payload].concat();
        prop_assert_eq!(BlockHeader::decode(&block), Ok(header));
        prop_assert_eq!(BlockHeader::decode_block(&block), Ok((header, &payload[..])));
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(BlockHeader::decode_block(&bytes).is_err());
        let behind_magic = [&b"UMGB\x01\x00\x00\x00"[..], &bytes].concat();
        prop_assert!(BlockHeader::decode_block(&behind_magic).is_err());
    }
}
