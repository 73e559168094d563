//! The resumable state machine over a head's bytes.
//!
//! Owns where in the head the parser stands. Every stage leaves `pos` on the first byte that it has
//! not judged, so that a call costs what is new, however the bytes trickle in; only a CR at the end
//! of the input is looked at twice.
//!
//! Split-invariance of the limits: each is a property of the bytes up to a position, never of where
//! a read ended. The head's own limit is made so by showing the machine no more than that many bytes.

use super::fields::{Fields, Framing};
use super::target::split_target;
use super::{Head, HeadLimits, HeadStatus, Method, Span, Version};
use crate::http::Reject;
use crate::http::scan::{Kernel, Scanner};

/// Parses one head; take a new one, or [`HeadParser::reset`], for the next request.
#[derive(Clone, Copy, Debug)]
pub struct HeadParser {
    kernel: Kernel,
    stage: Stage,
    /// The first byte not judged yet.
    pos: u32,
    /// Where the method, target or name that is being read begins.
    mark: u32,
    /// The name of the header whose value is being read.
    name: Span,
    header_count: u32,
    method: Method,
    version: Version,
    target: Span,
    /// The target's first `?`, else 0 until the target's end is known and then that.
    query_mark: u32,
    path: Span,
    query: Span,
    fields: Fields,
}

/// What the byte at `pos` belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    LeadingCrlfs,
    Method,
    Target,
    Version,
    LineStart,
    Name,
    Value,
}

/// `Some` when a stage has what it needs, `None` when it needs more input.
type Step<T> = Result<Option<T>, Reject>;

impl Default for HeadParser {
    fn default() -> HeadParser {
        HeadParser::new(Kernel::best())
    }
}

impl HeadParser {
    pub const fn new(kernel: Kernel) -> HeadParser {
        const NOWHERE: Span = Span { start: 0, end: 0 };
        HeadParser {
            kernel,
            stage: Stage::LeadingCrlfs,
            pos: 0,
            mark: 0,
            name: NOWHERE,
            header_count: 0,
            method: Method::Other,
            version: Version::Http11,
            target: NOWHERE,
            query_mark: 0,
            path: NOWHERE,
            query: NOWHERE,
            fields: Fields::NONE,
        }
    }

    /// Ready for the next request.
    #[inline]
    pub fn reset(&mut self) {
        *self = HeadParser::new(self.kernel);
    }

    /// Goes on where the last call stopped. `buf` begins with the request's first byte and holds
    /// what it held before, with or without more behind it. After `Complete` or an error the parser
    /// is of no use until it is reset.
    #[inline]
    pub fn parse(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<HeadStatus, Reject> {
        self.parse_observed(buf, limits, |_, _| {})
    }

    /// Like [`HeadParser::parse`], and shows each header once, as name and trimmed value, in their
    /// order: for headers that no [`Head`] carries.
    #[inline]
    pub fn parse_observed(
        &mut self,
        buf: &[u8],
        limits: &HeadLimits,
        observe: impl FnMut(Span, Span),
    ) -> Result<HeadStatus, Reject> {
        assert!(self.pos as usize <= buf.len(), "the buffer only grows");
        let head_bytes_max = limits.head_bytes_max as usize;
        let seen = &buf[..buf.len().min(head_bytes_max)];
        let mut scan = Scanner::new(self.kernel, seen);
        if self.stage < Stage::LineStart && self.request_line(&mut scan, limits)?.is_none() {
            return self.partial(seen.len() == head_bytes_max);
        }
        match self.header_lines(&mut scan, limits, observe)? {
            Some(head) => Ok(HeadStatus::Complete(head)),
            None => self.partial(seen.len() == head_bytes_max),
        }
    }

    fn partial(&self, is_full: bool) -> Result<HeadStatus, Reject> {
        if is_full { Err(Reject::HeadTooLarge) } else { Ok(HeadStatus::Partial) }
    }

    fn request_line(&mut self, scan: &mut Scanner<'_>, limits: &HeadLimits) -> Step<()> {
        if self.stage == Stage::LeadingCrlfs && self.leading_crlfs(scan, limits)?.is_none() {
            return Ok(None);
        }
        if self.stage == Stage::Method && self.method(scan, limits)?.is_none() {
            return Ok(None);
        }
        if self.stage == Stage::Target && self.target(scan, limits)?.is_none() {
            return Ok(None);
        }
        self.version(scan)
    }

    fn leading_crlfs(&mut self, scan: &Scanner<'_>, limits: &HeadLimits) -> Step<()> {
        let buf = scan.bytes();
        let mut pos = self.pos as usize;
        loop {
            match buf[pos..] {
                [b'\r', b'\n', ..] => {
                    pos += 2;
                    if pos > 2 * limits.leading_crlf_count_max as usize {
                        return Err(Reject::TooManyLeadingCrlfs);
                    }
                }
                [] | [b'\r'] => {
                    self.pos = pos as u32;
                    return Ok(None);
                }
                [b'\r', ..] => return Err(Reject::BareCr),
                [b'\n', ..] => return Err(Reject::BareLf),
                _ => break,
            }
        }
        self.pos = pos as u32;
        self.mark = pos as u32;
        self.stage = Stage::Method;
        Ok(Some(()))
    }

    fn method(&mut self, scan: &mut Scanner<'_>, limits: &HeadLimits) -> Step<()> {
        let end = scan.token_end(self.pos as usize);
        let name = Span::new(self.mark as usize, end);
        if name.len() > limits.method_bytes_max as usize {
            return Err(Reject::MethodTooLong);
        }
        match scan.bytes().get(end) {
            None => {
                self.pos = end as u32;
                return Ok(None);
            }
            Some(b' ') if !name.is_empty() => {}
            Some(_) => return Err(Reject::BadMethod),
        }
        self.method = match name.of(scan.bytes()) {
            b"POST" => Method::Post,
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"OPTIONS" => Method::Options,
            _ => Method::Other,
        };
        self.pos = end as u32 + 1;
        self.mark = self.pos;
        self.stage = Stage::Target;
        Ok(Some(()))
    }

    fn target(&mut self, scan: &mut Scanner<'_>, limits: &HeadLimits) -> Step<()> {
        let mut end = scan.target_end(self.pos as usize);
        while scan.bytes().get(end) == Some(&b'?') {
            if self.query_mark == 0 {
                self.query_mark = end as u32;
            }
            end = scan.target_end(end + 1);
        }
        self.target = Span::new(self.mark as usize, end);
        if self.target.len() > limits.target_bytes_max as usize {
            return Err(Reject::TargetTooLong);
        }
        match scan.bytes().get(end) {
            None => {
                self.pos = end as u32;
                return Ok(None);
            }
            Some(b' ') if !self.target.is_empty() => {}
            Some(b' ') => return Err(Reject::EmptyTarget),
            Some(b'\r' | b'\n') => return Err(Reject::MissingVersion),
            Some(_) => return Err(Reject::BadTarget),
        }
        if self.query_mark == 0 {
            self.query_mark = self.target.end;
        }
        self.pos = end as u32 + 1;
        self.mark = self.pos;
        self.stage = Stage::Version;
        Ok(Some(()))
    }

    fn version(&mut self, scan: &Scanner<'_>) -> Step<()> {
        let buf = scan.bytes();
        let start = self.mark as usize;
        self.version = match buf[start..].first_chunk() {
            Some(b"HTTP/1.1\r\n") => Version::Http11,
            _ => match slow_version(&buf[start..])? {
                Some(version) => version,
                // The version is short enough to be looked at anew.
                None => return Ok(None),
            },
        };
        (self.path, self.query) = split_target(buf, self.method, self.target, self.query_mark)?;
        self.pos = self.mark + VERSION_LINE_BYTES as u32;
        self.stage = Stage::LineStart;
        Ok(Some(()))
    }

    #[inline(always)]
    fn header_lines(
        &mut self,
        scan: &mut Scanner<'_>,
        limits: &HeadLimits,
        mut observe: impl FnMut(Span, Span),
    ) -> Step<Head> {
        let buf = scan.bytes();
        let mut pos = self.pos as usize;
        let mut stage = self.stage;
        loop {
            if stage == Stage::LineStart {
                match line_start(&buf[pos..], self.header_count)? {
                    LineStart::Header => {}
                    LineStart::HeadEnd => return self.finish(pos + 2).map(Some),
                    LineStart::Unknown => return self.park(Stage::LineStart, pos),
                }
                if self.header_count >= limits.header_count_max {
                    return Err(Reject::TooManyHeaders);
                }
                self.mark = pos as u32;
                stage = Stage::Name;
            }
            if stage == Stage::Name {
                pos = scan.token_end(pos);
                let start = self.mark as usize;
                match buf.get(pos) {
                    Some(b':') if pos > start => {}
                    None => return self.park(Stage::Name, pos),
                    Some(&stop) => return Err(name_reject(stop, pos == start)),
                }
                self.name = Span::new(start, pos);
                pos += 1;
            }
            pos = scan.value_end(pos);
            match buf[pos..] {
                [b'\r', b'\n', ..] => {}
                [] | [b'\r'] => return self.park(Stage::Value, pos),
                [b'\r', ..] => return Err(Reject::BareCr),
                [b'\n', ..] => return Err(Reject::BareLf),
                [_, ..] => return Err(Reject::ControlInHeaderValue),
            }
            let value = trimmed(buf, self.name.end as usize + 1, pos);
            self.fields.note(scan, self.name, value)?;
            observe(self.name, value);
            self.header_count += 1;
            pos += 2;
            stage = Stage::LineStart;
        }
    }

    fn park(&mut self, stage: Stage, pos: usize) -> Step<Head> {
        self.stage = stage;
        self.pos = pos as u32;
        Ok(None)
    }

    #[inline]
    fn finish(&self, head_bytes: usize) -> Result<Head, Reject> {
        let Framing { body, keep_alive, expect, content_encoding } =
            self.fields.judge(self.version)?;
        Ok(Head {
            head_bytes: head_bytes as u32,
            header_count: self.header_count,
            method: self.method,
            version: self.version,
            body,
            keep_alive,
            expect,
            content_type: self.fields.content_type,
            content_encoding,
            asks_cors_method: self.fields.asks_cors_method,
            target: self.target,
            path: self.path,
            query: self.query,
            api_key: self.fields.api_key,
            origin: self.fields.origin,
        })
    }
}

const VERSION_LINE_BYTES: usize = b"HTTP/1.1\r\n".len();

/// Judges byte by byte, so that a malformed version is refused as soon as it is one: its sender may
/// not send more. RFC 9112 §2.3: the name is case-sensitive, the digits are one each.
#[cold]
fn slow_version(bytes: &[u8]) -> Step<Version> {
    for (at, &byte) in bytes.iter().take(VERSION_LINE_BYTES).enumerate() {
        match at {
            5 | 7 if byte.is_ascii_digit() => {}
            8 if byte == b'\r' => {}
            8 if byte == b'\n' => return Err(Reject::BareLf),
            9 if byte == b'\n' => {}
            9 => return Err(Reject::BareCr),
            0..5 | 6 if byte == b"HTTP/1.1"[at] => {}
            _ => return Err(Reject::BadVersion),
        }
        if at == 7 && bytes[5] != b'1' {
            return Err(Reject::UnsupportedVersion);
        }
    }
    if bytes.len() < VERSION_LINE_BYTES {
        return Ok(None);
    }
    Ok(Some(if bytes[7] == b'0' { Version::Http10 } else { Version::Http11 }))
}

enum LineStart {
    Header,
    HeadEnd,
    /// More input will tell.
    Unknown,
}

#[inline(always)]
fn line_start(rest: &[u8], header_count: u32) -> Result<LineStart, Reject> {
    match *rest {
        [b'\r', b'\n', ..] => Ok(LineStart::HeadEnd),
        [] | [b'\r'] => Ok(LineStart::Unknown),
        [b'\r', ..] => Err(Reject::BareCr),
        [b'\n', ..] => Err(Reject::BareLf),
        [b' ' | b'\t', ..] if header_count == 0 => Err(Reject::SpaceBeforeFirstHeader),
        [b' ' | b'\t', ..] => Err(Reject::ObsFold),
        _ => Ok(LineStart::Header),
    }
}

#[cold]
fn name_reject(stop: u8, is_empty: bool) -> Reject {
    match stop {
        b':' if is_empty => Reject::EmptyHeaderName,
        b' ' | b'\t' => Reject::SpaceBeforeColon,
        b'\r' | b'\n' => Reject::MissingColon,
        _ => Reject::BadHeaderName,
    }
}

/// Without the optional white space around it (RFC 9112 §5).
#[inline(always)]
fn trimmed(buf: &[u8], mut start: usize, mut end: usize) -> Span {
    let is_ows = |byte: u8| byte == b' ' || byte == b'\t';
    while start < end && is_ows(buf[start]) {
        start += 1;
    }
    while start < end && is_ows(buf[end - 1]) {
        end -= 1;
    }
    Span::new(start, end)
}
