//! What the URL says: the statement, bound parameters, settings, and how to answer.
//!
//! ClickHouse's rule is followed: a name that is none of the protocol's is a setting. Names of the
//! protocol that would need a server-side session are refused, not ignored.

use crate::doors::UrlCredentials;
use crate::exception::{Code, Exception};
use crate::execute::Request;

/// Parameters of the query string, before they become a request.
#[derive(Debug, Default)]
pub struct UrlParams {
    pub request: Request,
    pub credentials: UrlCredentials,
    pub query_id: Option<String>,
    pub native_blocks_out: bool,
    pub http_compression: bool,
    pub wait_end_of_query: bool,
}

/// Settings, params and the like that one request may carry.
const PARAMS_MAX: usize = 1_000;

pub fn parse(query: &str) -> Result<UrlParams, Exception> {
    let mut params = UrlParams::default();
    for (index, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
        if index == PARAMS_MAX {
            let message = format!("more than {PARAMS_MAX} URL parameters");
            return Err(Exception::new(Code::BadArguments, message));
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = String::from_utf8(decode(name)?).map_err(|_| not_utf8(name))?;
        take(&mut params, name, decode(value)?)?;
    }
    Ok(params)
}

fn take(params: &mut UrlParams, name: String, value: Vec<u8>) -> Result<(), Exception> {
    if let Some(parameter) = name.strip_prefix("param_") {
        params.request.params.push((parameter.to_owned(), value));
        return Ok(());
    }
    if name == "query" {
        params.request.query = Some(value).filter(|query| !query.is_empty());
        return Ok(());
    }
    let value = String::from_utf8(value).map_err(|_| not_utf8(&name))?;
    match name.as_str() {
        "database" => params.request.database = Some(value).filter(|name| !name.is_empty()),
        "default_format" => params.request.default_format = Some(value),
        "user" => params.credentials.user = Some(value),
        "password" => params.credentials.password = Some(value),
        "query_id" => params.query_id = Some(value).filter(|id| !id.is_empty()),
        "compress" => params.native_blocks_out = is_on(&value),
        "decompress" => params.request.native_blocks_in = is_on(&value),
        "enable_http_compression" => params.http_compression = is_on(&value),
        "wait_end_of_query" => params.wait_end_of_query = is_on(&value),
        // Hints for the server's buffers and progress reports; nothing here depends on them.
        "buffer_size"
        | "client_protocol_version"
        | "send_progress_in_http_headers"
        | "http_write_exception_in_output_format"
        | "http_headers_progress_interval_ms"
        | "http_zlib_compression_level"
        | "http_response_buffer_size" => {}
        "session_id" | "session_timeout" | "session_check" | "close_session" => {
            let message = "sessions are not kept: each request stands alone, settings in its URL";
            return Err(Exception::new(Code::NotImplemented, message));
        }
        "role" | "quota_key" | "stacktrace" | "profile" => {
            let message = format!("the URL parameter {name} is not served");
            return Err(Exception::new(Code::NotImplemented, message));
        }
        _ => params.request.settings.push((name, value)),
    }
    Ok(())
}

fn is_on(value: &str) -> bool {
    matches!(value, "1" | "true")
}

/// `%XX` and `+`.
fn decode(text: &str) -> Result<Vec<u8>, Exception> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut position = 0;
    while let Some(&byte) = bytes.get(position) {
        position += 1;
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => {
                let digits = bytes.get(position..position + 2).and_then(hex_byte);
                decoded.push(digits.ok_or_else(|| {
                    Exception::new(Code::BadArguments, "a % in the URL without two hex digits")
                })?);
                position += 2;
            }
            _ => decoded.push(byte),
        }
    }
    Ok(decoded)
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let value = digit(digits[0])? * 16 + digit(digits[1])?;
    u8::try_from(value).ok()
}

fn not_utf8(name: &str) -> Exception {
    Exception::new(Code::BadArguments, format!("the URL parameter {name:?} is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_once() {
        let check = |text: &str, expected: Option<&[u8]>| {
            assert_eq!(decode(text).ok().as_deref(), expected, "{text}");
        };
        check("a+b%20c%2B", Some(b"a b c+"));
        check("%2527", Some(b"%27"));
        check("%00%ff", Some(b"\x00\xff"));
        check("%", None);
        check("%4", None);
        check("%zz", None);
        check("%+1", None);
    }

    #[test]
    fn names_of_the_protocol_are_not_settings() {
        let params =
            parse("query=SELECT+1&param_x=%00&database=d&max_threads=1&compress=1").unwrap();
        assert_eq!(params.request.query.as_deref(), Some(&b"SELECT 1"[..]));
        assert_eq!(params.request.params, [("x".to_owned(), vec![0])]);
        assert_eq!(params.request.settings, [("max_threads".to_owned(), "1".to_owned())]);
        assert!(params.native_blocks_out);
        assert!(parse("session_id=1").is_err());
    }
}
