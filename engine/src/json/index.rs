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
    let mut non_ascii = 0;
    let mut at = scan.from;
    for block in blocks {
        let masks = classify(isa, block, &mut carry);
        non_ascii |= masks.non_ascii;
        if masks.escapes | masks.controls != 0 {
            check_block(scan, &mut carry, at, &masks);
        }
        count = write_tokens(scan.tokens, count, at as u32, masks.tokens);
        at += BLOCK_BYTES;
    }
    if !tail.is_empty() {
        let mut block = [b' '; BLOCK_BYTES];
        block[..tail.len()].copy_from_slice(tail);
        let masks = classify(isa, &block, &mut carry);
        non_ascii |= masks.non_ascii;
        if masks.escapes | masks.controls != 0 {
            check_block(scan, &mut carry, at, &masks);
        }
        count = write_tokens(scan.tokens, count, at as u32, masks.tokens);
    }
    *scan.carry = carry;
    *scan.count = count;
    check_ends(scan, non_ascii != 0);
}

struct Masks {
    tokens: u64,
    /// The `\` that begin an escape.
    escapes: u64,
    /// Raw controls in strings.
    controls: u64,
    non_ascii: u64,
}

#[inline(always)]
fn classify<I: Isa>(isa: I, bytes: &[u8; BLOCK_BYTES], carry: &mut Carry) -> Masks {
    let block = isa.load(bytes);
    let (escapes, escaped) = find_escapes(isa.equal_to(block, b'\\'), carry);
    let quotes = isa.equal_to(block, b'"') & !escaped;
    // From each opening quote up to and without the closing one.
    let in_string = isa.prefix_xor(quotes) ^ carry.in_string;
    carry.in_string = ((in_string as i64) >> 63) as u64;

    let operators = isa.operators(block);
    let other = !(operators | isa.whitespace(block));
    let run = other & !quotes;
    let run_goes_on = run << 1 | carry.in_run;
    carry.in_run = run >> 63;
    let starts = operators | (other & !run_goes_on);
    Masks {
        // The insides and the closing quote drop out; the opening quote stays.
        tokens: starts & !(in_string ^ quotes),
        escapes,
        controls: isa.controls(block) & in_string,
        non_ascii: isa.non_ascii(block),
    }
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

/// Appends the offsets of the bits of `mask`. Writes eight at a time, so also past the last one.
#[inline(always)]
fn write_tokens(tokens: &mut [u32], count: usize, base: u32, mask: u64) -> usize {
    let found = mask.count_ones() as usize;
    let out: &mut [u32; BLOCK_BYTES] =
        tokens[count..].first_chunk_mut().expect("room for a token a byte and a block more");
    let mut rest = mask;
    for slot in &mut out[..8] {
        *slot = base.wrapping_add(rest.trailing_zeros());
        rest &= rest.wrapping_sub(1);
    }
    if found > 8 {
        for slot in &mut out[8..16] {
            *slot = base.wrapping_add(rest.trailing_zeros());
            rest &= rest.wrapping_sub(1);
        }
        if found > 16 {
            for slot in &mut out[16..] {
                *slot = base.wrapping_add(rest.trailing_zeros());
                rest &= rest.wrapping_sub(1);
                if rest == 0 {
                    break;
                }
            }
        }
    }
    count + found
}

/// Looks into a block that has escapes, or controls in strings.
#[inline(never)]
fn check_block(scan: &mut Scan<'_>, carry: &mut Carry, at: usize, masks: &Masks) {
    if scan.fault.is_some() {
        return;
    }
    let mut fault = (masks.controls != 0).then(|| {
        Malformed::at(at + masks.controls.trailing_zeros() as usize, JsonError::ControlInString)
    });
    let mut escapes = masks.escapes;
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
