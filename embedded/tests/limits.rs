//! Full queues, large results, bad input: a clear answer, and the next request is served.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;
use support::{PASSWORD, Server};

#[test]
fn a_full_house_says_so() {
    let server = Server::start_with(&["--queries-max", "1"]);
    // Longer than a request waits for a place.
    let slow = "SELECT sleepEachRow(3) FROM numbers(4) SETTINGS max_block_size = 1";
    std::thread::scope(|scope| {
        let blocker = scope.spawn(|| server.post("/", slow));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let reply = server.post("/", "SELECT 1");
            if reply.status == 503 {
                assert_eq!(reply.header("x-clickhouse-exception-code"), Some("202"));
                assert!(reply.header("retry-after").is_some());
                break;
            }
            assert_eq!(reply.status, 200);
            assert!(std::time::Instant::now() < deadline, "never full");
        }
        assert_eq!(blocker.join().unwrap().status, 200);
    });
    assert_eq!(server.sql("SELECT 1"), "1");
}

#[test]
fn results_are_bounded_or_streamed() {
    let server = Server::start();
    let rows =
        server.post("/", "SELECT number FROM numbers(2000000) FORMAT RowBinaryWithNamesAndTypes");
    assert_eq!(rows.body.len(), 1 + 7 + 7 + 2_000_000 * 8);
    // A format that cannot be sent piece by piece has a limit.
    let large = "SELECT repeat(toString(number % 10), 1000000) FROM numbers(100) FORMAT JSON";
    let reply = server.post("/", large);
    assert_eq!((reply.status, reply.header("x-clickhouse-exception-code")), (413, Some("396")));
    let reply =
        server.post("/?wait_end_of_query=1", "SELECT repeat('x', 1000000) FROM numbers(100)");
    assert_eq!(reply.status, 413, "{}", reply.text().len());
    let late = "SELECT throwIf(number = 900000) FROM numbers(1000000)";
    let reply = server.post("/?wait_end_of_query=1", late);
    assert_eq!(reply.header("x-clickhouse-exception-code"), Some("395"));
    let reply = server.post("/", late);
    assert_eq!((reply.status, reply.whole), (200, false));
    let tag = reply.header("x-clickhouse-exception-tag").unwrap();
    assert!(reply.text().ends_with(&format!(" {tag}\r\n__exception__\r\n")));
}

#[test]
fn bad_input_is_answered_and_forgotten() {
    let server = Server::start();
    let key = format!("Host: localhost\r\nX-ClickHouse-Key: {PASSWORD}\r\nConnection: close\r\n");
    let check = |request: &[u8], expected: &[u16]| {
        let status = server.raw(request).status;
        let shown = String::from_utf8_lossy(&request[..request.len().min(120)]).into_owned();
        assert!(expected.contains(&status), "{status}: {shown}");
    };
    check(b"\0\0\0\r\n\r\n", &[0, 400]);
    check(b"GET / HTTP/9.9\r\n\r\n", &[0, 400, 505]);
    check(
        format!("POST /?query=%zz HTTP/1.1\r\n{key}Content-Length: 0\r\n\r\n").as_bytes(),
        &[400],
    );
    check(
        format!("POST /?max_threads=%ff HTTP/1.1\r\n{key}Content-Length: 0\r\n\r\n").as_bytes(),
        &[400],
    );
    check(
        format!("POST / HTTP/1.1\r\n{key}Content-Length: 1\r\nContent-Length: 2\r\n\r\nx")
            .as_bytes(),
        &[0, 400],
    );
    check(format!("POST / HTTP/1.1\r\n{key}Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 3\r\n\r\nabc").as_bytes(), &[400]);
    let many: String = (0..1_001).map(|index| format!("a{index}=1&")).collect();
    check(format!("POST /?{many} HTTP/1.1\r\n{key}Content-Length: 0\r\n\r\n").as_bytes(), &[400]);
    let reply = server.post("/", vec![b' '; (1 << 20) + 10]);
    assert_eq!(reply.status, 400, "{}", reply.text());
    let reply = server.post("/", [b"SELECT '".as_slice(), &vec![b'x'; 2 << 20], b"'"].concat());
    assert!(reply.text().contains("Max query size"), "{}", reply.text());
    for body in
        [&b"\xff\xfe\x00"[..], b"SELECT '", b"SELECT /*", b"((((((", b"INSERT INTO", b"INSERT"]
    {
        let reply = server.post("/", body);
        assert!((400..500).contains(&reply.status), "{body:?}: {} {}", reply.status, reply.text());
    }
    let deep = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    assert!(server.post("/", deep).status >= 400);
    server.sql("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a");
    let reply = server.post("/?decompress=1&query=INSERT+INTO+t+FORMAT+RowBinary", vec![7; 100]);
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert_eq!(server.post("/", "INSERT INTO t FORMAT Nope\nx").status, 404);
    assert_eq!(server.sql("SELECT count() FROM t"), "0");
}
