//! Byte classes with AVX-512BW: a block in one register, classes tested straight into masks.

use super::classes::{
    HIGH_NIBBLE_BITS, HOST_NAME_ALLOWED, TARGET_ALLOWED, TOKEN_ALLOWED, VALUE_STOPS,
};
use super::{BLOCK_BYTES, Stops, Window, fill};
use core::arch::x86_64::*;

/// Proof that the CPU has AVX-512F and BW: only [`Avx512::detect`] makes one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Avx512> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"))
            .then_some(Avx512(()))
    }

    pub(super) fn classify(self, buf: &[u8], base: usize, window: &mut Window) {
        // SAFETY: `self` exists only where `detect` found AVX-512F and BW.
        unsafe { classify(buf, base, window) }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn classify(buf: &[u8], base: usize, window: &mut Window) {
    fill(buf, base, window, |bytes| block(bytes));
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn block(bytes: &[u8; BLOCK_BYTES]) -> Stops {
    // SAFETY: an unaligned load of exactly the block's 64 bytes.
    let bytes = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
    let high_nibbles = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), _mm512_set1_epi8(15));
    let high_bits = _mm512_shuffle_epi8(all_lanes(&HIGH_NIBBLE_BITS), high_nibbles);
    let meets = |table: &[u8; 16]| {
        _mm512_test_epi8_mask(_mm512_shuffle_epi8(all_lanes(table), bytes), high_bits)
    };
    Stops {
        token: !meets(&TOKEN_ALLOWED),
        target: !meets(&TARGET_ALLOWED),
        host_name: !meets(&HOST_NAME_ALLOWED),
        value: meets(&VALUE_STOPS),
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn all_lanes(table: &[u8; 16]) -> __m512i {
    // SAFETY: an unaligned load of exactly the table's 16 bytes.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(table.as_ptr().cast()) })
}
