//! The chunked transfer coding (RFC 9112 §7.1), decoded in place.
//!
//! Owns where in the coding a body stands. It copies nothing and keeps no body bytes: a step says
//! which of the input's bytes are data. Trailers are checked like headers and dropped; nothing of
//! them can reach the head that was judged before. How many data bytes are too many is the caller's.
//!
//! Stricter than the grammar: no white space between a size and its `;`, at most 16 digits.

use super::Reject;
use super::scan::{is_token, is_value};
use std::ops::Range;

/// What one call found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkedStep {
    /// Bytes of the input that are dealt with, data included. More than 0 for an input that is not
    /// empty, and all of it unless the step found data or the end.
    pub consumed_bytes: usize,
    /// Where in the input data lies; it ends at `consumed_bytes` unless it is empty.
    pub data: Range<usize>,
    /// The body and its trailers are over: what follows is the next request.
    pub ended: bool,
}

/// Bounds over one whole body, so that many small pieces do not add up.
#[derive(Clone, Copy, Debug)]
pub struct ChunkedLimits {
    pub extension_bytes_max: u32,
    pub trailer_count_max: u32,
    pub trailer_bytes_max: u32,
}

impl Default for ChunkedLimits {
    fn default() -> ChunkedLimits {
        ChunkedLimits {
            extension_bytes_max: 4 * 1024,
            trailer_count_max: 32,
            trailer_bytes_max: 8 * 1024,
        }
    }
}

/// `u64::MAX` in hexadecimal has this many digits.
const SIZE_DIGITS_MAX: u8 = 16;

/// Decodes one body; a new one for each.
#[derive(Clone, Copy, Debug)]
pub struct ChunkedDecoder {
    state: State,
    limits: ChunkedLimits,
    /// The size being read, then what is left of its data.
    chunk_bytes: u64,
    size_digits: u8,
    extension_bytes: u32,
    trailer_count: u32,
    trailer_bytes: u32,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    /// After `;`, before its name.
    ExtensionStart,
    ExtensionName,
    /// White space after a name: only `=` or `;` may come.
    ExtensionAfterName,
    /// After `=`, before the value.
    ExtensionValueStart,
    ExtensionToken,
    ExtensionQuoted,
    /// After a backslash inside quotes.
    ExtensionEscaped,
    ExtensionAfterQuoted,
    /// White space after a value: only `;` may come.
    ExtensionAfterValue,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Ended,
}

impl Default for ChunkedDecoder {
    fn default() -> ChunkedDecoder {
        ChunkedDecoder::new(ChunkedLimits::default())
    }
}

impl ChunkedDecoder {
    pub const fn new(limits: ChunkedLimits) -> ChunkedDecoder {
        ChunkedDecoder {
            state: State::Size,
            limits,
            chunk_bytes: 0,
            size_digits: 0,
            extension_bytes: 0,
            trailer_count: 0,
            trailer_bytes: 0,
        }
    }

    /// What the current chunk still announces, at least; with what came before, too much is known
    /// before it has come.
    pub fn announced_bytes(&self) -> u64 {
        self.chunk_bytes
    }

    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Goes on with `input`, which begins where the last step's `consumed_bytes` ended. After an
    /// error the decoder is of no use.
    pub fn decode(&mut self, input: &[u8]) -> Result<ChunkedStep, Reject> {
        let mut at = 0;
        while at < input.len() && self.state != State::Ended {
            if self.state == State::Data {
                let left = usize::try_from(self.chunk_bytes).unwrap_or(usize::MAX);
                let end = at + left.min(input.len() - at);
                self.chunk_bytes -= (end - at) as u64;
                if self.chunk_bytes == 0 {
                    self.state = State::DataCr;
                }
                return Ok(ChunkedStep { consumed_bytes: end, data: at..end, ended: false });
            }
            self.state = self.next(input[at])?;
            at += 1;
        }
        Ok(ChunkedStep { consumed_bytes: at, data: at..at, ended: self.has_ended() })
    }

    fn next(&mut self, byte: u8) -> Result<State, Reject> {
        match self.state {
            State::Size => self.size(byte),
            State::SizeLf if byte == b'\n' => Ok(self.after_size()),
            State::DataCr if byte == b'\r' => Ok(State::DataLf),
            State::DataLf if byte == b'\n' => Ok(State::Size),
            State::DataCr | State::DataLf => Err(Reject::BadChunkEnd),
            State::TrailerStart | State::TrailerName | State::TrailerValue => self.trailer(byte),
            State::TrailerLf if byte == b'\n' => Ok(State::TrailerStart),
            State::EndLf if byte == b'\n' => Ok(State::Ended),
            State::SizeLf | State::TrailerLf | State::EndLf => Err(Reject::BareCr),
            State::Data | State::Ended => unreachable!("decode() looks at these itself"),
            _ => self.extension(byte),
        }
    }

    fn size(&mut self, byte: u8) -> Result<State, Reject> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ if self.size_digits == 0 => return Err(Reject::BadChunkSize),
            b'\r' => return Ok(State::SizeLf),
            b';' => return self.counted(State::ExtensionStart),
            b'\n' => return Err(Reject::BareLf),
            _ => return Err(Reject::BadChunkSize),
        };
        if self.size_digits == SIZE_DIGITS_MAX {
            return Err(Reject::ChunkSizeOverflow);
        }
        self.size_digits += 1;
        self.chunk_bytes = self.chunk_bytes << 4 | u64::from(digit);
        Ok(State::Size)
    }

    fn after_size(&mut self) -> State {
        self.size_digits = 0;
        if self.chunk_bytes == 0 { State::TrailerStart } else { State::Data }
    }

    /// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112 §7.1.1).
    fn extension(&mut self, byte: u8) -> Result<State, Reject> {
        use State::*;
        let state = self.state;
        let is_inside_quotes = matches!(state, ExtensionQuoted | ExtensionEscaped);
        let next = match (state, byte) {
            (ExtensionEscaped, _) if is_value(byte) => ExtensionQuoted,
            (ExtensionQuoted, b'"') => ExtensionAfterQuoted,
            (ExtensionQuoted, b'\\') => ExtensionEscaped,
            (ExtensionQuoted, _) if is_value(byte) => ExtensionQuoted,
            (_, b'\n') => return Err(Reject::BareLf),
            (ExtensionName | ExtensionToken | ExtensionAfterQuoted, b'\r') => return Ok(SizeLf),
            _ if is_inside_quotes => return Err(Reject::BadChunkExtension),
            (ExtensionStart | ExtensionValueStart, b' ' | b'\t') => state,
            (ExtensionStart | ExtensionName, _) if is_token(byte) => ExtensionName,
            (ExtensionName | ExtensionAfterName, b' ' | b'\t') => ExtensionAfterName,
            (ExtensionName | ExtensionAfterName, b'=') => ExtensionValueStart,
            (ExtensionValueStart, b'"') => ExtensionQuoted,
            (ExtensionValueStart | ExtensionToken, _) if is_token(byte) => ExtensionToken,
            (ExtensionToken | ExtensionAfterQuoted | ExtensionAfterValue, b' ' | b'\t') => {
                ExtensionAfterValue
            }
            (
                ExtensionName | ExtensionAfterName | ExtensionToken | ExtensionAfterQuoted
                | ExtensionAfterValue,
                b';',
            ) => ExtensionStart,
            _ => return Err(Reject::BadChunkExtension),
        };
        self.counted(next)
    }

    fn counted(&mut self, next: State) -> Result<State, Reject> {
        if self.extension_bytes == self.limits.extension_bytes_max {
            return Err(Reject::ChunkExtensionsTooLong);
        }
        self.extension_bytes += 1;
        Ok(next)
    }

    fn trailer(&mut self, byte: u8) -> Result<State, Reject> {
        let next = match (self.state, byte) {
            (State::TrailerStart, b'\r') => return Ok(State::EndLf),
            (_, b'\n') => return Err(Reject::BareLf),
            (State::TrailerStart, b' ' | b'\t') => return Err(Reject::ObsFold),
            (State::TrailerStart, b':') => return Err(Reject::EmptyHeaderName),
            (State::TrailerStart, _) if is_token(byte) => {
                self.trailer_count += 1;
                State::TrailerName
            }
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerName, b' ' | b'\t') => return Err(Reject::SpaceBeforeColon),
            (State::TrailerName, b'\r') => return Err(Reject::MissingColon),
            (State::TrailerName, _) if is_token(byte) => State::TrailerName,
            (State::TrailerStart | State::TrailerName, _) => return Err(Reject::BadHeaderName),
            (_, b'\r') => State::TrailerLf,
            (_, _) if is_value(byte) => State::TrailerValue,
            _ => return Err(Reject::ControlInHeaderValue),
        };
        self.trailer_bytes += 1;
        if self.trailer_bytes > self.limits.trailer_bytes_max
            || self.trailer_count > self.limits.trailer_count_max
        {
            return Err(Reject::TrailersTooLarge);
        }
        Ok(next)
    }
}
