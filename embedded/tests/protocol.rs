//! The shape of requests and answers: where the statement stands, formats, headers, compression.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;
use support::{Server, url_encode};

#[test]
fn statements_formats_and_headers() {
    let server = Server::start();
    for target in ["/ping", "/", "/replicas_status"] {
        let reply = server.send("GET", target, &[], b"");
        assert_eq!((reply.status, reply.text().as_str()), (200, "Ok.\n"), "{target}");
    }

    let reply = server.get("/?query=SELECT%201%2B1");
    assert_eq!(reply.text(), "2\n");
    assert_eq!(reply.header("x-clickhouse-format"), Some("TabSeparated"));
    assert_eq!(reply.header("content-type"), Some("text/tab-separated-values; charset=UTF-8"));
    assert!(reply.header("x-clickhouse-query-id").is_some());
    assert!(reply.header("x-clickhouse-server-display-name").is_some());

    // The URL's part, a line end, the body's part: one statement.
    assert_eq!(server.post("/?query=SELECT", "7").text(), "7\n");
    assert_eq!(server.post("/?query=SELECT+1+--+comment", "+ 1").text(), "2\n");

    let json = server.post("/?default_format=JSONCompact", "SELECT 1 AS n");
    let value: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(value["data"], serde_json::json!([[1]]));
    assert_eq!(server.post("/?default_format=JSON", "SELECT 1 FORMAT CSV").text(), "1\n");
    assert_eq!(
        server.post("/?query_id=abc", "SELECT 1").header("x-clickhouse-query-id"),
        Some("abc")
    );

    server.sql("CREATE DATABASE other");
    server.sql("CREATE TABLE other.t (a UInt64, b String) ENGINE = MergeTree ORDER BY a");
    let reply = server.post("/?database=other", "INSERT INTO t FORMAT TSV\n1\ta\n2\tb\n");
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.header("x-clickhouse-summary").unwrap().contains("\"written_rows\":\"2\""));
    let insert =
        format!("/?database=other&query={}", url_encode("INSERT INTO t (b, a) FORMAT CSV"));
    assert_eq!(server.post(&insert, "c,3\n").status, 200);
    assert_eq!(
        server.post("/?database=other", "INSERT INTO t VALUES (4, lower('D')), (5, 'e');").status,
        200
    );
    assert_eq!(
        server.sql("SELECT groupArray((a, b)) FROM (SELECT * FROM other.t ORDER BY a)"),
        "[(1,'a'),(2,'b'),(3,'c'),(4,'d'),(5,'e')]"
    );
}

#[test]
fn a_blank_line_in_rows_is_data() {
    let server = Server::start();
    server.sql("CREATE TABLE t (s String) ENGINE = MergeTree ORDER BY s");
    let rows = "INSERT INTO t FORMAT LineAsString\na\n\nDROP TABLE t\n";
    assert_eq!(server.post("/", rows).status, 200);
    assert_eq!(
        server.sql("SELECT groupArray(s) FROM (SELECT s FROM t ORDER BY s)"),
        "['','DROP TABLE t','a']"
    );
}

#[test]
fn exceptions_have_status_code_and_text() {
    let server = Server::start();
    let check = |reply: support::Reply, status: u16, code: &str, name: &str| {
        assert_eq!(reply.status, status, "{}", reply.text());
        assert_eq!(reply.header("x-clickhouse-exception-code"), Some(code));
        let text = reply.text();
        assert!(text.starts_with(&format!("Code: {code}. DB::Exception: ")), "{text}");
        assert!(text.contains(&format!("({name})")), "{text}");
        assert_eq!(text.matches("(version ").count(), 1, "{text}");
    };
    check(server.post("/", "SELECT * FROM nope"), 404, "60", "UNKNOWN_TABLE");
    check(server.post("/", "SELECT FROM WHERE"), 400, "62", "SYNTAX_ERROR");
    check(server.post("/", "selec"), 400, "62", "SYNTAX_ERROR");
    check(server.post("/", ""), 400, "62", "SYNTAX_ERROR");
    check(server.post("/", "SELECT nope(1)"), 404, "46", "UNKNOWN_FUNCTION");
    check(server.post("/?database=nope", "SELECT 1"), 404, "81", "UNKNOWN_DATABASE");
    check(server.post("/?nope=1", "SELECT 1"), 404, "115", "UNKNOWN_SETTING");
    check(
        server.post("/?max_execution_time=0.2", "SELECT count() FROM numbers(1e13)"),
        408,
        "159",
        "TIMEOUT_EXCEEDED",
    );
    check(server.post("/?session_id=1", "SELECT 1"), 501, "48", "NOT_IMPLEMENTED");
    check(
        server.get("/?query=CREATE+TABLE+t+(a+Int8)+ENGINE=MergeTree+ORDER+BY+a"),
        403,
        "164",
        "READONLY",
    );
    check(server.post("/", "SELECT 1; SELECT 2"), 400, "62", "SYNTAX_ERROR");
    assert_eq!(server.send("PUT", "/", &[], b"").header("allow"), Some("GET, POST"));
    assert_eq!(server.get("/nope").status, 404);
}

#[test]
fn bodies_and_answers_are_compressed_on_request() {
    use std::io::{Read, Write};
    let server = Server::start();
    server.sql("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a");
    let rows = b"1\n2\n3\n";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(rows).unwrap();
    let insert = "/?query=INSERT+INTO+t+FORMAT+TSV";
    let key = [("X-ClickHouse-User", "default"), ("X-ClickHouse-Key", support::PASSWORD)];
    for (coding, body) in
        [("gzip", gzip.finish().unwrap()), ("zstd", zstd::bulk::compress(rows, 1).unwrap())]
    {
        let headers = [key[0], key[1], ("Content-Encoding", coding)];
        let reply = server.send("POST", insert, &headers, &body);
        assert_eq!(reply.status, 200, "{coding}: {}", reply.text());
        let damaged = server.send("POST", insert, &headers, &body[..body.len() - 3]);
        assert_eq!(damaged.status, 400, "{coding}: {}", damaged.text());
    }
    assert_eq!(server.sql("SELECT count() FROM t"), "6");
    let headers = [key[0], key[1], ("Content-Encoding", "br")];
    assert_eq!(server.send("POST", insert, &headers, rows).status, 400);

    let select = b"SELECT number FROM numbers(300000)";
    let plain = server.post("/", select).body;
    for (coding, decode) in
        [("gzip", gunzip as fn(&[u8]) -> Vec<u8>), ("zstd", unzstd), ("lz4", unlz4)]
    {
        let headers = [key[0], key[1], ("Accept-Encoding", coding)];
        let reply = server.send("POST", "/?enable_http_compression=1", &headers, select);
        assert_eq!(reply.header("content-encoding"), Some(coding));
        assert_eq!(decode(&reply.body), plain, "{coding}");
    }

    fn gunzip(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
        plain
    }
    fn unzstd(bytes: &[u8]) -> Vec<u8> {
        zstd::stream::decode_all(bytes).unwrap()
    }
    fn unlz4(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            lz4_flex::frame::FrameDecoder::new(&mut rest).read_to_end(&mut plain).unwrap();
        }
        plain
    }
}
