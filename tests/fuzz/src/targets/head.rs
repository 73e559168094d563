//! Any bytes as a request's head.
//!
//! Laws: how the bytes were split and which kernel scanned them changes nothing; the strict prefixes
//! of a head are Partial; what follows a verdict does not change it; a head stays within its limits,
//! and more bytes than the limit are never Partial; the body's framing is what one plain reading of
//! the headers says; httparse sees the same request, but for the named places where we are stricter.

use engine::http::scan::Kernel;
use engine::http::{
    BodyFraming, Head, HeadLimits, HeadParser, HeadStatus, Method, Reject, Span, Version,
};
use proto::random::SplitMix64;

use crate::Target;
use crate::draw::{below, cuts, draw};

pub const TARGET: Target = Target {
    name: "head",
    run: target,
    dictionary: &[
        b"\r\n",
        b"\r\n\r\n",
        b"\r",
        b"\n",
        b" ",
        b"\t",
        b": ",
        b" :",
        b"\r\n ",
        b"GET ",
        b"POST ",
        b"HEAD ",
        b"OPTIONS ",
        b" HTTP/1.1\r\n",
        b" HTTP/1.0\r\n",
        b" HTTP/1.9",
        b" HTTP/2.0",
        b"http://a:80/b?c",
        b"HTTPS://",
        b"*",
        b"/api/v1/events?partial=1",
        b"Host: a\r\n",
        b"Host: [::1]:80\r\n",
        b"HOST:b\r\n",
        b"Host: a@b\r\n",
        b"Content-Length: 5\r\n",
        b"content-length:18446744073709551616\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: +5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"transfer-encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Connection: close\r\n",
        b"Connection: keep-alive\r\n",
        b"Expect: 100-continue\r\n",
        b"X-API-Key: k\r\n",
        b"Content-Type: application/json\r\n",
        b"Content-Encoding: gzip\r\n",
        b"Origin: https://a\r\n",
        b"Access-Control-Request-Method: POST\r\n",
        b"A: \x80\xff\r\n",
        b"\0",
    ],
    input_bytes_max: 1_500,
    test_cases: 50_000,
};

type Outcome = Result<Option<Head>, Reject>;

fn outcome(status: Result<HeadStatus, Reject>) -> Outcome {
    status.map(|status| match status {
        HeadStatus::Partial => None,
        HeadStatus::Complete(head) => Some(head),
    })
}

fn at_once(kernel: Kernel, input: &[u8], limits: &HeadLimits) -> Outcome {
    outcome(HeadParser::new(kernel).parse(input, limits))
}

/// The first verdict on the way, or Partial.
fn growing(input: &[u8], limits: &HeadLimits, ends: impl Iterator<Item = usize>) -> Outcome {
    let mut parser = HeadParser::default();
    for end in ends.chain([input.len()]) {
        match outcome(parser.parse(&input[..end], limits)) {
            Ok(None) => {}
            verdict => return verdict,
        }
    }
    Ok(None)
}

fn tight_limits(random: &mut SplitMix64) -> HeadLimits {
    HeadLimits {
        target_bytes_max: 4 + random.below(56) as u32,
        head_bytes_max: 40 + random.below(360) as u32,
        header_count_max: 1 + random.below(7) as u32,
        method_bytes_max: 3 + random.below(8) as u32,
        leading_crlf_count_max: random.below(3) as u32,
    }
}

pub fn target(bytes: &[u8]) {
    let mut random = draw(bytes);
    for limits in [HeadLimits::default(), tight_limits(&mut random)] {
        let verdict = at_once(Kernel::best(), bytes, &limits);
        for kernel in Kernel::available() {
            assert_eq!(at_once(kernel, bytes, &limits), verdict, "kernel {}", kernel.name());
        }
        let bytewise = growing(bytes, &limits, 0..bytes.len());
        assert_eq!(bytewise, verdict, "byte by byte");
        let cuts = cuts(&mut random, 3, bytes.len());
        assert_eq!(growing(bytes, &limits, cuts.into_iter()), verdict, "in four parts");
        let mut longer = bytes.to_vec();
        longer.extend((0..below(&mut random, 80)).map(|_| random.next_u64() as u8));
        match verdict {
            Ok(None) => assert!(bytes.len() <= limits.head_bytes_max as usize, "still Partial"),
            Ok(Some(head)) => within_limits(&head, bytes, &limits),
            Err(_) => {}
        }
        if verdict != Ok(None) {
            assert_eq!(at_once(Kernel::best(), &longer, &limits), verdict, "more bytes came");
        }
    }
    let mut seen = Vec::new();
    let ours =
        HeadParser::default()
            .parse_observed(bytes, &HeadLimits::default(), |name, value| seen.push((name, value)));
    if let Ok(HeadStatus::Complete(head)) = ours {
        framed_as_read_plainly(&head, bytes, &seen);
    }
    as_httparse_sees_it(outcome(ours), bytes, &seen);
}

fn within_limits(head: &Head, bytes: &[u8], limits: &HeadLimits) {
    let head_bytes = head.head_bytes as usize;
    assert!(head_bytes <= bytes.len() && head.head_bytes <= limits.head_bytes_max);
    assert!(head.target.len() <= limits.target_bytes_max as usize);
    assert!(head.header_count <= limits.header_count_max);
    let spans = [Some(head.target), Some(head.path), Some(head.query), head.api_key, head.origin];
    for span in spans.into_iter().flatten() {
        assert!(span.start <= span.end && span.end <= head.head_bytes, "{span:?}");
    }
    assert!(bytes[..head_bytes].ends_with(b"\r\n\r\n"));
    let alone = at_once(Kernel::best(), &bytes[..head_bytes], limits);
    assert_eq!(alone, Ok(Some(*head)), "without what follows it");
    let cut = growing(&bytes[..head_bytes - 1], limits, 0..head_bytes - 1);
    assert_eq!(cut, Ok(None), "a strict prefix");
}

/// How long the body is, by a reading that knows no more than names and values: a head that leaves a
/// choice must not be here.
fn framed_as_read_plainly(head: &Head, bytes: &[u8], headers: &[(Span, Span)]) {
    let values = |wanted: &str| -> Vec<&[u8]> {
        let named =
            |(name, _): &&(Span, Span)| name.of(bytes).eq_ignore_ascii_case(wanted.as_bytes());
        headers.iter().filter(named).map(|(_, value)| value.of(bytes)).collect()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    match (&lengths[..], &codings[..]) {
        ([], []) => assert_eq!(head.body, BodyFraming::None),
        ([length], []) => {
            let text = std::str::from_utf8(length).expect("digits");
            assert!(text.bytes().all(|byte| byte.is_ascii_digit()), "{text:?}");
            assert_eq!(head.body, BodyFraming::Length(text.parse().expect("below 2^64")));
        }
        ([], [coding]) => {
            assert!(coding.eq_ignore_ascii_case(b"chunked"), "{coding:?}");
            assert_eq!((head.body, head.version), (BodyFraming::Chunked, Version::Http11));
        }
        _ => panic!("two framings in one head: {lengths:?}, {codings:?}"),
    }
    let hosts = values("host");
    assert!(hosts.len() <= 1, "two hosts");
    assert!(hosts.len() == 1 || head.version == Version::Http10, "no host");
    let keys = values("x-api-key");
    assert_eq!(keys, head.api_key.iter().map(|key| key.of(bytes)).collect::<Vec<_>>());
}

/// Why we refuse what httparse accepts.
fn is_stricter_on_purpose(reject: Reject) -> bool {
    use Reject::*;
    matches!(
        reject,
        // It takes a bare LF for a line's end, any number of empty lines, `#` and UTF-8 in targets.
        BareLf | TooManyLeadingCrlfs | BadTarget | BadTargetForm
        // What headers mean is its caller's business.
        | MissingHost | DuplicateHost | BadHost | DuplicateApiKey | BadContentLength
        | ContentLengthOverflow | DuplicateContentLength | BadTransferEncoding | ChunkedNotLast
        | UnsupportedTransferEncoding | TransferEncodingInHttp10 | LengthAndTransferEncoding
        // And so are limits.
        | MethodTooLong | TargetTooLong | HeadTooLarge | TooManyHeaders
    )
}

fn as_httparse_sees_it(ours: Outcome, bytes: &[u8], headers: &[(Span, Span)]) {
    let mut theirs_headers = [httparse::EMPTY_HEADER; 512];
    let mut theirs = httparse::Request::new(&mut theirs_headers);
    let status = theirs.parse(bytes);
    match (ours, status) {
        (Ok(Some(head)), Ok(httparse::Status::Complete(head_bytes))) => {
            assert_eq!(head.head_bytes as usize, head_bytes);
            let method = match theirs.method {
                Some("GET") => Method::Get,
                Some("HEAD") => Method::Head,
                Some("POST") => Method::Post,
                Some("OPTIONS") => Method::Options,
                _ => Method::Other,
            };
            assert_eq!(head.method, method);
            assert_eq!(Some(head.target.of(bytes)), theirs.path.map(str::as_bytes));
            assert_eq!(Some(u8::from(head.version == Version::Http11)), theirs.version);
            let ours: Vec<_> = headers.iter().map(|(n, v)| (n.of(bytes), v.of(bytes))).collect();
            let theirs: Vec<_> = theirs
                .headers
                .iter()
                .map(|header| (header.name.as_bytes(), header.value))
                .collect();
            assert_eq!(ours, theirs);
            assert_eq!(head.header_count as usize, ours.len());
        }
        (Ok(None), Ok(httparse::Status::Partial)) | (Err(_), Err(_)) => {}
        // Refused before it has seen enough to make up its mind.
        (Err(_), Ok(httparse::Status::Partial)) => {}
        (Err(reject), Ok(httparse::Status::Complete(_))) => {
            assert!(is_stricter_on_purpose(reject), "{reject:?}, which httparse accepts");
        }
        // A minor version of 1 above 1 is 1.1 to us; another major one is told by what follows it.
        (Ok(_), Err(httparse::Error::Version)) => {
            let text = String::from_utf8_lossy(bytes);
            let higher_minor =
                (b'2'..=b'9').any(|minor| text.contains(&format!(" HTTP/1.{}", char::from(minor))));
            let end = text.rsplit(' ').next().unwrap_or_default();
            let major = end.strip_prefix("HTTP/").map(|digits| digits.trim_end_matches('.'));
            let open_major = major.is_some_and(|digit| digit.len() == 1);
            assert!(higher_minor || (ours == Ok(None) && open_major), "{text:?}");
        }
        (ours, theirs) => panic!("{ours:?}, httparse {theirs:?}"),
    }
}
