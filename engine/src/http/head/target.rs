//! The forms of a request target (RFC 9112 §3.2) and the host (RFC 9110 §7.2).
//!
//! Works on bytes that the scanner has already found to be visible ASCII, or on a header's value.

use super::{Method, Span};
use crate::http::Reject;

/// The path and the query of `target`, whose bytes are all allowed ones.
#[inline]
pub(super) fn split_target(
    buf: &[u8],
    method: Method,
    target: Span,
) -> Result<(Span, Span), Reject> {
    match target.of(buf) {
        [b'/', ..] => Ok(split_query(buf, target)),
        [b'*'] if method == Method::Options => {
            Ok((target, Span { start: target.end, end: target.end }))
        }
        _ => split_absolute(buf, target),
    }
}

fn split_query(buf: &[u8], path_and_query: Span) -> (Span, Span) {
    let Span { start, end } = path_and_query;
    match path_and_query.of(buf).iter().position(|&byte| byte == b'?') {
        Some(at) => {
            let mark = start + at as u32;
            (Span { start, end: mark }, Span { start: mark + 1, end })
        }
        None => (path_and_query, Span { start: end, end }),
    }
}

/// `http://host[:port][/path][?query]`. The authority overrides Host (RFC 9112 §3.2.2), and like
/// Host it selects nothing here; it only has to be well-formed.
fn split_absolute(buf: &[u8], target: Span) -> Result<(Span, Span), Reject> {
    let text = target.of(buf);
    let scheme_bytes = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| text.get(..scheme.len()).is_some_and(|at| at.eq_ignore_ascii_case(scheme)))
        .map(<[u8]>::len)
        .ok_or(Reject::BadTargetForm)?;
    let authority = &text[scheme_bytes..];
    let authority_bytes =
        authority.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(authority.len());
    if !is_host(&authority[..authority_bytes]) {
        return Err(Reject::BadHost);
    }
    let rest_start = target.start + (scheme_bytes + authority_bytes) as u32;
    let (path, query) = split_query(buf, Span { start: rest_start, end: target.end });
    // An empty path means "/" (RFC 9110 §4.2.3), of which the scheme's last byte is one.
    let slash = target.start + scheme_bytes as u32 - 1;
    let path = if path.is_empty() { Span { start: slash, end: slash + 1 } } else { path };
    Ok((path, query))
}

/// A name, an IPv4 or a bracketed IPv6 address, with or without a port. Narrower than RFC 3986: no
/// percent-encoding and no sub-delims, which no real host has and of which the comma is a list.
#[inline]
pub(super) fn is_host(value: &[u8]) -> bool {
    let name_bytes = value
        .iter()
        .position(|&byte| !IS_NAME[byte as usize])
        .unwrap_or(value.len());
    if name_bytes > 0 { is_port(&value[name_bytes..]) } else { is_ipv6_host(value) }
}

fn is_ipv6_host(value: &[u8]) -> bool {
    let Some(close) = value.iter().position(|&byte| byte == b']') else { return false };
    let (address, port) = (&value[..close], &value[close + 1..]);
    address.first() == Some(&b'[')
        && address.len() > 2
        && address[1..].iter().all(|byte| matches!(byte, b':' | b'.') || byte.is_ascii_hexdigit())
        && is_port(port)
}

/// Nothing, or a colon with 0 to 5 digits.
#[inline]
fn is_port(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

static IS_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] =
            (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    table
};
