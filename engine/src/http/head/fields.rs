//! What the headers that this server listens to mean, and the framing rules over all of them.
//!
//! Owns RFC 9112 §6 (framing), RFC 9110 §7.2 (Host), §7.6.1 (Connection), §10.1.1 (Expect). Works on
//! names that are tokens and values that are trimmed. Everything else is ignored after a look at
//! its length.

use super::target::is_host;
use super::{BodyFraming, ContentEncoding, ContentType, Expect, Span, Version};
use crate::http::Reject;
use crate::http::scan::{Scanner, is_token};

/// What has been heard so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields {
    pub(super) api_key: Option<Span>,
    pub(super) origin: Option<Span>,
    pub(super) content_type: ContentType,
    pub(super) asks_cors_method: bool,
    content_length: Option<u64>,
    content_encoding: Option<ContentEncoding>,
    transfer: Transfer,
    expect: Expect,
    has_host: bool,
    says_close: bool,
    says_keep_alive: bool,
}

/// The codings of all Transfer-Encoding headers in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transfer {
    Absent,
    Chunked,
    Unsupported,
    UnsupportedThenChunked,
}

/// What the whole of the headers says.
pub(super) struct Framing {
    pub(super) body: BodyFraming,
    pub(super) keep_alive: bool,
    pub(super) expect: Expect,
    pub(super) content_encoding: ContentEncoding,
}

impl Fields {
    pub(super) const NONE: Fields = Fields {
        api_key: None,
        origin: None,
        content_type: ContentType::Absent,
        asks_cors_method: false,
        content_length: None,
        content_encoding: None,
        transfer: Transfer::Absent,
        expect: Expect::None,
        has_host: false,
        says_close: false,
        says_keep_alive: false,
    };

    /// Takes in one header. Names of other lengths than these are never compared.
    #[inline(always)]
    pub(super) fn note(
        &mut self,
        scan: &mut Scanner<'_>,
        name: Span,
        value: Span,
    ) -> Result<(), Reject> {
        let buf = scan.bytes();
        let name = name.of(buf);
        match name.len() {
            4 if is(name, b"host") => {
                if self.has_host {
                    return Err(Reject::DuplicateHost);
                }
                self.has_host = true;
                let start = value.start as usize;
                let name_end = scan.host_name_end(start).min(value.end as usize);
                if is_host(value.of(buf), name_end - start) { Ok(()) } else { Err(Reject::BadHost) }
            }
            6 if is(name, b"origin") => {
                self.origin = Some(value);
                Ok(())
            }
            6 if is(name, b"expect") => {
                self.note_expect(value.of(buf));
                Ok(())
            }
            9 if is(name, b"x-api-key") => match self.api_key.replace(value) {
                None => Ok(()),
                Some(_) => Err(Reject::DuplicateApiKey),
            },
            10 if is(name, b"connection") => {
                self.note_connection(value.of(buf));
                Ok(())
            }
            12 if is(name, b"content-type") => {
                self.content_type = match self.content_type {
                    ContentType::Absent => media_type(value.of(buf)),
                    _ => ContentType::Other,
                };
                Ok(())
            }
            14 if is(name, b"content-length") => {
                let length = content_length(value.of(buf))?;
                match self.content_length.replace(length) {
                    None => Ok(()),
                    Some(_) => Err(Reject::DuplicateContentLength),
                }
            }
            16 if is(name, b"content-encoding") => {
                self.content_encoding = Some(match self.content_encoding {
                    None => coding(value.of(buf)),
                    Some(_) => ContentEncoding::Unknown,
                });
                Ok(())
            }
            17 if is(name, b"transfer-encoding") => self.note_transfer_encoding(value.of(buf)),
            29 if is(name, b"access-control-request-method") => {
                self.asks_cors_method = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    #[cold]
    fn note_expect(&mut self, value: &[u8]) {
        self.expect =
            if value.eq_ignore_ascii_case(b"100-continue") && self.expect != Expect::Unknown {
                Expect::Continue
            } else {
                Expect::Unknown
            };
    }

    fn note_connection(&mut self, value: &[u8]) {
        if is(value, b"keep-alive") {
            self.says_keep_alive = true;
            return;
        }
        for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            self.says_close |= option.eq_ignore_ascii_case(b"close");
            self.says_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// RFC 9112 §6.1. `chunked` takes no parameters (§7.1), and a list without an element in it, or
    /// with an empty one, is how a smuggler hides it.
    #[cold]
    fn note_transfer_encoding(&mut self, value: &[u8]) -> Result<(), Reject> {
        for element in value.split(|&byte| byte == b',') {
            let element = trim_ows(element);
            let name_bytes = element.iter().position(|&byte| byte == b';').unwrap_or(element.len());
            let name = trim_ows(&element[..name_bytes]);
            if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
                return Err(Reject::BadTransferEncoding);
            }
            let is_chunked = name.eq_ignore_ascii_case(b"chunked");
            if is_chunked && name_bytes != element.len() {
                return Err(Reject::BadTransferEncoding);
            }
            self.transfer = match (self.transfer, is_chunked) {
                (Transfer::Absent, true) => Transfer::Chunked,
                (Transfer::Absent | Transfer::Unsupported, false) => Transfer::Unsupported,
                (Transfer::Unsupported, true) => Transfer::UnsupportedThenChunked,
                (Transfer::Chunked | Transfer::UnsupportedThenChunked, _) => {
                    return Err(Reject::ChunkedNotLast);
                }
            };
        }
        Ok(())
    }

    /// The rules that need all headers. 400 comes before 501: a message that is framed twice is
    /// not a question of what we support.
    #[inline]
    pub(super) fn judge(&self, version: Version) -> Result<Framing, Reject> {
        let is_http11 = version == Version::Http11;
        if is_http11 && !self.has_host {
            return Err(Reject::MissingHost);
        }
        let body = match (self.transfer, self.content_length) {
            (Transfer::Absent, None) => BodyFraming::None,
            (Transfer::Absent, Some(length)) => BodyFraming::Length(length),
            (_, Some(_)) => return Err(Reject::LengthAndTransferEncoding),
            (_, None) if !is_http11 => return Err(Reject::TransferEncodingInHttp10),
            (Transfer::Chunked, None) => BodyFraming::Chunked,
            (_, None) => return Err(Reject::UnsupportedTransferEncoding),
        };
        Ok(Framing {
            body,
            keep_alive: !self.says_close && (is_http11 || self.says_keep_alive),
            expect: match self.expect {
                Expect::Continue if !is_http11 => Expect::None,
                expect => expect,
            },
            content_encoding: self.content_encoding.unwrap_or(ContentEncoding::Identity),
        })
    }
}

/// Whether `text` is `lower` in any case. Exact for a `lower` of letters, `-` and `/` as long as
/// `text` holds no control characters: setting bit 5 folds no other byte into one of those.
#[inline(always)]
fn is<const N: usize>(text: &[u8], lower: &[u8; N]) -> bool {
    let Ok(text) = <&[u8; N]>::try_from(text) else { return false };
    let mut difference = 0;
    for at in 0..N {
        difference |= (text[at] | 0x20) ^ lower[at];
    }
    difference == 0
}

pub(super) fn trim_ows(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Digits only, no leading zero: whoever reads `010` as octal would frame the message differently.
#[inline]
fn content_length(value: &[u8]) -> Result<u64, Reject> {
    if value.is_empty() || (value[0] == b'0' && value.len() > 1) {
        return Err(Reject::BadContentLength);
    }
    let mut length = 0u64;
    let mut is_number = true;
    for &byte in value {
        let digit = byte.wrapping_sub(b'0');
        is_number &= digit <= 9;
        // No more than 19 digits count, and 19 nines fit.
        length = length.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    match (is_number, value.len() <= LENGTH_DIGITS_MAX) {
        (false, _) => Err(Reject::BadContentLength),
        (true, false) => Err(Reject::ContentLengthOverflow),
        (true, true) => Ok(length),
    }
}

/// Of 20 digits, some numbers do not fit into 64 bits; no body needs one that does.
const LENGTH_DIGITS_MAX: usize = 19;

#[inline]
fn media_type(value: &[u8]) -> ContentType {
    const JSON: &[u8; 16] = b"application/json";
    let Some((name, rest)) = value.split_first_chunk::<16>() else { return ContentType::Other };
    if !is(name, JSON) {
        return ContentType::Other;
    }
    match trim_ows(rest) {
        [] | [b';', ..] => ContentType::Json,
        _ => ContentType::Other,
    }
}

fn coding(value: &[u8]) -> ContentEncoding {
    const KNOWN: [(&[u8], ContentEncoding); 5] = [
        (b"gzip", ContentEncoding::Gzip),
        (b"x-gzip", ContentEncoding::Gzip),
        (b"deflate", ContentEncoding::Deflate),
        (b"zstd", ContentEncoding::Zstd),
        (b"identity", ContentEncoding::Identity),
    ];
    KNOWN
        .iter()
        .find(|(name, _)| value.eq_ignore_ascii_case(name))
        .map_or(ContentEncoding::Unknown, |&(_, coding)| coding)
}
