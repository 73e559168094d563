//! HTTP/1.1 over a real socket: framing errors, pipelining, splits, chunks, expectations, CORS.

use tests::{Batch, Client, Driver, Event, Stack, StackOptions};

const PATH: &str = "POST /api/v1/events HTTP/1.1\r\n";

fn body(stack: &Stack) -> String {
    Batch::one(Event::new("n", "u")).json(&stack.app_id)
}

/// A valid request with these header lines instead of Host and Content-Length.
fn with_headers(stack: &Stack, lines: &str, body: &str) -> String {
    format!("{PATH}X-API-Key: {}\r\n{lines}\r\n{body}", stack.api_key)
}

fn valid(stack: &Stack) -> String {
    let body = body(stack);
    with_headers(stack, &format!("Host: localhost\r\nContent-Length: {}\r\n", body.len()), &body)
}

/// Sends a valid request and `bad` behind it in one piece: the first is answered 200, the second with
/// `status`, and then the connection is closed.
fn check_closing(stack: &Stack, bad: &[u8], status: u16, what: &str) {
    let mut client = stack.client();
    let mut bytes = valid(stack).into_bytes();
    bytes.extend_from_slice(bad);
    // Behind a framing error nothing is a request any more.
    bytes.extend_from_slice(valid(stack).as_bytes());
    client.send(&bytes);
    assert_eq!(client.receive().status, 200, "{what}: the request before it");
    let answer = client.receive();
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    client.finish_sending();
    assert!(client.closes(), "{what}: the connection is closed");
}

fn framing_errors(driver: Driver) {
    let stack = Stack::start(StackOptions::engine_alone().driver(driver));
    let host = "Host: localhost\r\n";
    let long = "9".repeat(40);
    for (lines, status) in [
        ("Content-Length: 5\r\nContent-Length: 6\r\n", 400),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", 400),
        ("Content-Length: 5, 5\r\n", 400),
        ("Content-Length: +5\r\n", 400),
        ("Content-Length: -1\r\n", 400),
        ("Content-Length: 0x5\r\n", 400),
        ("Content-Length: 05\r\n", 400),
        ("Content-Length: 5_0\r\n", 400),
        ("Content-Length: 5 0\r\n", 400),
        ("Content-Length: \r\n", 400),
        (&format!("Content-Length: {long}\r\n"), 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400),
        ("Transfer-Encoding: gzip\r\n", 501),
        ("Transfer-Encoding: chunked, gzip\r\n", 400),
        ("Transfer-Encoding: chunked, chunked\r\n", 400),
        ("Transfer-Encoding: , chunked\r\n", 400),
        ("Transfer-Encoding: \x0bchunked\r\n", 400),
        ("Transfer-Encoding:\r\n chunked\r\n", 400),
        ("Transfer-Encoding : chunked\r\n", 400),
        ("Transfer-Encoding:\r\n", 400),
        (" X: folded first\r\n", 400),
        ("X: a\r\n b\r\n", 400),
        ("X: a\rb\r\n", 400),
        ("X: a\nY: b\r\n", 400),
        ("X: a\0b\r\n", 400),
        ("X: a\x01b\r\n", 400),
        (": a\r\n", 400),
        ("X Y: a\r\n", 400),
        ("X\r\n", 400),
        ("Host: again\r\n", 400),
    ] {
        let request = format!("{PATH}{host}{lines}\r\n");
        check_closing(&stack, request.as_bytes(), status, lines);
    }
    for (line, status) in [
        ("POST /api/v1/events HTTP/1\r\nHost: a\r\n\r\n", 400),
        ("POST /api/v1/events HTTP/01.01\r\nHost: a\r\n\r\n", 400),
        ("POST /api/v1/events http/1.1\r\nHost: a\r\n\r\n", 400),
        ("POST /api/v1/events HTTP/ 1.1\r\nHost: a\r\n\r\n", 400),
        ("POST /api/v1/events HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("POST  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("POST /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("POST /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("POST /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("POST * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("POST /api/v1/events HTTP/1.1\r\n\r\n", 400),
        ("POST /api/v1/events HTTP/1.1\r\nHost: \r\n\r\n", 400),
        ("POST /api/v1/events HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        ("POST /api/v1/events HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
        ("POST /api/v1/events HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("POST /api/v1/events HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ] {
        check_closing(&stack, line.as_bytes(), status, line);
    }
    for (chunks, what) in [
        ("0x5\r\nhello\r\n0\r\n\r\n", "0x"),
        ("+5\r\nhello\r\n0\r\n\r\n", "a sign"),
        ("5_0\r\nhello\r\n0\r\n\r\n", "an underscore"),
        (" 5\r\nhello\r\n0\r\n\r\n", "space before"),
        ("5 \r\nhello\r\n0\r\n\r\n", "space after"),
        ("\r\nhello\r\n0\r\n\r\n", "no size"),
        ("fffffffffffffffff\r\nhello\r\n0\r\n\r\n", "overflow"),
        ("5\r\nhello0\r\n\r\n", "no line end after the data"),
        ("5\r\nhello!\r\n0\r\n\r\n", "longer than its size"),
        ("5\nhello\r\n0\r\n\r\n", "a bare LF"),
        ("5;\r\nhello\r\n0\r\n\r\n", "a bare semicolon"),
        ("5;a=\0\r\nhello\r\n0\r\n\r\n", "NUL in an extension"),
    ] {
        let lines = format!("{host}Transfer-Encoding: chunked\r\n");
        let request = with_headers(&stack, &lines, chunks);
        check_closing(&stack, request.as_bytes(), 400, what);
    }
}

#[test]
fn framing_errors_are_refused_with_epoll() {
    framing_errors(Driver::Epoll);
}

#[test]
fn framing_errors_are_refused_with_uring() {
    framing_errors(Driver::Uring);
}

#[test]
fn framing_errors_are_refused_with_glommio() {
    framing_errors(Driver::Glommio);
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let stack = Stack::start(StackOptions::engine_alone());
    let mut client = stack.client();
    let not_json = with_headers(&stack, "Host: a\r\nContent-Length: 1\r\n", "{");
    let nowhere = "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n";
    let one = format!("{}{not_json}{nowhere}", valid(&stack));
    client.send(one.repeat(30).as_bytes());
    for round in 0..30 {
        for status in [200, 400, 404] {
            assert_eq!(client.receive().status, status, "round {round}");
        }
    }
}

#[test]
fn any_split_of_the_bytes_gives_the_same_answers() {
    let stack = Stack::start(StackOptions::engine_alone());
    let body = body(&stack);
    let (first, second) = body.split_at(body.len() / 2);
    let chunks = format!(
        "{:x};name=\"a;b\"\r\n{first}\r\n{:X}\r\n{second}\r\n0\r\nX-Trailer: x\r\n\r\n",
        first.len(),
        second.len()
    );
    let chunked = with_headers(&stack, "Host: a\r\nTransfer-Encoding: chunked\r\n", &chunks);
    for bytes in [valid(&stack).into_bytes(), chunked.into_bytes()] {
        let step = 1 + bytes.len() / 40;
        for at in (1..bytes.len()).step_by(step) {
            let mut client = stack.client();
            client.send(&bytes[..at]);
            client.send(&bytes[at..]);
            let answer = client.receive();
            assert_eq!(answer.status, 200, "split at {at}: {}", answer.text());
        }
        let mut client = stack.client();
        for byte in &bytes {
            client.send(std::slice::from_ref(byte));
        }
        assert_eq!(client.receive().status, 200, "byte by byte");
    }
}

#[test]
fn what_must_work_works() {
    let stack = Stack::start(StackOptions::engine_alone());
    let body = body(&stack);
    let length = format!("Content-Length: {}\r\n", body.len());
    let key = &stack.api_key;
    let request = |line: &str, lines: &str| {
        format!("{line}\r\nx-api-key: {key}\r\n{length}{lines}\r\n{body}")
    };
    for (bytes, closes, what) in [
        (format!("\r\n{}", valid(&stack)), false, "a leading CRLF"),
        (request("POST /api/v1/events HTTP/1.1", "HOST:a\r\n"), false, "names in any case"),
        (request("POST /api/v1/events HTTP/1.1", "Host: \t a \t\r\n"), false, "space around"),
        (request("POST http://a/api/v1/events HTTP/1.1", "Host: a\r\n"), false, "absolute form"),
        (request("POST /api/v1/events HTTP/1.1", "Host: a\r\nX: \u{e4}\r\n"), false, "obs-text"),
        (request("POST /api/v1/events?x=1 HTTP/1.1", "Host: a\r\n"), false, "a query"),
        (
            request("POST /api/v1/events HTTP/1.1", "Host: a\r\nConnection: close\r\n"),
            true,
            "close",
        ),
        (request("POST /api/v1/events HTTP/1.0", ""), true, "HTTP/1.0"),
        (request("POST /api/v1/events HTTP/1.0", "Connection: keep-alive\r\n"), false, "1.0 kept"),
        (
            request(
                "POST /api/v1/events HTTP/1.1",
                "Host: a\r\nContent-Type: application/json; charset=utf-8\r\n",
            ),
            false,
            "a charset",
        ),
    ] {
        let mut client = stack.client();
        client.send(bytes.as_bytes());
        let answer = client.receive();
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        if closes {
            assert!(client.closes(), "{what}");
        } else {
            client.send(valid(&stack).as_bytes());
            assert_eq!(client.receive().status, 200, "{what}: the connection goes on");
        }
    }
}

#[test]
fn a_client_that_expects_100_gets_it_before_its_body() {
    let stack = Stack::start(StackOptions::engine_alone());
    let body = body(&stack);
    let lines = format!("Host: a\r\nExpect: 100-continue\r\nContent-Length: {}\r\n", body.len());
    let mut client = stack.client();
    client.send(with_headers(&stack, &lines, "").as_bytes());
    assert_eq!(client.receive().status, 100);
    client.send(body.as_bytes());
    assert_eq!(client.receive().status, 200);

    let mut client = stack.client();
    client.send(with_headers(&stack, &lines, "").replace(&stack.api_key, "no").as_bytes());
    assert_eq!(client.receive().status, 401, "a refusal comes instead of 100");
}

#[test]
fn a_body_without_length_is_asked_for_one() {
    let stack = Stack::start(StackOptions::engine_alone());
    let mut client = stack.client();
    client.send(with_headers(&stack, "Host: a\r\n", "").as_bytes());
    let answer = client.receive();
    assert_eq!((answer.status, answer.code().as_str()), (411, "LENGTH_REQUIRED"));
}

#[test]
fn a_browser_of_an_allowed_origin_is_let_in() {
    let origin = "https://app.example.com";
    let stack = Stack::start(StackOptions::engine_alone().set(&format!("cors.origins={origin}")));
    let asks = |origin: &str| {
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "x-api-key,content-type"),
        ];
        stack.client().request("OPTIONS", "/api/v1/events", &headers, b"")
    };
    let answer = asks(origin);
    assert!((200..300).contains(&answer.status), "{}", answer.status);
    assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
    let methods = answer.header("access-control-allow-methods").unwrap_or_default();
    assert!(methods.contains("POST"), "{methods}");
    let allowed = answer.header("access-control-allow-headers").unwrap_or_default();
    assert!(allowed.to_lowercase().contains("x-api-key"), "{allowed}");
    assert_eq!(asks("https://evil.example").header("access-control-allow-origin"), None);

    let headers = [("X-API-Key", stack.api_key.as_str()), ("Origin", origin)];
    let answer =
        stack.client().request("POST", "/api/v1/events", &headers, body(&stack).as_bytes());
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
}

#[test]
fn the_admin_port_answers_health_and_metrics() {
    let stack = Stack::start(StackOptions::engine_alone());
    for path in ["/healthz", "/readyz", "/metrics", "/version"] {
        let answer = stack.admin_get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let mut client = Client::connect(&stack.admin);
    client.send(b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.receive_head().status, 200);
}
