//! The broker comes up long after the engine and the consumer.

use tests::wait::seconds;
use tests::{Path, Production};

#[test]
fn what_came_before_the_broker_goes_through_it_later() {
    let late = Path { broker_late: true, ..Path::default() };
    let mut production = Production::start(late);
    let load = production.load("late");
    load.go_on_for(seconds(2));
    production.broker.start_again();
    production.wait_flowing(&load);
    production.assert_conserved(load);
    let records = production.stack.metric("unmogrowp_kafka_records_total");
    assert!(records > Some(0.0), "through Kafka: {records:?}");
    let topic = production.broker.topic("events").expect("the engine makes the topic");
    assert_eq!(topic.partitions, 4);
}
