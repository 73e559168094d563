//! What is open, to whom, and what stays shut.

use std::os::unix::fs::PermissionsExt;

use tests::answers::percent_encode;
use tests::wait::{seconds, wait_equal};
use tests::{Batch, Client, Event, Stack, StackOptions};

#[test]
fn a_key_opens_its_own_app_alone() {
    let stack = Stack::start(StackOptions::default());
    let (other_app, other_key) = stack.make_app("other");
    assert_ne!(other_app, stack.app_id);
    let batch = Batch::one(Event::new("door", "user"));
    let post = |key: &str, app: &str| {
        let body = batch.json(app);
        stack.client().request("POST", "/api/v1/events", &[("X-API-Key", key)], body.as_bytes())
    };
    // The engine looks at the snapshot every so often.
    wait_equal("the new key is known", seconds(10), 200, || post(&other_key, &other_app).status);
    let answer = post(&other_key, &stack.app_id);
    assert_eq!((answer.status, answer.code().as_str()), (403, "FORBIDDEN"));
    let answer = post("not-a-key", &stack.app_id);
    assert_eq!((answer.status, answer.code().as_str()), (401, "UNAUTHORIZED"));

    let ask = |key: Option<&str>| {
        let target = format!("/api/v1/users/user/events?app_id={}", stack.app_id);
        let headers: Vec<(&str, &str)> = key.map(|key| ("X-API-Key", key)).into_iter().collect();
        Client::connect(&stack.api).request("GET", &target, &headers, b"").status
    };
    assert_eq!(ask(None), 401);
    assert_eq!(ask(Some("not-a-key")), 401);
    assert_eq!(ask(Some(&other_key)), 403);
    assert_eq!(ask(Some(&stack.api_key)), 200);
}

#[test]
fn clickhouse_lets_in_nobody_without_the_password_and_no_browser() {
    let stack = Stack::start(StackOptions::default());
    let password = stack.password.clone();
    let status = |headers: &[(&str, &str)]| {
        Client::connect(&stack.clickhouse).request("POST", "/", headers, b"SELECT 1").status
    };
    let own = [("X-ClickHouse-User", "unmogrowp"), ("X-ClickHouse-Key", password.as_str())];
    assert_eq!(status(&own), 200);
    assert!(status(&[]) >= 400);
    assert!(status(&[own[0], ("X-ClickHouse-Key", "guess")]) >= 400);
    assert!(status(&[own[0], own[1], ("Origin", "http://evil.example")]) >= 400);

    let mut client = Client::connect(&stack.clickhouse);
    let head = format!(
        "POST / HTTP/1.1\r\nHost: evil.example\r\nX-ClickHouse-User: unmogrowp\r\n\
         X-ClickHouse-Key: {password}\r\nContent-Length: 8\r\n\r\nSELECT 1"
    );
    client.send(head.as_bytes());
    assert!(client.receive().status >= 400, "a foreign Host is refused");
}

#[test]
fn clickhouse_reads_no_file_and_no_url_and_get_changes_nothing() {
    let stack = Stack::start(StackOptions::default());
    for query in [
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SELECT * FROM executable('x', 'LineAsString')",
        "INSERT INTO FUNCTION file('/tmp/unmogrowp-test', 'CSV') SELECT 1",
        "SELECT 1 INTO OUTFILE '/tmp/unmogrowp-test'",
    ] {
        let answer = stack.clickhouse(query, "");
        assert!(answer.status >= 400, "{query}: {} {}", answer.status, answer.text());
    }
    let get = |query: &str| {
        let target = format!("/?database=unmogrowp&query={}", percent_encode(query));
        let headers =
            [("X-ClickHouse-User", "unmogrowp"), ("X-ClickHouse-Key", stack.password.as_str())];
        Client::connect(&stack.clickhouse).request("GET", &target, &headers, b"").status
    };
    assert_eq!(get("SELECT 1"), 200);
    assert!(get("CREATE TABLE t (a UInt8) ENGINE = Memory") >= 400);
    assert!(get("DROP TABLE events") >= 400);
}

#[test]
fn files_with_secrets_are_private() {
    let stack = Stack::start(StackOptions::engine_alone());
    for name in ["demo.json", "keys.json", "apps.sqlite", "ready-engine.json"] {
        let mode = std::fs::metadata(stack.path(name)).expect(name).permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} is {mode:o}");
    }
}
