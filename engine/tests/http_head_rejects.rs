//! Every rule about a request's head, by example: what is refused and why, what must work.
//!
//! Each input is also parsed byte by byte, which must not change the outcome.

#![allow(clippy::unwrap_used)]

use engine::http::{
    BodyFraming, ContentEncoding, ContentType, Expect, Head, HeadLimits, HeadParser, HeadStatus,
    Method, Reject, Version,
};
use proto::ErrorCode;

fn parse_with(input: &[u8], limits: &HeadLimits) -> Result<Option<Head>, Reject> {
    let whole = into_option(HeadParser::default().parse(input, limits));
    let mut parser = HeadParser::default();
    let mut bytewise = Ok(None);
    for end in 0..=input.len() {
        bytewise = into_option(parser.parse(&input[..end], limits));
        if !matches!(bytewise, Ok(None)) {
            break;
        }
    }
    assert_eq!(whole, bytewise, "split changes {:?}", String::from_utf8_lossy(input));
    whole
}

fn into_option(status: Result<HeadStatus, Reject>) -> Result<Option<Head>, Reject> {
    status.map(|status| match status {
        HeadStatus::Partial => None,
        HeadStatus::Complete(head) => Some(head),
    })
}

fn parse(input: &[u8]) -> Result<Option<Head>, Reject> {
    parse_with(input, &HeadLimits::default())
}

#[track_caller]
fn accepted(input: &[u8]) -> Head {
    match parse(input) {
        Ok(Some(head)) => head,
        other => panic!("{:?} gave {other:?}", String::from_utf8_lossy(input)),
    }
}

/// A POST with these header lines beside its Host.
#[track_caller]
fn head_with(lines: &str) -> Result<Option<Head>, Reject> {
    parse(format!("POST /api/v1/events HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n").as_bytes())
}

#[track_caller]
fn check_lines(lines: &str, expected: Reject) {
    assert_eq!(head_with(lines), Err(expected), "{lines:?}");
}

#[track_caller]
fn check_request_line(line: &[u8], expected: Reject) {
    let input = [line, b"\r\nHost: a.example\r\n\r\n"].concat();
    assert_eq!(parse(&input), Err(expected), "{:?}", String::from_utf8_lossy(line));
}

#[test]
fn content_length() {
    let check = |value: &str, expected| {
        check_lines(&format!("Content-Length: {value}\r\n"), expected);
    };
    check("5, 6", Reject::BadContentLength);
    check("5, 5", Reject::BadContentLength);
    check("+5", Reject::BadContentLength);
    check("-5", Reject::BadContentLength);
    check("0x5", Reject::BadContentLength);
    check("0o5", Reject::BadContentLength);
    check("05", Reject::BadContentLength);
    check("00", Reject::BadContentLength);
    check("1_0", Reject::BadContentLength);
    check("1 0", Reject::BadContentLength);
    check("", Reject::BadContentLength);
    check(" \t", Reject::BadContentLength);
    check("five", Reject::BadContentLength);
    check("5.0", Reject::BadContentLength);
    check("1e3", Reject::BadContentLength);
    check("\u{665}", Reject::BadContentLength);
    check("18446744073709551616", Reject::ContentLengthOverflow);
    check("99999999999999999999999999", Reject::ContentLengthOverflow);
    check("5\r\nContent-Length: 6", Reject::DuplicateContentLength);
    check("5\r\ncontent-length: 5", Reject::DuplicateContentLength);

    let length =
        |value: &str| head_with(&format!("Content-Length: {value}\r\n")).unwrap().unwrap().body;
    assert_eq!(length("0"), BodyFraming::Length(0));
    assert_eq!(length("\t 10 \t"), BodyFraming::Length(10));
    assert_eq!(length("9999999999999999999"), BodyFraming::Length(9_999_999_999_999_999_999));
    assert_eq!(head_with("").unwrap().unwrap().body, BodyFraming::None);
}

#[test]
fn transfer_encoding() {
    let check = |value: &str, expected| {
        check_lines(&format!("Transfer-Encoding: {value}\r\n"), expected);
    };
    check("chunked, gzip", Reject::ChunkedNotLast);
    check("chunked, chunked", Reject::ChunkedNotLast);
    check("chunked\r\nTransfer-Encoding: chunked", Reject::ChunkedNotLast);
    check("chunked\r\nTransfer-Encoding: gzip", Reject::ChunkedNotLast);
    check("gzip, chunked, gzip", Reject::ChunkedNotLast);
    check(", chunked", Reject::BadTransferEncoding);
    check("chunked,", Reject::BadTransferEncoding);
    check("", Reject::BadTransferEncoding);
    check("chunked;a=b", Reject::BadTransferEncoding);
    check("\"chunked\"", Reject::BadTransferEncoding);
    check("chunked chunked", Reject::BadTransferEncoding);
    check("chunked\0", Reject::ControlInHeaderValue);
    check("chunked\x0b", Reject::ControlInHeaderValue);
    check("\x0cchunked", Reject::ControlInHeaderValue);
    check("\r\n chunked", Reject::BadTransferEncoding);
    check("chunked\r\n , gzip", Reject::ObsFold);
    check("identity", Reject::UnsupportedTransferEncoding);
    check("gzip", Reject::UnsupportedTransferEncoding);
    check("gzip;level=9", Reject::UnsupportedTransferEncoding);
    check("gzip, chunked", Reject::UnsupportedTransferEncoding);
    check("gzip\r\nTransfer-Encoding: chunked", Reject::UnsupportedTransferEncoding);
    check("xchunked", Reject::UnsupportedTransferEncoding);
    check("chunked\r\nContent-Length: 5", Reject::LengthAndTransferEncoding);
    check("gzip\r\nContent-Length: 5", Reject::LengthAndTransferEncoding);
    check_lines(
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        Reject::LengthAndTransferEncoding,
    );
    check_lines("Transfer-Encoding : chunked\r\n", Reject::SpaceBeforeColon);
    for value in ["chunked", "gzip"] {
        let input = format!("POST / HTTP/1.0\r\nTransfer-Encoding: {value}\r\n\r\n");
        assert_eq!(parse(input.as_bytes()), Err(Reject::TransferEncodingInHttp10));
    }
    for value in ["chunked", "CHUNKED", " Chunked\t"] {
        let head = head_with(&format!("transfer-encoding:{value}\r\n")).unwrap().unwrap();
        assert_eq!(head.body, BodyFraming::Chunked);
    }
}

#[test]
fn header_lines() {
    check_lines("A : b\r\n", Reject::SpaceBeforeColon);
    check_lines("A\t: b\r\n", Reject::SpaceBeforeColon);
    check_lines("A: b\r\n c\r\n", Reject::ObsFold);
    check_lines("A: b\r\n\tc\r\n", Reject::ObsFold);
    check_lines(" A: b\r\n", Reject::ObsFold);
    check_lines("A: b\rc\r\n", Reject::BareCr);
    check_lines("A: b\r\r\n", Reject::BareCr);
    check_lines("A: b\nB: c\r\n", Reject::BareLf);
    check_lines("A: b\0c\r\n", Reject::ControlInHeaderValue);
    check_lines("A: b\x01\r\n", Reject::ControlInHeaderValue);
    check_lines("A: \x7f\r\n", Reject::ControlInHeaderValue);
    check_lines(": b\r\n", Reject::EmptyHeaderName);
    check_lines("A\0: b\r\n", Reject::BadHeaderName);
    check_lines("A(: b\r\n", Reject::BadHeaderName);
    check_lines("\u{e9}: b\r\n", Reject::BadHeaderName);
    check_lines("A\r\n", Reject::MissingColon);
    check_lines("A\nB: c\r\n", Reject::MissingColon);
    check_lines("\n", Reject::BareLf);
    check_lines("\rA: b\r\n", Reject::BareCr);
    for space in [" ", "\t"] {
        let input = format!("GET / HTTP/1.1\r\n{space}Host: a\r\n\r\n");
        assert_eq!(parse(input.as_bytes()), Err(Reject::SpaceBeforeFirstHeader));
    }
}

#[test]
fn host() {
    let check = |lines: &str, expected| {
        let input = format!("GET / HTTP/1.1\r\n{lines}\r\n");
        assert_eq!(parse(input.as_bytes()).map(|_| ()), expected, "{lines:?}");
        // Where it is optional, it still has to be right.
        if expected != Err(Reject::MissingHost) {
            let input = format!("GET / HTTP/1.0\r\n{lines}\r\n");
            assert_eq!(parse(input.as_bytes()).map(|_| ()), expected, "1.0 {lines:?}");
        }
    };
    check("", Err(Reject::MissingHost));
    check("X-Host: a\r\n", Err(Reject::MissingHost));
    check("Host: a\r\nHost: a\r\n", Err(Reject::DuplicateHost));
    check("Host: a\r\nhost: b\r\n", Err(Reject::DuplicateHost));
    for bad in [
        "",
        " ",
        ":80",
        "a, b",
        "a,b",
        "user@a",
        "user:pw@a",
        "a/",
        "a/b",
        "http://a",
        "a b",
        "a?",
        "a#",
        "a\\b",
        "a:80:80",
        "a:8o",
        "a:-1",
        "a:123456",
        "[::1",
        "::1",
        "[]",
        "[g::1]",
        "[::1]x",
        "[::1]:",
        "a^b",
        "a%41",
        "\u{e9}",
    ] {
        let expected = if bad == "[::1]:" { Ok(()) } else { Err(Reject::BadHost) };
        check(&format!("Host: {bad}\r\n"), expected);
    }
    for good in ["a", "a.example:8080", "127.0.0.1", "[::1]", "[2001:DB8::1]:80", "a_b-c~d.", "a:"]
    {
        check(&format!("Host: {good}\r\n"), Ok(()));
        check(&format!("hOST:{good}\t\r\n"), Ok(()));
    }
    assert!(accepted(b"GET / HTTP/1.0\r\n\r\n").header_count == 0);
}

#[test]
fn request_line() {
    check_request_line(b"GET /a\0b HTTP/1.1", Reject::BadTarget);
    check_request_line(b"GET /\x7f HTTP/1.1", Reject::BadTarget);
    check_request_line("GET /\u{e9} HTTP/1.1".as_bytes(), Reject::BadTarget);
    check_request_line(b"GET /\xff HTTP/1.1", Reject::BadTarget);
    check_request_line(b"GET /a#b HTTP/1.1", Reject::BadTarget);
    check_request_line(b"GET /a\tb HTTP/1.1", Reject::BadTarget);
    check_request_line(b"GET /a b HTTP/1.1", Reject::BadVersion);
    check_request_line(b"GET  HTTP/1.1", Reject::EmptyTarget);
    check_request_line(b"GET  / HTTP/1.1", Reject::EmptyTarget);
    check_request_line(b"GET /", Reject::MissingVersion);
    check_request_line(b"GET", Reject::BadMethod);
    check_request_line(b" GET / HTTP/1.1", Reject::BadMethod);
    check_request_line(b"G(T / HTTP/1.1", Reject::BadMethod);
    check_request_line(b"GET\t/ HTTP/1.1", Reject::BadMethod);
    check_request_line(b"POST * HTTP/1.1", Reject::BadTargetForm);
    check_request_line(b"OPTIONS *? HTTP/1.1", Reject::BadTargetForm);
    check_request_line(b"GET a HTTP/1.1", Reject::BadTargetForm);
    check_request_line(b"GET ?a HTTP/1.1", Reject::BadTargetForm);
    check_request_line(b"CONNECT a:443 HTTP/1.1", Reject::BadTargetForm);
    check_request_line(b"GET ftp://a/ HTTP/1.1", Reject::BadTargetForm);
    check_request_line(b"GET http:///a HTTP/1.1", Reject::BadHost);
    check_request_line(b"GET http://u@a/ HTTP/1.1", Reject::BadHost);
    check_request_line(b"GET http://?a HTTP/1.1", Reject::BadHost);
    check_request_line(&[&[b'A'; 33], &b" / HTTP/1.1"[..]].concat(), Reject::MethodTooLong);
}

#[test]
fn version() {
    for bad in [
        "HTTP/1",
        "HTTP/1.",
        "HTTP/01.01",
        "http/1.1",
        "HTTP/ 1.1",
        "HTTP/1.1 ",
        "HTTP/1.10",
        "HTTP /1.1",
        "HTTP/1,1",
        "HTTP/x.1",
        "HTTP/1.x",
        "HTTP/2",
        "HTTPS/1.1",
        " HTTP/1.1",
        "H",
    ] {
        check_request_line(format!("GET / {bad}").as_bytes(), Reject::BadVersion);
    }
    for major in ["HTTP/2.0", "HTTP/0.9", "HTTP/3.1", "HTTP/9.9"] {
        check_request_line(format!("GET / {major}").as_bytes(), Reject::UnsupportedVersion);
    }
    assert_eq!(parse(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Err(Reject::UnsupportedVersion));
    assert_eq!(parse(b"GET / HTTP/1.1\nHost: a\n\n"), Err(Reject::BareLf));
    assert_eq!(parse(b"GET / HTTP/1.1\rHost: a\r\r"), Err(Reject::BareCr));
    for (text, version) in
        [("1.0", Version::Http10), ("1.1", Version::Http11), ("1.2", Version::Http11)]
    {
        let head = accepted(format!("GET / HTTP/{text}\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!(head.version, version);
    }
}

#[test]
fn limits() {
    let target =
        |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(bytes - 1));
    assert_eq!(accepted(target(8_000).as_bytes()).path.len(), 8_000);
    assert_eq!(accepted(target(8_192).as_bytes()).path.len(), 8_192);
    assert_eq!(parse(target(8_193).as_bytes()), Err(Reject::TargetTooLong));
    let query = format!("GET /?{} HTTP/1.1\r\n", "?".repeat(8_191));
    assert_eq!(parse(query.as_bytes()), Err(Reject::TargetTooLong));
    // Before its end is known, and whatever comes after it.
    assert_eq!(parse(&target(9_000).as_bytes()[..8_400]), Err(Reject::TargetTooLong));

    let headers = |count: usize| "A: b\r\n".repeat(count - 1);
    assert_eq!(head_with(&headers(100)).unwrap().unwrap().header_count, 100);
    check_lines(&headers(101), Reject::TooManyHeaders);

    let limits = HeadLimits::default();
    let head_of = |bytes: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nA: ";
        format!("{start}{}\r\n\r\n", "b".repeat(bytes - start.len() - 4))
    };
    let largest = limits.head_bytes_max as usize;
    assert_eq!(accepted(head_of(largest).as_bytes()).head_bytes as usize, largest);
    assert_eq!(parse(head_of(largest + 1).as_bytes()), Err(Reject::HeadTooLarge));
    assert_eq!(parse(&head_of(largest + 9).as_bytes()[..largest]), Err(Reject::HeadTooLarge));
    // What lies past the limit is not looked at.
    let bad_after = format!("{}\0", &head_of(largest + 9)[..largest]);
    assert_eq!(parse(bad_after.as_bytes()), Err(Reject::HeadTooLarge));

    let empty_lines = |count| format!("{}GET / HTTP/1.0\r\n\r\n", "\r\n".repeat(count));
    assert_eq!(accepted(empty_lines(8).as_bytes()).head_bytes, 16 + 18);
    assert_eq!(parse(empty_lines(9).as_bytes()), Err(Reject::TooManyLeadingCrlfs));
    assert_eq!(parse(b"\nGET / HTTP/1.0\r\n\r\n"), Err(Reject::BareLf));
    assert_eq!(parse(b"\rGET / HTTP/1.0\r\n\r\n"), Err(Reject::BareCr));

    let small = HeadLimits { target_bytes_max: 4, head_bytes_max: 64, ..limits };
    assert_eq!(parse_with(b"GET /abcd HTTP/1.0\r\n\r\n", &small), Err(Reject::TargetTooLong));
}

#[test]
fn targets() {
    let check = |target: &str, path: &str, query: &str| {
        let input = format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = accepted(input.as_bytes());
        let text = |span: engine::http::Span| {
            String::from_utf8(span.of(input.as_bytes()).to_vec()).unwrap()
        };
        assert_eq!((text(head.path), text(head.query)), (path.to_owned(), query.to_owned()));
        assert_eq!(text(head.target), target);
    };
    check("/", "/", "");
    check("/api/v1/events?partial=1", "/api/v1/events", "partial=1");
    check("/a?", "/a", "");
    check("/a?b?c", "/a", "b?c");
    check("/{a|b}\"", "/{a|b}\"", "");
    check("*", "*", "");
    check("http://a.example/b?c", "/b", "c");
    check("HTTPS://a.example:443/b//c", "/b//c", "");
    check("http://a.example", "/", "");
    check("http://a.example?b=/", "/", "b=/");
    check("http://[::1]:80/b", "/b", "");
}

#[test]
fn methods() {
    for (name, method) in [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("OPTIONS", Method::Options),
        ("PUT", Method::Other),
        ("get", Method::Other),
        ("POSTS", Method::Other),
    ] {
        let head = accepted(format!("{name} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!(head.method, method);
    }
}

#[test]
fn keep_alive() {
    let check = |version: &str, lines: &str, expected: bool| {
        let input = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(accepted(input.as_bytes()).keep_alive, expected, "{version} {lines:?}");
    };
    check("1.1", "", true);
    check("1.1", "Connection: keep-alive\r\n", true);
    check("1.1", "Connection: close\r\n", false);
    check("1.1", "connection: x,\tCLOSE , y\r\n", false);
    check("1.1", "Connection: keep-alive, close\r\n", false);
    check("1.1", "Connection: closed\r\n", true);
    check("1.1", "Connection: close\r\nConnection: keep-alive\r\n", false);
    check("1.0", "", false);
    check("1.0", "Connection: Keep-Alive\r\n", true);
    check("1.0", "Connection: keep-alive, x\r\n", true);
    check("1.0", "Connection: keep-alive\r\nConnection: close\r\n", false);
}

#[test]
fn expectation() {
    let check = |version: &str, lines: &str, expected: Expect| {
        let input = format!("POST / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(accepted(input.as_bytes()).expect, expected, "{lines:?}");
    };
    check("1.1", "", Expect::None);
    check("1.1", "Expect: 100-continue\r\n", Expect::Continue);
    check("1.1", "expect:100-Continue \r\n", Expect::Continue);
    check("1.1", "Expect: 200-ok\r\n", Expect::Unknown);
    check("1.1", "Expect:\r\n", Expect::Unknown);
    check("1.1", "Expect: 100-continue, x\r\n", Expect::Unknown);
    check("1.1", "Expect: x\r\nExpect: 100-continue\r\n", Expect::Unknown);
    check("1.0", "Expect: 100-continue\r\n", Expect::None);
}

#[test]
fn content_type_and_encoding() {
    let types = |value: &str| {
        head_with(&format!("Content-Type: {value}\r\n")).unwrap().unwrap().content_type
    };
    assert_eq!(head_with("").unwrap().unwrap().content_type, ContentType::Absent);
    for json in ["application/json", "Application/JSON; charset=utf-8", "application/json\t;x=y"] {
        assert_eq!(types(json), ContentType::Json, "{json}");
    }
    for other in [
        "",
        "text/plain",
        "application/jsonp",
        "application/json-patch+json",
        "json",
        "application/json, text/plain",
        "application\x0djson",
    ] {
        if other.contains('\r') {
            check_lines(&format!("Content-Type: {other}\r\n"), Reject::BareCr);
        } else {
            assert_eq!(types(other), ContentType::Other, "{other}");
        }
    }
    assert_eq!(types("application/json\r\nContent-Type: application/json"), ContentType::Other);

    let encodings = |value: &str| {
        head_with(&format!("Content-Encoding: {value}\r\n")).unwrap().unwrap().content_encoding
    };
    assert_eq!(head_with("").unwrap().unwrap().content_encoding, ContentEncoding::Identity);
    for (value, expected) in [
        ("identity", ContentEncoding::Identity),
        ("GZIP", ContentEncoding::Gzip),
        ("x-gzip", ContentEncoding::Gzip),
        ("deflate", ContentEncoding::Deflate),
        ("Zstd", ContentEncoding::Zstd),
        ("br", ContentEncoding::Unknown),
        ("gzip, gzip", ContentEncoding::Unknown),
        ("gzip\r\nContent-Encoding: gzip", ContentEncoding::Unknown),
        ("", ContentEncoding::Unknown),
    ] {
        assert_eq!(encodings(value), expected, "{value}");
    }
}

#[test]
fn key_origin_and_preflight() {
    let input = b"OPTIONS / HTTP/1.1\r\nHost: a\r\nx-api-KEY:\t k 1 \r\nOrigin: https://a\r\n\
        Access-Control-Request-Method: POST\r\nObs: \x80\xff\r\n\r\nrest";
    let head = accepted(input);
    assert_eq!(head.api_key.map(|key| key.of(input)), Some(&b"k 1"[..]));
    assert_eq!(head.origin.map(|origin| origin.of(input)), Some(&b"https://a"[..]));
    assert!(head.asks_cors_method);
    assert_eq!(head.header_count, 5);
    assert_eq!(head.head_bytes as usize, input.len() - 4);

    let none = accepted(b"GET / HTTP/1.1\r\nHost: a\r\nX-Api-Kez: k\r\n\r\n");
    assert_eq!((none.api_key, none.origin, none.asks_cors_method), (None, None, false));
    check_lines("X-API-Key: a\r\nx-api-key: a\r\n", Reject::DuplicateApiKey);
}

#[test]
fn every_reject_has_its_own_words() {
    let mut labels: Vec<_> = Reject::ALL.iter().map(|reject| reject.label()).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), Reject::ALL.len());
    for reject in Reject::ALL {
        assert!(reject.closes() && !reject.message().is_empty());
        let expected = match reject {
            Reject::TargetTooLong => ErrorCode::UriTooLong,
            Reject::MethodTooLong | Reject::UnsupportedTransferEncoding => {
                ErrorCode::NotImplemented
            }
            Reject::UnsupportedVersion => ErrorCode::VersionNotSupported,
            Reject::HeadTooLarge | Reject::TooManyHeaders | Reject::TrailersTooLarge => {
                ErrorCode::HeadersTooLarge
            }
            _ => ErrorCode::InvalidRequest,
        };
        assert_eq!(reject.error_code(), expected, "{reject:?}");
    }
}
