//! The tokens that stage 1 leaves to be looked into: numbers, literals, the ends of strings.
//! A token runs from its offset to the next token's; only white space may stand after its text.

use super::error::JsonError;

/// Where and why a body stops being JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// In bytes from the body's start.
    pub offset: usize,
    pub error: JsonError,
}

impl Malformed {
    #[cold]
    pub fn at(offset: usize, error: JsonError) -> Malformed {
        Malformed { offset, error }
    }
}

/// The byte at a token, 0 (which starts nothing) at the body's end.
#[inline(always)]
pub fn byte_at(body: &[u8], offset: u32) -> u8 {
    match body.get(offset as usize) {
        Some(byte) => *byte,
        None => 0,
    }
}

#[inline(always)]
pub fn is_whitespace(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The closing quote of the string that opens at `open`, given the token after it. Stage 1 has seen
/// the string close before `next`, with nothing but white space between.
#[inline(always)]
pub fn closing_quote(body: &[u8], open: u32, next: u32) -> u32 {
    let mut close = next - 1;
    while close > open + 1 && byte_at(body, close) != b'"' {
        close -= 1;
    }
    close
}

/// Checks `true`, `false` or `null` at `start`, the next token being at `next`.
pub fn check_literal(body: &[u8], start: u32, next: u32) -> Result<(), Malformed> {
    let text = &body[start as usize..next as usize];
    let word: &[u8] = match text[0] {
        b't' => b"true",
        b'f' => b"false",
        _ => b"null",
    };
    let same = text.iter().zip(word).take_while(|(byte, expected)| byte == expected).count();
    if same < word.len() {
        return Err(Malformed::at(start as usize + same, JsonError::Literal));
    }
    check_whitespace(body, start as usize + same, next as usize, JsonError::Literal)
}

/// Checks the number at `start` against RFC 8259 section 6, the next token being at `next`.
pub fn check_number(body: &[u8], start: u32, next: u32) -> Result<(), Malformed> {
    let text = &body[start as usize..next as usize];
    let digits = |at: usize| text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let wrong = |at: usize| Err(Malformed::at(start as usize + at, JsonError::Number));
    let mut at = usize::from(text[0] == b'-');
    at += match text.get(at) {
        Some(b'0') => 1,
        Some(b'1'..=b'9') => digits(at),
        _ => return wrong(at),
    };
    if text.get(at) == Some(&b'.') {
        let count = digits(at + 1);
        at += 1 + count;
        if count == 0 {
            return wrong(at);
        }
    }
    if let Some(b'e' | b'E') = text.get(at) {
        at += 1;
        at += usize::from(matches!(text.get(at), Some(b'+' | b'-')));
        let count = digits(at);
        at += count;
        if count == 0 {
            return wrong(at);
        }
    }
    check_whitespace(body, start as usize + at, next as usize, JsonError::Number)
}

fn check_whitespace(
    body: &[u8],
    from: usize,
    to: usize,
    error: JsonError,
) -> Result<(), Malformed> {
    match body[from..to].iter().position(|byte| !is_whitespace(*byte)) {
        Some(at) => Err(Malformed::at(from + at, error)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        check: fn(&[u8], u32, u32) -> Result<(), Malformed>,
        text: &str,
        expected: Option<usize>,
    ) {
        let found = check(text.as_bytes(), 0, text.len() as u32).err().map(|wrong| wrong.offset);
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn numbers() {
        for good in ["0", "-0", "1", "10", "-12.50", "0.0", "1e5", "1E+5", "1.5e-05", "0e0", "7 \n"]
        {
            check(check_number, good, None);
        }
        let bad = [("-", 1), ("01", 1), ("-01", 2), ("1.", 2), (".5", 0), ("1e", 2), ("1e+", 3)];
        for (text, at) in bad.into_iter().chain([("1.e5", 2), ("0x1", 1), ("1 1", 2), ("--1", 1)]) {
            check(check_number, text, Some(at));
        }
    }

    #[test]
    fn literals() {
        for good in ["true", "false", "null", "null \t"] {
            check(check_literal, good, None);
        }
        for (text, at) in [("tru", 3), ("True", 0), ("truey", 4), ("fals3", 4), ("nulL", 3)] {
            check(check_literal, text, Some(at));
        }
    }
}
