//! Every bound has its answer: 413, 414, 431, a cap on connections.

use proto::limits::BODY_BYTES_MAX_DEFAULT;
use tests::wait::{seconds, wait_for};
use tests::{Batch, Client, Event, Stack, StackOptions};

fn head(stack: &Stack, target: &str, lines: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: a\r\nX-API-Key: {}\r\n{lines}\r\n", stack.api_key)
}

/// Sends a head, reads the answer, and sees the connection end.
fn check_closing(stack: &Stack, bytes: &str, status: u16, code: &str) {
    let mut client = stack.client();
    // The server may close while this is still being sent: the answer decides.
    let _ = client.try_send(bytes.as_bytes());
    let answer = client.receive();
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", answer.text());
    let _ = client.try_send(b"");
    client.finish_sending();
    assert!(client.closes(), "{status} closes the connection");
}

#[test]
fn a_declared_body_past_the_limit_is_refused_before_it_is_sent() {
    let stack = Stack::start(StackOptions::engine_alone());
    let lines = format!("Content-Length: {}\r\n", BODY_BYTES_MAX_DEFAULT + 1);
    check_closing(&stack, &head(&stack, "/api/v1/events", &lines), 413, "PAYLOAD_TOO_LARGE");
    let lines =
        format!("Expect: 100-continue\r\nContent-Length: {}\r\n", BODY_BYTES_MAX_DEFAULT + 1);
    check_closing(&stack, &head(&stack, "/api/v1/events", &lines), 413, "PAYLOAD_TOO_LARGE");
}

/// The answer to a client that goes on sending is not eaten by a reset.
#[test]
fn a_chunked_body_past_the_limit_is_refused_and_the_answer_arrives() {
    let stack = Stack::start(StackOptions::engine_alone().set("limits.body_bytes_max=65536"));
    let mut bytes = head(&stack, "/api/v1/events", "Transfer-Encoding: chunked\r\n");
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    bytes.push_str(&chunk.repeat(64));
    check_closing(&stack, &bytes, 413, "PAYLOAD_TOO_LARGE");
}

/// Fewer segments than a shard needs would be a 503 for ever, though everything was forwarded.
#[test]
fn a_disk_limit_below_what_the_shards_need_is_refused_at_the_start() {
    let folder = tempfile::tempdir().expect("folder");
    let output = std::process::Command::new(tests::process::binary("unmogrowp-engine"))
        .args(["run", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--journal-dir"])
        .arg(folder.path().join("journal"))
        .args(["--cores", "1", "--set", "journal.segment_bytes=1048576"])
        .args(["--set", "journal.backlog_bytes_max=4194304"])
        .output()
        .expect("unmogrowp-engine starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{errors}");
    for word in ["journal.backlog_bytes_max", "4194304", "journal.segment_bytes"] {
        assert!(errors.contains(word), "{word} is missing in: {errors}");
    }
}

#[test]
fn a_long_target_is_taken_up_to_8000_bytes_and_refused_past_the_limit() {
    let stack = Stack::start(StackOptions::engine_alone());
    let body = Batch::one(Event::new("n", "u")).json(&stack.app_id);
    let lines = format!("Content-Length: {}\r\n", body.len());
    let target = |bytes: usize| format!("/api/v1/events?x={}", "y".repeat(bytes - 17));
    let mut client = stack.client();
    client.send(format!("{}{body}", head(&stack, &target(8_000), &lines)).as_bytes());
    let answer = client.receive();
    assert_eq!(answer.status, 200, "{}", answer.text());
    check_closing(&stack, &head(&stack, &target(70_000), &lines), 414, "URI_TOO_LONG");
}

#[test]
fn too_many_or_too_long_headers_are_refused() {
    let stack = Stack::start(StackOptions::engine_alone());
    let many: String = (0..200).map(|index| format!("X-{index}: y\r\n")).collect();
    let long = format!("X: {}\r\n", "y".repeat(200_000));
    for lines in [many, long] {
        check_closing(&stack, &head(&stack, "/api/v1/events", &lines), 431, "HEADERS_TOO_LARGE");
    }
}

#[test]
fn connections_are_capped_and_come_free_again() {
    let stack = Stack::start(StackOptions::engine_alone().set("limits.connections_max=4"));
    let mut kept: Vec<Client> = (0..4).map(|_| stack.client()).collect();
    let request = "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n";
    for client in &mut kept {
        client.send(request.as_bytes());
        assert_eq!(client.receive().status, 404);
    }
    let one_more = || {
        let mut client = Client::try_connect(&stack.ingest).ok()?;
        client.try_send(request.as_bytes()).ok()?;
        client.try_receive().ok().filter(|answer| answer.status == 404)
    };
    assert!(one_more().is_none(), "a fifth connection is not served");
    kept.pop();
    wait_for("a place comes free", seconds(10), one_more);
    for client in &mut kept {
        client.send(request.as_bytes());
        assert_eq!(client.receive().status, 404, "those inside are not disturbed");
    }
}

#[test]
fn wrong_configuration_is_refused_with_key_value_and_range() {
    for (assignment, expected) in [
        ("limits.headers_max=3", ["limits.headers_max", "3", "8"]),
        ("limits.header_max=50", ["limits.header_max", "limits.headers_max", ""]),
        ("server.driver=fast", ["server.driver", "fast", "epoll"]),
        ("limits.memory_budget_bytes=1", ["limits.memory_budget_bytes", "1", ""]),
    ] {
        let folder = tempfile::tempdir().expect("folder");
        let output = std::process::Command::new(tests::process::binary("unmogrowp-engine"))
            .args(["run", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .arg("--journal-dir")
            .arg(folder.path().join("journal"))
            .arg("--keys-snapshot")
            .arg(folder.path().join("keys.json"))
            .args(["--set", assignment])
            .output()
            .expect("the engine's binary starts");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{assignment}");
        for word in expected {
            assert!(words.contains(word), "{assignment}: {word:?} in {words}");
        }
    }
}
