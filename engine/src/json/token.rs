//! The body as stage 2 sees it: outside of strings byte by byte, over strings by the bits of stage 1.
//!
//! Tokens are the operators `{ } [ ] : ,`, opening quotes, and the first byte of every other run of
//! bytes that is not white space; a string right behind such a run belongs to it. So between two tokens there is only white space after the first
//! one's text. Knows no grammar beyond that, and no schema.

/// The quotes of a text, see [`super::index::BlockQuotes`].
#[derive(Clone, Copy)]
pub struct Quotes<'a>(&'a [u8]);

impl<'a> Quotes<'a> {
    /// Eight bytes at the end of `bits` are zero and stand for no text.
    pub fn new(bits: &'a [u8]) -> Self {
        Quotes(bits)
    }

    /// The first quote at `from` or after it.
    #[inline(always)]
    pub fn next(self, from: u32) -> Option<u32> {
        let at = from as usize / 8;
        let word = u64::from_le_bytes(*self.0.get(at..at + 8)?.first_chunk()?);
        // At least 57 bits; few strings are longer.
        let word = word >> (from % 8);
        if word != 0 { Some(from + word.trailing_zeros()) } else { self.next_far(from) }
    }

    #[inline(never)]
    fn next_far(self, from: u32) -> Option<u32> {
        let mut at = (from as usize).next_multiple_of(8);
        while let Some(word) = self.0.get(at / 8..).and_then(|bits| bits.first_chunk()) {
            let word = u64::from_le_bytes(*word);
            if word != 0 {
                return Some(at as u32 + word.trailing_zeros());
            }
            at += 64;
        }
        None
    }

    fn has(self, at: u32) -> bool {
        self.0[at as usize / 8] >> (at % 8) & 1 == 1
    }
}

/// Where the search for the next token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Nothing,
    String,
    /// A run that is neither operator nor string nor white space.
    Run,
}

/// The tokens of a body one after the other. A search that comes to the end of what is known goes on
/// from there when there is more.
#[derive(Clone, Copy, Debug)]
pub struct Tokens {
    /// The search has come to here, in bytes of the body.
    at: u32,
    inside: Inside,
}

impl Tokens {
    /// From `at`, which is outside of strings and runs.
    pub fn from(at: u32) -> Tokens {
        Tokens { at, inside: Inside::Nothing }
    }

    pub fn at(self) -> u32 {
        self.at
    }

    /// The next token of `body[..limit]`, whose quotes are known from `base` on.
    pub fn next(&mut self, body: &[u8], quotes: Quotes<'_>, base: u32, limit: u32) -> Option<u32> {
        // A fault may lie before what has been looked at: a character cut by the end of a part.
        let limit = limit.max(self.at);
        'outside: loop {
            if self.inside == Inside::String {
                let close = quotes.next(self.at - base).map(|close| close + base);
                let Some(close) = close.filter(|close| *close < limit) else { break };
                *self = Tokens::from(close + 1);
            }
            for (byte, at) in body[self.at as usize..limit as usize].iter().zip(self.at..) {
                let inside = match byte {
                    b' ' | b'\t' | b'\n' | b'\r' => {
                        self.inside = Inside::Nothing;
                        continue;
                    }
                    b'{' | b'}' | b'[' | b']' | b':' | b',' => Inside::Nothing,
                    b'"' if quotes.has(at - base) => Inside::String,
                    _ if self.inside == Inside::Run => continue,
                    _ => Inside::Run,
                };
                let goes_on = self.inside == Inside::Run && inside == Inside::String;
                *self = Tokens { at: at + 1, inside };
                if goes_on {
                    continue 'outside;
                }
                return Some(at);
            }
            break;
        }
        self.at = limit;
        None
    }
}
