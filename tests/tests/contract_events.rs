//! The ingestion contract: what is accepted, what is refused, in which words and in which order.

use std::io::Write;

use proto::limits::{EVENT_BYTES_MAX, EVENTS_PER_BATCH_MAX};
use serde_json::Value;
use tests::batch::now_plus;
use tests::{Batch, Driver, Event, Response, Stack, StackOptions};
use time::Duration;

const NIL: &str = "00000000-0000-0000-0000-000000000000";

fn stack() -> Stack {
    Stack::start(StackOptions::engine_alone())
}

fn batch_of(stack: &Stack, event: &str) -> String {
    format!(r#"{{"app_id":"{}","events":[{event}]}}"#, stack.app_id)
}

/// An event whose members can be replaced, `None` leaves one out.
fn event_with(member: &str, value: Option<&str>) -> String {
    let id = format!("\"{}\"", uuid::Uuid::new_v4());
    let now = format!("\"{}\"", now_plus(Duration::ZERO));
    let members = [
        ("event_id", id.as_str()),
        ("event_name", "\"n\""),
        ("user_id", "\"u\""),
        ("timestamp", &now),
    ];
    let mut parts: Vec<String> = members
        .iter()
        .filter(|(name, _)| *name != member)
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    parts.extend(value.map(|value| format!("\"{member}\":{value}")));
    format!("{{{}}}", parts.join(","))
}

fn check(answer: &Response, status: u16, code: &str, what: &str) {
    let text: String = answer.text().chars().take(300).collect();
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {text}");
    let body = answer.json();
    assert_eq!(body["status"], "error", "{what}");
    assert!(!body["error"].as_str().unwrap_or_default().is_empty(), "{what}: {text}");
    assert!(body["details"].is_string(), "{what}: {text}");
}

#[test]
fn a_valid_batch_is_answered_with_its_count() {
    let stack = stack();
    let answer = stack.post(&Batch::of(3, "n", 3));
    let body = answer.json();
    assert_eq!(answer.status, 200, "{body}");
    assert_eq!(body["status"], "success");
    assert_eq!(body["data"]["events_received"], 3);
    assert_eq!(body["data"]["status"], "processing");
    assert_eq!(body["meta"]["count"], 3);
    assert!(body["meta"]["processing_time_ms"].is_number());
}

#[test]
fn every_valid_form_is_accepted() {
    let stack = stack();
    let name_100 = format!("\"{}\"", "ä".repeat(100));
    let user_255 = format!("\"{}\"", "😀".repeat(255));
    let upper = format!("\"{}\"", uuid::Uuid::new_v4().to_string().to_uppercase());
    let soon = format!("\"{}\"", now_plus(Duration::minutes(4)));
    let old = format!("\"{}\"", now_plus(Duration::days(-399)));
    for (member, value) in [
        ("event_name", name_100.as_str()),
        ("event_name", r#""\u0000""#),
        ("event_name", r#""\ud83d\ude00""#),
        ("user_id", user_255.as_str()),
        ("event_id", upper.as_str()),
        ("timestamp", soon.as_str()),
        ("timestamp", old.as_str()),
        ("properties", "null"),
        ("properties", "{}"),
        ("properties", r#"{"a":{"a":1},"b":[1e400,-0.0,"\/"]}"#),
        ("unknown", r#"[{"a":[]},"b",1,true,null]"#),
    ] {
        let answer = stack.post_text(&batch_of(&stack, &event_with(member, Some(value))));
        assert_eq!(answer.status, 200, "{member} = {value}: {}", answer.text());
    }
    let escaped = event_with("user_id", None).replace('}', r#","us\u0065r_id":"u"}"#);
    let answer = stack.post_text(&batch_of(&stack, &escaped));
    assert_eq!(answer.status, 200, "an escaped member name: {}", answer.text());
    let app_last =
        format!(r#"{{"events":[{}],"app_id":"{}"}}"#, event_with("", None), stack.app_id);
    assert_eq!(stack.post_text(&app_last).status, 200, "app_id after the events");
}

#[test]
fn what_breaks_a_rule_is_named_by_index_field_and_rule() {
    let stack = stack();
    let name_101 = format!("\"{}\"", "ä".repeat(101));
    let user_256 = format!("\"{}\"", "u".repeat(256));
    let late = format!("\"{}\"", now_plus(Duration::minutes(6)));
    let ancient = format!("\"{}\"", now_plus(Duration::days(-402)));
    let nil = format!("\"{NIL}\"");
    for (member, value) in [
        ("event_name", Some(name_101.as_str())),
        ("event_name", Some("\"\"")),
        ("event_name", Some("7")),
        ("event_name", None),
        ("user_id", Some(user_256.as_str())),
        ("user_id", Some("\"\"")),
        ("user_id", None),
        ("event_id", Some("\"x\"")),
        ("event_id", Some(nil.as_str())),
        ("event_id", Some("\"{11111111-1111-4111-8111-111111111111}\"")),
        ("event_id", None),
        ("timestamp", Some(late.as_str())),
        ("timestamp", Some(ancient.as_str())),
        ("timestamp", Some("\"2026-02-30T00:00:00Z\"")),
        ("timestamp", Some("\"yesterday\"")),
        ("timestamp", Some("1700000000")),
        ("timestamp", None),
        ("properties", Some("[]")),
        ("properties", Some("\"{}\"")),
    ] {
        let what = format!("{member} = {value:?}");
        let good = event_with("", None);
        let bad = event_with(member, value);
        let answer = stack.post_text(&batch_of(&stack, &format!("{good},{bad}")));
        check(&answer, 400, "VALIDATION_ERROR", &what);
        let place = format!("events[1].{member}");
        assert!(answer.text().contains(&place), "{what}: {}", answer.text());
    }
}

#[test]
fn the_batch_itself_has_rules() {
    let stack = stack();
    let app = &stack.app_id;
    let event = event_with("", None);
    let many = vec![event.as_str(); EVENTS_PER_BATCH_MAX + 1].join(",");
    let long =
        event_with("properties", Some(&format!("{{\"a\":\"{}\"}}", "x".repeat(EVENT_BYTES_MAX))));
    for (body, what) in [
        (format!(r#"{{"app_id":"{app}","events":[]}}"#), "no events"),
        (format!(r#"{{"app_id":"{app}"}}"#), "events missing"),
        (format!(r#"{{"app_id":"{app}","events":{{}}}}"#), "events not a list"),
        (format!(r#"{{"events":[{event}]}}"#), "app_id missing"),
        (format!(r#"{{"app_id":"x","events":[{event}]}}"#), "app_id no uuid"),
        (format!(r#"{{"app_id":"{app}","events":[{many}]}}"#), "1,001 events"),
        (format!(r#"{{"app_id":"{app}","events":[{long}]}}"#), "a long event"),
    ] {
        check(&stack.post_text(&body), 400, "VALIDATION_ERROR", what);
    }
    let foreign = format!(r#"{{"app_id":"{}","events":[{event}]}}"#, uuid::Uuid::new_v4());
    check(&stack.post_text(&foreign), 403, "FORBIDDEN", "another app");
}

#[test]
fn invalid_json_is_refused_with_its_place() {
    let stack = stack();
    let deep = format!("{}{}", "[".repeat(64), "]".repeat(64));
    let inside = |properties: &str| batch_of(&stack, &event_with("properties", Some(properties)));
    let event = event_with("", None);
    let twice = event.replacen('{', "{\"user_id\":\"v\",", 1);
    for (body, what) in [
        (String::new(), "nothing"),
        ("[]x".to_owned(), "trailing"),
        (format!("\u{feff}{}", batch_of(&stack, &event)), "a byte order mark"),
        (format!("{} x", batch_of(&stack, &event)), "trailing bytes"),
        (batch_of(&stack, &format!("{event},")), "a trailing comma"),
        (batch_of(&stack, &twice), "a member twice"),
        (inside(r#"{"a":01}"#), "a leading zero"),
        (inside(r#"{"a":NaN}"#), "NaN"),
        (inside(r#"{"a":"\x"}"#), "a bad escape"),
        (inside(r#"{"a":"\ud800"}"#), "a lone surrogate"),
        (inside(r#"{"a":"\u12g4"}"#), "bad hex"),
        (inside("{\"a\":\"\n\"}"), "a raw control"),
        (inside(&format!("{{\"a\":{deep}}}")), "depth"),
        (batch_of(&stack, &event)[..60].to_owned(), "cut off"),
    ] {
        let answer = stack.post_text(&body);
        check(&answer, 400, "INVALID_REQUEST", what);
        let body = answer.json();
        let details = body["details"].as_str().unwrap_or_default();
        assert!(
            details.contains(|c: char| c.is_ascii_digit()),
            "{what}: a byte offset in {details:?}"
        );
    }
    let mut body = inside(r#"{"a":"Z"}"#).into_bytes();
    let place = body.iter().position(|&byte| byte == b'Z').expect("it stands there");
    body[place] = 0xff;
    let headers = stack.post_headers();
    let answer = stack.client().request("POST", "/api/v1/events", &headers, &body);
    check(&answer, 400, "INVALID_REQUEST", "invalid UTF-8");
}

fn stored(answer: &Response) -> (u16, Value, Value) {
    let body = answer.json();
    (
        answer.status,
        body["data"]["events_received"].clone(),
        body["data"]["events_rejected"].clone(),
    )
}

#[test]
fn partial_stores_the_good_and_names_the_bad() {
    let stack = stack();
    let post = |body: &str| {
        let headers = stack.post_headers();
        stack.client().request("POST", "/api/v1/events?partial=1", &headers, body.as_bytes())
    };
    let good = || event_with("", None);
    let bad = || event_with("event_name", Some("\"\""));
    let answer = post(&batch_of(&stack, &format!("{},{},{}", good(), bad(), good())));
    assert_eq!(stored(&answer), (200, Value::from(2), Value::from(1)), "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["meta"]["count"], 2);
    let error = &body["data"]["errors"][0];
    assert_eq!((&error["index"], &error["field"]), (&Value::from(1), &Value::from("event_name")));
    assert!(error["code"].is_string() && error["message"].is_string(), "{body}");

    let answer = post(&batch_of(&stack, &format!("{},{}", bad(), bad())));
    assert_eq!(stored(&answer), (200, Value::from(0), Value::from(2)), "{}", answer.text());

    let all_bad: Vec<String> = (0..150).map(|_| bad()).collect();
    let answer = post(&batch_of(&stack, &all_bad.join(",")));
    assert_eq!(stored(&answer), (200, Value::from(0), Value::from(150)));
    assert_eq!(answer.json()["data"]["errors"].as_array().map(Vec::len), Some(100));

    check(&post("{"), 400, "INVALID_REQUEST", "grammar is judged as ever");
    check(&post(r#"{"app_id":"x","events":[]}"#), 400, "VALIDATION_ERROR", "so is the batch");
}

fn compressed(encoding: &str, body: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::default();
    match encoding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(body).expect("memory takes it");
            encoder.finish().expect("memory takes it")
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(body).expect("memory takes it");
            encoder.finish().expect("memory takes it")
        }
        "zstd" => zstd::encode_all(body, 3).expect("memory takes it"),
        _ => body.to_owned(),
    }
}

#[test]
fn compressed_bodies_are_inflated_and_bounded() {
    let stack = Stack::start(StackOptions::engine_alone().set("limits.body_bytes_max=1048576"));
    let body = Batch::of(100, "n", 10).json(&stack.app_id);
    let post = |encoding: &str, body: &[u8]| {
        let headers = [("X-API-Key", stack.api_key.as_str()), ("Content-Encoding", encoding)];
        stack.client().request("POST", "/api/v1/events", &headers, body)
    };
    for encoding in ["gzip", "deflate", "zstd", "identity", "GZIP"] {
        let answer = post(encoding, &compressed(&encoding.to_lowercase(), body.as_bytes()));
        assert_eq!(answer.status, 200, "{encoding}: {}", answer.text());
    }
    check(&post("br", body.as_bytes()), 415, "UNSUPPORTED_MEDIA_TYPE", "an unknown coding");
    check(&post("gzip", body.as_bytes()), 400, "INVALID_REQUEST", "not gzip at all");
    let bomb = vec![b' '; 64 * 1024 * 1024];
    for encoding in ["gzip", "deflate", "zstd"] {
        let answer = post(encoding, &compressed(encoding, &bomb));
        check(&answer, 413, "PAYLOAD_TOO_LARGE", encoding);
    }
    let cut = compressed("gzip", body.as_bytes());
    check(&post("gzip", &cut[..cut.len() - 4]), 400, "INVALID_REQUEST", "cut off");
}

/// Each request breaks one more rule than the one before it in the order of judgement.
#[test]
fn the_order_of_judgement() {
    let stack = stack();
    let key = ("X-API-Key", stack.api_key.as_str());
    let (no_key, xml, br) =
        (("X-API-Key", "no"), ("Content-Type", "text/xml"), ("Content-Encoding", "br"));
    let expect = ("Expect", "a-miracle");
    for (method, path, headers, status, code) in [
        ("PUT", "/nowhere", vec![no_key, expect, xml], 404, "NOT_FOUND"),
        ("PUT", "/api/v1/events", vec![no_key, expect, xml], 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/api/v1/events", vec![no_key, expect, xml], 401, "UNAUTHORIZED"),
        ("POST", "/api/v1/events", vec![expect, xml], 401, "UNAUTHORIZED"),
        ("POST", "/api/v1/events", vec![key, expect, xml], 417, "EXPECTATION_FAILED"),
        ("POST", "/api/v1/events", vec![key, xml], 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("POST", "/api/v1/events", vec![key, br], 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("POST", "/api/v1/events", vec![key], 400, "INVALID_REQUEST"),
    ] {
        let mut client = stack.client();
        let answer = client.request(method, path, &headers, b"{");
        check(&answer, status, code, &format!("{method} {path} {headers:?}"));
        if status == 405 {
            let allow = answer.header("allow").unwrap_or_default();
            assert!(allow.contains("POST"), "Allow: {allow}");
        }
        // None of these is a framing error: the connection goes on.
        let good = Batch::one(Event::new("n", "u")).json(&stack.app_id);
        let next = client.request("POST", "/api/v1/events", &[key], good.as_bytes());
        assert_eq!(next.status, 200, "after {status}: {}", next.text());
    }
}

#[test]
fn all_drivers_and_several_shards_answer_alike() {
    for driver in Driver::ALL {
        let options = StackOptions { cores: 2, ..StackOptions::engine_alone().driver(driver) };
        let stack = Stack::start(options);
        for _ in 0..20 {
            stack.post_ok(&Batch::of(50, "n", 5));
        }
        check(&stack.post_text("{"), 400, "INVALID_REQUEST", driver.name());
    }
}
