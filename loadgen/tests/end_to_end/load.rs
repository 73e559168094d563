//! The generator's binary against a stand-in server: what it sends, what it counts, how it ends.

use std::collections::{BTreeMap, HashSet};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tests::servers::ReservedPort;

use crate::stand_in::{Reply, Seen, answer, load, load_exactly, load_meanwhile, reply, serve};

#[test]
fn a_run_reports_what_was_answered() {
    let seen = Seen::default();
    let requests = seen.clone();
    let address = serve(move |request| {
        requests.push((request.path.clone(), request.json()));
        reply(200)
    });
    let run = load_exactly(50, address, &["--connections", "3", "--batch", "2"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let requests = seen.take();
    assert_eq!(requests.len(), 50);
    assert!(requests.iter().all(|(path, _)| path == "/api/v1/events"));
    let ids: HashSet<_> = requests
        .iter()
        .flat_map(|(_, body)| body["events"].as_array().unwrap())
        .map(|event| event["event_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 100);
    let json = &run.json;
    assert_eq!(json["status"], serde_json::json!({"200": 50}));
    assert_eq!((json["errors"].as_u64(), json["events"].as_u64()), (Some(0), Some(100)));
    let busy_share = json["generator"]["busy_share"].as_f64().unwrap();
    assert!(busy_share > 0.0 && busy_share < 1.5, "{busy_share}");
    for latencies in ["latency_us", "corrected_latency_us"] {
        for name in ["p50", "p90", "p99", "p999", "p9999", "max"] {
            assert!(json[latencies][name].as_f64().unwrap() > 0.0, "{latencies}.{name}");
        }
    }
    assert!(json["server"]["rss_bytes"].as_u64().unwrap() > 0);
    assert!(run.stdout.contains("100 events"), "{}", run.stdout);
}

#[test]
fn a_seed_reproduces_the_ids() {
    let ids_of = |seed: &str| {
        let seen = Seen::default();
        let ids = seen.clone();
        let address = serve(move |request| {
            ids.push(request.json()["events"][0]["event_id"].to_string());
            reply(200)
        });
        load_exactly(20, address, &["--seed", seed, "--batch", "1"]);
        let mut ids = seen.take();
        ids.sort();
        assert_eq!(ids.len(), 20);
        ids
    };
    assert_eq!(ids_of("7"), ids_of("7"));
    assert_ne!(ids_of("7"), ids_of("8"));
}

/// The stand-in answers nothing before it has all 16 requests of a connection; then status 200 for
/// even ones and 503 for odd ones, all in one piece.
#[test]
fn pipelined_answers_are_matched_in_order() {
    let address = serve(|request| match request.number % 16 {
        15 => {
            let all = (0..16).flat_map(|k| answer(if k % 2 == 0 { 200 } else { 503 }, "xyz"));
            Reply::Pieces(vec![all.collect()])
        }
        _ => Reply::Pieces(vec![]),
    });
    let flags = ["--pipeline", "16", "--connections", "1", "--batch", "1"];
    let run = load_exactly(160, address, &flags);
    assert_eq!(run.json["status"], serde_json::json!({"200": 80, "503": 80}));
    assert_eq!(run.json["lost"], 0);
}

/// Every answer takes 50 ms on one connection, so that 20 of the 100 requests of the second are
/// answered in time: the raw latency stays at 50 ms, the corrected one shows the queue.
#[test]
fn slow_answers_show_in_the_corrected_latency() {
    let (_never, stalled) = mpsc::channel::<()>();
    let stalled = std::sync::Mutex::new(stalled);
    let address = serve(move |_| {
        // Waits for what never comes: the answer's own duration, not a wait for another thread.
        let _ = stalled.lock().unwrap().recv_timeout(Duration::from_millis(50));
        reply(200)
    });
    let flags = ["--connections", "1", "--rate", "100", "--duration", "1", "--batch", "1"];
    let run = load(address, &flags);
    let ms = |latencies: &str, name: &str| run.json[latencies][name].as_f64().unwrap() / 1e3;
    assert!((50.0..300.0).contains(&ms("latency_us", "p50")), "{}", run.stdout);
    assert!(ms("corrected_latency_us", "p50") > 300.0, "{}", run.stdout);
    assert!(ms("corrected_latency_us", "max") > 700.0, "{}", run.stdout);
    let (requests, unsent) =
        (run.json["requests"].as_u64().unwrap(), run.json["unsent"].as_u64().unwrap());
    assert_eq!(requests + unsent, 100);
    assert!(unsent >= 70, "{unsent}");
    // The connection was not free: that is no lateness of the generator.
    let late_ms = run.json["generator"]["late_p99_us"].as_f64().unwrap() / 1e3;
    assert!(late_ms < ms("corrected_latency_us", "p99") / 2.0, "{}", run.json);
    assert_eq!(run.json["errors"], 0);
}

#[test]
fn connections_that_the_server_closes_are_made_again() {
    let address = serve(|request| if request.number == 4 { Reply::Close } else { reply(200) });
    let run = load_exactly(100, address, &["--connections", "2", "--batch", "1"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    // Every fifth request of a connection is lost with it, 10 of the 50 of each.
    assert_eq!(run.json["lost"], 20);
    assert_eq!(run.json["errors"], 20);
    assert_eq!(run.json["status"], serde_json::json!({"200": 80}));
    assert_eq!(run.json["connections_lost"], 20);
}

#[test]
fn an_announced_close_loses_nothing() {
    let address = serve(|_| {
        let text = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        Reply::Pieces(vec![text.to_vec()])
    });
    let run = load_exactly(40, address, &["--connections", "2", "--batch", "1"]);
    assert_eq!(run.json["status"], serde_json::json!({"200": 40}));
    assert_eq!((&run.json["lost"], &run.json["errors"]), (&0.into(), &0.into()));
    assert_eq!(run.json["connections_lost"], 40);
}

/// One answer at once, and then nothing is due for the rest of the two seconds.
#[test]
fn an_early_last_answer_makes_no_high_rate() {
    let address = serve(|_| reply(200));
    let run = load(address, &["--stages", "1s@1,1s@0", "--batch", "5"]);
    let number = |name: &str| run.json[name].as_f64().unwrap();
    assert_eq!((number("requests"), number("elapsed_s")), (1.0, 2.0), "{}", run.stdout);
    assert_eq!((number("requests_per_s"), number("events_per_s")), (0.5, 2.5), "{}", run.stdout);
}

#[test]
fn refusals_are_errors_by_status() {
    let address = serve(|request| reply(if request.number % 2 == 0 { 200 } else { 503 }));
    let run_until = |conditions: &[&str]| {
        let conditions = conditions.iter().flat_map(|condition| ["--fail-if", condition]);
        let flags: Vec<_> = ["--connections", "1"].into_iter().chain(conditions).collect();
        load_exactly(40, address, &flags)
    };
    let run = run_until(&["errors>20"]);
    assert_eq!(run.json["status"], serde_json::json!({"200": 20, "503": 20}));
    assert_eq!(run.json["errors"], 20);
    assert_eq!(run.json["events"], 2000);
    assert_eq!(run.code, Some(0));
    let run = run_until(&["errors>=20", "max>1h"]);
    assert_eq!(run.code, Some(2), "1h is not a known unit");
    let run = run_until(&["errors>=20", "p50>9s"]);
    assert_eq!(run.code, Some(4));
    assert!(run.stdout.contains("FAILED errors>=20"), "{}", run.stdout);
    assert_eq!(run.json["failed_thresholds"].as_array().unwrap().len(), 1);
}

#[test]
fn answers_in_pieces_are_read() {
    let address = serve(|_| {
        let whole = answer(200, "{\"status\":\"success\"}");
        Reply::Pieces(whole.iter().map(|&byte| vec![byte]).collect())
    });
    let run = load_exactly(50, address, &["--connections", "2", "--pipeline", "4"]);
    assert_eq!(run.json["status"], serde_json::json!({"200": 50}));
    assert_eq!(run.json["errors"], 0);
}

#[test]
fn answers_that_are_not_http_are_errors() {
    let address = serve(|_| Reply::Pieces(vec![b"220 mail.example ESMTP\r\n".to_vec()]));
    let run = load(address, &["--connections", "1", "--rate", "20", "--duration", "1"]);
    assert_eq!(run.code, Some(0));
    assert_eq!(run.json["status"], serde_json::json!({}));
    assert_eq!(run.json["config"]["rate"], 20);
    assert!(run.json["errors"].as_u64().unwrap() > 0);
    let why = run.json["last_connection_error"].as_str().unwrap();
    assert!(why.contains("not HTTP/1.1"), "{why}");
    let run = load(address, &["--rate", "20", "--duration", "1", "--fail-if", "p50>1s"]);
    assert_eq!(run.code, Some(4), "no answer at all is endless latency");
}

#[test]
fn no_server_has_its_own_exit_code() {
    // That of a listener that was closed would be open for as long as a process that is being started
    // has a copy of it.
    let nobody = ReservedPort::take();
    let begun = Instant::now();
    let run = load(nobody.address(), &[]);
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    assert!(run.stderr.contains("refused"), "{}", run.stderr);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn wrong_command_lines_are_usage_errors() {
    let address = "127.0.0.1:1".parse().unwrap();
    for flags in [&["--batch", "0"][..], &["--event-bytes", "3"], &["--verify"], &["--bogus"]] {
        let run = load(address, flags);
        assert_eq!(run.code, Some(2), "{flags:?}: {}", run.stderr);
    }
}

/// At a constant rate requests of a connection come evenly, not in bursts, and long runs show
/// progress.
#[test]
fn a_constant_rate_is_even() {
    let start = Instant::now();
    let seen = Seen::default();
    let arrivals = seen.clone();
    let address = serve(move |request| {
        arrivals.push((request.connection, start.elapsed()));
        reply(200)
    });
    let flags = ["--connections", "4", "--stages", "3s@100,1s@0", "--batch", "1"];
    let run = load(address, &flags);
    assert!(run.stderr.lines().count() >= 2, "{}", run.stderr);
    let mut by_connection: BTreeMap<usize, Vec<Duration>> = BTreeMap::new();
    for (connection, at) in seen.take() {
        by_connection.entry(connection).or_default().push(at);
    }
    assert_eq!(by_connection.len(), 4);
    for (connection, times) in by_connection {
        assert_eq!(times.len(), 75, "connection {connection}");
        run.check_arrivals(&times, (0..75).map(|k| 0.040 * f64::from(k)));
    }
}

/// A stalled generator sends late what was due, and says that this was its own doing.
#[test]
fn a_generator_that_stood_still_warns() {
    let (first_in, first) = mpsc::sync_channel(1);
    let address = serve(move |_| {
        let _ = first_in.try_send(());
        reply(200)
    });
    let run = load_meanwhile(address, &["--rate", "100", "--duration", "3"], |process| {
        let signal = |name: &str| {
            let sent = Command::new("kill").args([name, &process.to_string()]).status();
            assert!(sent.unwrap().success());
        };
        first.recv_timeout(Duration::from_secs(10)).unwrap();
        signal("-STOP");
        // The duration of the stall, not a wait for anything.
        std::thread::sleep(Duration::from_millis(300));
        signal("-CONT");
    });
    let late_max_us = run.json["generator"]["late_max_us"].as_f64().unwrap();
    assert!(late_max_us > 250_000.0, "{}", run.json);
    let warning = run.json["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("the generator was late"), "{warning}");
    assert!(run.stdout.contains("WARNING the generator was late"), "{}", run.stdout);
}
