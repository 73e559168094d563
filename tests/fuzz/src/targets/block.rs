//! Any bytes as a block, as a block's rows, and as what a block is made of.
//!
//! Laws: what decodes encodes to the same bytes, and what was sealed decodes to the same; any one
//! flipped bit and any cut is refused; the walk over rows ends, stays inside and reads back its own
//! rows.

use proto::block::{BlockError, FLAG_CONTINUES, HEADER_BYTES};
use proto::limits::BLOCK_PAYLOAD_BYTES_MAX;
use proto::random::SplitMix64;
use proto::row::{FIXED_BYTES, Row, Rows};
use proto::{BlockHeader, BlockId, JournalId};

use crate::Target;
use crate::draw::{below, draw};

pub const TARGET: Target = Target {
    name: "block",
    run: target,
    dictionary: &[
        b"UMGB\x01\x00",
        b"\x01\x00",
        b"\x02\x00",
        b"\xff\xff\xff\xff",
        b"\xff\xff\xff\x7f",
        b"\x80\x80\x80\x80",
        b"\x80\x01",
        b"\x00\x00\x08\x00",
        b"\xc0\xff\x07\x00",
        b"\x02{}",
    ],
    input_bytes_max: 2_000,
    test_cases: 50_000,
};

pub fn target(bytes: &[u8]) {
    as_block(bytes);
    as_rows(bytes);
    if let Some((fields, payload)) = bytes.split_first_chunk::<40>() {
        sealed_and_read_back(fields, payload, &mut draw(bytes));
    }
}

fn as_block(bytes: &[u8]) {
    let head = BlockHeader::decode(bytes);
    let whole = BlockHeader::decode_block(bytes);
    let Ok((header, payload)) = whole else {
        assert!(head.is_ok() || head.err() == whole.err(), "{head:?}, then {whole:?}");
        return;
    };
    assert_eq!(head, Ok(header));
    assert_eq!(header.encode(), bytes[..HEADER_BYTES]);
    assert_eq!(payload, &bytes[HEADER_BYTES..header.block_bytes()]);
    assert!(payload.len() <= BLOCK_PAYLOAD_BYTES_MAX);
    let lane_and_flags = (header.lane, header.flags);
    let through = header.durable_through;
    let again = BlockHeader::seal(
        header.id,
        through,
        lane_and_flags.0,
        lane_and_flags.1,
        header.row_count,
        payload,
    );
    assert_eq!(again, header);
}

fn as_rows(payload: &[u8]) {
    let mut walked_bytes = 0;
    for row in Rows::new(payload) {
        let Ok(row) = row else { break };
        let length = Row::decode(&payload[walked_bytes..]).expect("the walk decoded it").1;
        assert!(length >= FIXED_BYTES + 3);
        walked_bytes += length;
        let mut encoded = Vec::new();
        row.encode(&mut encoded);
        // A length may have been written in more bytes than it needs.
        assert!(encoded.len() <= length);
        assert_eq!(Row::decode(&encoded), Ok((row, encoded.len())));
    }
    assert!(walked_bytes <= payload.len());
    assert!(Rows::new(payload).count() <= payload.len() / (FIXED_BYTES + 3) + 1);
}

fn sealed_and_read_back(fields: &[u8; 40], payload: &[u8], random: &mut SplitMix64) {
    let u64_at =
        |at: usize| u64::from_le_bytes(*fields[at..].first_chunk().expect("8 of 40 bytes"));
    let journal_id = JournalId(*fields.first_chunk().expect("16 of 40 bytes"));
    let id = BlockId { journal_id, epoch: u64_at(16), sequence: u64_at(24) };
    let (through, lane) = (u64_at(32), u64_at(0) as u16);
    let flags = u64_at(8) as u16 & FLAG_CONTINUES;
    let header = BlockHeader::seal(id, through, lane, flags, u64_at(4) as u32, payload);
    let block = [&header.encode()[..], payload].concat();
    assert_eq!(BlockHeader::decode_block(&block), Ok((header, payload)));
    let followed = [&block[..], fields].concat();
    assert_eq!(BlockHeader::decode_block(&followed), Ok((header, payload)), "with a next block");
    let cut = below(random, block.len());
    assert_eq!(BlockHeader::decode_block(&block[..cut]).err(), Some(BlockError::Truncated));
    let mut flipped = block;
    for _ in 0..16 {
        let bit = below(random, flipped.len() * 8);
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(BlockHeader::decode_block(&flipped).is_err(), "flipped bit {bit}");
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
}
