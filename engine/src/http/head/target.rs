//! The forms of a request target (RFC 9112 §3.2) and the host (RFC 9110 §7.2).
//!
//! Works on bytes that the scanner has already found to be visible ASCII, or on a header's value.

use super::{Method, Span};
use crate::http::Reject;
use crate::http::scan::is_host_name;

/// The path and the query of `target`, whose bytes are all allowed ones and whose first `?`, or else
/// its end, is at `mark`.
#[inline]
pub(super) fn split_target(
    buf: &[u8],
    method: Method,
    target: Span,
    mark: u32,
) -> Result<(Span, Span), Reject> {
    let path = Span { start: target.start, end: mark };
    let query = Span { start: target.end.min(mark + 1), end: target.end };
    match path.of(buf) {
        [b'/', ..] => Ok((path, query)),
        [b'*'] if method == Method::Options && mark == target.end => Ok((path, query)),
        _ => Ok((absolute_path(buf, path)?, query)),
    }
}

/// The path of `http://host[:port][/path]`. The authority overrides Host (RFC 9112 §3.2.2), and like
/// Host it selects nothing here; it only has to be well-formed.
#[cold]
fn absolute_path(buf: &[u8], without_query: Span) -> Result<Span, Reject> {
    let text = without_query.of(buf);
    let scheme_bytes = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| text.get(..scheme.len()).is_some_and(|at| at.eq_ignore_ascii_case(scheme)))
        .map(<[u8]>::len)
        .ok_or(Reject::BadTargetForm)?;
    let authority = &text[scheme_bytes..];
    let authority_bytes =
        authority.iter().position(|&byte| byte == b'/').unwrap_or(authority.len());
    let authority = &authority[..authority_bytes];
    let name_bytes =
        authority.iter().position(|&byte| !is_host_name(byte)).unwrap_or(authority.len());
    if !is_host(authority, name_bytes) {
        return Err(Reject::BadHost);
    }
    let Span { start, end } = without_query;
    let path = Span { start: start + (scheme_bytes + authority_bytes) as u32, end };
    // An empty path means "/" (RFC 9110 §4.2.3), of which the scheme's last byte is one.
    let slash = start + scheme_bytes as u32 - 1;
    Ok(if path.is_empty() { Span { start: slash, end: slash + 1 } } else { path })
}

/// A name, an IPv4 or a bracketed IPv6 address, with or without a port. The first `name_bytes` bytes
/// are known to be [`is_host_name`], and no more.
#[inline]
pub(super) fn is_host(value: &[u8], name_bytes: usize) -> bool {
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
