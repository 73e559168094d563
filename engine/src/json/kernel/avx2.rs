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

#[inline(always)]
fn load32(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: an unaligned load of 32 bytes that the reference covers. Only methods of `Avx2` call
    // this, whose `self` is proof of AVX.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline(always)]
fn join(masks: [__m256i; 2]) -> u64 {
    // SAFETY: only methods of `Avx2` call this.
    let [low, high] = masks.map(|v| unsafe { _mm256_movemask_epi8(v) } as u32);
    u64::from(low) | u64::from(high) << 32
}

#[inline(always)]
fn table(bytes: &[u8; 16]) -> __m256i {
    // SAFETY: a load of the 16 bytes that the reference covers. Only methods of `Avx2` call this.
    unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(bytes.as_ptr().cast())) }
}

impl Isa for Avx2 {
    type Block = [__m256i; 2];

    #[inline(always)]
    fn load(self, bytes: &[u8; 64]) -> Self::Block {
        let (low, high) = bytes.split_at(32);
        [low, high].map(|half| load32(half.try_into().expect("half of 64 bytes")))
    }

    #[inline(always)]
    fn equal_to(self, block: Self::Block, byte: u8) -> u64 {
        // SAFETY: `self` is proof of AVX2.
        join(block.map(|v| unsafe { _mm256_cmpeq_epi8(v, _mm256_set1_epi8(byte as i8)) }))
    }

    #[inline(always)]
    fn controls(self, block: Self::Block) -> u64 {
        // SAFETY: `self` is proof of AVX2.
        join(
            block.map(|v| unsafe {
                _mm256_cmpeq_epi8(_mm256_min_epu8(v, _mm256_set1_epi8(0x1f)), v)
            }),
        )
    }

    #[inline(always)]
    fn non_ascii(self, block: Self::Block) -> u64 {
        join(block)
    }

    #[inline(always)]
    fn whitespace(self, block: Self::Block) -> u64 {
        let table = table(&sse42::WHITESPACE);
        // SAFETY: `self` is proof of AVX2.
        join(block.map(|v| unsafe { _mm256_cmpeq_epi8(v, _mm256_shuffle_epi8(table, v)) }))
    }

    #[inline(always)]
    fn operators(self, block: Self::Block) -> u64 {
        let table = table(&sse42::OPERATORS);
        // SAFETY: `self` is proof of AVX2.
        join(block.map(|v| unsafe {
            let folded = _mm256_or_si256(v, _mm256_set1_epi8(0x20));
            _mm256_cmpeq_epi8(folded, _mm256_shuffle_epi8(table, v))
        }))
    }

    #[inline(always)]
    fn prefix_xor(self, bits: u64) -> u64 {
        // SAFETY: `self` is proof of PCLMULQDQ.
        unsafe { sse42::prefix_xor(bits) }
    }

    #[inline(always)]
    fn uuid(self, text: &[u8; 36]) -> Option<[u8; 16]> {
        // SAFETY: `self` is proof of AVX2, which includes SSE4.2.
        unsafe { sse42::uuid(text) }
    }

    #[inline(always)]
    fn unplain(self, text: &[u8; 32]) -> u32 {
        let text = load32(text);
        // SAFETY: `self` is proof of AVX2. A non-ASCII byte has its top bit set as it is.
        unsafe {
            let backslashes = _mm256_cmpeq_epi8(text, _mm256_set1_epi8(b'\\' as i8));
            _mm256_movemask_epi8(_mm256_or_si256(text, backslashes)) as u32
        }
    }

    #[inline(always)]
    fn digits(self, text: &[u8; 16]) -> u32 {
        sse42::digits16(text)
    }
}

/// Tests call this only where [`detected`] is true.
#[cfg(test)]
pub(super) fn for_tests() -> Avx2 {
    assert!(detected());
    Avx2(())
}
