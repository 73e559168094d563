//! Tokens, broken-off inserts, `kill -9`: what was acknowledged is there, once.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;
use std::io::Write;
use std::time::{Duration, Instant};

use support::{PASSWORD, Server};

const ENGINES: [&str; 2] = ["MergeTree ORDER BY a", "ReplacingMergeTree ORDER BY a"];
const DURABLE: &str = "SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, \
                       fsync_part_directory = 1";
const INSERT: &str = "/?async_insert=0&max_insert_threads=1&max_partitions_per_insert_block=0\
                      &min_insert_block_size_rows=0&min_insert_block_size_bytes=0\
                      &max_insert_block_size=2000000&query=INSERT+INTO+t+(a)+FORMAT+RowBinary";

fn rows(first: u64, count: u64) -> Vec<u8> {
    (first..first + count).flat_map(u64::to_le_bytes).collect()
}

#[test]
fn a_token_inserts_once() {
    let server = Server::start();
    for engine in ENGINES {
        server.sql(&format!("CREATE TABLE t (a UInt64) ENGINE = {engine} {DURABLE}"));
        let insert = |token: &str, first: u64| {
            let target = format!("{INSERT}&insert_deduplication_token={token}");
            let reply = server.post(&target, rows(first, 1_000));
            assert_eq!(reply.status, 200, "{}", reply.text());
        };
        insert("one", 0);
        insert("one", 0);
        // Other rows under a known token are dropped: the token alone decides.
        insert("one", 5_000);
        assert_eq!(server.sql("SELECT count(), max(a) FROM t"), "1000\t999", "{engine}");
        insert("two", 0);
        assert_eq!(server.sql("SELECT count() FROM t"), "2000", "{engine}");
        // Without a token the rows themselves are the token.
        for _ in 0..2 {
            assert_eq!(server.post(INSERT, rows(9_000, 10)).status, 200);
        }
        assert_eq!(server.sql("SELECT count() FROM t"), "2010", "{engine}");
        server.sql("DROP TABLE t SYNC");
    }
}

#[test]
fn a_token_holds_across_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut server = Server::start_in(&data, &[]);
    server.sql(&format!("CREATE TABLE t (a UInt64) ENGINE = {} {DURABLE}", ENGINES[1]));
    let target = format!("{INSERT}&insert_deduplication_token=x");
    assert_eq!(server.post(&target, rows(0, 1_000)).status, 200);
    server.kill();
    let server = Server::start_in(&data, &[]);
    assert_eq!(server.post(&target, rows(0, 1_000)).status, 200);
    assert_eq!(server.sql("SELECT count() FROM t"), "1000");
}

#[test]
fn a_body_that_breaks_off_stores_nothing() {
    let server = Server::start();
    server.sql(&format!("CREATE TABLE t (a UInt64) ENGINE = {} {DURABLE}", ENGINES[0]));
    let body = rows(0, 200_000);
    let head = |framing: &str| {
        format!(
            "POST {INSERT} HTTP/1.1\r\nHost: localhost\r\nX-ClickHouse-Key: {PASSWORD}\r\n{framing}\r\n\r\n"
        )
    };
    for framing in
        [format!("Content-Length: {}", body.len()), "Transfer-Encoding: chunked".to_owned()]
    {
        let mut stream = server.connect();
        stream.write_all(head(&framing).as_bytes()).unwrap();
        if framing.contains("chunked") {
            stream.write_all(b"c3500\r\n").unwrap();
        }
        stream.write_all(&body[..800_000]).unwrap();
        drop(stream);
    }
    // The next whole insert shows that the broken ones have let go of their places.
    wait_until(|| server.sql("SELECT count() FROM system.processes") == "1");
    assert_eq!(server.sql("SELECT count() FROM t"), "0");
    let reply = server.post(INSERT, &body[..body.len() - 3]);
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert_eq!(server.sql("SELECT count() FROM t"), "0");
    assert_eq!(server.post(INSERT, &body).status, 200);
    assert_eq!(server.sql("SELECT count(), uniqExact(a) FROM t"), "200000\t200000");
}

#[test]
fn a_kill_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut server = Server::start_in(&data, &[]);
    server.sql(&format!("CREATE TABLE t (a UInt64) ENGINE = {} {DURABLE}", ENGINES[1]));
    let mut next = 0;
    for _ in 0..3 {
        let pid = server.pid().to_string();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(400));
            std::process::Command::new("kill").args(["-9", &pid]).status().unwrap();
        });
        while insert_block(&server, next) {
            next += 1;
        }
        killer.join().unwrap();
        server.kill();
        server = Server::start_in(&data, &[]);
        // The block without an answer is sent again, as the engine would.
        assert!(insert_block(&server, next));
        next += 1;
        let expected = format!("{}\t{}", next * 1_000, next * 1_000);
        assert_eq!(server.sql("SELECT count(), uniqExact(a) FROM t"), expected);
    }
    assert!(next > 3);
}

/// True if acknowledged.
fn insert_block(server: &Server, block: u64) -> bool {
    let Ok(mut stream) = std::net::TcpStream::connect(&server.address) else { return false };
    let body = rows(block * 1_000, 1_000);
    let target = format!("{INSERT}&insert_deduplication_token=block-{block}");
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-ClickHouse-Key: \
         {PASSWORD}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    if stream.write_all(&[head.as_bytes(), &body].concat()).is_err() {
        return false;
    }
    let reply = support::read_reply(&mut stream);
    reply.status == 200 && reply.whole
}

#[test]
fn a_signal_lets_running_inserts_end() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut server = Server::start_in(&data, &[]);
    server.sql(&format!("CREATE TABLE t (a UInt64) ENGINE = {} {DURABLE}", ENGINES[0]));
    let body = rows(0, 1_000);
    let mut stream = server.connect();
    let head = format!(
        "POST {INSERT} HTTP/1.1\r\nHost: localhost\r\nX-ClickHouse-Key: {PASSWORD}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body[..4_000]).unwrap();
    wait_until(|| server.sql("SELECT count() FROM system.processes") == "2");
    server.terminate();
    wait_until(|| std::net::TcpStream::connect(&server.address).is_err());
    stream.write_all(&body[4_000..]).unwrap();
    assert_eq!(support::read_reply(&mut stream).status, 200);
    assert!(server.wait_for_exit(Duration::from_secs(15)).success());
    let server = Server::start_in(&data, &[]);
    assert_eq!(server.sql("SELECT count() FROM t"), "1000");
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "the condition does not come true");
        std::thread::sleep(Duration::from_millis(10));
    }
}
