//! The text of every answer, to the byte.

#![allow(clippy::unwrap_used)]

use engine::http::respond::{
    CONTINUE, RejectedEvent, ResponseContext, push_error, push_health, push_partial,
    push_preflight, push_success,
};
use engine::http::{DateCache, Reject, Version};
use proptest::prelude::*;
use proto::ErrorCode;

const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";
const PLAIN: ResponseContext<'static> =
    ResponseContext { date: DATE, version: Version::Http11, keep_alive: true, cors_origin: None };

/// Checks the answer's own framing, and gives its head and body.
#[track_caller]
fn split(answer: &[u8]) -> (String, String) {
    let text = String::from_utf8(answer.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map_or(0, |length| length.parse().unwrap());
    assert_eq!(body.len(), length, "{text}");
    (head.to_owned(), body.to_owned())
}

fn answer(push: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    // Answers before it stay as they are.
    let mut out = b"earlier".to_vec();
    push(&mut out);
    assert_eq!(&out[..7], b"earlier");
    out.split_off(7)
}

#[test]
fn success() {
    let text = answer(|out| push_success(out, &PLAIN, 1_000, 1_234_567));
    assert_eq!(
        String::from_utf8(text).unwrap(),
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         Content-Type: application/json\r\nContent-Length: 126\r\n\r\n\
         {\"status\":\"success\",\"data\":{\"events_received\":1000,\"status\":\"processing\"},\
         \"meta\":{\"processing_time_ms\":1234.567,\"count\":1000}}"
    );
}

#[test]
fn connection_and_cors_headers() {
    let head =
        |context: ResponseContext<'_>| split(&answer(|out| push_success(out, &context, 1, 5))).0;
    assert!(!head(PLAIN).contains("Connection"));
    let closes = ResponseContext { keep_alive: false, ..PLAIN };
    assert!(head(closes).ends_with("\r\nConnection: close"));
    let old = ResponseContext { version: Version::Http10, ..PLAIN };
    assert!(head(old).ends_with("\r\nConnection: keep-alive"));
    let old_closes = ResponseContext { keep_alive: false, ..old };
    assert!(head(old_closes).ends_with("\r\nConnection: close"));
    let cors = ResponseContext { cors_origin: Some(b"https://a.example"), ..PLAIN };
    assert!(head(cors).ends_with(
        "\r\nAccess-Control-Allow-Origin: https://a.example\r\n\
             Access-Control-Expose-Headers: Retry-After\r\nVary: Origin"
    ));
}

#[test]
fn partial() {
    let errors = [
        RejectedEvent {
            index: 3,
            field: "event_name",
            code: ErrorCode::ValidationError,
            message: "longer than 100 characters",
        },
        RejectedEvent { index: 999, field: "a\"b", code: ErrorCode::InvalidDate, message: "\n" },
    ];
    let (head, body) = split(&answer(|out| push_partial(out, &PLAIN, 7, 2, errors, 42)));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(
        body,
        "{\"status\":\"success\",\"data\":{\"events_received\":7,\"status\":\"processing\",\
         \"events_rejected\":2,\"errors\":[\
         {\"index\":3,\"field\":\"event_name\",\"code\":\"VALIDATION_ERROR\",\
         \"message\":\"longer than 100 characters\"},\
         {\"index\":999,\"field\":\"a\\\"b\",\"code\":\"INVALID_DATE\",\"message\":\"\\n\"}]},\
         \"meta\":{\"processing_time_ms\":0.042,\"count\":7}}"
    );
    let (_, none) = split(&answer(|out| push_partial(out, &PLAIN, 0, 0, [], 0)));
    assert!(none.contains("\"errors\":[]},\"meta\":{\"processing_time_ms\":0.000,\"count\":0}}"));
}

#[test]
fn errors() {
    for code in ErrorCode::ALL {
        let (head, body) = split(&answer(|out| {
            push_error(out, &PLAIN, code, "what \"is\" wrong", "where", None, None)
        }));
        let status = format!("HTTP/1.1 {} {}\r\n", code.http_status(), code.reason_phrase());
        assert!(head.starts_with(&status), "{head}");
        assert_eq!(
            body,
            format!(
                "{{\"status\":\"error\",\"error\":\"what \\\"is\\\" wrong\",\"code\":\"{}\",\"details\":\"where\"}}",
                code.as_str()
            )
        );
    }
    for reject in Reject::ALL {
        let closing = ResponseContext { keep_alive: !reject.closes(), ..PLAIN };
        let push = |out: &mut Vec<u8>| {
            push_error(out, &closing, reject.error_code(), reject.message(), "", None, None);
        };
        assert!(split(&answer(push)).0.ends_with("Connection: close"));
    }
    let not_allowed = answer(|out| {
        push_error(out, &PLAIN, ErrorCode::MethodNotAllowed, "", "", Some("POST, OPTIONS"), None);
    });
    assert!(split(&not_allowed).0.contains("\r\nAllow: POST, OPTIONS"));
    let unavailable =
        answer(|out| push_error(out, &PLAIN, ErrorCode::Unavailable, "", "", None, Some(30)));
    assert!(split(&unavailable).0.contains("\r\nRetry-After: 30"));
}

#[test]
fn preflight() {
    let cors = ResponseContext { cors_origin: Some(b"https://a.example"), ..PLAIN };
    let (head, body) = split(&answer(|out| push_preflight(out, &cors, "POST, OPTIONS")));
    assert_eq!(body, "");
    assert_eq!(
        head,
        "HTTP/1.1 204 No Content\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         Allow: POST, OPTIONS\r\nAccess-Control-Allow-Methods: POST, OPTIONS\r\n\
         Access-Control-Allow-Headers: Content-Type, Content-Encoding, X-API-Key\r\n\
         Access-Control-Max-Age: 600\r\n\
         Access-Control-Allow-Origin: https://a.example\r\n\
         Access-Control-Expose-Headers: Retry-After\r\nVary: Origin"
    );
    let (head, _) = split(&answer(|out| push_preflight(out, &PLAIN, "POST, OPTIONS")));
    assert!(head.contains("Allow: POST") && !head.contains("Access-Control"));
}

#[test]
fn health() {
    let (head, body) = split(&answer(|out| push_health(out, &PLAIN, true, b"{\"a\":1}", false)));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(body, "{\"a\":1}");
    let text =
        String::from_utf8(answer(|out| push_health(out, &PLAIN, false, b"{}", true))).unwrap();
    assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    assert!(text.contains("\r\nContent-Length: 2\r\n") && text.ends_with("\r\n\r\n"));
}

#[test]
fn interim_answer() {
    assert_eq!(CONTINUE, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(DateCache::default().at(784_111_777), DATE);
}

proptest! {
    #[test]
    fn numbers_of_any_size(events in any::<usize>(), us in any::<u64>()) {
        let (_, body) = split(&answer(|out| push_success(out, &PLAIN, events, us)));
        let expected = format!(
            "\"processing_time_ms\":{}.{:03},\"count\":{events}}}}}", us / 1_000, us % 1_000
        );
        prop_assert!(body.ends_with(&expected), "{}", body);
    }
}
