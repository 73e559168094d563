//! The topic is deleted and made again, with another number of partitions, while nothing is under way:
//! the consumer begins at its new beginning.

use tests::wait::seconds;
use tests::{Path, Production};

#[test]
fn a_topic_made_again_is_read_from_its_beginning() {
    // The engine, which makes the topic where it finds it missing, may be the first to make it again.
    let topic = Some(&[("max.message.bytes", "1048576")][..]);
    let path = Path { topic, ..Path::default().set("kafka.partitions=2") };
    let production = Production::start(path);
    let load = production.load("before");
    production.wait_flowing(&load);
    load.wait_batches(100);
    production.assert_conserved(load);

    production.broker.replace_topic("events", 2, &[("max.message.bytes", "1048576")]);
    let load = production.load("after");
    load.go_on_for(seconds(2));
    production.wait_flowing(&load);
    production.assert_conserved(load);
    assert!(production.broker.record_count("events") > 0);
}
