//! Byte classes with SSE4.2 (of it only SSSE3's shuffle): four 16-byte quarters of a block.

use super::classes::{
    HIGH_NIBBLE_BITS, HOST_NAME_ALLOWED, TARGET_ALLOWED, TOKEN_ALLOWED, VALUE_STOPS,
};
use super::{BLOCK_BYTES, Stops, Window, fill};
use core::arch::x86_64::*;

/// Proof that the CPU has SSE4.2: only [`Sse42::detect`] makes one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sse42(());

impl Sse42 {
    pub(super) fn detect() -> Option<Sse42> {
        is_x86_feature_detected!("sse4.2").then_some(Sse42(()))
    }

    pub(super) fn classify(self, buf: &[u8], base: usize, window: &mut Window) {
        // SAFETY: `self` exists only where `detect` found SSE4.2.
        unsafe { classify(buf, base, window) }
    }
}

#[target_feature(enable = "sse4.2")]
fn classify(buf: &[u8], base: usize, window: &mut Window) {
    fill(buf, base, window, |bytes| block(bytes));
}

#[inline]
#[target_feature(enable = "sse4.2")]
fn block(bytes: &[u8; BLOCK_BYTES]) -> Stops {
    let mut stops = Stops::NONE;
    for at in (0..BLOCK_BYTES).step_by(16) {
        // SAFETY: an unaligned load of 16 bytes; `at` is at most 48 of 64.
        let (token, target, host_name, value) =
            quarter(unsafe { _mm_loadu_si128(bytes.as_ptr().add(at).cast()) });
        stops.token |= u64::from(token) << at;
        stops.target |= u64::from(target) << at;
        stops.host_name |= u64::from(host_name) << at;
        stops.value |= u64::from(value) << at;
    }
    stops
}

/// Stops of token, target, host name and value.
#[inline]
#[target_feature(enable = "sse4.2")]
fn quarter(bytes: __m128i) -> (u16, u16, u16, u16) {
    let high_nibbles = _mm_and_si128(_mm_srli_epi16::<4>(bytes), _mm_set1_epi8(15));
    let high_bits = _mm_shuffle_epi8(load(&HIGH_NIBBLE_BITS), high_nibbles);
    let missing = |table: &[u8; 16]| {
        let met = _mm_and_si128(_mm_shuffle_epi8(load(table), bytes), high_bits);
        _mm_movemask_epi8(_mm_cmpeq_epi8(met, _mm_setzero_si128())) as u16
    };
    (
        missing(&TOKEN_ALLOWED),
        missing(&TARGET_ALLOWED),
        missing(&HOST_NAME_ALLOWED),
        !missing(&VALUE_STOPS),
    )
}

#[inline]
#[target_feature(enable = "sse4.2")]
fn load(table: &[u8; 16]) -> __m128i {
    // SAFETY: an unaligned load of exactly the table's 16 bytes.
    unsafe { _mm_loadu_si128(table.as_ptr().cast()) }
}
