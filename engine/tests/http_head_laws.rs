//! What holds for any head: how the bytes were split changes nothing, a part of a valid head is
//! never refused, and every kernel sees what the scalar one sees.

#![allow(clippy::unwrap_used)]

use engine::http::scan::{Kernel, Scanner, is_host_name, is_target, is_token, is_value};
use engine::http::{Head, HeadLimits, HeadParser, HeadStatus, Reject};
use proptest::prelude::*;

type Outcome = Result<Option<Head>, Reject>;

fn outcome(status: Result<HeadStatus, Reject>) -> Outcome {
    status.map(|status| match status {
        HeadStatus::Partial => None,
        HeadStatus::Complete(head) => Some(head),
    })
}

fn parse_at_once(kernel: Kernel, input: &[u8], limits: &HeadLimits) -> Outcome {
    outcome(HeadParser::new(kernel).parse(input, limits))
}

fn parse_split(input: &[u8], limits: &HeadLimits, mut ends: Vec<usize>) -> Outcome {
    ends.sort_unstable();
    ends.push(input.len());
    let mut parser = HeadParser::default();
    let mut last = Ok(None);
    for end in ends {
        last = outcome(parser.parse(&input[..end], limits));
        if !matches!(last, Ok(None)) {
            break;
        }
    }
    last
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        "/[!-\"$-~]{0,40}",
        "(http|HTTPS)://[a-z0-9.-]{1,20}(:[0-9]{1,5})?(/[!-\"$->@-~]{0,20})?(\\?[!-\"$-~]{0,20})?",
    ]
}

fn header() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[A-Za-z][!#$%&'*+.^_`|~0-9A-Za-z-]{0,30}:[ \t]{0,2}([!-~\u{80}-\u{2ff}][ -~\t]{0,90})?",
        1 => "(x-api-key|X-API-KEY): [a-z0-9]{1,40}",
        1 => "Content-Type: ?(application/json|text/plain)( ?; ?charset=utf-8)?",
        1 => "Connection: (close|keep-alive|Upgrade, close)",
        1 => "Expect: (100-continue|other)",
        1 => "Content-Encoding:(gzip|x-gzip|br|zstd)",
        1 => "Origin: https://[a-z]{1,20}",
    ]
}

/// A head that is accepted: at most one key, which headers may not repeat.
fn valid_head() -> impl Strategy<Value = Vec<u8>> {
    (
        "(\r\n){0,2}",
        "(GET|POST|HEAD|OPTIONS|PATCH|x!)",
        target(),
        "HTTP/1\\.[0129]",
        prop::collection::vec(header(), 0..12),
        prop_oneof![Just(""), Just("Content-Length: 27481\r\n"), Just("content-length:0\r\n")],
        any::<prop::sample::Index>(),
    )
        .prop_map(|(empty, method, target, version, mut headers, length, host_at)| {
            let is_framing = |header: &String| {
                let name = header.split(':').next().unwrap_or("").to_ascii_lowercase();
                ["content-length", "transfer-encoding", "host"].contains(&name.as_str())
            };
            headers.retain(|header| !is_framing(header));
            let is_key = |header: &String| header.to_ascii_lowercase().starts_with("x-api-key:");
            let first_key = headers.iter().position(is_key);
            let mut index = 0;
            headers.retain(|header| {
                index += 1;
                !is_key(header) || Some(index - 1) == first_key
            });
            let at = host_at.index(headers.len() + 1);
            headers.insert(at, "Host: a.example:80".to_owned());
            let lines: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
            format!("{empty}{method} {target} {version}\r\n{length}{lines}\r\n").into_bytes()
        })
}

/// A valid head with a few bytes changed to ones that matter, or cut out.
fn damaged_head() -> impl Strategy<Value = Vec<u8>> {
    let damage = (
        any::<prop::sample::Index>(),
        prop::sample::select(&b"\r\n \t:,?\0\x7f\xe9aH1-"[..]),
        0..3u8,
    );
    (valid_head(), prop::collection::vec(damage, 1..4)).prop_map(|(mut head, damages)| {
        for (at, byte, how) in damages {
            let at = at.index(head.len());
            match how {
                0 => head[at] = byte,
                1 => head.insert(at, byte),
                _ => drop(head.remove(at)),
            }
        }
        head
    })
}

fn limits() -> impl Strategy<Value = HeadLimits> {
    prop_oneof![
        Just(HeadLimits::default()),
        (4..60u32, 40..400u32, 1..8u32).prop_map(|(target, head, headers)| HeadLimits {
            target_bytes_max: target,
            head_bytes_max: head,
            header_count_max: headers,
            ..HeadLimits::default()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn valid_heads_are_accepted_and_their_prefixes_are_partial(head in valid_head()) {
        let limits = HeadLimits::default();
        let whole = parse_at_once(Kernel::best(), &head, &limits);
        match whole {
            Ok(Some(parsed)) => prop_assert_eq!(parsed.head_bytes as usize, head.len()),
            other => prop_assert!(false, "{:?}: {:?}", other, String::from_utf8_lossy(&head)),
        }
        let mut growing = HeadParser::default();
        for end in 0..head.len() {
            prop_assert_eq!(parse_at_once(Kernel::best(), &head[..end], &limits), Ok(None));
            prop_assert_eq!(outcome(growing.parse(&head[..end], &limits)), Ok(None));
        }
        prop_assert_eq!(outcome(growing.parse(&head, &limits)), whole);
    }

    #[test]
    fn splits_change_nothing(
        head in prop_oneof![valid_head(), damaged_head()],
        body in prop::collection::vec(any::<u8>(), 0..40),
        limits in limits(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let input = [head, body].concat();
        let whole = parse_at_once(Kernel::best(), &input, &limits);
        let ends = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        prop_assert_eq!(parse_split(&input, &limits, ends), whole);
        prop_assert_eq!(parse_split(&input, &limits, (0..input.len()).collect()), whole);
        for kernel in Kernel::available() {
            prop_assert_eq!(parse_at_once(kernel, &input, &limits), whole);
        }
    }

    #[test]
    fn every_kernel_equals_scalar(
        input in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..700),
            prop::collection::vec(prop_oneof![60 => b'a'..=b'z', 1 => any::<u8>()], 0..700),
        ],
        alignment in 0..64usize,
        from in any::<prop::sample::Index>(),
    ) {
        let input = &input[alignment.min(input.len())..];
        let from = from.index(input.len() + 1);
        for kernel in Kernel::available() {
            // Jumps around first, so that the window is anywhere.
            let mut scan = Scanner::new(kernel, input);
            scan.value_end(input.len() / 2);
            for start in [from, 0, from] {
                prop_assert_eq!(scan.token_end(start), end(input, start, is_token));
                prop_assert_eq!(scan.target_end(start), end(input, start, is_target));
                prop_assert_eq!(scan.host_name_end(start), end(input, start, is_host_name));
                prop_assert_eq!(scan.value_end(start), end(input, start, is_value));
            }
        }
    }
}

fn end(input: &[u8], from: usize, is_allowed: fn(u8) -> bool) -> usize {
    (from..input.len()).find(|&at| !is_allowed(input[at])).unwrap_or(input.len())
}

#[test]
fn every_byte_at_every_place_of_a_window() {
    for kernel in Kernel::available() {
        for byte in 0..=255u8 {
            for at in [0, 1, 15, 16, 31, 32, 63, 64, 127, 255, 256, 257] {
                let mut input = [b'a'; 300];
                input[at] = byte;
                let mut scan = Scanner::new(kernel, &input);
                assert_eq!(scan.token_end(0), end(&input, 0, is_token), "{kernel:?} {byte} {at}");
                assert_eq!(scan.target_end(0), end(&input, 0, is_target), "{kernel:?} {byte} {at}");
                assert_eq!(scan.host_name_end(0), end(&input, 0, is_host_name));
                assert_eq!(scan.value_end(0), end(&input, 0, is_value), "{kernel:?} {byte} {at}");
            }
        }
    }
}

/// A head that trickles in costs what is new in it: 32 KiB byte by byte stay far below a second
/// even unoptimised, where a scan from byte 0 would look at half a billion bytes.
#[test]
fn parser_does_not_start_anew() {
    let mut input = b"GET / HTTP/1.1\r\nHost: a\r\nA: ".to_vec();
    input.resize(32_000, b'b');
    input.extend_from_slice(b"\r\n\r\n");
    let limits = HeadLimits::default();
    let mut parser = HeadParser::default();
    let half = input.len() / 2;
    for end in 0..half {
        assert_eq!(outcome(parser.parse(&input[..end], &limits)), Ok(None));
    }
    // Bytes that were judged are not looked at again: were they, these would be refused.
    let mut changed = input.clone();
    changed[..half - 1].fill(0);
    assert_eq!(outcome(parser.parse(&changed[..half], &limits)), Ok(None));
}
