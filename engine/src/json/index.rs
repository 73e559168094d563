//! Stage 1: the offsets at which something can begin outside of strings.
//!
//! Tokens are the operators `{ } [ ] : ,`, opening quotes, and the first byte of every other run of
//! bytes that is not white space. So between two tokens there is only white space after the first
//! one's text: stage 2 never looks for it. On the way the insides of all strings are checked:
//! escapes, raw controls, UTF-8, and that the last one closes.
//!
//! The body is scanned in parts so that text and tokens stay in cache between the stages; [`Carry`]
//! holds what crosses from one to the next. Every part but the last is a multiple of 64 bytes.
//! Knows no grammar beyond strings, and no schema.

use super::error::JsonError;
use super::escape::EscapeCheck;
use super::kernel::Isa;
use super::value::Malformed;

/// The bytes of one step.
pub const BLOCK_BYTES: usize = 64;

/// What one part leaves for the next.
#[derive(Clone, Copy, Default)]
pub struct Carry {
    /// All ones in a string.
    in_string: u64,
    /// 1 when the next byte is escaped.
    escaped: u64,
    /// 1 when the last byte belongs to a run that is neither operator, quote nor white space.
    in_run: u64,
    escapes: EscapeCheck,
    /// Up to here the body is valid UTF-8.
    utf8_checked: usize,
}

/// One part's work. `body[from..to]` is scanned; `tokens[*count..]` has room for a token a byte and
/// [`BLOCK_BYTES`] more.
pub struct Scan<'a> {
    pub body: &'a [u8],
    pub from: usize,
    pub to: usize,
    pub carry: &'a mut Carry,
    pub tokens: &'a mut [u32],
    pub count: &'a mut usize,
    /// The first fault in the strings of this part. Tokens past it mean nothing.
    pub fault: &'a mut Option<Malformed>,
}

/// Scans one part with the instructions of `isa`.
#[inline(always)]
pub fn scan<I: Isa>(isa: I, scan: &mut Scan<'_>) {
    let (blocks, tail) = scan.body[scan.from..scan.to].as_chunks::<BLOCK_BYTES>();
    let mut carry = *scan.carry;
    let mut count = *scan.count;
    let mut non_ascii = false;
    let mut at = scan.from;
    // Each block's tokens are written while the next block is classified: done in turn, the two
    // would wait for each other in the CPU's window.
    let mut waiting = 0;
    for block in blocks {
        count = write_tokens(isa, scan.tokens, count, at.wrapping_sub(BLOCK_BYTES), waiting);
        waiting = classify(isa, block, at, scan, &mut carry, &mut non_ascii);
        at += BLOCK_BYTES;
    }
    count = write_tokens(isa, scan.tokens, count, at.wrapping_sub(BLOCK_BYTES), waiting);
    if !tail.is_empty() {
        let mut block = [b' '; BLOCK_BYTES];
        block[..tail.len()].copy_from_slice(tail);
        let tokens = classify(isa, &block, at, scan, &mut carry, &mut non_ascii);
        count = write_tokens(isa, scan.tokens, count, at, tokens);
    }
    *scan.carry = carry;
    *scan.count = count;
    check_ends(scan, non_ascii);
}

/// The tokens of one block. Checks what is in its strings.
#[inline(always)]
fn classify<I: Isa>(
    isa: I,
    bytes: &[u8; BLOCK_BYTES],
    at: usize,
    scan: &mut Scan<'_>,
    carry: &mut Carry,
    non_ascii: &mut bool,
) -> u64 {
    let block = isa.load(bytes);
    let mut quotes = isa.equal_to(block, b'"');
    let odd = isa.has_odd(block) || carry.escaped != 0;
    let mut escapes = 0;
    if odd {
        let escaped;
        (escapes, escaped) = find_escapes(isa.equal_to(block, b'\\'), carry);
        quotes &= !escaped;
        *non_ascii |= isa.non_ascii(block) != 0;
    }
    // From each opening quote up to and without the closing one.
    let in_string = isa.prefix_xor(quotes) ^ carry.in_string;
    carry.in_string = ((in_string as i64) >> 63) as u64;
    let operators = isa.operators(block);
    let other = !(operators | isa.whitespace(block));
    let run = other & !quotes;
    let run_goes_on = run << 1 | carry.in_run;
    carry.in_run = run >> 63;
    let starts = operators | (other & !run_goes_on);
    // Last, as the call would push the block out of its registers.
    if odd {
        let controls = isa.controls(block) & in_string;
        if escapes | controls != 0 {
            check_block(scan, carry, at, escapes, controls);
        }
    }
    // The insides and the closing quote drop out; the opening quote stays.
    starts & !(in_string ^ quotes)
}

/// The backslashes that begin an escape, and the bytes that are escaped.
#[inline(always)]
fn find_escapes(backslashes: u64, carry: &mut Carry) -> (u64, u64) {
    if backslashes | carry.escaped == 0 {
        return (0, 0);
    }
    let mut rest = backslashes & !carry.escaped;
    let mut escaped = carry.escaped;
    let mut escapes = 0;
    carry.escaped = 0;
    while rest != 0 {
        let first = rest & rest.wrapping_neg();
        escapes |= first;
        escaped |= first << 1;
        carry.escaped = first >> 63;
        rest &= !(first | first << 1);
    }
    (escapes, escaped)
}

/// Appends the offsets of the bits of `mask`.
#[inline(always)]
fn write_tokens<I: Isa>(isa: I, tokens: &mut [u32], count: usize, at: usize, mask: u64) -> usize {
    let out = tokens[count..].first_chunk_mut().expect("room for a token a byte and a block more");
    isa.write_bits(mask, at as u32, out);
    count + mask.count_ones() as usize
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
    match std::str::from_utf8(&scan.body[*checked..scan.to]) {
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
