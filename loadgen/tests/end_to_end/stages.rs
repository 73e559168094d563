//! Stages and ramps: what is due by the integral of the rate is sent, when it is due.

use std::time::Instant;

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
    // 40, then 100 on the ramp, nothing for a while, and 10; then time for what is late.
    let stages = "1s@40,1s@40..160,500ms@0,500ms@20,1s@0";
    let run = load(address, &["--stages", stages, "--connections", "3", "--batch", "1"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(run.json["status"], serde_json::json!({"200": 150}));
    assert_eq!((&run.json["unsent"], &run.json["errors"]), (&0.into(), &0.into()));
    let config = &run.json["config"];
    assert_eq!((&config["stages"], &config["duration_s"]), (&stages.into(), &4.0.into()));
    assert!(config["rate"].is_null());

    let mut arrivals = seen.take();
    arrivals.sort();
    // In the ramp, 40 t + 60 t² are due after t seconds.
    let due_s = (0..150).map(|number| match f64::from(number) {
        k if k < 40.0 => k / 40.0,
        k if k < 140.0 => 1.0 + ((1_600.0 + 240.0 * (k - 40.0)).sqrt() - 40.0) / 120.0,
        k => 2.5 + (k - 140.0) / 20.0,
    });
    run.check_arrivals(&arrivals, due_s);
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
