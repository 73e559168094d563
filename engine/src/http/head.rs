//! What a request's head says, once it has been parsed.
//!
//! Owns the words of a head as this server understands them: small `Copy` values and spans into the
//! buffer that the head was parsed from. The state machine is in [`parser`], what single headers
//! mean in [`fields`], the forms of a request target and of Host in [`target`].

mod fields;
mod parser;
mod target;

pub use parser::HeadParser;

/// A range of the buffer that a head was parsed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// Positions of a head are below [`HeadLimits::head_bytes_max`], a `u32`.
    #[inline]
    pub(crate) fn new(start: usize, end: usize) -> Span {
        debug_assert!(start <= end && end <= u32::MAX as usize);
        Span { start: start as u32, end: end as u32 }
    }

    #[inline]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        &buf[self.start as usize..self.end as usize]
    }

    #[inline]
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    #[inline]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Options,
    Other,
}

/// 1.2 to 1.9 count as 1.1 (RFC 9110 §2.5: a higher minor version is compatible).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// How the body's end is found (RFC 9112 §6.3). `None` is no body: a POST with it deserves 411.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    None,
    Length(u64),
    Chunked,
}

/// `Unknown` is 417. A 100-continue in HTTP/1.0 is `None` (RFC 9110 §10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    None,
    Continue,
    Unknown,
}

/// `Json` is `application/json` with any parameters; a repeated Content-Type is `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    Absent,
    Json,
    Other,
}

/// Several codings, or an empty list of them, are `Unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentEncoding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
    Unknown,
}

/// A whole head. Spans point into the buffer that it was parsed from, whose first byte is the
/// request's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Everything up to and with the empty line, leading CRLFs included.
    pub head_bytes: u32,
    pub header_count: u32,
    pub method: Method,
    pub version: Version,
    pub body: BodyFraming,
    pub keep_alive: bool,
    pub expect: Expect,
    pub content_type: ContentType,
    pub content_encoding: ContentEncoding,
    /// Access-Control-Request-Method is there: with `Origin` and OPTIONS, a CORS preflight.
    pub asks_cors_method: bool,
    /// As sent.
    pub target: Span,
    /// From the first slash of the path up to the query; `*` for that form. An absolute target
    /// without a path has a `/` here, too.
    pub path: Span,
    /// What follows the first `?`, without it.
    pub query: Span,
    pub api_key: Option<Span>,
    pub origin: Option<Span>,
}

#[derive(Clone, Copy, Debug)]
pub enum HeadStatus {
    /// Well-formed so far.
    Partial,
    Complete(Head),
}

/// Bounds of a head. Each is inclusive: one more is a reject.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// 414 beyond. RFC 9112 §3 wants at least 8,000.
    pub target_bytes_max: u32,
    /// 431 beyond, for the whole head.
    pub head_bytes_max: u32,
    /// 431 beyond.
    pub header_count_max: u32,
    /// 501 beyond (RFC 9112 §3). The longest registered method has 17.
    pub method_bytes_max: u32,
    /// Empty lines before the request line (RFC 9112 §2.2), left over by a sloppy client.
    pub leading_crlf_count_max: u32,
}

impl Default for HeadLimits {
    fn default() -> HeadLimits {
        HeadLimits {
            target_bytes_max: 8 * 1024,
            head_bytes_max: 32 * 1024,
            header_count_max: 100,
            method_bytes_max: 32,
            leading_crlf_count_max: 8,
        }
    }
}
