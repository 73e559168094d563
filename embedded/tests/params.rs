//! Bound parameters: from the URL and from a form, any bytes, never part of the statement.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;
use support::{PASSWORD, Server, url_encode};

/// ClickHouse's rule for parameter values: backslash escapes, as in TabSeparated.
fn escape(value: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::new();
    for &byte in value {
        match byte {
            b'\\' => escaped.extend_from_slice(b"\\\\"),
            b'\n' => escaped.extend_from_slice(b"\\n"),
            b'\t' => escaped.extend_from_slice(b"\\t"),
            b'\r' => escaped.extend_from_slice(b"\\r"),
            0 => escaped.extend_from_slice(b"\\0"),
            _ => escaped.push(byte),
        }
    }
    escaped
}

const VALUES: &[&[u8]] = &[
    b"",
    b"plain",
    b"a'b\"c`d",
    b"'; DROP TABLE t; --",
    b"back\\slash \\' \\0",
    b"line\nend\r\n",
    b"tab\tend",
    b"nul\0nul",
    "žluťoučký 🐎".as_bytes(),
    b"{x:String} %00 + & =",
];

#[test]
fn strings_arrive_as_they_are() {
    let server = Server::start();
    for value in VALUES {
        let expected = hex(value);
        let target = format!("/?param_x={}", url_encode(escape(value)));
        let reply = server.post(&target, "SELECT hex({x:String})");
        assert_eq!(reply.text().trim_end(), expected, "URL, {value:?}");
        let reply = server.get(&format!("{target}&query={}", url_encode("SELECT hex({x:String})")));
        assert_eq!(reply.text().trim_end(), expected, "GET, {value:?}");

        let form = form(&[("query", b"SELECT hex({x:String})"), ("param_x", &escape(value))]);
        let headers =
            [("X-ClickHouse-Key", PASSWORD), ("Content-Type", "multipart/form-data; boundary=--b")];
        let reply = server.send("POST", "/", &headers, &form);
        assert_eq!(reply.text().trim_end(), expected, "form, {value:?}");
    }
    let reply = server.send(
        "POST",
        "/?query=SELECT+1",
        &[("X-ClickHouse-Key", PASSWORD), ("Content-Type", "multipart/form-data; boundary=--b")],
        &form(&[("table", b"1")]),
    );
    assert_eq!(reply.status, 501, "{}", reply.text());
}

#[test]
fn types_are_checked_by_the_engine() {
    let server = Server::start();
    let check = |ty: &str, value: &str, expected: Option<&str>| {
        let target = format!("/?param_x={}", url_encode(value));
        let reply = server.post(&target, format!("SELECT {{x:{ty}}}"));
        match expected {
            Some(expected) => assert_eq!(reply.text().trim_end(), expected, "{ty} {value}"),
            None => assert_eq!(reply.status, 400, "{ty} {value}: {}", reply.text()),
        }
    };
    check("UInt64", "18446744073709551615", Some("18446744073709551615"));
    check("UInt64", "1 OR 1", None);
    check("UInt64", "x", None);
    check("Date", "2024-02-29", Some("2024-02-29"));
    check(
        "UUID",
        "61f0c404-5cb3-11e7-907b-a6006ad3dba0",
        Some("61f0c404-5cb3-11e7-907b-a6006ad3dba0"),
    );
    check("UUID", "nope", None);
    check("Array(String)", "['a','b\\'c']", Some("['a','b\\'c']"));
    check("DateTime64(3, 'UTC')", "2024-02-29 01:02:03.004", Some("2024-02-29 01:02:03.004"));
    assert_eq!(server.post("/", "SELECT {x:UInt8}").status, 400);
    // A value does not outlive its request.
    check("UInt8", "7", Some("7"));
    assert_eq!(server.post("/", "SELECT {x:UInt8}").status, 400);
}

#[test]
fn writes_take_parameters_too() {
    let server = Server::start();
    server.sql("CREATE TABLE t (s String) ENGINE = MergeTree ORDER BY s");
    let reply = server.post("/?param_x=a%27b", "INSERT INTO t SELECT {x:String}");
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(server.sql("SELECT s FROM t FORMAT TSVRaw"), "a'b");
    let reply = server.post("/?param_t=t&query=INSERT+INTO+{t:Identifier}+FORMAT+TSV", "c\n");
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(server.sql("SELECT count() FROM t"), "2");
}

fn form(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut form = Vec::new();
    for (name, value) in fields {
        let head = format!("----b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        form.extend_from_slice(head.as_bytes());
        form.extend_from_slice(value);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(b"----b--\r\n");
    form
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
