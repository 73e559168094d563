//! Choices that a target makes for itself: where to cut, which bit to flip. They come from the input,
//! so that the input alone says what a target does.

use proto::random::SplitMix64;

pub fn draw(bytes: &[u8]) -> SplitMix64 {
    SplitMix64::new(u64::from(crc32c::crc32c(bytes)) << 32 | bytes.len() as u64)
}

/// From 0 to below `bound`, which is not 0.
pub fn below(random: &mut SplitMix64, bound: usize) -> usize {
    random.below(bound as u64) as usize
}

/// `count` places in an input of `length` bytes, its two ends among them, in order.
pub fn cuts(random: &mut SplitMix64, count: usize, length: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = (0..count).map(|_| below(random, length + 1)).collect();
    cuts.sort_unstable();
    cuts
}
