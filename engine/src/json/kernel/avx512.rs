//! AVX-512 (F, BW, VL): 64 bytes in one register, comparisons straight into masks.

use std::arch::x86_64::*;

use super::super::event::{self, Events, Progress};
use super::super::index::{self, Scan};
use super::{Isa, avx2, sse42};

/// Proof that the CPU has the features of [`detected`].
#[derive(Clone, Copy)]
pub struct Avx512(());

pub fn detected() -> bool {
    avx2::detected()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
}

/// See [`index::scan`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt,pclmulqdq")]
pub fn scan(scan: &mut Scan<'_>) {
    index::scan(Avx512(()), scan);
}

/// See [`event::run`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt,pclmulqdq")]
pub fn events(events: &mut Events<'_>) -> Progress {
    event::run(Avx512(()), events)
}

impl Isa for Avx512 {
    type Block = __m512i;

    #[inline(always)]
    fn load(self, bytes: &[u8; 64]) -> __m512i {
        // SAFETY: an unaligned load of the 64 bytes that the reference covers; `self` is proof of
        // AVX-512F.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn equal_to(self, block: __m512i, byte: u8) -> u64 {
        // SAFETY: `self` is proof of AVX-512BW.
        unsafe { _mm512_cmpeq_epi8_mask(block, _mm512_set1_epi8(byte as i8)) }
    }

    #[inline(always)]
    fn has_odd(self, block: __m512i) -> bool {
        // SAFETY: `self` is proof of AVX-512BW. As signed numbers bytes from 0x80 up are below 0x20
        // too.
        unsafe {
            let low = _mm512_cmplt_epi8_mask(block, _mm512_set1_epi8(0x20));
            low | _mm512_cmpeq_epi8_mask(block, _mm512_set1_epi8(b'\\' as i8)) != 0
        }
    }

    #[inline(always)]
    fn controls(self, block: __m512i) -> u64 {
        // SAFETY: `self` is proof of AVX-512BW.
        unsafe { _mm512_cmplt_epu8_mask(block, _mm512_set1_epi8(0x20)) }
    }

    #[inline(always)]
    fn non_ascii(self, block: __m512i) -> u64 {
        // SAFETY: `self` is proof of AVX-512BW.
        unsafe { _mm512_movepi8_mask(block) }
    }

    #[inline(always)]
    fn prefix_xor(self, bits: u64) -> u64 {
        // SAFETY: `self` is proof of PCLMULQDQ.
        unsafe { sse42::prefix_xor(bits) }
    }

    #[inline(always)]
    fn uuid(self, text: &[u8; 36]) -> Option<[u8; 16]> {
        // SAFETY: `self` is proof of SSE4.2.
        unsafe { sse42::uuid(text) }
    }

    #[inline(always)]
    fn unplain(self, text: &[u8; 32]) -> u32 {
        // SAFETY: an unaligned load of the 32 bytes that the reference covers; `self` is proof of
        // AVX-512BW and VL.
        unsafe {
            let text = _mm256_loadu_si256(text.as_ptr().cast());
            let backslashes = _mm256_cmpeq_epi8_mask(text, _mm256_set1_epi8(b'\\' as i8));
            _mm256_movepi8_mask(text) | backslashes
        }
    }

    #[inline(always)]
    fn digits(self, text: &[u8; 16]) -> u32 {
        // SAFETY: `self` is proof of SSE4.2.
        unsafe { sse42::digits(text) }
    }
}

/// Tests call this only where [`detected`] is true.
#[cfg(test)]
pub(super) fn for_tests() -> Avx512 {
    assert!(detected());
    Avx512(())
}
