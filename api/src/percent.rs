//! Strict percent-decoding. A broken escape or text that is not UTF-8 is refused, never guessed at.

/// Why text cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PercentError {
    #[error("a % is not followed by two hexadecimal digits")]
    Escape,
    #[error("the decoded bytes are not UTF-8")]
    Utf8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Plus {
    /// In a path, `+` is itself.
    Literal,
    /// In a query string, `+` is a space.
    Space,
}

pub fn decode(text: &str, plus: Plus) -> Result<String, PercentError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(hex_value).ok_or(PercentError::Escape);
                digit()? << 4 | digit()?
            }
            b'+' if plus == Plus::Space => b' ',
            other => other,
        });
    }
    String::from_utf8(out).map_err(|_| PercentError::Utf8)
}

fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, plus: Plus, expected: Result<&str, PercentError>) {
        assert_eq!(decode(text, plus).as_deref(), expected.as_ref().map(|text| *text));
    }

    #[test]
    fn escapes_are_decoded_once() {
        check("a%2Fb%2fc", Plus::Literal, Ok("a/b/c"));
        check("%2525", Plus::Literal, Ok("%25"));
        check("%F0%9F%A6%80", Plus::Literal, Ok("🦀"));
        check("%00", Plus::Literal, Ok("\0"));
        check("a+b", Plus::Literal, Ok("a+b"));
        check("a+b%2B", Plus::Space, Ok("a b+"));
    }

    #[test]
    fn broken_escapes_are_refused() {
        for text in ["%", "%4", "%zz", "a%4z", "%+1", "%é"] {
            check(text, Plus::Literal, Err(PercentError::Escape));
        }
        for text in ["%ff", "%F0%9F", "%ED%A0%80", "%C0%AF"] {
            check(text, Plus::Literal, Err(PercentError::Utf8));
        }
    }
}
