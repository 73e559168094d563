//! Stage 1: where strings begin and end, as one bit a byte, and whether their insides are sound:
//! escapes, raw controls, UTF-8, and that the last one closes.
//!
//! Escaped quotes have no bit, so that going over a string is one look at the bits: stage 2 never
//! reads what is between the quotes unless it wants the value. What is outside of strings stage 2
//! reads itself; in a compact body that is a byte or two between one quote and the next.
//!
//! The body is scanned in parts so that text and bits stay in cache between the stages; [`Carry`]
//! holds what crosses from one to the next. Every part but the last is a multiple of 64 bytes.
//! Knows no grammar beyond strings, and no schema.

use super::error::JsonError;
use super::escape::EscapeCheck;
use super::kernel::Isa;
use super::value::Malformed;

/// The bytes of one step.
pub const BLOCK_BYTES: usize = 64;

/// The bits of one block: bit `n % 8` of byte `n / 8` is set when a quote stands at offset `n`.
pub type BlockQuotes = [u8; BLOCK_BYTES / 8];

/// What one part leaves for the next.
#[derive(Clone, Copy, Default)]
pub struct Carry {
    /// All ones in a string.
    in_string: u64,
    /// 1 when the next byte is escaped.
    escaped: u64,
    escapes: EscapeCheck,
    /// Up to here the body is valid UTF-8.
    utf8_checked: usize,
}

/// One part's work: `body[from..to]`.
pub struct Scan<'a> {
    pub body: &'a [u8],
    pub from: usize,
    pub to: usize,
    pub carry: &'a mut Carry,
    /// Room for the blocks of this part, the last of which may be cut short.
    pub quotes: &'a mut [BlockQuotes],
    /// The first fault in the strings of this part. Quotes past it mean nothing.
    pub fault: &'a mut Option<Malformed>,
}

/// Scans one part with the instructions of `isa`.
#[inline(always)]
pub fn scan<I: Isa>(isa: I, scan: &mut Scan<'_>) {
    let (blocks, tail) = scan.body[scan.from..scan.to].as_chunks::<BLOCK_BYTES>();
    let mut carry = *scan.carry;
    let mut non_ascii = false;
    let mut at = scan.from;
    let quotes = std::mem::take(&mut scan.quotes);
    let (whole, last) = quotes.split_at_mut(blocks.len());
    for (block, quotes) in blocks.iter().zip(whole) {
        *quotes = classify(isa, block, at, scan, &mut carry, &mut non_ascii);
        at += BLOCK_BYTES;
    }
    if !tail.is_empty() {
        let mut block = [b' '; BLOCK_BYTES];
        block[..tail.len()].copy_from_slice(tail);
        last[0] = classify(isa, &block, at, scan, &mut carry, &mut non_ascii);
    }
    *scan.carry = carry;
    check_ends(scan, non_ascii);
}

/// The quotes of one block. Checks what is in its strings.
#[inline(always)]
fn classify<I: Isa>(
    isa: I,
    bytes: &[u8; BLOCK_BYTES],
    at: usize,
    scan: &mut Scan<'_>,
    carry: &mut Carry,
    non_ascii: &mut bool,
) -> BlockQuotes {
    let block = isa.load(bytes);
    let mut quotes = isa.equal_to(block, b'"');
    let was_in_string = carry.in_string;
    if isa.has_odd(block) || carry.escaped != 0 {
        let (escapes, escaped) = find_escapes(isa.equal_to(block, b'\\'), carry);
        quotes &= !escaped;
        *non_ascii |= isa.non_ascii(block) != 0;
        // From each opening quote up to and without the closing one.
        let in_string = isa.prefix_xor(quotes) ^ was_in_string;
        let controls = isa.controls(block) & in_string;
        if escapes | controls != 0 {
            check_block(scan, carry, at, escapes, controls);
        }
    }
    carry.in_string = was_in_string ^ u64::from(quotes.count_ones() & 1).wrapping_neg();
    quotes.to_le_bytes()
}

/// The backslashes that begin an escape, and the bytes that are escaped. Without a branch: how many
/// backslashes stand in a row nobody can guess, and the carry of a subtraction goes along all of a row
/// at once, as in simdjson (Langdale and Lemire 2019, section 3.1.1).
#[inline(always)]
fn find_escapes(backslashes: u64, carry: &mut Carry) -> (u64, u64) {
    const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;
    let begin = backslashes & !carry.escaped;
    let rows = ((begin << 1 | ODD).wrapping_sub(begin)) ^ ODD;
    let escaped = rows ^ (backslashes | carry.escaped);
    let escapes = rows & backslashes;
    carry.escaped = escapes >> 63;
    (escapes, escaped)
}

/// Looks into a block that has escapes, or controls in strings.
#[inline(never)]
fn check_block(scan: &mut Scan<'_>, carry: &mut Carry, at: usize, escapes: u64, controls: u64) {
    if scan.fault.is_some() {
        return;
    }
    let mut fault = (controls != 0).then(|| {
        Malformed::at(at + controls.trailing_zeros() as usize, JsonError::ControlInString)
    });
    let mut escapes = escapes;
    while escapes != 0 {
        let escape_at = at + escapes.trailing_zeros() as usize;
        if let Err(wrong) = carry.escapes.check(scan.body, escape_at) {
            keep_first(&mut fault, wrong);
            break;
        }
        escapes &= escapes - 1;
    }
    *scan.fault = fault;
}

fn keep_first(fault: &mut Option<Malformed>, other: Malformed) {
    if fault.is_none_or(|fault| other.offset < fault.offset) {
        *fault = Some(other);
    }
}

/// What is left at a part's end: UTF-8, and at the body's end an open string.
#[inline(always)]
fn check_ends(scan: &mut Scan<'_>, non_ascii: bool) {
    if non_ascii || scan.carry.utf8_checked != scan.from {
        check_utf8(scan);
    } else {
        scan.carry.utf8_checked = scan.to;
    }
    if scan.to == scan.body.len() && scan.carry.in_string != 0 && scan.fault.is_none() {
        *scan.fault = Some(Malformed::at(scan.to, JsonError::UnexpectedEnd));
    }
}

#[inline(never)]
fn check_utf8(scan: &mut Scan<'_>) {
    let checked = &mut scan.carry.utf8_checked;
    match simdutf8::compat::from_utf8(&scan.body[*checked..scan.to]) {
        Ok(_) => *checked = scan.to,
        Err(wrong) => {
            *checked += wrong.valid_up_to();
            // A character that goes on in the next part is not wrong yet.
            if wrong.error_len().is_some() || scan.to == scan.body.len() {
                keep_first(scan.fault, Malformed::at(*checked, JsonError::Utf8));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Byte by byte, as the grammar says.
    fn escapes_one_by_one(backslashes: u64, mut escaped: bool) -> (u64, u64, u64) {
        let (mut begins, mut ends) = (0, 0);
        for at in 0..64 {
            ends |= u64::from(escaped) << at;
            escaped = !escaped && backslashes >> at & 1 == 1;
            begins |= u64::from(escaped) << at;
        }
        (begins, ends, u64::from(escaped))
    }

    proptest! {
        /// Rows of backslashes of any length, across the block's ends too.
        #[test]
        fn escapes_begin_and_end_as_one_by_one(words in prop::collection::vec(any::<u64>(), 1..4), carried in 0u64..2) {
            // The more words, the longer the rows.
            let backslashes = words.iter().fold(0, |all, word| all | word);
            let mut carry = Carry { escaped: carried, ..Carry::default() };
            let (begins, ends) = find_escapes(backslashes, &mut carry);
            prop_assert_eq!((begins, ends, carry.escaped), escapes_one_by_one(backslashes, carried == 1));
        }
    }
}
