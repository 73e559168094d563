//! httparse as the oracle of a head's syntax.
//!
//! Where both accept, they see the same request. Where only we refuse, the reason is on the list
//! below. Where only httparse refuses, it is for a minor version that we take for 1.1, or for a major
//! one before its line ends.

#![allow(clippy::unwrap_used)]

use engine::http::{HeadLimits, HeadParser, HeadStatus, Method, Reject, Span, Version};
use proptest::prelude::*;

/// Why we refuse what httparse accepts.
fn is_stricter_on_purpose(reject: Reject) -> bool {
    match reject {
        // Lines: httparse takes a bare LF for a line's end, and any number of empty lines first.
        Reject::BareLf | Reject::TooManyLeadingCrlfs => true,
        // Targets: it takes `#` and UTF-8, and any text as a target.
        Reject::BadTarget | Reject::BadTargetForm => true,
        // Meaning, which is its caller's business: Host, framing, the key.
        Reject::MissingHost | Reject::DuplicateHost | Reject::BadHost => true,
        Reject::BadContentLength
        | Reject::ContentLengthOverflow
        | Reject::DuplicateContentLength
        | Reject::BadTransferEncoding
        | Reject::ChunkedNotLast
        | Reject::UnsupportedTransferEncoding
        | Reject::TransferEncodingInHttp10
        | Reject::LengthAndTransferEncoding
        | Reject::DuplicateApiKey => true,
        // Limits that it leaves to its caller.
        Reject::MethodTooLong
        | Reject::TargetTooLong
        | Reject::HeadTooLarge
        | Reject::TooManyHeaders => true,
        _ => false,
    }
}

const HEADERS_MAX: usize = 128;

fn compare(input: &[u8]) -> Result<(), TestCaseError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut theirs = httparse::Request::new(&mut headers);
    let their_status = theirs.parse(input);

    let mut seen: Vec<(Span, Span)> = Vec::new();
    let mut parser = HeadParser::default();
    let our_status = parser
        .parse_observed(input, &HeadLimits::default(), |name, value| seen.push((name, value)));

    let text = String::from_utf8_lossy(input);
    match (our_status, their_status) {
        (Ok(HeadStatus::Complete(head)), Ok(httparse::Status::Complete(head_bytes))) => {
            prop_assert_eq!(head.head_bytes as usize, head_bytes);
            let method = theirs.method.unwrap();
            let expected = match method {
                "GET" => Method::Get,
                "HEAD" => Method::Head,
                "POST" => Method::Post,
                "OPTIONS" => Method::Options,
                _ => Method::Other,
            };
            prop_assert_eq!(head.method, expected);
            prop_assert_eq!(head.target.of(input), theirs.path.unwrap().as_bytes());
            let minor = u8::from(head.version == Version::Http11);
            prop_assert_eq!(Some(minor), theirs.version);
            prop_assert_eq!(head.header_count as usize, theirs.headers.len());
            prop_assert_eq!(seen.len(), theirs.headers.len());
            for ((name, value), header) in seen.iter().zip(theirs.headers.iter()) {
                prop_assert_eq!(name.of(input), header.name.as_bytes());
                prop_assert_eq!(value.of(input), header.value);
            }
        }
        (Ok(HeadStatus::Partial), Ok(httparse::Status::Partial)) | (Err(_), Err(_)) => {}
        // Refused early, before httparse has seen enough to make up its mind.
        (Err(_), Ok(httparse::Status::Partial)) => {}
        (Err(reject), Ok(httparse::Status::Complete(_))) => {
            prop_assert!(is_stricter_on_purpose(reject), "{:?}: {:?}", reject, text);
        }
        // Another major version is told from a malformed one by the bytes that follow it.
        (Ok(HeadStatus::Partial), Err(httparse::Error::Version)) if ends_in_major(&text) => {}
        (Ok(_), Err(httparse::Error::Version)) => {
            let is_higher_minor =
                (b'2'..=b'9').any(|minor| text.contains(&format!(" HTTP/1.{}", minor as char)));
            prop_assert!(is_higher_minor, "{:?}", text);
        }
        (ours, theirs) => prop_assert!(false, "{:?} against {:?}: {:?}", ours, theirs, text),
    }
    Ok(())
}

fn ends_in_major(text: &str) -> bool {
    let version = text.rsplit(' ').next().unwrap_or("");
    let digit = version.strip_prefix("HTTP/").map(|digits| digits.trim_end_matches('.'));
    digit.is_some_and(|digit| digit.len() == 1 && version.len() <= "HTTP/2.".len())
}

#[track_caller]
fn check(input: &[u8]) {
    compare(input).unwrap();
}

/// Lines put together from what is right and what is nearly so.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let line_end =
        || prop_oneof![12 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r"), 1 => Just("\r\n ")];
    let name = prop_oneof![
        "[A-Za-z-]{1,12}",
        Just("Host".to_owned()),
        Just("Content-Length".to_owned()),
        Just("Transfer-Encoding".to_owned()),
        "[ -~]{0,6}",
    ];
    let value = prop_oneof![
        "[ -~]{0,20}",
        "[ \t]{0,3}[0-9a-z]{0,9}[ \t]{0,3}",
        "\\PC{0,9}",
        Just("chunked".to_owned())
    ];
    let colon = prop_oneof![12 => Just(":"), 12 => Just(": "), 1 => Just(" :"), 1 => Just("")];
    let header = (name, colon, value, line_end())
        .prop_map(|(name, colon, value, end)| format!("{name}{colon}{value}{end}"));
    let request_line = (
        prop_oneof![8 => Just(""), 1 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r\n\r\n")],
        prop_oneof![8 => "GET|POST|OPTIONS|HEAD|PUT", 1 => "[ -~]{0,6}"],
        prop_oneof![12 => Just(" "), 1 => Just("  "), 1 => Just("\t")],
        prop_oneof![8 => "/[!-~]{0,20}", 1 => "\\PC{0,9}", 1 => "http://[a-z@:.]{0,9}/?"],
        prop_oneof![12 => Just(" "), 1 => Just("  "), 1 => Just("")],
        prop_oneof![8 => "HTTP/1\\.[01]", 1 => "HTTP/[0-9]\\.[0-9]", 1 => "[HTP/.1]{0,9}"],
        line_end(),
    )
        .prop_map(|(empty, method, s1, target, s2, version, end)| {
            format!("{empty}{method}{s1}{target}{s2}{version}{end}")
        });
    (request_line, any::<bool>(), prop::collection::vec(header, 0..5), line_end(), any::<u8>())
        .prop_map(|(line, with_host, headers, end, last)| {
            let host = if with_host { "Host: a\r\n" } else { "" };
            let mut bytes = format!("{line}{host}{}{end}", headers.concat()).into_bytes();
            bytes.push(last);
            bytes
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn agrees_with_httparse(input in request(), cut in any::<prop::sample::Index>()) {
        compare(&input)?;
        compare(&input[..cut.index(input.len() + 1)])?;
    }

    #[test]
    fn agrees_with_httparse_on_single_changed_bytes(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut input = b"POST /a?b HTTP/1.1\r\nHost: a.example\r\nA-b:  c d \r\n\r\n".to_vec();
        let at = at.index(input.len());
        input[at] = byte;
        compare(&input)?;
    }
}

#[test]
fn where_we_are_stricter() {
    for (input, expected) in [
        (&b"GET / HTTP/1.1\nHost: a\n\n"[..], Reject::BareLf),
        (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Reject::BareLf),
        (b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", Reject::BadTarget),
        ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n".as_bytes(), Reject::BadTarget),
        (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", Reject::BadTargetForm),
        (b"GET / HTTP/1.1\r\n\r\n", Reject::MissingHost),
    ] {
        let mut headers = [httparse::EMPTY_HEADER; 4];
        let theirs = httparse::Request::new(&mut headers).parse(input);
        assert!(matches!(theirs, Ok(httparse::Status::Complete(_))), "{theirs:?}");
        let ours = HeadParser::default().parse(input, &HeadLimits::default());
        assert_eq!(ours.err(), Some(expected));
        check(input);
    }
}

#[test]
fn where_we_are_laxer() {
    let input = b"GET / HTTP/1.9\r\nHost: a\r\n\r\n";
    let ours = HeadParser::default().parse(input, &HeadLimits::default());
    assert!(matches!(ours, Ok(HeadStatus::Complete(_))));
    check(input);
}
