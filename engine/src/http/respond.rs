//! The text of every answer, appended whole to the caller's buffer.
//!
//! Owns status lines, headers and the success bodies of the ingestion contract; the error body is
//! `proto`'s. It must not decide which answer is due. An answer is appended in one go: what is in
//! the buffer is always whole answers, in the order of their requests.

use super::Version;
use super::date::DATE_BYTES;
use proto::ErrorCode;
use proto::error_code::{push_error_body, push_json_escaped};

/// Sent once, when a client waits with its body (RFC 9110 §15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What a preflight allows a page to send.
const CORS_ALLOWED_HEADERS: &[u8] = b"Content-Type, Content-Encoding, X-API-Key";
/// A page may not read Retry-After otherwise, and caches must not mix origins.
const CORS_EXPOSED: &[u8] = b"Access-Control-Expose-Headers: Retry-After\r\nVary: Origin\r\n";
/// How long a browser may remember that.
const CORS_MAX_AGE_S: u64 = 600;

/// What all answers to one request share.
#[derive(Clone, Copy, Debug)]
pub struct ResponseContext<'a> {
    pub date: &'a [u8; DATE_BYTES],
    /// The request's.
    pub version: Version,
    /// Whether the connection stays open after this answer.
    pub keep_alive: bool,
    /// The request's Origin where configuration allows it. It was a header's value, so it holds
    /// nothing that could end a line.
    pub cors_origin: Option<&'a [u8]>,
}

/// One event that a `?partial=1` request lost.
#[derive(Clone, Copy, Debug)]
pub struct RejectedEvent<'a> {
    pub index: usize,
    pub field: &'a str,
    pub code: ErrorCode,
    pub message: &'a str,
}

const SUCCESS_1: &[u8] = br#"{"status":"success","data":{"events_received":"#;
const SUCCESS_2: &[u8] = br#","status":"processing"},"meta":{"processing_time_ms":"#;
const SUCCESS_3: &[u8] = br#","count":"#;
const SUCCESS_4: &[u8] = b"}}";

/// 200: every event of the request is stored.
pub fn push_success(
    out: &mut Vec<u8>,
    context: &ResponseContext<'_>,
    events_received: usize,
    processing_time_us: u64,
) {
    let count = Decimal::new(events_received as u64);
    let whole_ms = Decimal::new(processing_time_us / 1_000);
    let body_bytes = SUCCESS_1.len()
        + SUCCESS_2.len()
        + SUCCESS_3.len()
        + SUCCESS_4.len()
        + 2 * count.text().len()
        + whole_ms.text().len()
        + FRACTION_BYTES;
    out.reserve(HEAD_BYTES_TYPICAL + body_bytes);
    push_head(out, context, b"200 OK", body_bytes, &[]);
    out.extend_from_slice(SUCCESS_1);
    out.extend_from_slice(count.text());
    out.extend_from_slice(SUCCESS_2);
    out.extend_from_slice(whole_ms.text());
    out.extend_from_slice(&fraction(processing_time_us));
    out.extend_from_slice(SUCCESS_3);
    out.extend_from_slice(count.text());
    out.extend_from_slice(SUCCESS_4);
}

/// 200 for `?partial=1`: `stored` events are, `rejected` are not; `errors` tells of the first ones.
pub fn push_partial<'e>(
    out: &mut Vec<u8>,
    context: &ResponseContext<'_>,
    stored: usize,
    rejected: usize,
    errors: impl IntoIterator<Item = RejectedEvent<'e>>,
    processing_time_us: u64,
) {
    let start = out.len();
    out.extend_from_slice(SUCCESS_1);
    push_decimal(out, stored as u64);
    out.extend_from_slice(br#","status":"processing","events_rejected":"#);
    push_decimal(out, rejected as u64);
    out.extend_from_slice(br#","errors":["#);
    for (position, error) in errors.into_iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        out.extend_from_slice(br#"{"index":"#);
        push_decimal(out, error.index as u64);
        out.extend_from_slice(br#","field":""#);
        push_json_escaped(out, error.field);
        out.extend_from_slice(br#"","code":""#);
        out.extend_from_slice(error.code.as_str().as_bytes());
        out.extend_from_slice(br#"","message":""#);
        push_json_escaped(out, error.message);
        out.extend_from_slice(br#""}"#);
    }
    out.extend_from_slice(br#"]},"meta":{"processing_time_ms":"#);
    push_decimal(out, processing_time_us / 1_000);
    out.extend_from_slice(&fraction(processing_time_us));
    out.extend_from_slice(SUCCESS_3);
    push_decimal(out, stored as u64);
    out.extend_from_slice(SUCCESS_4);
    put_head_before(out, start, context, b"200 OK", &[]);
}

/// Any error. `allow` is 405's list of methods, `retry_after_s` belongs to 429 and 503.
pub fn push_error(
    out: &mut Vec<u8>,
    context: &ResponseContext<'_>,
    code: ErrorCode,
    message: &str,
    details: &str,
    allow: Option<&str>,
    retry_after_s: Option<u32>,
) {
    let start = out.len();
    push_error_body(out, code, message, details);
    let status = code.http_status();
    let reason = code.reason_phrase().as_bytes();
    let retry_after = retry_after_s.map(|seconds| Decimal::new(u64::from(seconds)));
    let extra = [
        (&b"Allow"[..], allow.map(str::as_bytes)),
        (b"Retry-After", retry_after.as_ref().map(Decimal::text)),
    ];
    let mut line = [0; STATUS_BYTES_MAX];
    put_head_before(out, start, context, status_line(&mut line, status, reason), &extra);
}

/// 204 for OPTIONS: `allow` is what the path takes. With an allowed origin it is a CORS preflight's
/// answer.
pub fn push_preflight(out: &mut Vec<u8>, context: &ResponseContext<'_>, allow: &str) {
    push_status_and_date(out, context, b"204 No Content");
    push_header(out, b"Allow", allow.as_bytes());
    if context.cors_origin.is_some() {
        push_header(out, b"Access-Control-Allow-Methods", allow.as_bytes());
        push_header(out, b"Access-Control-Allow-Headers", CORS_ALLOWED_HEADERS);
        push_header(out, b"Access-Control-Max-Age", Decimal::new(CORS_MAX_AGE_S).text());
    }
    push_connection_and_cors(out, context);
    out.extend_from_slice(b"\r\n");
}

/// An answer of a health path, 200 or 503, with a JSON body; `head_only` for HEAD.
pub fn push_health(
    out: &mut Vec<u8>,
    context: &ResponseContext<'_>,
    is_healthy: bool,
    body: &[u8],
    head_only: bool,
) {
    let status: &[u8] = if is_healthy { b"200 OK" } else { b"503 Service Unavailable" };
    push_head(out, context, status, body.len(), &[(b"Cache-Control", Some(b"no-store"))]);
    if !head_only {
        out.extend_from_slice(body);
    }
}

/// The head of an answer without CORS and with a Connection header is below this.
const HEAD_BYTES_TYPICAL: usize = 192;

type ExtraHeader<'a> = (&'a [u8], Option<&'a [u8]>);

fn push_head(
    out: &mut Vec<u8>,
    context: &ResponseContext<'_>,
    status: &[u8],
    body_bytes: usize,
    extra: &[ExtraHeader<'_>],
) {
    push_status_and_date(out, context, status);
    out.extend_from_slice(b"Content-Type: application/json\r\nContent-Length: ");
    push_decimal(out, body_bytes as u64);
    out.extend_from_slice(b"\r\n");
    for (name, value) in extra {
        if let Some(value) = value {
            push_header(out, name, value);
        }
    }
    push_connection_and_cors(out, context);
    out.extend_from_slice(b"\r\n");
}

/// For a body whose length is known only once it is written: it lies at `start`, and gets its head.
fn put_head_before(
    out: &mut Vec<u8>,
    start: usize,
    context: &ResponseContext<'_>,
    status: &[u8],
    extra: &[ExtraHeader<'_>],
) {
    let body_bytes = out.len() - start;
    push_head(out, context, status, body_bytes, extra);
    out[start..].rotate_left(body_bytes);
}

fn push_status_and_date(out: &mut Vec<u8>, context: &ResponseContext<'_>, status: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status);
    out.extend_from_slice(b"\r\nDate: ");
    out.extend_from_slice(context.date);
    out.extend_from_slice(b"\r\n");
}

fn push_header(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn push_connection_and_cors(out: &mut Vec<u8>, context: &ResponseContext<'_>) {
    if !context.keep_alive {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if context.version == Version::Http10 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    if let Some(origin) = context.cors_origin {
        push_header(out, b"Access-Control-Allow-Origin", origin);
        out.extend_from_slice(CORS_EXPOSED);
    }
}

/// Room for a code of three digits, a space and the longest reason phrase.
const STATUS_BYTES_MAX: usize = 48;

fn status_line<'l>(line: &'l mut [u8; STATUS_BYTES_MAX], status: u16, reason: &[u8]) -> &'l [u8] {
    let end = 4 + reason.len();
    line[..3].copy_from_slice(Decimal::new(u64::from(status)).text());
    line[3] = b' ';
    line[4..end].copy_from_slice(reason);
    &line[..end]
}

const FRACTION_BYTES: usize = 4;

/// The part of a millisecond, with its point.
fn fraction(us: u64) -> [u8; FRACTION_BYTES] {
    let part = us % 1_000;
    let digit = |value: u64| b'0' + (value % 10) as u8;
    [b'.', digit(part / 100), digit(part / 10), digit(part)]
}

fn push_decimal(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(Decimal::new(value).text());
}

/// An integer's digits, at the end of a buffer that fits any.
struct Decimal {
    digits: [u8; Decimal::DIGITS_MAX],
    start: usize,
}

impl Decimal {
    const DIGITS_MAX: usize = 20;

    #[inline]
    fn new(mut value: u64) -> Decimal {
        let mut digits = [0; Decimal::DIGITS_MAX];
        let mut start = Decimal::DIGITS_MAX;
        loop {
            start -= 1;
            digits[start] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                return Decimal { digits, start };
            }
        }
    }

    #[inline]
    fn text(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}
