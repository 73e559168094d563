use std::collections::HashSet;

use serde_json::Value;

use super::*;

const APP: &str = "6f1c2f4e-0000-4000-8000-000000000001";

fn template(traffic: &Traffic, batch: u64, event_bytes: usize) -> RequestTemplate {
    let target = Target::parse("http://127.0.0.1:8080").unwrap();
    let sizes = vec![event_bytes; batch as usize];
    RequestTemplate::new(&target, &app(), RunId::from_seed(1), traffic, &sizes, batch).unwrap()
}

fn app() -> App {
    App { id: APP.to_owned(), key: "key".to_owned() }
}

/// The body of a request, after checking its head.
fn body(request: &[u8]) -> Value {
    let text = std::str::from_utf8(request).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"));
    assert!(head.contains("\r\nX-API-Key: key\r\n"));
    assert!(head.ends_with(&format!("\r\nContent-Length: {}", body.len())));
    serde_json::from_str(body).unwrap()
}

fn stamp() -> Stamp {
    Stamp::new(time::macros::datetime!(2026-01-02 03:04:05.678 +01:00), 1)
}

fn patched(template: &RequestTemplate, connection: u64, number: u64) -> Value {
    let mut request = template.bytes().to_vec();
    template.patch(&mut request, connection, number);
    template.patch_timestamps(&mut request, &stamp());
    body(&request)
}

#[test]
fn patched_requests_are_json_with_ids_of_their_own() {
    for traffic in
        [Traffic::ordinary(Users::Shared { count: 5 }), Traffic::traceable(RunId::from_seed(1))]
    {
        for batch in [1, 7, 20] {
            check_patched(&traffic, batch);
        }
    }
}

fn check_patched(traffic: &Traffic, batch: u64) {
    let template = template(traffic, batch, 300);
    let mut ids = HashSet::new();
    for (connection, number) in [(0, 0), (0, 1), (1, 0), (3, 1 << 30)] {
        let body = patched(&template, connection, number);
        assert_eq!(body["app_id"], APP);
        let events = body["events"].as_array().unwrap();
        assert_eq!(events.len() as u64, batch);
        for (index, event) in (0..).zip(events) {
            let serial = number * batch + index;
            let id = event["event_id"].as_str().unwrap();
            assert_eq!(id.len(), 36);
            assert_eq!(
                event_id::low_half_of_text(id),
                Some(event_id::low_half(connection, serial))
            );
            assert!(ids.insert(id.to_owned()));
            assert_eq!(event["event_name"], traffic.names[serial as usize % 10]);
            assert_eq!(event["timestamp"], "2026-01-02T02:04:05.678Z");
            assert_eq!(event["properties"]["title"], "Größe \"L\"");
        }
    }
}

#[test]
fn events_have_the_size_asked_for() {
    let traffic = Traffic::ordinary(Users::Shared { count: 5 });
    for event_bytes in [200, 270, 1_000, proto::limits::EVENT_BYTES_MAX] {
        let two = template(&traffic, 2, event_bytes).bytes().len();
        let three = template(&traffic, 3, event_bytes).bytes().len();
        assert!((event_bytes + 1..=event_bytes + 2).contains(&(three - two)), "{event_bytes}");
        patched(&template(&traffic, 2, event_bytes), 0, 0);
    }
}

#[test]
fn events_of_a_request_may_differ_in_size() {
    let target = Target::parse("http://127.0.0.1:8080").unwrap();
    let traffic = Traffic::ordinary(Users::Shared { count: 5 });
    let sizes = [200, 1_000, 270];
    let run = RunId::from_seed(1);
    let template = RequestTemplate::new(&target, &app(), run, &traffic, &sizes, 10).unwrap();
    let mut ids = HashSet::new();
    for number in 0..3 {
        for event in patched(&template, 0, number)["events"].as_array().unwrap() {
            assert!(ids.insert(event["event_id"].to_string()));
        }
    }
    assert_eq!(ids.len(), 9);
}

#[test]
fn impossible_sizes_are_refused() {
    let traffic = Traffic::ordinary(Users::Shared { count: 5 });
    let target = Target::parse("http://h").unwrap();
    for event_bytes in [0, 100, proto::limits::EVENT_BYTES_MAX + 1] {
        let run = RunId::from_seed(1);
        let made = RequestTemplate::new(&target, &app(), run, &traffic, &[event_bytes], 1);
        let Err(TemplateError::EventBytes { min, max, .. }) = made else { panic!("{event_bytes}") };
        for fits in [min, max] {
            patched(&template(&traffic, 1, fits), 0, 0);
        }
    }
}

#[test]
fn a_connections_users_have_exactly_its_events() {
    let traffic = Traffic::traceable(RunId::from_seed(1));
    for events in [0, 1, 15, 16, 17, 12_799, 12_800, 12_801, 30_000] {
        let mut seen = HashSet::new();
        for user in 0..users_of_connection(events) {
            let mut count = 0;
            for event in events_of_user(user, events) {
                count += 1;
                assert!(seen.insert(event));
                let number = traffic.users.number(9, event, 0);
                assert_eq!(number, per_connection_number(9, user), "event {event}");
            }
            assert!((1..=EVENTS_PER_USER).contains(&count), "{events} {user} {count}");
        }
        assert_eq!(seen.len() as u64, events);
    }
}

#[test]
fn user_ids_are_what_the_events_say() {
    let traffic = Traffic::traceable(RunId::from_seed(1));
    let body = patched(&template(&traffic, 20, 300), 5, 0);
    let users: Vec<_> = body["events"].as_array().unwrap().iter().map(|e| &e["user_id"]).collect();
    assert_eq!(users[0], &traffic.user_id(5, 0));
    assert_eq!(users[15], &traffic.user_id(5, 15));
    assert_eq!(users[16], &traffic.user_id(5, 0));
}
