//! Mixes of batches, users, apps and wrong requests; connections that come and go, or are slow.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::stand_in::{Reply, Seen, answer, load, load_exactly, reply, serve};

#[test]
fn batches_and_users_are_spread_as_asked() {
    let seen = Seen::default();
    let bodies = seen.clone();
    let address = serve(move |request| {
        bodies.push(request.json());
        reply(200)
    });
    let flags = ["--connections", "2", "--users", "1000"];
    let mixed =
        ["--batch", "1:50%,4:50%", "--event-bytes", "uniform:200..300", "--users-skew", "1"];
    let run = load_exactly(400, address, &[&flags[..], &mixed].concat());
    assert_eq!(run.json["status"], serde_json::json!({"200": 400}), "{}", run.stderr);
    let bodies = seen.take();
    let (mut sizes, mut users, mut ids) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    for body in &bodies {
        let events = body["events"].as_array().unwrap();
        *sizes.entry(events.len()).or_insert(0) += 1;
        for event in events {
            assert!(ids.insert(event["event_id"].to_string()));
            *users.entry(event["user_id"].to_string()).or_insert(0) += 1;
        }
    }
    assert_eq!(run.json["events"].as_u64().unwrap(), ids.len() as u64);
    assert!(sizes.keys().eq(&[1, 4]) && (150..250).contains(&sizes[&1]), "{sizes:?}");
    // The first of 1,000 users has 1 / 7.49 of the events.
    let most = *users.values().max().unwrap();
    assert!((80..190).contains(&most), "{most} of {}", ids.len());
    assert_eq!(run.json["config"]["batch"], "1:50%,4:50%");
}

/// This server takes everything: what it should have refused is an error.
#[test]
fn a_wrong_request_that_is_taken_is_an_error() {
    let address = serve(|_| reply(200));
    let flags = ["--connections", "2", "--batch", "1", "--invalid-share", "25%"];
    let run = load_exactly(400, address, &flags);
    let errors = run.json["errors"].as_u64().unwrap();
    assert!((60..140).contains(&errors), "{}", run.stdout);
    assert_eq!(run.json["events"].as_u64().unwrap(), 400 - errors);
    assert_eq!(run.json["refused"], 0);
}

#[test]
fn a_wrong_request_that_is_rightly_refused_is_none() {
    let address = serve(|request| reply(if request.path == "/api/v1/events" { 200 } else { 404 }));
    let flags = ["--connections", "2", "--batch", "1", "--invalid-share", "80%"];
    let run = load_exactly(400, address, &flags);
    let refused = run.json["refused"].as_u64().unwrap();
    assert_eq!(run.json["status"]["404"].as_u64().unwrap(), refused);
    // One of the eight kinds is the wrong path.
    assert!((20..65).contains(&refused), "{}", run.stdout);
}

#[test]
fn bodies_are_compressed_as_asked() {
    for (compression, magic) in
        [("gzip", &[0x1f, 0x8b][..]), ("zstd", &[0x28, 0xb5, 0x2f, 0xfd]), ("none", b"{")]
    {
        let address =
            serve(move |request| reply(if request.body.starts_with(magic) { 200 } else { 400 }));
        let run = load_exactly(20, address, &["--compression", compression, "--batch", "5"]);
        assert_eq!(run.json["status"], serde_json::json!({"200": 20}), "{}", run.stderr);
        assert_eq!((&run.json["events"], &run.json["errors"]), (&100.into(), &0.into()));
        assert_eq!(run.json["config"]["compression"], compression);
    }
}

#[test]
fn connections_are_closed_after_their_requests() {
    let seen = Seen::default();
    let numbers = seen.clone();
    let address = serve(move |request| {
        numbers.push((request.connection, request.number));
        // All of a connection's answers come at its last request, one after the other.
        let answers = if request.number == 4 { 5 } else { 0 };
        Reply::Pieces(vec![answer(200, "{}"); answers])
    });
    let flags = ["--connections", "2", "--batch", "1", "--requests-per-connection", "5"];
    let run = load_exactly(100, address, &[&flags[..], &["--pipeline", "5"]].concat());
    assert_eq!(run.json["status"], serde_json::json!({"200": 100}), "{}", run.stdout);
    let numbers = seen.take();
    assert!(numbers.iter().all(|(_, number)| *number < 5));
    assert_eq!(numbers.iter().map(|n| n.0).collect::<BTreeSet<_>>().len(), 20);
    let json = &run.json;
    assert_eq!((&json["connections_lost"], &json["lost"]), (&0.into(), &0.into()));
    assert_eq!(json["connections_retired"], 20);
}

/// A server that cuts slow clients off after four bytes with a 408, every second one without.
#[test]
fn slow_clients_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut slow = 0;
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut first = [0; 8_192];
            // The load's own request comes whole, a slow one a byte at a time.
            if stream.read(&mut first).unwrap() > 1 {
                thread::spawn(move || {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                    while stream.write_all(answer).is_ok() && stream.read(&mut first).is_ok() {}
                });
                continue;
            }
            stream.read_exact(&mut first[..3]).unwrap();
            slow += 1;
            if slow % 2 == 0 {
                let answer = b"HTTP/1.1 408 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                stream.write_all(answer).unwrap();
            }
        }
    });
    let flags = ["--connections", "1", "--rate", "2", "--duration", "4", "--batch", "1"];
    let run = load(address, &[&flags[..], &["--slow-connections", "1"]].concat());
    let slow = &run.json["slow"];
    let count = |value: &serde_json::Value| value.as_u64().unwrap_or_default();
    assert!(count(&slow["closed"]) >= 1 && count(&slow["answers"]["408"]) >= 1, "{}", run.stdout);
    assert!(count(&slow["bytes"]) >= 8, "{}", run.stdout);
    assert!(run.stdout.contains("slow connections 1"), "{}", run.stdout);
    assert_eq!(run.json["status"]["408"], serde_json::Value::Null);
}
