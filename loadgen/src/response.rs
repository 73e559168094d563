//! Reads HTTP/1.1 responses: status and body length, nothing else.
//!
//! Strict, because a server that answers strangely must not be counted as one that answers well:
//! every response states its Content-Length (or has no body by its status), chunked bodies and
//! other versions are refused. Knows no sockets: bytes go in at any split.

use memchr::memchr;
use thiserror::Error;

/// A head longer than this is refused; it bounds what a connection can make us keep.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    pub head_bytes: usize,
    pub body_bytes: u64,
    /// The server closes the connection after this response.
    pub closes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ResponseError {
    #[error("the response's first line is not HTTP/1.1")]
    StatusLine,
    #[error("a header line of the response is malformed")]
    HeaderLine,
    #[error("the response's Content-Length is missing, repeated or not a number")]
    Length,
    #[error("the response has a Transfer-Encoding")]
    TransferEncoding,
    #[error("the response's head is longer than {HEAD_BYTES_MAX} bytes")]
    TooLong,
}

/// The head at the start of `bytes`, or None when it has not all come yet.
pub fn parse_head(bytes: &[u8]) -> Result<Option<Head>, ResponseError> {
    let Some((line, mut at)) = next_line(bytes, 0)? else { return Ok(None) };
    let status = parse_status_line(line)?;
    let mut length = None;
    let mut closes = false;
    loop {
        let Some((line, next)) = next_line(bytes, at)? else { return Ok(None) };
        at = next;
        if line.is_empty() {
            break;
        }
        let colon = memchr(b':', line).ok_or(ResponseError::HeaderLine)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        // Lengths first: most lines are told apart without looking at a letter.
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let repeated = length.replace(parse_length(value)?).is_some();
                if repeated {
                    return Err(ResponseError::Length);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                return Err(ResponseError::TransferEncoding);
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                closes |= value.eq_ignore_ascii_case(b"close");
            }
            _ => {}
        }
    }
    // RFC 9112 section 6.3: these never have a body.
    let bodiless = status < 200 || status == 204 || status == 304;
    let body_bytes = match length {
        _ if bodiless => 0,
        Some(length) => length,
        None => return Err(ResponseError::Length),
    };
    Ok(Some(Head { status, head_bytes: at, body_bytes, closes }))
}

type Line<'a> = (&'a [u8], usize);

fn next_line(bytes: &[u8], at: usize) -> Result<Option<Line<'_>>, ResponseError> {
    match memchr(b'\n', &bytes[at..]) {
        Some(end) if at + end >= HEAD_BYTES_MAX => Err(ResponseError::TooLong),
        Some(end) => {
            let line = bytes[at..at + end].strip_suffix(b"\r");
            Ok(Some((line.ok_or(ResponseError::HeaderLine)?, at + end + 1)))
        }
        None if bytes.len() >= HEAD_BYTES_MAX => Err(ResponseError::TooLong),
        None => Ok(None),
    }
}

fn parse_status_line(line: &[u8]) -> Result<u16, ResponseError> {
    let rest = line.strip_prefix(b"HTTP/1.1 ").ok_or(ResponseError::StatusLine)?;
    match rest {
        [a, b, c] | [a, b, c, b' ', ..] => {
            let digit = |byte: &u8| char::from(*byte).to_digit(10).ok_or(ResponseError::StatusLine);
            let status = digit(a)? * 100 + digit(b)? * 10 + digit(c)?;
            if (100..600).contains(&status) {
                Ok(status as u16)
            } else {
                Err(ResponseError::StatusLine)
            }
        }
        _ => Err(ResponseError::StatusLine),
    }
}

fn parse_length(value: &[u8]) -> Result<u64, ResponseError> {
    let digits = std::str::from_utf8(value).map_err(|_| ResponseError::Length)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ResponseError::Length);
    }
    digits.parse().map_err(|_| ResponseError::Length)
}

/// A longer head is parsed each time.
const KNOWN_HEAD_BYTES_MAX: usize = 512;

/// Reads the responses of one connection as their bytes come.
#[derive(Default)]
pub struct ResponseReader {
    /// The last head that came whole, and what it says. Servers answer alike most of the time, and the
    /// same bytes say the same: comparing them is a tenth of the work of parsing them.
    known_bytes: Vec<u8>,
    known: Option<Head>,
    /// A head that came in pieces; empty most of the time.
    partial_head: Vec<u8>,
    /// The response whose body is being skipped.
    open: Option<Head>,
    body_left: u64,
}

impl ResponseReader {
    /// Takes bytes and calls `answered` for every response that they complete, in order.
    /// Interim responses (1xx) are passed over.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        mut answered: impl FnMut(Head),
    ) -> Result<(), ResponseError> {
        loop {
            if let Some(head) = self.open {
                let skipped = self.body_left.min(bytes.len() as u64);
                self.body_left -= skipped;
                bytes = &bytes[skipped as usize..];
                if self.body_left > 0 {
                    return Ok(());
                }
                self.open = None;
                answered(head);
            }
            if bytes.is_empty() {
                return Ok(());
            }
            match self.take_head(&mut bytes)? {
                None => return Ok(()),
                Some(head) if head.status < 200 => {}
                Some(head) => {
                    self.body_left = head.body_bytes;
                    self.open = Some(head);
                }
            }
        }
    }

    fn take_head(&mut self, bytes: &mut &[u8]) -> Result<Option<Head>, ResponseError> {
        if self.partial_head.is_empty() {
            if let Some(known) = self.known
                && let Some(rest) = bytes.strip_prefix(&self.known_bytes[..])
            {
                *bytes = rest;
                return Ok(Some(known));
            }
            let head = parse_head(bytes)?;
            match head {
                Some(head) => {
                    let (head_bytes, rest) = bytes.split_at(head.head_bytes);
                    self.remember(head_bytes, head);
                    *bytes = rest;
                }
                None => self.partial_head.extend_from_slice(bytes),
            }
            return Ok(head);
        }
        let before = self.partial_head.len();
        self.partial_head.extend_from_slice(bytes);
        let head = parse_head(&self.partial_head)?;
        if let Some(head) = head {
            *bytes = &bytes[head.head_bytes - before..];
            self.partial_head.clear();
        }
        Ok(head)
    }

    fn remember(&mut self, head_bytes: &[u8], head: Head) {
        if head_bytes.len() > KNOWN_HEAD_BYTES_MAX {
            return;
        }
        self.known_bytes.clear();
        self.known_bytes.extend_from_slice(head_bytes);
        self.known = Some(head);
    }
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
