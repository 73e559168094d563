//! Lanes against librdkafka's mock cluster and a stand-in for ClickHouse: nothing lost, nothing
//! marked early, whatever the broker does. The real broker comes in the integration tests.
#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, which misses their helper functions"
)]

mod forward_stand_in;
mod kafka_stage;

use engine::admin::{Component, Level};
use engine::config::Ack;
use forward_stand_in::{Reply, StandIn, block, wait_until};
use kafka_stage::{NO_CLICKHOUSE, Stage, TOPIC, blocks, cluster};
use proto::BlockHeader;
use rdkafka::types::RDKafkaApiKey::Produce;
use rdkafka::types::RDKafkaRespErr::*;
use std::time::{Duration, Instant};

#[test]
fn every_block_is_one_record_and_is_marked() {
    let cluster = cluster();
    let stage = Stage::start(&cluster, NO_CLICKHOUSE, vec![blocks(1, 40), blocks(2, 25)], |_| {});
    stage.wait_marked(&[40, 25]);
    assert!(stage.is_idle());
    let records = kafka_stage::read_records(&cluster, 65);
    let mut seen = Vec::new();
    for record in &records {
        let (header, payload) = BlockHeader::decode_block(&record.value).unwrap();
        assert_eq!(payload.len() + 64, record.value.len());
        assert_eq!(record.header("unmogrowp-layout"), "1");
        assert_eq!(record.header("traceparent"), engine::forward::kafka::traceparent(header.id));
        assert!(!record.has_key);
        seen.push((header.id.journal_id.0[0], header.id.sequence));
    }
    seen.sort_unstable();
    let expected = (1..=40).map(|n| (1, n)).chain((1..=25).map(|n| (2, n)));
    assert_eq!(seen, expected.collect::<Vec<_>>());
    let text = stage.metrics.encode().unwrap();
    assert!(text.contains("unmogrowp_kafka_records_total 65"), "{text}");
}

#[test]
fn a_failure_that_passes_is_tried_again_and_tells_nobody() {
    let cluster = cluster();
    let errors = [
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        RD_KAFKA_RESP_ERR__TRANSPORT,
    ];
    cluster.request_errors(Produce, &errors);
    let stage = Stage::start(&cluster, NO_CLICKHOUSE, vec![blocks(1, 20)], |_| {});
    stage.wait_marked(&[20]);
    wait_until("Kafka is well", || stage.level(Component::Kafka) == Level::Ok);
    // The mock cluster may have stored what it then failed: a broker would know it again.
    let mut sequences = kafka_stage::sequences(&kafka_stage::read_records(&cluster, 20));
    sequences.dedup();
    assert_eq!(sequences, (1..=20).collect::<Vec<_>>());
    assert_eq!(stage.seeks(0), 0, "librdkafka tried again by itself");
}

#[test]
fn a_failure_that_librdkafka_gives_up_on_is_read_again_from_the_journal() {
    let cluster = cluster();
    // Not retried by librdkafka, and not the record's fault.
    cluster.request_errors(Produce, &[RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    let stage = Stage::start(&cluster, NO_CLICKHOUSE, vec![blocks(1, 8)], |_| {});
    stage.wait_marked(&[8]);
    assert!(stage.seeks(0) > 0, "the block was read again");
    assert!(stage.counter("kafka_failures_total{kind=\"config\"}") > 0);
    let records = kafka_stage::read_records(&cluster, 8);
    assert_eq!(kafka_stage::sequences(&records), (1..=8).collect::<Vec<_>>());
}

#[test]
fn a_block_that_kafka_refuses_goes_directly_and_the_others_do_not_wait() {
    let cluster = cluster();
    let clickhouse = StandIn::start(|_| Reply::Take);
    cluster.request_errors(Produce, &[RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 2]);
    let feed = blocks(1, 1);
    let stage = Stage::start(&cluster, &clickhouse.url(), vec![feed.clone()], |_| {});
    stage.wait_marked(&[1]);
    feed.lock().unwrap().push(block(1, 2, 100..110, false));
    stage.ring();
    stage.wait_marked(&[2]);
    let records = kafka_stage::read_records(&cluster, 1);
    assert_eq!(kafka_stage::sequences(&records), [2]);
    assert_eq!(clickhouse.stored().len(), 10, "block 1 has ten rows");
    assert_eq!(stage.counter("kafka_breaker_state{producer=\"0\"}"), 0);
    assert_eq!(stage.counter("kafka_direct_blocks_total"), 1);
}

/// Several blocks share a batch, and Kafka refuses a batch as a whole.
#[test]
fn what_was_refused_in_company_is_sent_alone_before_it_goes_directly() {
    let cluster = cluster();
    cluster.request_errors(Produce, &[RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let feeds = vec![blocks(1, 30), blocks(2, 1)];
    let stage = Stage::start(&cluster, NO_CLICKHOUSE, feeds, |_| {});
    stage.wait_marked(&[30, 1]);
    assert!(stage.counter("kafka_failures_total{kind=\"reject\"}") >= 1);
    assert_eq!(stage.counter("kafka_direct_blocks_total"), 0);
    assert_eq!(kafka_stage::read_records(&cluster, 31).len(), 31);
}

#[test]
fn with_the_broker_down_the_breaker_opens_and_the_backlog_goes_when_it_is_back() {
    let cluster = cluster();
    let stage = Stage::start(&cluster, NO_CLICKHOUSE, vec![blocks(1, 5)], |config| {
        config.kafka.ack = Ack::Kafka;
    });
    stage.wait_marked(&[5]);
    wait_until("a 200 may wait for Kafka", || stage.watches[0].acks());
    cluster.broker_down(1).unwrap();
    stage.add(0, 6..=30);
    wait_until("the breaker opens", || stage.counter("kafka_breaker_state{producer=\"0\"}") == 2);
    assert!(!stage.watches[0].acks(), "nobody waits for a Kafka that is away");
    assert_eq!(stage.last_mark(0), 5);
    // Told of after the breaker is shown.
    wait_until("it is told of", || stage.level(Component::Kafka) == Level::Degraded);
    cluster.broker_up(1).unwrap();
    stage.wait_marked(&[30]);
    wait_until("a 200 may wait again", || stage.watches[0].acks());
    let records = kafka_stage::read_records(&cluster, 30);
    assert_eq!(kafka_stage::sequences(&records), (1..=30).collect::<Vec<_>>());
}

#[test]
fn a_broker_that_says_nothing_opens_the_breaker_and_costs_no_second_record() {
    let cluster = cluster();
    let stage = Stage::start(&cluster, NO_CLICKHOUSE, vec![blocks(1, 1)], |_| {});
    stage.wait_marked(&[1]);
    cluster.broker_round_trip_time(1, Duration::from_secs(2)).unwrap();
    stage.add(0, 2..=4);
    wait_until("the breaker opens", || stage.counter("kafka_breaker_state{producer=\"0\"}") == 2);
    stage.add(0, 5..=6);
    cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
    stage.wait_marked(&[6]);
    // Shown at the end of the turn in which the last block is marked.
    wait_until("the breaker closes", || stage.counter("kafka_breaker_state{producer=\"0\"}") == 0);
    let records = kafka_stage::read_records(&cluster, 6);
    assert_eq!(kafka_stage::sequences(&records), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn kafka_long_away_is_gone_round_and_come_back_to() {
    let cluster = cluster();
    let clickhouse = StandIn::start(|_| Reply::Take);
    let stage = Stage::start(&cluster, &clickhouse.url(), vec![blocks(1, 3)], |config| {
        // Long enough for a slow machine to get the first three through Kafka.
        config.kafka.direct_insert_after_ms = 2_000;
    });
    stage.wait_marked(&[3]);
    assert!(clickhouse.stored().is_empty(), "Kafka was there");
    cluster.broker_down(1).unwrap();
    stage.add(0, 4..=9);
    stage.wait_marked(&[9]);
    assert_eq!(stage.counter("kafka_route{producer=\"0\"}"), 1);
    assert!(clickhouse.stored().len() >= 60, "six blocks of ten rows");
    cluster.broker_up(1).unwrap();
    // Each one is a try until one arrives.
    let mut next = 10;
    let deadline = Instant::now() + Duration::from_secs(20);
    while stage.counter("kafka_route{producer=\"0\"}") == 1 {
        assert!(Instant::now() < deadline, "it never comes back to Kafka");
        stage.add(0, next..=next);
        stage.wait_marked(&[next]);
        next += 1;
    }
    stage.add(0, next..=next);
    stage.wait_marked(&[next]);
    let count = stage.counter("kafka_records_total") as usize;
    let delivered = kafka_stage::sequences(&kafka_stage::read_records(&cluster, count));
    assert!(delivered.contains(&next), "{delivered:?}");
    let stored = clickhouse.stored();
    assert!(stored.values().all(|count| *count == 1), "a block was inserted twice");
}

#[test]
fn with_clickhouse_away_too_blocks_wait_and_nothing_is_marked() {
    let cluster = cluster();
    let stage = Stage::start(&cluster, NO_CLICKHOUSE, vec![blocks(1, 1)], |config| {
        config.kafka.direct_insert_after_ms = 500;
    });
    stage.wait_marked(&[1]);
    cluster.broker_down(1).unwrap();
    stage.add(0, 2..=4);
    wait_until("the breaker opens", || stage.counter("kafka_breaker_state{producer=\"0\"}") == 2);
    let deadline = Instant::now() + Duration::from_millis(1_000);
    while Instant::now() < deadline {
        assert_eq!(stage.counter("kafka_route{producer=\"0\"}"), 0);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(stage.last_mark(0), 1);
    let began = Instant::now();
    assert!(!stage.stop(Duration::from_secs(10)), "something is left");
    assert!(began.elapsed() < Duration::from_secs(5), "a stop does not wait for what is away");
}

/// A missing table, a wrong password: ClickHouse answers, but takes nothing.
#[test]
fn what_the_direct_route_refuses_goes_through_kafka_once_that_is_back() {
    let cluster = cluster();
    let clickhouse = StandIn::start(|_| Reply::Refuse(403, 516));
    let stage = Stage::start(&cluster, &clickhouse.url(), vec![blocks(1, 3)], |config| {
        config.kafka.direct_insert_after_ms = 300;
    });
    stage.wait_marked(&[3]);
    cluster.broker_down(1).unwrap();
    stage.add(0, 4..=9);
    // The lane leaves the direct way again as soon as it is seen to refuse.
    wait_until("blocks go directly and are refused", || {
        stage.level(Component::Forwarder) == Level::Degraded
    });
    assert_eq!(stage.level(Component::Clickhouse), Level::Ok, "it answers");
    cluster.broker_up(1).unwrap();
    stage.wait_marked(&[9]);
    wait_until("Kafka is the route", || stage.counter("kafka_route{producer=\"0\"}") == 0);
    assert!(clickhouse.stored().is_empty());
}

#[test]
fn a_producer_that_cannot_be_made_is_a_kafka_that_is_away() {
    let cluster = cluster();
    let clickhouse = StandIn::start(|_| Reply::Take);
    let stage = Stage::start(&cluster, &clickhouse.url(), vec![blocks(1, 5)], |config| {
        let properties = [("security.protocol", "ssl"), ("ssl.ca.location", "/nope")];
        let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
        config.kafka.properties.0 = properties.into_iter().collect();
        config.kafka.ack = Ack::Kafka;
        config.kafka.direct_insert_after_ms = 1_000;
    });
    stage.wait_marked(&[5]);
    assert_eq!(clickhouse.stored().len(), 50, "five blocks of ten rows");
    assert!(!stage.watches[0].acks());
    let reason = stage.reason(Component::Kafka);
    assert!(reason.contains("cannot make a Kafka producer"), "{reason}");
}

#[test]
fn a_lane_that_panics_is_told_of_and_nobody_waits_for_it() {
    let cluster = cluster();
    let stage = Stage::start(&cluster, NO_CLICKHOUSE, vec![blocks(1, 1)], |config| {
        config.kafka.ack = Ack::Kafka;
    });
    stage.wait_marked(&[1]);
    wait_until("a 200 may wait for Kafka", || stage.watches[0].acks());
    stage.feeds[0].lock().unwrap().panic_next = true;
    stage.ring();
    wait_until("it is told of", || stage.reason(Component::Kafka).contains("panic"));
    assert_eq!(stage.level(Component::Kafka), Level::Degraded);
    assert!(!stage.watches[0].acks());
    assert!(!stage.stop(Duration::from_secs(1)), "it cannot know that nothing is left");
}

#[test]
fn blocks_that_neither_takes_are_told_of() {
    let cluster = cluster();
    cluster.request_errors(Produce, &[RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 2]);
    let stage = Stage::start(&cluster, NO_CLICKHOUSE, vec![blocks(1, 1)], |_| {});
    wait_until("the lane tells of it", || {
        stage.reason(Component::Kafka).contains("cannot be inserted directly now")
    });
    assert_eq!(stage.last_mark(0), 0);
}

/// Slower than `stall_ms`, it opens the breaker; its refusal is a sign of life and closes it, so that
/// what is told is what is wrong.
#[test]
fn a_slow_kafka_that_refuses_is_not_taken_for_one_that_is_away() {
    let cluster = cluster();
    cluster.broker_round_trip_time(1, Duration::from_millis(800)).unwrap();
    cluster.request_errors(Produce, &[RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 2]);
    let stage = Stage::start(&cluster, NO_CLICKHOUSE, vec![blocks(1, 1)], |_| {});
    wait_until("the breaker opens", || stage.counter("kafka_breaker_state{producer=\"0\"}") == 2);
    wait_until("the lane tells of it", || {
        stage.reason(Component::Kafka).contains("cannot be inserted directly now")
    });
    assert_eq!(stage.counter("kafka_breaker_state{producer=\"0\"}"), 0);
}

#[test]
fn a_stop_sends_what_there_is() {
    let cluster = cluster();
    let stage = Stage::start(&cluster, NO_CLICKHOUSE, vec![blocks(1, 1)], |config| {
        // A stop does not wait for a Kafka that is away; a slow one is not.
        config.kafka.stall_ms = 10_000;
    });
    stage.wait_marked(&[1]);
    stage.add(0, 2..=200);
    let feed = stage.feeds[0].clone();
    assert!(stage.stop(Duration::from_secs(10)));
    assert_eq!(feed.lock().unwrap().marked.last(), Some(&200));
}

#[test]
fn a_topic_with_too_few_replicas_is_told_of_and_not_waited_for() {
    let cluster = cluster();
    let stage = Stage::start(&cluster, NO_CLICKHOUSE, vec![blocks(1, 1)], |config| {
        config.kafka.replication = 3;
    });
    wait_until("the topic is judged", || stage.reason(Component::Kafka).contains("replicas"));
    let reason = stage.reason(Component::Kafka);
    assert!(reason.contains(TOPIC) && reason.contains("asks for 3"), "{reason}");
    stage.wait_marked(&[1]);
    assert!(!stage.watches[0].acks());
}
