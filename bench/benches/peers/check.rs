//! Whether all contestants do the job that they are measured at.

use crate::peers::contract::{answers, good_batch, post, without_time};
use crate::peers::{Contestant, Server, create_topics, topic};
use tests::Broker;

/// Panics with the first difference.
pub fn all() {
    let engine = answers(&Server::start(Contestant::Engine));
    for contestant in [Contestant::Hyper, Contestant::Go] {
        let server = Server::start(contestant);
        for (ours, theirs) in engine.iter().zip(answers(&server)) {
            assert_eq!(theirs, *ours, "{} does not answer as the engine does", contestant.name());
        }
        println!("{}: {} answers as the engine's", contestant.name(), engine.len());
    }
    nginx();
    kafka();
}

/// It looks at nothing, and answers in the form of one event's 200.
fn nginx() {
    let server = Server::start(Contestant::Nginx);
    let answer = post(&server, "/api/v1/events", "", "not JSON");
    assert_eq!(answer.status, 200);
    assert_eq!(without_time(answer.json())["meta"]["count"], 1);
    println!("nginx: 200 to anything");
}

/// What was answered 200 is in Kafka then: whole, and acknowledged before.
fn kafka() {
    let broker = Broker::start();
    create_topics(&broker);
    for contestant in [Contestant::Hyper, Contestant::Go] {
        let server = Server::start_on_kafka(contestant, &broker.address());
        let batch = good_batch();
        let answer = post(
            &server,
            "/api/v1/events",
            &server.target.api_key,
            &batch.json(&server.target.app_id),
        );
        assert_eq!(answer.status, 200, "{}: {}", contestant.name(), answer.text());
        let records = broker.records(&topic(contestant));
        assert_eq!(records.len(), 1, "{}: one record a request", contestant.name());
        let lines = String::from_utf8(records[0].value.clone()).expect("lines of JSON");
        let lines: Vec<serde_json::Value> =
            lines.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        assert_eq!(lines.len(), batch.events.len(), "{}: an event a line", contestant.name());
        for (line, event) in lines.iter().zip(&batch.events) {
            assert_eq!(line["event_id"], event.event_id.to_string());
            assert_eq!(line["event_name"], event.event_name);
            assert_eq!(line["user_id"], event.user_id);
            assert_eq!(line["app_id"], server.target.app_id);
        }
        println!("{}: what it answers 200 to is in Kafka", contestant.name());
    }
}
