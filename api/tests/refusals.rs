//! What is refused, with which status, code and headers, and which refusal wins.

// In a test, a panic is the report.
#![allow(clippy::unwrap_used)]

mod rig;

use rig::{Rig, command_lines, http, raw};
use serde_json::Value;

/// Every error has exactly these members, all of them strings.
#[track_caller]
fn check_error(reply: &rig::Reply, status: u16, code: &str) -> Value {
    let json = reply.json();
    assert_eq!((reply.status, &json["code"]), (status, &Value::from(code)), "{json}");
    let members: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(members, ["code", "details", "error", "status"]);
    assert!(json.as_object().unwrap().values().all(Value::is_string), "{json}");
    assert_eq!(json["status"], "error");
    assert_eq!(reply.headers["content-type"], "application/json");
    json
}

#[test]
fn refusals_come_in_the_order_of_the_contract() {
    let rig = Rig::start();
    let app_id = rig.app_id.to_string();
    let other_app = "0198c0de-0000-7000-8000-000000000001";
    let days = "start_date=2026-01-01&end_date=2026-01-02";
    let dau = |query: &str| format!("/api/v1/analytics/dau?{query}");
    let good = dau(&format!("app_id={app_id}&{days}"));
    let send = |method: &str, target: &str, headers: &[(&str, &str)]| {
        http(&rig.api.address, method, target, headers, b"").unwrap()
    };
    let created = command_lines(
        rig.directory.path(),
        &["key", "create", "--app", &app_id, "--scopes", "ingest"],
    );
    let ingest_key = created[0]["api_key"].as_str().unwrap().to_owned();
    let key: &[(&str, &str)] = &[("x-api-key", &rig.key)];
    let ingest: &[(&str, &str)] = &[("X-API-KEY", &ingest_key)];
    rig::wait_for("the API to follow the store", || {
        (send("GET", &good, ingest).status == 403).then_some(())
    });

    // Path before method before key before parameters before app.
    check_error(&send("POST", "/api/v1/analytics", &[]), 404, "NOT_FOUND");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        let refused = send(method, &good, &[]);
        check_error(&refused, 405, "METHOD_NOT_ALLOWED");
        assert_eq!(refused.headers["allow"], "GET, HEAD");
    }
    check_error(&send("GET", &dau("start_date=x"), &[]), 401, "UNAUTHORIZED");
    check_error(&send("GET", &good, &[("X-API-Key", "")]), 401, "UNAUTHORIZED");
    check_error(&send("GET", &good, &[("X-API-Key", "umg_0")]), 401, "UNAUTHORIZED");
    check_error(&send("GET", &good, &[key[0], key[0]]), 401, "UNAUTHORIZED");
    check_error(&send("GET", &dau("start_date=x"), ingest), 403, "FORBIDDEN");
    let foreign_app = format!("app_id={other_app}");
    check_error(&send("GET", &dau(&foreign_app), key), 400, "INVALID_PARAMS");
    check_error(&send("GET", &dau(&format!("{foreign_app}&{days}")), key), 403, "FORBIDDEN");
    let foreign_user = format!("/api/v1/users/u/events?{foreign_app}");
    check_error(&send("GET", &foreign_user, key), 403, "FORBIDDEN");

    let head = send("HEAD", &good, key);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(head.headers["content-length"].parse::<usize>().unwrap() > 100);
    assert_eq!(send("HEAD", "/readyz", &[]).status, 200);
}

#[test]
fn wrong_parameters_are_named() {
    let rig = Rig::start();
    let app_id = rig.app_id;
    let check = |target: String, code: &str, named: &str| {
        let json = check_error(&rig.get(&target), 400, code);
        let said = format!("{} {}", json["error"], json["details"]);
        assert!(said.contains(named), "{target}: {said} does not name {named}");
    };
    for route in ["dau", "events/count"] {
        let range = |query: &str| format!("/api/v1/analytics/{route}?{query}");
        check(range(""), "INVALID_PARAMS", "app_id");
        check(
            range(&format!("app_id={app_id}&end_date=2026-01-01")),
            "INVALID_PARAMS",
            "start_date",
        );
        check(
            range(&format!("app_id={app_id}&start_date=2026-01-01")),
            "INVALID_PARAMS",
            "end_date",
        );
        let days = |start: &str, end: &str| {
            range(&format!("app_id={app_id}&start_date={start}&end_date={end}"))
        };
        check(days("2026-02-30", "2026-03-01"), "INVALID_DATE", "start_date=2026-02-30");
        check(days("2026-02-01", "yesterday"), "INVALID_DATE", "end_date=yesterday");
        check(days("2026-02-02", "2026-02-01"), "INVALID_PARAMS", "before");
        check(days("2025-01-01", "2026-02-05"), "INVALID_PARAMS", "400");
        let name = "x".repeat(101);
        if route != "dau" {
            let long_name = format!("{}&event_name={name}", days("2026-01-01", "2026-01-01"));
            check(long_name, "INVALID_PARAMS", "event_name");
        }
    }
    let user = |query: &str| format!("/api/v1/users/u/events?{query}");
    check(user("limit=5"), "INVALID_PARAMS", "app_id");
    for limit in ["0", "1001", "-1", "1.5", "ten", "99999999999999999999"] {
        check(user(&format!("app_id={app_id}&limit={limit}")), "INVALID_PARAMS", "limit");
    }
    check("/api/v1/users/%zz/events?app_id=x".to_owned(), "INVALID_PARAMS", "user_id");
    check("/api/v1/users/%ff/events?app_id=x".to_owned(), "INVALID_PARAMS", "user_id");
    check(user(&format!("app_id={app_id}&app_id={app_id}")), "INVALID_PARAMS", "app_id");
}

#[test]
fn a_head_is_bounded_in_size_and_time() {
    let rig = Rig::start();
    let address = &rig.api.address;
    let long = format!("GET /healthz?{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(60_000));
    assert_eq!(raw(address, long.as_bytes()).unwrap().status, 431);
    let many = "X-Filler: y\r\n".repeat(100);
    let many = format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{many}\r\n");
    assert_eq!(raw(address, many.as_bytes()).unwrap().status, 431);
    let close = "Connection: close\r\n\r\n";
    let hostless = raw(address, format!("GET /healthz HTTP/1.1\r\n{close}").as_bytes()).unwrap();
    check_error(&hostless, 400, "INVALID_REQUEST");
    let twice = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n{close}");
    check_error(&raw(address, twice.as_bytes()).unwrap(), 400, "INVALID_REQUEST");
    // The connection ends within the time for a head; reading it to its end would else time out.
    assert!(raw(address, b"GET /healthz HTTP/1.1\r\nHo").is_err(), "no reply to half a head");
    let idle = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(raw(address, idle).unwrap().status, 200, "an idle connection is closed");
}
