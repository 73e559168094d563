//! AVX2 with BMI and carry-less multiplication: most x86-64 servers.

use std::arch::x86_64::*;

use super::super::event::{self, Events, Progress};
use super::super::index::{self, Scan};
use super::{Isa, sse42};

/// Proof that the CPU has the features of [`detected`].
#[derive(Clone, Copy)]
pub struct Avx2(());

pub fn detected() -> bool {
    sse42::detected()
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
}

/// See [`index::scan`].
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,pclmulqdq")]
pub fn scan(scan: &mut Scan<'_>) {
    index::scan(Avx2(()), scan);
}

/// See [`event::run`].
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,pclmulqdq")]
pub fn events(events: &mut Events<'_>) -> Progress {
    event::run(Avx2(()), events)
}

type Block = [__m256i; 2];

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 64]) -> Block {
    let start: *const __m256i = bytes.as_ptr().cast();
    // SAFETY: unaligned loads of the 64 bytes that the reference covers.
    unsafe { [_mm256_loadu_si256(start), _mm256_loadu_si256(start.add(1))] }
}

/// One bit a byte, from each byte's top bit.
#[inline]
#[target_feature(enable = "avx2")]
fn mask(low: __m256i, high: __m256i) -> u64 {
    u64::from(_mm256_movemask_epi8(low) as u32) | u64::from(_mm256_movemask_epi8(high) as u32) << 32
}

#[inline]
#[target_feature(enable = "avx2")]
fn equal_to([low, high]: Block, byte: u8) -> u64 {
    let byte = _mm256_set1_epi8(byte as i8);
    mask(_mm256_cmpeq_epi8(low, byte), _mm256_cmpeq_epi8(high, byte))
}

#[inline]
#[target_feature(enable = "avx2")]
fn has_odd([low, high]: Block) -> bool {
    let backslash = _mm256_set1_epi8(b'\\' as i8);
    let backslashes =
        _mm256_or_si256(_mm256_cmpeq_epi8(low, backslash), _mm256_cmpeq_epi8(high, backslash));
    // As signed numbers bytes from 0x80 up are below 0x20 too.
    let space = _mm256_set1_epi8(0x20);
    let others = _mm256_or_si256(_mm256_cmpgt_epi8(space, low), _mm256_cmpgt_epi8(space, high));
    _mm256_movemask_epi8(_mm256_or_si256(backslashes, others)) != 0
}

#[inline]
#[target_feature(enable = "avx2")]
fn controls([low, high]: Block) -> u64 {
    let last = _mm256_set1_epi8(0x1f);
    mask(
        _mm256_cmpeq_epi8(_mm256_min_epu8(low, last), low),
        _mm256_cmpeq_epi8(_mm256_min_epu8(high, last), high),
    )
}

#[inline]
#[target_feature(enable = "avx2")]
fn unplain(text: &[u8; 32]) -> u32 {
    // SAFETY: an unaligned load of the 32 bytes that the reference covers.
    let text = unsafe { _mm256_loadu_si256(text.as_ptr().cast()) };
    // A non-ASCII byte has its top bit set as it is.
    let backslashes = _mm256_cmpeq_epi8(text, _mm256_set1_epi8(b'\\' as i8));
    _mm256_movemask_epi8(_mm256_or_si256(text, backslashes)) as u32
}

impl Isa for Avx2 {
    type Block = Block;

    #[inline(always)]
    fn load(self, bytes: &[u8; 64]) -> Self::Block {
        // SAFETY: `self` is proof of the features of [`detected`].
        unsafe { load(bytes) }
    }

    #[inline(always)]
    fn equal_to(self, block: Self::Block, byte: u8) -> u64 {
        // SAFETY: `self` is proof of the features of [`detected`].
        unsafe { equal_to(block, byte) }
    }

    #[inline(always)]
    fn has_odd(self, block: Self::Block) -> bool {
        // SAFETY: `self` is proof of the features of [`detected`].
        unsafe { has_odd(block) }
    }

    #[inline(always)]
    fn controls(self, block: Self::Block) -> u64 {
        // SAFETY: `self` is proof of the features of [`detected`].
        unsafe { controls(block) }
    }

    #[inline(always)]
    fn non_ascii(self, block: Self::Block) -> u64 {
        // SAFETY: `self` is proof of the features of [`detected`].
        unsafe { mask(block[0], block[1]) }
    }

    #[inline(always)]
    fn prefix_xor(self, bits: u64) -> u64 {
        // SAFETY: `self` is proof of the features of [`detected`].
        unsafe { sse42::prefix_xor(bits) }
    }

    #[inline(always)]
    fn uuid(self, text: &[u8; 36]) -> Option<[u8; 16]> {
        // SAFETY: `self` is proof of the features of [`detected`].
        unsafe { sse42::uuid(text) }
    }

    #[inline(always)]
    fn unplain(self, text: &[u8; 32]) -> u32 {
        // SAFETY: `self` is proof of the features of [`detected`].
        unsafe { unplain(text) }
    }

    #[inline(always)]
    fn digits(self, text: &[u8; 16]) -> u32 {
        // SAFETY: `self` is proof of the features of [`detected`].
        unsafe { sse42::digits(text) }
    }
}

/// Tests call this only where [`detected`] is true.
#[cfg(test)]
pub(super) fn for_tests() -> Avx2 {
    assert!(detected());
    Avx2(())
}
