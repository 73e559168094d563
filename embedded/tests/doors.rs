//! Who gets in, and what nobody gets: files, other hosts, the machine.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;
use std::time::Duration;

use support::{PASSWORD, Reply, Server, command, url_encode};

#[test]
fn only_the_password_opens() {
    let server = Server::start();
    let basic = |user: &str, password: &str| {
        use base64::Engine;
        let pair = format!("{user}:{password}");
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    };
    let check = |headers: &[(&str, &str)], target: &str, expected: u16| {
        let reply = server.send("POST", target, headers, b"SELECT 1");
        assert_eq!(reply.status, expected, "{headers:?} {target}: {}", reply.text());
    };
    let encoded = url_encode(PASSWORD);
    check(&[], "/", 401);
    check(&[("X-ClickHouse-Key", PASSWORD)], "/", 200);
    check(&[("X-ClickHouse-User", "default"), ("X-ClickHouse-Key", PASSWORD)], "/", 200);
    check(&[("Authorization", &basic("default", PASSWORD))], "/", 200);
    check(&[], &format!("/?user=default&password={encoded}"), 200);
    check(&[("X-ClickHouse-Key", "wrong")], "/", 403);
    check(&[("X-ClickHouse-User", "other"), ("X-ClickHouse-Key", PASSWORD)], "/", 403);
    check(&[("Authorization", &basic("default", ""))], "/", 403);
    check(&[("Authorization", "Basic !!!")], "/", 403);
    check(&[("Authorization", "Bearer x")], "/", 403);
    check(&[], "/?user=default", 403);
    check(&[("X-ClickHouse-Key", PASSWORD)], &format!("/?password={encoded}"), 403);
    check(&[("X-ClickHouse-Key", "wrong")], "/?nope=%", 403);
}

#[test]
fn web_pages_stay_outside() {
    let server = Server::start();
    let check = |headers: &[(&str, &str)], expected: u16| {
        let headers = [headers, &[("X-ClickHouse-Key", PASSWORD)]].concat();
        for target in ["/?query=SELECT+1", "/ping"] {
            assert_eq!(server.send("GET", target, &headers, b"").status, expected, "{headers:?}");
        }
    };
    check(&[("Origin", "http://localhost:8123")], 403);
    check(&[("Origin", "null")], 403);
    check(&[("Host", "evil.example")], 403);
    check(&[("Host", "127.0.0.1.evil.example:8123")], 403);
    check(&[("Host", "localhost"), ("Host", "localhost")], 403);
    check(&[("Host", "LOCALHOST:1")], 200);
    check(&[("Host", "[::1]:8123")], 200);
    assert_eq!(server.raw(b"GET /ping HTTP/1.0\r\n\r\n").status, 403);
}

const DENIED: &[&str] = &[
    "SELECT file('/etc/passwd')",
    "SELECT `file`('/etc/passwd')",
    "SELECT `fi\\x6ce`('/etc/passwd')",
    "SELECT \"fi\\x6ce\"('/etc/passwd')",
    "SELECT/**/file/**/('/etc/passwd')",
    "SELECT * APPLY(file) FROM (SELECT '/etc/passwd' AS f)",
    "SELECT * APPLY(`fi\\x6ce`) FROM (SELECT '/etc/passwd' AS f)",
    "SELECT arrayMap(x -> file(x), ['/etc/passwd'])",
    "WITH file('/etc/passwd') AS a SELECT a",
    "EXPLAIN SELECT file('/etc/passwd')",
    "SHOW TABLES WHERE file('/etc/passwd') != ''",
    "SELECT * FROM file('/etc/passwd', LineAsString)",
    "SELECT * FROM FILE('/etc/passwd', LineAsString)",
    "SELECT * FROM `/etc/passwd`",
    "SELECT * FROM url('http://127.0.0.1:1/', CSV, 'a String')",
    "SELECT * FROM s3('http://127.0.0.1:1/a/b', 'CSV')",
    "SELECT * FROM remote('127.0.0.1', system.one)",
    "SELECT * FROM executable('id', CSV, 'a String')",
    "SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
    "SELECT * FROM eval('SELECT 1')",
    "SELECT * FROM (SELECT * FROM view(SELECT file('/etc/passwd')))",
    "SELECT hasColumnInTable('127.0.0.1', 'a', 'b', 'c')",
    "DESCRIBE TABLE file('/etc/passwd')",
    "SELECT 1 INTO OUTFILE '/tmp/x'",
    "SELECT 1 INTO/**/OUTFILE '/tmp/x' FORMAT CSV",
    "SHOW TABLES INTO OUTFILE '/tmp/x'",
    "INSERT INTO t FROM INFILE '/etc/passwd' FORMAT LineAsString",
    "INSERT INTO t FROM/**/infile '/etc/passwd' FORMAT LineAsString",
    "INSERT INTO t SELECT file('/etc/passwd')",
    "INSERT INTO FUNCTION file('/tmp/x') SELECT 1",
    "INSERT INTO TABLE FUNCTION url('http://127.0.0.1:1/') VALUES (1)",
    "CREATE TABLE x (a String) ENGINE = File(CSV)",
    "CREATE TABLE x (a String) ENGINE = URL('http://127.0.0.1:1/', CSV)",
    "CREATE TABLE x (a String) ENGINE = Executable('id', CSV)",
    "CREATE TABLE x (a UInt64) ENGINE = EmbeddedRocksDB(0, '/tmp/x') PRIMARY KEY a",
    "CREATE TABLE x (a String) ENGINE = FileLog('/tmp', CSV)",
    "CREATE TABLE x (query String) ENGINE = QueryRunner",
    "CREATE TABLE x AS file('/etc/passwd', LineAsString)",
    "CREATE TABLE x (a String DEFAULT file('/etc/passwd')) ENGINE = MergeTree ORDER BY a",
    "CREATE TABLE x (a String) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = local, path = '/tmp/x/')",
    "CREATE VIEW x AS SELECT file('/etc/passwd')",
    "CREATE DATABASE x ENGINE = MySQL('127.0.0.1:1', 'a', 'b', 'c')",
    "CREATE DATABASE x ENGINE = Filesystem('/')",
    "CREATE DICTIONARY x (a UInt64) PRIMARY KEY a SOURCE(FILE(PATH '/etc/passwd' FORMAT CSV)) LAYOUT(FLAT())",
    "CREATE FUNCTION x AS () -> 1",
    "CREATE USER x",
    "CREATE NAMED COLLECTION x AS a = 1",
    "ALTER TABLE t ADD COLUMN b String DEFAULT file('/etc/passwd')",
    "ALTER TABLE t FREEZE",
    "ATTACH TABLE x FROM '/etc' (s String) ENGINE = MergeTree ORDER BY s",
    "DETACH TABLE t",
    "BACKUP TABLE t TO File('/tmp/x')",
    "RESTORE TABLE t FROM File('/tmp/x')",
    "SYSTEM SHUTDOWN",
    "SYSTEM KILL",
    "SYSTEM STOP MERGES",
    "KILL QUERY WHERE 1",
    "SELECT 1 SETTINGS additional_result_filter = 'file(\\'/etc/passwd\\')'",
    "SELECT 1 SETTINGS allow_introspection_functions = 1",
    "SELECT 1 SETTINGS dialect = 'prql'",
    "SELECT 1 PARALLEL WITH SELECT 2",
    "SELECT 1; DROP TABLE t",
];

fn is_refusal(reply: &Reply) -> bool {
    let codes = ["36", "42", "46", "48", "60", "62", "344", "452", "497"];
    reply.status >= 400 && codes.contains(&reply.header("x-clickhouse-exception-code").unwrap())
}

#[test]
fn statements_do_not_leave_the_database() {
    let server = Server::start();
    server.sql("CREATE TABLE t (s String) ENGINE = MergeTree ORDER BY s");
    for statement in DENIED {
        let reply = server.post("/", statement);
        assert!(is_refusal(&reply), "{statement}: {} {}", reply.status, reply.text());
        assert!(!reply.text().contains("root:"), "{statement}");
    }
    for (setting, value) in [
        ("additional_result_filter", "file('/etc/passwd') = ''"),
        ("additional_table_filters", "{'t': 'file(s) = s'}"),
        ("format_schema", "/etc/passwd"),
        ("format_avro_schema_registry_url", "http://127.0.0.1:1"),
        ("input_format_values_interpret_expressions", "1"),
        ("async_insert", "1"),
    ] {
        let reply = server.post(&format!("/?{setting}={}", url_encode(value)), "SELECT s FROM t");
        assert_eq!(reply.status, 403, "{setting}: {}", reply.text());
    }
    assert_eq!(server.sql("SELECT count() FROM t"), "0");
}

#[test]
fn values_are_not_a_way_around() {
    let server = Server::start();
    server.sql("CREATE TABLE t (s String) ENGINE = MergeTree ORDER BY s");
    for rows in [
        "(file('/etc/hostname'))",
        "(`fi\\x6ce`('/etc/hostname'))",
        "((SELECT file('/etc/hostname')))",
    ] {
        for target in ["/?query=INSERT+INTO+t+VALUES", "/?query=INSERT+INTO+t+FORMAT+Values"] {
            let reply = server.post(target, rows);
            assert!(reply.status >= 400, "{rows}: {}", reply.text());
        }
        let reply = server.post("/", format!("INSERT INTO t VALUES {rows}"));
        assert!(reply.status >= 400, "{rows}: {}", reply.text());
    }
    assert_eq!(server.post("/", "INSERT INTO t VALUES (concat('a', 'b'))").status, 200);
    assert_eq!(server.sql("SELECT groupArray(s) FROM t"), "['ab']");
}

#[test]
fn ordinary_statements_pass() {
    let server = Server::start();
    server.sql("CREATE TABLE t (s String, file String DEFAULT 'x') ENGINE = MergeTree ORDER BY s");
    server.sql("CREATE MATERIALIZED VIEW v ENGINE = SummingMergeTree ORDER BY s AS SELECT s, count() AS n FROM t GROUP BY s");
    server.sql("INSERT INTO t (s) VALUES ('file(''/etc/passwd'')')");
    assert_eq!(
        server.sql("SELECT count() FROM t WHERE s = 'file(\\'/etc/passwd\\')' AND file = 'x'"),
        "1"
    );
    assert_eq!(server.sql("SELECT sum(number) FROM numbers(4) WHERE 'url(' != 'eval'"), "6");
    assert_eq!(server.sql("SELECT s, file FROM merge(currentDatabase(), '^t$') FORMAT Null"), "");
    server.sql("ALTER TABLE t DELETE WHERE s = 'none' SETTINGS mutations_sync = 1");
    server.sql("OPTIMIZE TABLE t FINAL");
    server.sql("DROP TABLE v");
    server.sql("TRUNCATE TABLE t");
}

#[test]
fn starting_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fails = |command: &mut std::process::Command, expected: &[&str]| {
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert!(expected.iter().all(|part| text.contains(part)), "{expected:?}: {text}");
    };
    fails(command(&data).args(["--listen", "0.0.0.0:0"]), &["--listen 0.0.0.0:0", "loopback"]);
    fails(command(&data).env_remove("UNMOGROWP_CLICKHOUSE_PASSWORD"), &["--password-file"]);
    fails(command(&data).args(["--lib", "/nope.so"]), &["/nope.so", "./dev"]);
    fails(command(&data).args(["--memory-max", "5"]), &["--memory-max 5", "268435456"]);

    let mut server = Server::start_in(&data, &[]);
    fails(&mut command(&data), &["held by process", &server.pid().to_string()]);
    server.terminate();
    assert!(server.wait_for_exit(Duration::from_secs(15)).success());
    let mut server = Server::start_in(&data, &["--nice", "5"]);
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    assert_eq!(fields[16], "5", "nice value");
    server.kill();
}
