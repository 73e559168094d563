//! ClickHouse's compressed blocks (`compress=1`, `decompress=1`).
//!
//! A block: CityHash128 (1.0.2) over all that follows, 16 bytes; method, 1 byte; size of header and
//! payload, u32; size when decompressed, u32; payload. Integers are little-endian.
//! The sizes come from the network: both are checked against `BLOCK_BYTES_MAX` before allocation,
//! and the checksum before decompression.

use std::io::{self, ErrorKind, Read};

use cityhash_rs::cityhash_102_128;

const CHECKSUM_BYTES: usize = 16;
const HEADER_BYTES: usize = 9;
const NONE: u8 = 0x02;
const LZ4: u8 = 0x82;
const ZSTD: u8 = 0x90;

/// The engine writes blocks of up to 1 MiB, clients of some hundred KiB.
pub const BLOCK_BYTES_MAX: usize = 16 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    #[error("Checksum doesn't match: corrupted data")]
    Checksum,
    #[error("Unknown compression method: {0:#04x}")]
    Method(u8),
    #[error("Block sizes out of range: {compressed} compressed, {plain} decompressed")]
    Size { compressed: usize, plain: usize },
    #[error("Cannot decompress: the payload is damaged")]
    Payload,
}

pub fn compress_lz4(plain: &[u8]) -> Vec<u8> {
    let mut block = vec![0; CHECKSUM_BYTES + HEADER_BYTES];
    block.extend_from_slice(&lz4_flex::block::compress(plain));
    let compressed = (block.len() - CHECKSUM_BYTES) as u32;
    block[16] = LZ4;
    block[17..21].copy_from_slice(&compressed.to_le_bytes());
    block[21..25].copy_from_slice(&(plain.len() as u32).to_le_bytes());
    let checksum = checksum(&block[CHECKSUM_BYTES..]);
    block[..CHECKSUM_BYTES].copy_from_slice(&checksum);
    block
}

/// The hash's first 64 bits are the high half of the library's u128 and come first in the block.
fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    cityhash_102_128(bytes).rotate_left(64).to_le_bytes()
}

/// Reads the plain bytes of a sequence of blocks.
pub struct BlockReader<R> {
    inner: R,
    plain: Vec<u8>,
    position: usize,
}

impl<R: Read> BlockReader<R> {
    pub fn new(inner: R) -> Self {
        BlockReader { inner, plain: Vec::new(), position: 0 }
    }

    /// False at the end of the input between two blocks.
    fn next_block(&mut self) -> io::Result<bool> {
        let mut head = [0; CHECKSUM_BYTES + HEADER_BYTES];
        let mut filled = 0;
        while filled < head.len() {
            match self.inner.read(&mut head[filled..])? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        let size_at = |index: usize| {
            let bytes = [head[index], head[index + 1], head[index + 2], head[index + 3]];
            u32::from_le_bytes(bytes) as usize
        };
        let (compressed, plain) = (size_at(17), size_at(21));
        let sizes = HEADER_BYTES..=BLOCK_BYTES_MAX;
        if !sizes.contains(&compressed) || plain > BLOCK_BYTES_MAX {
            return Err(io::Error::other(BlockError::Size { compressed, plain }));
        }
        let mut block = vec![0; compressed];
        block[..HEADER_BYTES].copy_from_slice(&head[CHECKSUM_BYTES..]);
        self.inner.read_exact(&mut block[HEADER_BYTES..])?;
        if checksum(&block) != head[..CHECKSUM_BYTES] {
            return Err(io::Error::other(BlockError::Checksum));
        }
        self.plain =
            decompress(block[0], &block[HEADER_BYTES..], plain).map_err(io::Error::other)?;
        self.position = 0;
        Ok(true)
    }
}

fn decompress(method: u8, payload: &[u8], plain_bytes: usize) -> Result<Vec<u8>, BlockError> {
    let plain = match method {
        NONE => payload.to_vec(),
        LZ4 => {
            lz4_flex::block::decompress(payload, plain_bytes).map_err(|_| BlockError::Payload)?
        }
        ZSTD => zstd::bulk::decompress(payload, plain_bytes).map_err(|_| BlockError::Payload)?,
        other => return Err(BlockError::Method(other)),
    };
    if plain.len() != plain_bytes {
        return Err(BlockError::Payload);
    }
    Ok(plain)
}

impl<R: Read> Read for BlockReader<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while self.position == self.plain.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let count = target.len().min(self.plain.len() - self.position);
        target[..count].copy_from_slice(&self.plain[self.position..self.position + count]);
        self.position += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_all(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        BlockReader::new(bytes).read_to_end(&mut plain).map(|_| plain)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn blocks_round_trip(parts in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..300), 0..4)) {
            let blocks: Vec<u8> = parts.iter().flat_map(|part| compress_lz4(part)).collect();
            prop_assert_eq!(read_all(&blocks).unwrap(), parts.concat());
        }

        #[test]
        fn a_flipped_bit_is_an_error(part in proptest::collection::vec(any::<u8>(), 1..100),
                                     position in any::<proptest::sample::Index>(), bit in 0u32..8) {
            let mut block = compress_lz4(&part);
            let index = position.index(block.len());
            block[index] ^= 1u8 << bit;
            prop_assert!(read_all(&block).is_err());
        }

        #[test]
        fn every_strict_prefix_is_an_error(part in proptest::collection::vec(any::<u8>(), 1..100),
                                           position in any::<proptest::sample::Index>()) {
            let block = compress_lz4(&part);
            let cut = 1 + position.index(block.len() - 1);
            prop_assert!(read_all(&block[..cut]).is_err());
        }
    }

    #[test]
    fn sizes_are_refused_before_allocation() {
        let mut block = vec![0; CHECKSUM_BYTES + HEADER_BYTES];
        block[16] = LZ4;
        block[17..21].copy_from_slice(&u32::MAX.to_le_bytes());
        block[21..25].copy_from_slice(&u32::MAX.to_le_bytes());
        let error = read_all(&block).unwrap_err();
        assert!(error.to_string().contains("out of range"), "{error}");
    }
}
