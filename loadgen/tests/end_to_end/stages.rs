//! Stages and ramps: what is due by the integral of the rate is sent, when it is due.

use std::time::{Duration, Instant};

use crate::stand_in::{Seen, load, reply, serve};

#[test]
fn every_request_of_every_stage_is_sent_in_its_time() {
    let start = Instant::now();
    let seen = Seen::default();
    let arrivals = seen.clone();
    let address = serve(move |_| {
        arrivals.push(start.elapsed());
        reply(200)
    });
    // 40, then 20 + 80 on the average of the ramp, nothing for a while, and 10.
    let stages = "1s@40,1s@40..160,500ms@0,500ms@20";
    let run = load(address, &["--stages", stages, "--connections", "3", "--batch", "1"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(run.json["status"], serde_json::json!({"200": 150}));
    assert_eq!((&run.json["unsent"], &run.json["errors"]), (&0.into(), &0.into()));
    let config = &run.json["config"];
    assert_eq!((&config["stages"], &config["duration_s"]), (&stages.into(), &3.0.into()));
    assert!(config["rate"].is_null());

    let mut arrivals = seen.take();
    arrivals.sort();
    let first: Duration = arrivals[0];
    let in_second = |from_ms: u64, to_ms: u64| {
        let range = Duration::from_millis(from_ms)..Duration::from_millis(to_ms);
        arrivals.iter().filter(|&&at| range.contains(&(at - first))).count()
    };
    // Late by up to 100 ms on a busy machine.
    assert!((36..=44).contains(&in_second(0, 1_000)), "{}", in_second(0, 1_000));
    assert!((25..=36).contains(&in_second(1_000, 1_500)), "{}", in_second(1_000, 1_500));
    assert!(in_second(2_150, 2_480) == 0, "{}", in_second(2_150, 2_480));
    assert!((8..=11).contains(&in_second(2_480, 9_000)), "{}", in_second(2_480, 9_000));
}

#[test]
fn stages_that_contradict_other_flags_are_refused() {
    let address = "127.0.0.1:1".parse().unwrap();
    for (flags, named) in [
        (&["--stages", "1s@10", "--rate", "5"][..], "--stages"),
        (&["--stages", "1s@10", "--duration", "5"], "--stages"),
        (&["--stages", "1s@10..x"], "\"x\" is not a rate from 0 to 100000000"),
        (&["--stages", "1s"], "TIME@RATE"),
        (&["--stages", "1s@0"], "nothing is due"),
    ] {
        let run = load(address, flags);
        assert_eq!(run.code, Some(2), "{flags:?}: {}", run.stderr);
        assert!(run.stderr.contains(named), "{flags:?}: {}", run.stderr);
    }
}
