//! `search` against stand-ins whose capacity is known.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::stand_in::{
    Finished, Reply, Seen, answer, load, load_where_endpoints_say, reply, serve,
};

/// Every answer takes 20 ms of its connection: with two connections, 100 requests a second.
fn a_hundred_a_second() -> Reply {
    std::thread::sleep(Duration::from_millis(20));
    reply(200)
}

fn search(flags: &[&str], answer: impl Fn() -> Reply + Send + Sync + 'static) -> Finished {
    let address = serve(move |_| answer());
    let fixed =
        ["search", "--connections", "2", "--batch", "5", "--duration", "1", "--rest", "1ms"];
    load(address, &[&fixed[..], flags].concat())
}

#[test]
fn the_knee_lies_below_the_capacity() {
    let flags = ["--bound", "p99<150ms", "--start", "20", "--precision", "50%"];
    let run = search(&flags, a_hundred_a_second);
    let knee = &run.json["knee"];
    let rate = knee["requests_per_s"].as_u64().unwrap_or_default();
    // A machine busy with other things may answer less, and may be the limit itself.
    assert!((10..=115).contains(&rate), "{}", run.stdout);
    let steps = run.json["steps"].as_array().unwrap();
    assert_eq!(run.stdout.lines().count(), steps.len() + 1, "{}", run.stdout);
    let held = |step: &&Value| step["verdict"] == "held";
    assert!(steps.iter().filter(held).all(|s| s["rate"].as_u64() < Some(115)), "{}", run.stdout);
    assert!(!steps.iter().all(|step| held(&step)), "{}", run.stdout);
    let last = steps.last().unwrap();
    assert_eq!((&last["phase"], &last["verdict"]), (&"confirming".into(), &"held".into()));
    assert_eq!(last["report"]["config"]["duration_s"], 2.0);
    assert!(run.stdout.lines().last().unwrap().starts_with(knee["found"].as_str().unwrap()));
    let conclusive = knee["found"] == "knee";
    assert_eq!(run.code, Some(if conclusive { 0 } else { 6 }), "{}", run.stdout);
    // Every step sends ids of its own.
    assert_ne!(steps[0]["report"]["config"]["run"], steps[1]["report"]["config"]["run"]);
}

#[test]
fn errors_break_a_rate_too() {
    let flags = ["--bound", "p99<9s", "--start", "4", "--tries", "1"];
    let run = search(&flags, || reply(503));
    assert_eq!(run.code, Some(6), "{}", run.stdout);
    assert_eq!(run.json["knee"]["found"], "nothing", "{}", run.stdout);
    assert!(run.stdout.contains("100% of the requests were refused"), "{}", run.stdout);
}

#[test]
fn the_highest_rate_allowed_may_hold() {
    // What a busy machine delays beyond the end of a step is not the question here.
    let flags = ["--bound", "p50<9s", "--start", "5", "--max", "10", "--error-bound", "50%"];
    let run = search(&flags, || reply(200));
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    assert_eq!(run.json["knee"]["found"], "maximum");
    let rates: Vec<_> = run.json["steps"].as_array().unwrap().iter().map(|s| &s["rate"]).collect();
    assert_eq!(rates, [5, 10, 10]);
    assert_eq!(run.json["knee"]["requests_per_s"], 10);
}

/// The stand-in's journal empties by half at each look; the next step begins when little is left.
#[test]
fn a_step_waits_until_the_backlog_is_gone() {
    let backlog_bytes = AtomicU64::new(1 << 30);
    let began_with = Seen::default();
    let seen = began_with.clone();
    let address = serve(move |request| {
        if request.path != "/metrics" {
            began_with.push(backlog_bytes.load(Ordering::Relaxed));
            return reply(200);
        }
        let now = backlog_bytes.load(Ordering::Relaxed) / 2;
        backlog_bytes.store(now, Ordering::Relaxed);
        let page = format!("unmogrowp_journal_backlog_bytes {now}\n");
        Reply::Pieces(vec![answer(200, &page)])
    });
    let dir = tempfile::tempdir().unwrap();
    let endpoints = dir.path().join("endpoints.json");
    let text = format!(r#"{{"ingest":"http://{address}","admin":"http://{address}"}}"#);
    std::fs::write(&endpoints, text).unwrap();
    let fixed =
        ["search", "--bound", "p50<9s", "--error-bound", "50%", "--start", "5", "--max", "5"];
    let more = ["--duration", "1", "--rest", "1ms", "--endpoints", endpoints.to_str().unwrap()];
    let run = load_where_endpoints_say(&[&fixed[..], &more].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let steps = run.json["steps"].as_array().unwrap();
    let told: Vec<_> = steps.iter().map(|step| step["backlog_bytes"].as_u64()).collect();
    assert_eq!(told, [None, Some(16 << 20)], "{}", run.stdout);
    let seen = seen.take();
    assert_eq!((seen.first(), seen.last()), (Some(&(1 << 30)), Some(&(16 << 20))));
}

#[test]
fn flags_that_a_search_does_not_have_are_refused() {
    let address = "127.0.0.1:1".parse().unwrap();
    let bound = ["search", "--bound", "p99<1ms"];
    for (flags, named) in [
        (&["--rate", "5"][..], "--rate: search chooses the rates"),
        (&["--stages", "1s@5"], "--stages: search chooses the rates"),
        (&["--bound", "errors<1"], "a bound is a latency"),
        (&["--error-bound", "5"], "0.1%"),
        (&["--precision", "90%"], "0.1% to 50%"),
    ] {
        let run = load(address, &[&bound[..], flags].concat());
        assert_eq!(run.code, Some(2), "{flags:?}: {}", run.stderr);
        assert!(run.stderr.contains(named), "{flags:?}: {}", run.stderr);
    }
}
