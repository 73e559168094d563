//! SSE4.2 with carry-less multiplication: x86-64 CPUs from 2010 on, and the 16-byte operations that
//! the wider kernels share.

use std::arch::x86_64::*;

use super::super::event::{self, Events, Progress};
use super::super::index::{self, Scan};
use super::Isa;

/// Proof that the CPU has the features of [`detected`].
#[derive(Clone, Copy)]
pub struct Sse42(());

pub fn detected() -> bool {
    is_x86_feature_detected!("sse4.2")
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("popcnt")
}

/// See [`index::scan`].
#[target_feature(enable = "sse4.2,pclmulqdq,popcnt")]
pub fn scan(scan: &mut Scan<'_>) {
    index::scan(Sse42(()), scan);
}

/// See [`event::run`].
#[target_feature(enable = "sse4.2,pclmulqdq,popcnt")]
pub fn events(events: &mut Events<'_>) -> Progress {
    event::run(Sse42(()), events)
}

type Block = [__m128i; 4];

#[inline]
#[target_feature(enable = "sse4.2")]
fn load16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: an unaligned load of the 16 bytes that the reference covers.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// `N` of `bytes` from `at` on.
#[inline(always)]
fn part<const N: usize>(bytes: &[u8], at: usize) -> &[u8; N] {
    bytes[at..].first_chunk().expect("the caller's array is longer")
}

#[inline]
#[target_feature(enable = "sse4.2")]
fn load(bytes: &[u8; 64]) -> Block {
    [0, 16, 32, 48].map(|at| load16(part(bytes, at)))
}

/// One bit a byte, from each byte's top bit.
#[inline]
#[target_feature(enable = "sse4.2")]
fn mask(block: Block) -> u64 {
    let masks = block.map(|v| u64::from(_mm_movemask_epi8(v) as u32));
    masks[0] | masks[1] << 16 | masks[2] << 32 | masks[3] << 48
}

#[inline]
#[target_feature(enable = "sse4.2")]
fn equal_to(block: Block, byte: u8) -> u64 {
    mask(block.map(|v| _mm_cmpeq_epi8(v, _mm_set1_epi8(byte as i8))))
}

#[inline]
#[target_feature(enable = "sse4.2")]
fn has_odd(block: Block) -> bool {
    let odd = block.map(|v| {
        // As signed numbers bytes from 0x80 up are below 0x20 too.
        let others = _mm_cmplt_epi8(v, _mm_set1_epi8(0x20));
        _mm_or_si128(others, _mm_cmpeq_epi8(v, _mm_set1_epi8(b'\\' as i8)))
    });
    let any = _mm_or_si128(_mm_or_si128(odd[0], odd[1]), _mm_or_si128(odd[2], odd[3]));
    _mm_movemask_epi8(any) != 0
}

#[inline]
#[target_feature(enable = "sse4.2")]
fn controls(block: Block) -> u64 {
    mask(block.map(|v| _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v)))
}

#[inline]
#[target_feature(enable = "sse4.2")]
fn unplain(text: &[u8; 32]) -> u32 {
    // A non-ASCII byte has its top bit set as it is.
    let masks = [0, 16].map(|at| {
        let text = load16(part(text, at));
        let backslashes = _mm_cmpeq_epi8(text, _mm_set1_epi8(b'\\' as i8));
        _mm_movemask_epi8(_mm_or_si128(text, backslashes)) as u32
    });
    masks[0] | masks[1] << 16
}

#[inline]
#[target_feature(enable = "sse4.2")]
pub(super) fn digits(text: &[u8; 16]) -> u32 {
    let value = _mm_sub_epi8(load16(text), _mm_set1_epi8(b'0' as i8));
    _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(value, _mm_set1_epi8(9)), value)) as u32
}

impl Isa for Sse42 {
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
        unsafe { mask(block) }
    }

    #[inline(always)]
    fn prefix_xor(self, bits: u64) -> u64 {
        // SAFETY: `self` is proof of the features of [`detected`].
        unsafe { prefix_xor(bits) }
    }

    #[inline(always)]
    fn uuid(self, text: &[u8; 36]) -> Option<[u8; 16]> {
        // SAFETY: `self` is proof of the features of [`detected`].
        unsafe { uuid(text) }
    }

    #[inline(always)]
    fn unplain(self, text: &[u8; 32]) -> u32 {
        // SAFETY: `self` is proof of the features of [`detected`].
        unsafe { unplain(text) }
    }

    #[inline(always)]
    fn digits(self, text: &[u8; 16]) -> u32 {
        // SAFETY: `self` is proof of the features of [`detected`].
        unsafe { digits(text) }
    }
}

/// Carry-less multiplication by all ones adds every bit to all above it.
#[inline]
#[target_feature(enable = "pclmulqdq")]
pub(super) fn prefix_xor(bits: u64) -> u64 {
    let product = _mm_clmulepi64_si128(_mm_set_epi64x(0, bits as i64), _mm_set1_epi8(-1), 0);
    _mm_cvtsi128_si64(product) as u64
}

/// The 32 digits are gathered in the order in which the row wants their bytes, each half backwards.
#[inline]
#[target_feature(enable = "sse4.2")]
pub(super) fn uuid(text: &[u8; 36]) -> Option<[u8; 16]> {
    let (first, middle, last) =
        (load16(part(text, 0)), load16(part(text, 16)), load16(part(text, 20)));
    let dash = _mm_set1_epi8(b'-' as i8);
    let dashes_first = _mm_movemask_epi8(_mm_cmpeq_epi8(first, dash)) & 0x2100;
    let dashes_middle = _mm_movemask_epi8(_mm_cmpeq_epi8(middle, dash)) & 0x84;
    // Text offsets of the high half's bytes, last byte first: 16 14 11 9 6 4 2 0, each with its
    // low digit next to it. The byte at 16 comes from `middle`, the rest from `first`.
    let high = _mm_or_si128(
        _mm_shuffle_epi8(
            first,
            _mm_setr_epi8(-1, -1, 14, 15, 11, 12, 9, 10, 6, 7, 4, 5, 2, 3, 0, 1),
        ),
        _mm_shuffle_epi8(
            middle,
            _mm_setr_epi8(0, 1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1),
        ),
    );
    // The same of the low half: 34 32 30 28 26 24 21 19; 19 comes from `middle`.
    let low = _mm_or_si128(
        _mm_shuffle_epi8(
            last,
            _mm_setr_epi8(14, 15, 12, 13, 10, 11, 8, 9, 6, 7, 4, 5, 1, 2, -1, 0),
        ),
        _mm_shuffle_epi8(
            middle,
            _mm_setr_epi8(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 3, -1),
        ),
    );
    let (high, high_valid) = hex_values(high);
    let (low, low_valid) = hex_values(low);
    let valid = _mm_movemask_epi8(_mm_and_si128(high_valid, low_valid));
    if dashes_first | dashes_middle != 0x2184 || valid != 0xffff {
        return None;
    }
    let weights = _mm_set1_epi16(0x0110);
    let bytes = _mm_packus_epi16(_mm_maddubs_epi16(high, weights), _mm_maddubs_epi16(low, weights));
    let mut row = [0; 16];
    // SAFETY: an unaligned store of 16 bytes into 16 bytes.
    unsafe { _mm_storeu_si128(row.as_mut_ptr().cast(), bytes) };
    Some(row)
}

/// The value of each hexadecimal digit, and 0xff where there is one.
#[inline]
#[target_feature(enable = "sse4.2")]
fn hex_values(text: __m128i) -> (__m128i, __m128i) {
    let digit = _mm_sub_epi8(text, _mm_set1_epi8(b'0' as i8));
    let letter = _mm_sub_epi8(_mm_or_si128(text, _mm_set1_epi8(0x20)), _mm_set1_epi8(b'a' as i8));
    let is_digit = _mm_cmpeq_epi8(_mm_min_epu8(digit, _mm_set1_epi8(9)), digit);
    let is_letter = _mm_cmpeq_epi8(_mm_min_epu8(letter, _mm_set1_epi8(5)), letter);
    let letter = _mm_add_epi8(letter, _mm_set1_epi8(10));
    (_mm_blendv_epi8(letter, digit, is_digit), _mm_or_si128(is_digit, is_letter))
}

/// Tests call this only where [`detected`] is true.
#[cfg(test)]
pub(super) fn for_tests() -> Sse42 {
    assert!(detected());
    Sse42(())
}
