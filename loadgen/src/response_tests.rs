use proptest::prelude::*;

use super::*;

fn check(text: &str, expected: Result<Option<Head>, ResponseError>) {
    assert_eq!(parse_head(text.as_bytes()), expected, "{text:?}");
}

fn head(status: u16, head_bytes: usize, body_bytes: u64, closes: bool) -> Head {
    Head { status, head_bytes, body_bytes, closes }
}

#[test]
fn heads() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n";
    check(ok, Ok(Some(head(200, ok.len(), 12, false))));
    let close = "HTTP/1.1 503 \r\ncontent-length:0\r\nConnection: CLOSE\r\n\r\n";
    check(close, Ok(Some(head(503, close.len(), 0, true))));
    let bare = "HTTP/1.1 204\r\nX: y\r\n\r\n";
    check(bare, Ok(Some(head(204, bare.len(), 0, false))));
    for partial in 0..ok.len() {
        check(&ok[..partial], Ok(None));
    }
}

#[test]
fn strange_heads_are_refused() {
    check("HTTP/1.0 200 OK\r\n", Err(ResponseError::StatusLine));
    check("HTTP/1.1 2x0 OK\r\n", Err(ResponseError::StatusLine));
    check("HTTP/1.1 2000 OK\r\n", Err(ResponseError::StatusLine));
    check("HTTP/1.1 700\r\n", Err(ResponseError::StatusLine));
    check("HTTP/1.1 200 OK\r\nnocolon\r\n", Err(ResponseError::HeaderLine));
    check("HTTP/1.1 200 OK\n", Err(ResponseError::HeaderLine));
    check("HTTP/1.1 200 OK\r\n\r\n", Err(ResponseError::Length));
    for length in ["", "-1", "+1", "0x1", "1, 1", "99999999999999999999"] {
        check(
            &format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n"),
            Err(ResponseError::Length),
        );
    }
    check(
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
        Err(ResponseError::Length),
    );
    check(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n",
        Err(ResponseError::TransferEncoding),
    );
    check(&"x".repeat(HEAD_BYTES_MAX), Err(ResponseError::TooLong));
    check(
        &format!("HTTP/1.1 200 {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX)),
        Err(ResponseError::TooLong),
    );
}

/// A head like the one before, one that only begins like it, and one of another length.
#[test]
fn heads_like_the_last_one_are_told_from_those_that_are_not() {
    let texts = [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\nHTTP/1.1 400 no\r\nCont",
        "HTTP/1.1 503 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 503 OK\r\nContent-Length: 2\r\n\r\n{}",
    ];
    let mut reader = ResponseReader::default();
    for text in texts {
        let (mut alone, mut seen) = (Vec::new(), Vec::new());
        ResponseReader::default().feed(text.as_bytes(), |head| alone.push(head)).unwrap();
        reader.feed(text.as_bytes(), |head| seen.push(head)).unwrap();
        assert_eq!((seen.len(), &seen), (1, &alone), "{text:?}");
    }
    let strange = reader.feed(b"HTTP/1.1 2x0 OK\r\n", |_| ());
    assert_eq!(strange, Err(ResponseError::StatusLine));
}

proptest! {
    /// However the bytes are split, the same responses come out, in order.
    #[test]
    fn any_split_gives_the_same_answers(
        responses in prop::collection::vec((200u16..600, 0usize..40, any::<bool>()), 1..8),
        cuts in prop::collection::vec(1usize..60, 1..40),
    ) {
        let mut wire = Vec::new();
        let mut expected = Vec::new();
        for &(status, body, interim) in &responses {
            let body = if status == 204 || status == 304 { 0 } else { body };
            if interim {
                wire.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            wire.extend_from_slice(
                format!("HTTP/1.1 {status} Reason\r\nContent-Length: {body}\r\n\r\n").as_bytes(),
            );
            wire.extend(std::iter::repeat_n(b'{', body));
            expected.push((status, body as u64));
        }
        let mut reader = ResponseReader::default();
        let mut seen = Vec::new();
        let mut rest = &wire[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            reader.feed(now, |head| seen.push((head.status, head.body_bytes))).unwrap();
            rest = later;
        }
        prop_assert_eq!(seen, expected);
    }
}
