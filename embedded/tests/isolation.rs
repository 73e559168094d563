//! What one request sets does not reach another.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;
use support::Server;

#[test]
fn settings_hold_for_one_request() {
    let server = Server::start();
    let read = |target: &str| {
        let statement =
            "SELECT getSetting('max_block_size'), getSetting('log_comment'), currentDatabase()";
        server.post(target, statement).text()
    };
    let before = read("/");
    assert_eq!(
        read("/?max_block_size=77&log_comment=a%27b%5Cc&database=system"),
        "77\ta\\'b\\\\c\tsystem\n"
    );
    assert_eq!(read("/"), before);

    // A statement with its own SETTINGS and FORMAT keeps them; the URL's apply beside them.
    let reply = server.post(
        "/?max_block_size=77",
        "SELECT getSetting('max_block_size') b, getSetting('max_threads') t FORMAT JSONEachRow SETTINGS max_threads = 1",
    );
    assert_eq!(reply.text(), "{\"b\":77,\"t\":1}\n");
    assert_eq!(read("/"), before);

    // Failing requests leave nothing behind either.
    assert_eq!(server.post("/?max_block_size=78&max_threads=x", "SELECT 1").status, 400);
    assert_eq!(server.post("/?max_block_size=79", "SELECT nope").status, 404);
    assert_eq!(server.get("/?query=SELECT+1&max_block_size=80").status, 200);
    assert_eq!(read("/"), before);
    for statement in ["SET max_threads = 1", "USE system", "CREATE TEMPORARY TABLE t (a Int8)"] {
        assert_eq!(server.post("/", statement).status, 403, "{statement}");
    }
}

#[test]
fn concurrent_requests_keep_their_own_settings() {
    let server = Server::start();
    std::thread::scope(|scope| {
        for thread in 1..=6 {
            let server = &server;
            scope.spawn(move || {
                for round in 0..10 {
                    let value = thread * 100 + round;
                    let target = format!("/?max_block_size={value}&param_v={value}");
                    let reply =
                        server.post(&target, "SELECT getSetting('max_block_size'), {v:UInt64}");
                    assert_eq!(reply.text(), format!("{value}\t{value}\n"));
                }
            });
        }
    });
}
