//! The harness itself, on the real broker and the real Redis: what the fault tests build on.

use std::net::TcpStream;

use tests::wait::{seconds, wait_for};
use tests::{Broker, Fault, Proxy, Redis};

#[test]
fn a_broker_keeps_topics_and_records_over_every_end() {
    let mut broker = Broker::prepare();
    let proxy = Proxy::start(&broker.led_address());
    broker.lead_through(&proxy.address());
    assert!(TcpStream::connect(broker.address()).is_err(), "not started yet");
    broker.start_again();

    assert_eq!(broker.topic("kept"), None, "no topic is made by asking for it");
    broker.create_topic("kept", 3, &[("retention.ms", "86400000")]);
    let topic = broker.topic("kept").expect("it was made");
    assert_eq!((topic.partitions, topic.replicas), (3, 1));
    assert_eq!(topic.settings["retention.ms"], "86400000");
    assert_eq!(topic.settings["max.message.bytes"], "1048576", "as the template has it");
    broker.grow_topic("kept", 4);

    // Incompressible, and as large as a block and its headers may be.
    let large: Vec<u8> =
        (0..540_672_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    broker.produce("kept", 2, &[("unmogrowp-layout", "1")], b"first");
    broker.produce("kept", 3, &[], &large);
    broker.stop();
    broker.start_again();
    broker.kill();
    broker.start_again();
    broker.pause();
    broker.resume();

    let records = broker.records("kept");
    assert_eq!(records.len(), 2);
    let first = records.iter().find(|record| record.partition == 2).expect("the first record");
    assert_eq!(first.value, b"first");
    assert_eq!(first.headers, [("unmogrowp-layout".to_owned(), b"1".to_vec())]);
    assert!(records.iter().any(|record| record.value == large));
    assert_eq!(broker.record_count("kept"), 2);
    assert_eq!(broker.lag("kept", "nobody"), 2, "a group that never committed has all before it");

    clients_are_led_through_the_proxy(&mut broker, &proxy);
    broker.delete_topic("kept");
    assert_eq!(broker.topic("kept"), None);
}

/// Whoever begins at the proxy stays on it: the broker names no other address there.
fn clients_are_led_through_the_proxy(broker: &mut Broker, proxy: &Proxy) {
    use rdkafka::ClientConfig;
    use rdkafka::consumer::{BaseConsumer, Consumer};

    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", proxy.address())
        .set("group.id", "led")
        .create()
        .expect("a client needs no server to be made");
    let asked = || client.fetch_watermarks("kept", 2, seconds(2));
    assert_eq!(wait_for("a way through the proxy", seconds(30), || asked().ok()), (0, 1));
    assert!(proxy.carried_bytes() > 0);
    proxy.set(Fault::Refuse);
    asked().expect_err("there is no other way");
    assert_eq!(broker.record_count("kept"), 2, "others still reach it directly");
    proxy.set(Fault::None);
    wait_for("the client finds its way again", seconds(30), || asked().ok());
}

#[test]
fn redis_answers_and_forgets() {
    let mut redis = Redis::start();
    let ask = |redis: &Redis, command: &str| redis.ask(command);
    assert_eq!(ask(&redis, "SET a 1").as_deref(), Some("+OK\r\n"));
    redis.pause();
    assert_eq!(ask(&redis, "GET a"), None);
    redis.resume();
    assert_eq!(ask(&redis, "GET a").as_deref(), Some("$1\r\n1\r\n"));
    redis.kill();
    assert_eq!(ask(&redis, "GET a"), None);
    redis.start_again();
    assert_eq!(ask(&redis, "GET a").as_deref(), Some("$-1\r\n"));
    redis.stop();
}
