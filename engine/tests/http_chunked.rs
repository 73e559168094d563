//! The chunked coding: what is refused and why, and that no split of the bytes changes anything.

#![allow(clippy::unwrap_used)]

use engine::http::{ChunkedDecoder, ChunkedLimits, Reject};
use proptest::prelude::*;

/// The body, and how many bytes were left over when it ended.
type Outcome = Result<(Vec<u8>, Option<usize>), Reject>;

fn decode(limits: ChunkedLimits, input: &[u8], mut ends: Vec<usize>) -> Outcome {
    ends.sort_unstable();
    ends.push(input.len());
    let mut decoder = ChunkedDecoder::new(limits);
    let mut body = Vec::new();
    let mut at = 0;
    for end in ends {
        while at < end {
            let step = decoder.decode(&input[at..end])?;
            assert!(step.consumed_bytes > 0 && step.consumed_bytes <= end - at);
            assert!(step.data.is_empty() || step.data.end == step.consumed_bytes);
            body.extend_from_slice(&input[at..end][step.data]);
            at += step.consumed_bytes;
            if step.ended {
                assert!(decoder.has_ended());
                return Ok((body, Some(input.len() - at)));
            }
        }
    }
    Ok((body, None))
}

fn decode_both_ways(input: &[u8]) -> Outcome {
    let whole = decode(ChunkedLimits::default(), input, Vec::new());
    let bytewise = decode(ChunkedLimits::default(), input, (0..input.len()).collect());
    assert_eq!(whole, bytewise, "{:?}", String::from_utf8_lossy(input));
    whole
}

#[track_caller]
fn check(input: &[u8], expected: Reject) {
    assert_eq!(decode_both_ways(input), Err(expected), "{:?}", String::from_utf8_lossy(input));
}

#[track_caller]
fn check_body(input: &[u8], expected: &[u8]) {
    let with_next = [input, b"GET"].concat();
    assert_eq!(
        decode_both_ways(&with_next),
        Ok((expected.to_vec(), Some(3))),
        "{:?}",
        String::from_utf8_lossy(input)
    );
}

#[test]
fn bodies() {
    check_body(b"0\r\n\r\n", b"");
    check_body(b"5\r\nhello\r\n0\r\n\r\n", b"hello");
    check_body(
        b"1\r\na\r\n0000a\r\n0123456789\r\nB\r\n0123456789A\r\n000\r\n\r\n",
        b"a01234567890123456789A",
    );
    check_body(b"3\r\n\r\n0\r\n0\r\n\r\n", b"\r\n0");
    check_body(b"1;a\r\nx\r\n0;b=c;d=\"e\\\"f;\xff\"\r\n\r\n", b"x");
    check_body(b"1; a = b ; c\r\nx\r\n0\r\n\r\n", b"x");
    check_body(
        b"1\r\nx\r\n0\r\nA: b\r\nContent-Length: 9\r\nTransfer-Encoding:\r\nHost: \xff\t\r\n\r\n",
        b"x",
    );
    assert_eq!(decode_both_ways(b"5\r\nhel"), Ok((b"hel".to_vec(), None)));
}

#[test]
fn sizes() {
    for bad in [
        "0x5", "+5", "-5", "5_0", " 5", "5 ", "5\t", "", "g", "5 ;a", "5,", "\0", "5\0", "\u{665}",
        ";a",
    ] {
        check(format!("{bad}\r\nhello\r\n0\r\n\r\n").as_bytes(), Reject::BadChunkSize);
    }
    check(b"10000000000000000\r\n", Reject::ChunkSizeOverflow);
    check(b"ffffffffffffffffffff\r\n", Reject::ChunkSizeOverflow);
    check(b"00000000000000005\r\n", Reject::ChunkSizeOverflow);
    check(b"5\nhello", Reject::BareLf);
    check(b"5\rhello", Reject::BareCr);

    let mut decoder = ChunkedDecoder::default();
    decoder.decode(b"FfFfFfFfFfFfFfFf\r\n").unwrap();
    assert_eq!(decoder.announced_bytes(), u64::MAX);
    decoder.decode(b"abc").unwrap();
    assert_eq!(decoder.announced_bytes(), u64::MAX - 3);
}

#[test]
fn chunk_ends() {
    check(b"5\r\nhello0\r\n\r\n", Reject::BadChunkEnd);
    check(b"5\r\nhello!\r\n0\r\n\r\n", Reject::BadChunkEnd);
    check(b"5\r\nhello\n0\r\n\r\n", Reject::BadChunkEnd);
    check(b"5\r\nhello\r0\r\n\r\n", Reject::BadChunkEnd);
    check(b"5\r\nhello\r\r\n0\r\n\r\n", Reject::BadChunkEnd);
    check(b"5\r\nhell\r\n0\r\n\r\n", Reject::BadChunkEnd);
}

#[test]
fn extensions() {
    for bad in [
        ";",
        "; ",
        ";;a",
        ";a;",
        ";a=",
        ";=b",
        ";a\0",
        ";\0",
        ";a=\0",
        ";a=b\x7f",
        ";a(",
        ";a=b c",
        ";a b",
        ";a=\"b",
        ";a=\"b\"c",
        ";a=\"\x01\"",
        ";a=\"b\\\x01\"",
        ";a ",
        ";a=b ",
        ";\u{e9}",
        ";a==b",
    ] {
        check(format!("5{bad}\r\nhello\r\n0\r\n\r\n").as_bytes(), Reject::BadChunkExtension);
    }
    check(b"5;a\nhello", Reject::BareLf);
    check(b"5;a=\"\n\"\r\n", Reject::BareLf);
    check(b"5;a\rhello", Reject::BareCr);

    let of_bytes = |count: usize| format!("0;{}\r\n\r\n", "a".repeat(count - 1)).into_bytes();
    assert_eq!(decode_both_ways(&of_bytes(4096)), Ok((Vec::new(), Some(0))));
    check(&of_bytes(4097), Reject::ChunkExtensionsTooLong);
    // Many small ones count together.
    check(&b"1;a\r\nx\r\n".repeat(2_049), Reject::ChunkExtensionsTooLong);
}

#[test]
fn trailers() {
    let check_trailer =
        |line: &str, expected| check(format!("0\r\n{line}\r\n\r\n").as_bytes(), expected);
    check_trailer("A : b", Reject::SpaceBeforeColon);
    check_trailer("A", Reject::MissingColon);
    check_trailer(": b", Reject::EmptyHeaderName);
    check_trailer("A(: b", Reject::BadHeaderName);
    check_trailer("(", Reject::BadHeaderName);
    check_trailer(" A: b", Reject::ObsFold);
    check_trailer("A: b\r\n c", Reject::ObsFold);
    check_trailer("A: \0", Reject::ControlInHeaderValue);
    check_trailer("A: b\n", Reject::BareLf);
    check_trailer("A\n", Reject::BareLf);
    check_trailer("A: b\rc", Reject::BareCr);
    check(b"0\r\n\n", Reject::BareLf);
    check(b"0\r\n\r\r", Reject::BareCr);
    let many = |count| format!("0\r\n{}\r\n", "A: b\r\n".repeat(count));
    check_body(many(32).as_bytes(), b"");
    check(many(33).as_bytes(), Reject::TrailersTooLarge);
    check(format!("0\r\nA:{}\r\n\r\n", "b".repeat(8_192)).as_bytes(), Reject::TrailersTooLarge);
}

fn coded_body() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let chunk = (
        prop::collection::vec(any::<u8>(), 1..50),
        "(;[a-z]{1,5}(=[a-z]{1,5}|=\"[ -!#-\\[\\]-~]{0,9}\")?)?",
        any::<bool>(),
    );
    let chunks = prop::collection::vec(chunk, 0..6);
    (chunks, prop::collection::vec("[A-Za-z-]{1,9}:[ -~]{0,20}", 0..4)).prop_map(
        |(chunks, trailers)| {
            let (mut coded, mut body) = (Vec::new(), Vec::new());
            for (data, extension, is_upper) in chunks {
                let size = if is_upper {
                    format!("{:X}", data.len())
                } else {
                    format!("0{:x}", data.len())
                };
                coded.extend_from_slice(format!("{size}{extension}\r\n").as_bytes());
                coded.extend_from_slice(&data);
                coded.extend_from_slice(b"\r\n");
                body.extend_from_slice(&data);
            }
            let lines: String = trailers.iter().map(|line| format!("{line}\r\n")).collect();
            coded.extend_from_slice(format!("0\r\n{lines}\r\n").as_bytes());
            (coded, body)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn bodies_come_back_and_splits_change_nothing(
        (coded, body) in coded_body(),
        next in prop::collection::vec(any::<u8>(), 0..9),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let input = [coded.clone(), next.clone()].concat();
        let ends = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        let expected = Ok((body, Some(next.len())));
        prop_assert_eq!(decode(ChunkedLimits::default(), &input, ends), expected.clone());
        let bytewise = (0..input.len()).collect();
        prop_assert_eq!(decode(ChunkedLimits::default(), &input, bytewise), expected);
        for end in 0..coded.len() {
            let part = decode(ChunkedLimits::default(), &coded[..end], Vec::new());
            prop_assert!(matches!(part, Ok((_, None))), "{:?}", part);
        }
    }

    #[test]
    fn damage_is_judged_alike_however_it_arrives(
        (mut coded, _) in coded_body(),
        at in any::<prop::sample::Index>(),
        byte in prop_oneof![prop::sample::select(&b"\r\n ;=\"\\:0\0"[..]), any::<u8>()],
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let at = at.index(coded.len());
        coded[at] = byte;
        let limits =
            ChunkedLimits { extension_bytes_max: 12, trailer_count_max: 2, trailer_bytes_max: 30 };
        let ends = cuts.iter().map(|cut| cut.index(coded.len() + 1)).collect();
        let whole = decode(limits, &coded, Vec::new());
        prop_assert_eq!(decode(limits, &coded, ends), whole.clone());
        prop_assert_eq!(decode(limits, &coded, (0..coded.len()).collect()), whole);
    }
}
