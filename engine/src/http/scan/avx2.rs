//! Byte classes with AVX2: two 32-byte halves of a block, a nibble look-up for each class.

use super::classes::{
    HIGH_NIBBLE_BITS, HOST_NAME_ALLOWED, TARGET_ALLOWED, TOKEN_ALLOWED, VALUE_STOPS,
};
use super::{BLOCK_BYTES, Stops, Window, fill};
use core::arch::x86_64::*;

/// Proof that the CPU has AVX2: only [`Avx2::detect`] makes one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Avx2> {
        is_x86_feature_detected!("avx2").then_some(Avx2(()))
    }

    pub(super) fn classify(self, buf: &[u8], base: usize, window: &mut Window) {
        // SAFETY: `self` exists only where `detect` found AVX2.
        unsafe { classify(buf, base, window) }
    }
}

#[target_feature(enable = "avx2")]
fn classify(buf: &[u8], base: usize, window: &mut Window) {
    fill(buf, base, window, |bytes| block(bytes));
}

#[inline]
#[target_feature(enable = "avx2")]
fn block(bytes: &[u8; BLOCK_BYTES]) -> Stops {
    // SAFETY: an unaligned load of the first 32 of 64 bytes.
    let low = half(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) });
    // SAFETY: an unaligned load of the last 32 of 64 bytes.
    let high = half(unsafe { _mm256_loadu_si256(bytes.as_ptr().add(32).cast()) });
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Stops {
        token: join(low.0, high.0),
        target: join(low.1, high.1),
        host_name: join(low.2, high.2),
        value: join(low.3, high.3),
    }
}

/// Stops of token, target, host name and value.
#[inline]
#[target_feature(enable = "avx2")]
fn half(bytes: __m256i) -> (u32, u32, u32, u32) {
    let high_nibbles = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), _mm256_set1_epi8(15));
    let high_bits = _mm256_shuffle_epi8(both_lanes(&HIGH_NIBBLE_BITS), high_nibbles);
    let missing = |table: &[u8; 16]| {
        let met = _mm256_and_si256(_mm256_shuffle_epi8(both_lanes(table), bytes), high_bits);
        _mm256_movemask_epi8(_mm256_cmpeq_epi8(met, _mm256_setzero_si256())) as u32
    };
    (
        missing(&TOKEN_ALLOWED),
        missing(&TARGET_ALLOWED),
        missing(&HOST_NAME_ALLOWED),
        !missing(&VALUE_STOPS),
    )
}

#[inline]
#[target_feature(enable = "avx2")]
fn both_lanes(table: &[u8; 16]) -> __m256i {
    // SAFETY: an unaligned load of exactly the table's 16 bytes.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(table.as_ptr().cast()) })
}
