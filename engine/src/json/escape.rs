//! Escapes in strings: checked once by stage 1 wherever they stand, undone only where a value is
//! compared or stored.

use super::error::JsonError;
use super::value::Malformed;

/// Remembers the second half of a surrogate pair, which its first half has already vouched for.
#[derive(Clone, Copy, Default)]
pub struct EscapeCheck {
    /// Offset of that second `\`; 0 for none, as no escape stands at a body's start.
    paired_at: usize,
}

impl EscapeCheck {
    /// Checks the escape whose `\` is at `at`. Escapes come in the order of the body.
    pub fn check(&mut self, body: &[u8], at: usize) -> Result<(), Malformed> {
        let Some(kind) = body.get(at + 1) else {
            return Err(Malformed::at(body.len(), JsonError::UnexpectedEnd));
        };
        match kind {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => self.check_unit(body, at),
            _ => Err(Malformed::at(at, JsonError::Escape)),
        }
    }

    fn check_unit(&mut self, body: &[u8], at: usize) -> Result<(), Malformed> {
        let Some(unit) = unit_at(body, at) else {
            return Err(Malformed::at(at, JsonError::Escape));
        };
        match unit {
            0xd800..=0xdbff => match unit_at(body, at + 6) {
                Some(0xdc00..=0xdfff) => {
                    self.paired_at = at + 6;
                    Ok(())
                }
                _ => Err(Malformed::at(at, JsonError::LoneSurrogate)),
            },
            0xdc00..=0xdfff if self.paired_at != at => {
                Err(Malformed::at(at, JsonError::LoneSurrogate))
            }
            _ => Ok(()),
        }
    }
}

/// The UTF-16 unit of a `\uXXXX` at `at`.
fn unit_at(text: &[u8], at: usize) -> Option<u16> {
    let [b'\\', b'u', hex @ ..] = text.get(at..)?.first_chunk::<6>()? else { return None };
    // All four are looked up whatever the first says: none is wrong but in a broken body.
    let [a, b, c, d] = hex.map(|digit| u16::from(HEX[usize::from(digit)]));
    let wrong = (a | b | c | d) > 15;
    if wrong { None } else { Some(a << 12 | b << 8 | c << 4 | d) }
}

/// The value of a hexadecimal digit, 255 for any other byte.
const HEX: [u8; 256] = {
    let mut table = [255; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value] as usize] = value as u8;
        table[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    table
};

/// A string's content with its escapes undone, piece by piece. The content has passed stage 1.
pub struct Unescaped<'a> {
    rest: &'a [u8],
    unit: [u8; 4],
}

impl<'a> Unescaped<'a> {
    pub fn new(content: &'a [u8]) -> Self {
        Unescaped { rest: content, unit: [0; 4] }
    }

    /// The next bytes of the content, until there are none.
    pub fn next_piece(&mut self) -> Option<&[u8]> {
        let plain = self.rest.iter().position(|byte| *byte == b'\\').unwrap_or(self.rest.len());
        if plain > 0 {
            let (piece, rest) = self.rest.split_at(plain);
            self.rest = rest;
            return Some(piece);
        }
        let kind = *self.rest.get(1)?;
        let (character, length) = match kind {
            b'b' => ('\u{8}', 2),
            b'f' => ('\u{c}', 2),
            b'n' => ('\n', 2),
            b'r' => ('\r', 2),
            b't' => ('\t', 2),
            b'u' => self.unicode_escape(),
            other => (char::from(other), 2),
        };
        self.rest = &self.rest[length..];
        Some(character.encode_utf8(&mut self.unit).as_bytes())
    }

    fn unicode_escape(&self) -> (char, usize) {
        let unit = |at| u32::from(unit_at(self.rest, at).expect("stage 1 has checked this escape"));
        let high = unit(0);
        if high & 0xf800 != 0xd800 {
            return (char::from_u32(high).expect("not a surrogate"), 6);
        }
        let character = 0x1_0000 + ((high & 0x3ff) << 10 | unit(6) & 0x3ff);
        (char::from_u32(character).expect("a surrogate pair is a character"), 12)
    }
}

/// Undoes the escapes of `content` into `out`; gives the bytes written, `None` when they do not fit.
pub fn unescape_into(content: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut pieces = Unescaped::new(content);
    let mut written = 0;
    while let Some(piece) = pieces.next_piece() {
        out.get_mut(written..written + piece.len())?.copy_from_slice(piece);
        written += piece.len();
    }
    Some(written)
}

/// Code points and UTF-8 bytes of `content` with its escapes undone.
pub fn measure(content: &[u8]) -> (usize, usize) {
    let mut pieces = Unescaped::new(content);
    let (mut chars, mut bytes) = (0, 0);
    while let Some(piece) = pieces.next_piece() {
        chars += count_chars(piece);
        bytes += piece.len();
    }
    (chars, bytes)
}

/// Code points of valid UTF-8.
pub fn count_chars(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte as i8 >= -0x40).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content: &str, expected: &str) {
        let mut out = [0; 64];
        let length = unescape_into(content.as_bytes(), &mut out).unwrap();
        assert_eq!(std::str::from_utf8(&out[..length]), Ok(expected), "{content}");
        assert_eq!(measure(content.as_bytes()), (expected.chars().count(), expected.len()));
    }

    #[test]
    fn escapes_are_undone() {
        check("", "");
        check("plain", "plain");
        check(r#"a\"b\\c\/d"#, "a\"b\\c/d");
        check(r"\b\f\n\r\t", "\u{8}\u{c}\n\r\t");
        check(r"\u0000\u00e9\u20AC", "\0é€");
        check(r"x\ud83d\uDE00y", "x😀y");
        check("é\\n€", "é\n€");
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        assert_eq!(unescape_into(b"abcde", &mut [0; 4]), None);
        assert_eq!(unescape_into(b"abc\\n", &mut [0; 4]), Some(4));
    }

    #[test]
    fn escapes_are_checked() {
        let first_error = |text: &str| {
            let body = text.as_bytes();
            let mut check = EscapeCheck::default();
            let mut at = 0;
            while let Some(step) = body[at..].iter().position(|byte| *byte == b'\\') {
                if let Err(wrong) = check.check(body, at + step) {
                    return Some((wrong.offset, wrong.error));
                }
                at += step + 2;
            }
            None
        };
        assert_eq!(first_error(r#""\ud83d\ude00\n""#), None);
        assert_eq!(first_error(r#""\ud83d""#), Some((1, JsonError::LoneSurrogate)));
        assert_eq!(first_error(r#""\ud83dx\ude00""#), Some((1, JsonError::LoneSurrogate)));
        assert_eq!(first_error(r#""\ud83d\ud83d\ude00""#), Some((1, JsonError::LoneSurrogate)));
        assert_eq!(first_error(r#""\ude00""#), Some((1, JsonError::LoneSurrogate)));
        assert_eq!(first_error(r#""\u12g4""#), Some((1, JsonError::Escape)));
        assert_eq!(first_error(r#""\x""#), Some((1, JsonError::Escape)));
        assert_eq!(first_error(r#""\u12"#), Some((1, JsonError::Escape)));
        assert_eq!(first_error(r#""\"#), Some((2, JsonError::UnexpectedEnd)));
    }
}
