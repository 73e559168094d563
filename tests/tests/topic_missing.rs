//! The topic is not there: the engine makes it as configured, at its start and when it disappears.

use tests::wait::seconds;
use tests::{Path, Production};

const WEEK_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// Of a block and its headers.
const RECORD_BYTES: u64 = 528 * 1024;

fn assert_as_configured(production: &Production) {
    let topic = production.broker.topic("events").expect("the topic is there");
    assert_eq!((topic.partitions, topic.replicas), (4, 1));
    let number = |key: &str| topic.settings[key].parse::<u64>().expect("a number");
    assert!(number("retention.ms") >= WEEK_MS, "{:?}", topic.settings);
    assert!(number("max.message.bytes") >= RECORD_BYTES, "{:?}", topic.settings);
}

#[test]
fn a_missing_topic_is_made_as_configured() {
    let production = Production::start(Path::default());
    let load = production.load("first");
    production.wait_flowing(&load);
    assert_as_configured(&production);
    production.assert_conserved(load);

    // All of it was consumed: whoever deletes a topic deletes what is in it.
    production.broker.delete_topic("events");
    let load = production.load("second");
    load.go_on_for(seconds(2));
    production.wait_flowing(&load);
    assert_as_configured(&production);
    production.assert_conserved(load);
}
