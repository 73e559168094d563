//! `--verify` against a stand-in that keeps what it acknowledges, loses some of it, stores some
//! twice, or cuts the connection before the answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::stand_in::{Finished, Reply, Request, answer, load, load_exactly, reply, serve};
use serde_json::{Value, json};

/// Rows by user, in a stand-in for ingestion and API at once.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<BTreeMap<String, Vec<Value>>>>);

impl Store {
    fn add(&self, event: &Value) {
        let user = event["user_id"].as_str().unwrap().to_owned();
        self.0.lock().unwrap().entry(user).or_default().push(event.clone());
    }

    fn answer(&self, path: &str) -> Reply {
        let (path, query) = path.split_once('?').unwrap();
        let users = self.0.lock().unwrap();
        let data = if let Some(user) = path.strip_prefix("/api/v1/users/") {
            let rows = users.get(user.strip_suffix("/events").unwrap());
            json!(rows.map_or(&[][..], Vec::as_slice))
        } else {
            assert_eq!(path, "/api/v1/analytics/events/count");
            // Without a name, all are asked for.
            let name = query.rsplit_once("event_name=").map(|(_, name)| name);
            let asked = |event: &&Value| name.is_none_or(|name| event["event_name"] == name);
            json!({"count": users.values().flatten().filter(asked).count()})
        };
        Reply::Pieces(vec![answer(200, &json!({"status": "success", "data": data}).to_string())])
    }
}

/// Runs a verified load; `store` is called for every request with what it holds and what to do.
fn check(
    flags: &[&str],
    ingest: impl Fn(&Request, &[Value], &Store) -> Reply + Send + Sync + 'static,
) -> Finished {
    let store = Store::default();
    let address = serve(move |request| {
        if request.body.is_empty() {
            return store.answer(&request.path);
        }
        ingest(request, request.json()["events"].as_array().unwrap(), &store)
    });
    let api = format!("http://{address}");
    let fixed = ["--connections", "3", "--batch", "25", "--verify", &api, "--verify-wait", "1"];
    load_exactly(60, address, &[&fixed[..], flags].concat())
}

fn counts(run: &Finished) -> [u64; 5] {
    ["acknowledged", "found", "missing", "doubled", "unknown_found"]
        .map(|name| run.json["verify"][name].as_u64().unwrap())
}

#[test]
fn all_there() {
    let run = check(&[], |_, events, store| {
        events.iter().for_each(|event| store.add(event));
        reply(200)
    });
    assert_eq!(counts(&run), [1500, 1500, 0, 0, 0], "{}", run.stdout);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
}

#[test]
fn lost_events_are_missing() {
    let run = check(&[], |request, events, store| {
        let lose = usize::from(request.number == 3);
        events[lose..].iter().for_each(|event| store.add(event));
        reply(200)
    });
    assert_eq!(counts(&run), [1500, 1497, 3, 0, 0], "{}", run.stdout);
    assert_eq!(run.json["verify"]["count_deficit"], 3);
    assert_eq!(run.code, Some(5));
}

#[test]
fn events_stored_twice_are_doubled() {
    let run = check(&[], |request, events, store| {
        events.iter().for_each(|event| store.add(event));
        if request.number == 3 {
            store.add(&events[7]);
        }
        reply(200)
    });
    assert_eq!(counts(&run), [1500, 1500, 0, 3, 0], "{}", run.stdout);
    assert_eq!(run.json["verify"]["count_surplus"], 3);
    assert_eq!(run.code, Some(5));
}

/// Cut before the answer, or answered 503: stored or not, both are right.
#[test]
fn unanswered_events_may_be_there_or_not() {
    let run = check(&[], |request, events, store| {
        if request.number != 5 {
            events.iter().for_each(|event| store.add(event));
        }
        match request.number {
            4 => reply(503),
            5 | 9 => Reply::Close,
            _ => reply(200),
        }
    });
    let verify = &run.json["verify"];
    let lost = run.json["lost"].as_u64().unwrap();
    let refused = run.json["status"]["503"].as_u64().unwrap();
    assert!(lost > 0 && refused > 0, "{}", run.stdout);
    assert_eq!(verify["unknown"].as_u64().unwrap(), (lost + refused) * 25);
    let [acknowledged, found, missing, doubled, unknown_found] = counts(&run);
    assert_eq!((found, missing, doubled), (acknowledged, 0, 0), "{}", run.stdout);
    assert!(unknown_found >= refused * 25 && unknown_found < (lost + refused) * 25);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
}

#[test]
fn a_sample_says_so() {
    let run = check(&["--verify-users-max", "10"], |_, events, store| {
        events.iter().for_each(|event| store.add(event));
        reply(200)
    });
    let verify = &run.json["verify"];
    assert_eq!((&verify["users"], &verify["users_checked"]), (&48.into(), &10.into()));
    assert_eq!(verify["acknowledged"], 1500);
    assert_eq!(verify["looked_for"], verify["found"]);
    assert!(verify["found"].as_u64().unwrap() < 1500);
    assert!(run.stdout.contains("a sample: 10 of 48 users"), "{}", run.stdout);
}

/// Counting millions of rows beside a full-speed consumer may run past the API's time limit.
#[test]
fn an_api_that_is_too_busy_is_asked_again() {
    let (store, asked) = (Store::default(), AtomicU64::new(0));
    let address = serve(move |request| {
        if !request.body.is_empty() {
            let json = request.json();
            json["events"].as_array().unwrap().iter().for_each(|event| store.add(event));
            return reply(200);
        }
        // Every third is answered: counts and timelines alike.
        let answered = asked.fetch_add(1, Ordering::Relaxed) % 3 == 2;
        if answered { store.answer(&request.path) } else { reply(500) }
    });
    let api = format!("http://{address}");
    let flags = ["--connections", "1", "--batch", "5", "--verify", &api, "--verify-wait", "1"];
    let run = load_exactly(10, address, &flags);
    assert_eq!(counts(&run), [50, 50, 0, 0, 0], "{}", run.stdout);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

#[test]
fn an_api_that_is_always_too_busy_is_not_a_pass() {
    let address = serve(|request| reply(if request.body.is_empty() { 503 } else { 200 }));
    let api = format!("http://{address}");
    let flags = ["--rate", "20", "--duration", "1", "--verify-wait", "1", "--verify", &api];
    let run = load(address, &flags);
    assert_eq!(run.code, Some(5));
    assert!(run.stderr.contains("503 to /api/v1/analytics/events/count"), "{}", run.stderr);
}

#[test]
fn an_api_that_refuses_is_not_a_pass() {
    let address = serve(|request| reply(if request.body.is_empty() { 401 } else { 200 }));
    let api = format!("http://{address}");
    let flags = ["--rate", "20", "--duration", "1", "--verify-wait", "1", "--verify", &api];
    let run = load(address, &flags);
    assert_eq!(run.code, Some(5));
    assert!(run.stderr.contains("401"), "{}", run.stderr);
}
