//! Stage 2, the usual case: the values that only the grammar cares for, which are those of the
//! properties and of unknown members. Nothing is decided here but that a value is JSON.
//!
//! A value's end is not looked at: whoever goes on behind it wants a comma or a bracket there.

use proto::limits::JSON_DEPTH_MAX;

use super::event::EVENT_DEPTH;
use super::kernel::Isa;
use super::token::Quotes;
use super::value::{byte_at, check_number, is_whitespace};

/// What the usual case reads from.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    pub body: &'a [u8],
    pub quotes: Quotes<'a>,
}

impl<'a> Text<'a> {
    #[inline(always)]
    pub fn chunk<const N: usize>(self, at: u32) -> Option<&'a [u8; N]> {
        let at = at as usize;
        self.body.get(at..at + N)?.first_chunk()
    }

    /// The next byte from `at` on that is not white space, and its offset.
    #[inline(always)]
    pub fn token(self, at: u32) -> (u32, u8) {
        let (mut at, mut byte) = (at, byte_at(self.body, at));
        while byte <= b' ' && is_whitespace(byte) {
            at += 1;
            byte = byte_at(self.body, at);
        }
        (at, byte)
    }

    /// The closing quote of the string that opens at `open`.
    #[inline(always)]
    pub fn close(self, open: u32) -> Option<u32> {
        self.quotes.next(open + 1)
    }

    /// The value of a member whose name ends before `at`: its place and first byte.
    #[inline(always)]
    pub fn member_value(self, at: u32) -> Option<(u32, u8)> {
        if let Some([b':', first]) = self.chunk(at)
            && *first > b' '
        {
            return Some((at + 1, *first));
        }
        if let Some([b':', b' ', first]) = self.chunk(at)
            && *first > b' '
        {
            return Some((at + 2, *first));
        }
        let (colon, byte) = self.token(at);
        if byte == b':' { Some(self.token(colon + 1)) } else { None }
    }
}

#[inline(always)]
fn opens(byte: u8) -> bool {
    matches!(byte, b'{' | b'[')
}

/// Goes over the value that begins with `byte` at `at`, in an event.
#[inline(always)]
pub fn value<I: Isa>(isa: I, text: Text<'_>, at: u32, byte: u8) -> Option<u32> {
    if opens(byte) { container(isa, text, at, byte) } else { scalar(isa, text, at, byte) }
}

/// Without a branch for which literal it is, which nobody can guess.
#[inline(always)]
fn scalar<I: Isa>(isa: I, text: Text<'_>, at: u32, byte: u8) -> Option<u32> {
    if byte == b'"' {
        Some(text.close(at)? + 1)
    } else if byte <= b'9' {
        number(isa, text, at)
    } else {
        literal(text, at)
    }
}

/// The containers that are open below an event.
struct Open {
    /// Bit `n` is set when the n-th of them is an object; the outermost is bit 0.
    objects: u64,
    depth: u32,
    in_object: bool,
}

impl Open {
    #[inline(always)]
    fn new(byte: u8) -> Open {
        let in_object = byte == b'{';
        Open { objects: u64::from(in_object), depth: 0, in_object }
    }

    /// False when this is too deep.
    #[inline(always)]
    fn push(&mut self, byte: u8) -> bool {
        self.depth += 1;
        if self.depth + EVENT_DEPTH >= JSON_DEPTH_MAX as u32 {
            return false;
        }
        self.in_object = byte == b'{';
        let bit = 1 << self.depth;
        self.objects = if self.in_object { self.objects | bit } else { self.objects & !bit };
        true
    }

    /// False when this was the outermost.
    #[inline(always)]
    fn pop(&mut self) -> bool {
        if self.depth == 0 {
            return false;
        }
        self.depth -= 1;
        self.in_object = self.objects >> self.depth & 1 == 1;
        true
    }

    #[inline(always)]
    fn closing(&self) -> u8 {
        if self.in_object { b'}' } else { b']' }
    }
}

/// Goes over the object or array that opens with `byte` at `at`, in an event.
#[inline(always)]
pub fn container<I: Isa>(isa: I, text: Text<'_>, at: u32, byte: u8) -> Option<u32> {
    let mut open = Open::new(byte);
    let (mut at, mut byte) = text.token(at + 1);
    let mut more = byte != open.closing();
    loop {
        if more {
            (at, byte) = if open.in_object {
                members(isa, text, at, byte)?
            } else {
                elements(isa, text, at, byte)?
            };
            if opens(byte) {
                if !open.push(byte) {
                    return None;
                }
                (at, byte) = text.token(at + 1);
                more = byte != open.closing();
                continue;
            }
        }
        if byte != open.closing() {
            return None;
        }
        if !open.pop() {
            return Some(at + 1);
        }
        (at, byte) = text.token(at + 1);
        more = byte == b',';
        if more {
            (at, byte) = text.token(at + 1);
        }
    }
}

/// Goes over members of an object, up to a container that one of them holds or the bracket that
/// follows the last; gives its place and itself.
#[inline(always)]
fn members<I: Isa>(isa: I, text: Text<'_>, at: u32, byte: u8) -> Option<(u32, u8)> {
    let (mut name, mut byte) = (at, byte);
    while byte == b'"' {
        let (value, first) = text.member_value(text.close(name)? + 1)?;
        if opens(first) {
            return Some((value, first));
        }
        let end = scalar(isa, text, value, first)?;
        if text.chunk(end) == Some(b",\"") {
            name = end + 1;
            continue;
        }
        if text.chunk(end) == Some(b", \"") {
            name = end + 2;
            continue;
        }
        (name, byte) = text.token(end);
        if byte != b',' {
            return matches!(byte, b'}' | b']').then_some((name, byte));
        }
        (name, byte) = text.token(name + 1);
    }
    None
}

/// The same for the elements of an array.
#[inline(always)]
fn elements<I: Isa>(isa: I, text: Text<'_>, at: u32, byte: u8) -> Option<(u32, u8)> {
    let (mut at, mut byte) = (at, byte);
    while !opens(byte) {
        (at, byte) = text.token(scalar(isa, text, at, byte)?);
        if byte != b',' {
            return matches!(byte, b'}' | b']').then_some((at, byte));
        }
        (at, byte) = text.token(at + 1);
    }
    Some((at, byte))
}

/// A number of fewer than 16 bytes by the mask of its digits, the rest byte by byte.
#[inline(always)]
fn number<I: Isa>(isa: I, text: Text<'_>, start: u32) -> Option<u32> {
    let digits_at = start + u32::from(byte_at(text.body, start) == b'-');
    if let Some(chunk) = text.chunk::<16>(digits_at)
        && let Some(length) = short_number(chunk, !isa.digits(chunk) | 1 << 16)
    {
        return Some(digits_at + length);
    }
    long_number(text.body, start)
}

/// The length of the number without sign that `chunk` starts with, given which of its bytes are not
/// digits. `None` for what is none, or may go on behind the chunk.
#[inline(always)]
fn short_number(chunk: &[u8; 16], others: u32) -> Option<u32> {
    let byte = |at: u32| chunk[at as usize & 15];
    let digits = |from: u32| (others >> from).trailing_zeros();
    let whole = digits(0);
    if whole == 0 || (byte(0) == b'0' && whole > 1) {
        return None;
    }
    let mut end = whole;
    if byte(end) == b'.' {
        let fraction = digits(end + 1);
        end += 1 + fraction;
        if fraction == 0 {
            return None;
        }
    }
    if byte(end) | 0x20 == b'e' {
        let signed = matches!(byte(end + 1), b'+' | b'-');
        let exponent_at = end + 1 + u32::from(signed);
        let exponent = digits(exponent_at);
        end = exponent_at + exponent;
        if exponent == 0 {
            return None;
        }
    }
    (end < 16).then_some(end)
}

#[inline(never)]
fn long_number(body: &[u8], start: u32) -> Option<u32> {
    let rest = body.get(start as usize..)?;
    let length = rest
        .iter()
        .position(|byte| !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
        .unwrap_or(rest.len());
    if length == 0 {
        return None;
    }
    let end = start + length as u32;
    check_number(body, start, end).ok()?;
    Some(end)
}

/// A little-endian word with `text` at its start, to compare by.
pub const fn word(text: &[u8]) -> u64 {
    let mut word = [0; 8];
    let mut at = 0;
    while at < text.len() {
        word[at] = text[at];
        at += 1;
    }
    u64::from_le_bytes(word)
}

/// `true`, `false` or `null`.
#[inline(always)]
pub fn literal(text: Text<'_>, at: u32) -> Option<u32> {
    let word_at = text.chunk::<8>(at)?;
    let found = u64::from_le_bytes(*word_at);
    // All three are compared whatever the first says, and which one it is only adds to the end.
    let four = found & 0xffff_ffff;
    let not_false = (found & 0xff_ffff_ffff) ^ word(b"false");
    let none = (four ^ word(b"true")).min(four ^ word(b"null")).min(not_false) != 0;
    if none { None } else { Some(at + 4 + u32::from(not_false == 0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(text: &[u8]) -> Option<u32> {
        let mut chunk = *b",,,,,,,,,,,,,,,,";
        chunk[..text.len()].copy_from_slice(text);
        let others = chunk.iter().enumerate();
        let others = others.map(|(at, byte)| u32::from(!byte.is_ascii_digit()) << at).sum::<u32>();
        short_number(&chunk, others | 1 << 16)
    }

    /// All texts of up to seven of the bytes that numbers are made of.
    #[test]
    fn short_numbers_are_those_of_the_grammar() {
        let mut texts = vec![Vec::new()];
        let mut at = 0;
        while let Some(text) = texts.get(at).cloned() {
            at += 1;
            if !text.is_empty() {
                let good = check_number(&text, 0, text.len() as u32).is_ok() && text[0] != b'-';
                let taken = short(&text) == Some(text.len() as u32);
                assert_eq!(taken, good, "{}", String::from_utf8_lossy(&text));
            }
            if text.len() < 7 {
                texts.extend(b"01+-.e".iter().map(|byte| [&text[..], &[*byte]].concat()));
            }
        }
    }

    #[test]
    fn what_may_go_on_behind_the_chunk_is_left_to_others() {
        for text in ["123456789012345", "1.3456789012345", "1.345678901e-15", "1.3456789012e15"] {
            assert_eq!(short(text.as_bytes()), Some(15), "{text}");
            assert_eq!(short(format!("{text}6").as_bytes()), None, "{text}6");
        }
        for text in ["123456789012345.", "12345678901234.5", "12345678901234e5", "1234567890123e+5"]
        {
            assert_eq!(short(text.as_bytes()), None, "{text}");
        }
    }
}
