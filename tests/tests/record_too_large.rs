//! The topic takes only small records: a block that Kafka will never take goes to ClickHouse directly, at
//! once, and the others through Kafka.

use tests::wait::{seconds, wait_for};
use tests::{Batch, Event, Path, Production};

/// So that 20 events are more than the topic's limit whatever the compression: random text.
fn large_batch(name: &str) -> Batch {
    let large = |_| {
        let noise: String = (0..60).map(|_| uuid::Uuid::new_v4().simple().to_string()).collect();
        Event::new(name, "large").with(&format!(r#"{{"noise":"{noise}"}}"#))
    };
    Batch { events: (0..20).map(large).collect() }
}

#[test]
fn a_block_that_kafka_never_takes_goes_directly() {
    let path = Path { topic: Some(&[("max.message.bytes", "16384")]), ..Path::default() };
    let production = Production::start(path);
    let load = production.load("small");
    production.wait_flowing(&load);
    for _ in 0..10 {
        production.stack.post_ok(&large_batch("large"));
    }
    wait_for("large blocks are stored", seconds(20), || {
        (production.stack.count("large") == 200).then_some(())
    });
    let direct = production.stack.metric("unmogrowp_kafka_direct_blocks_total");
    assert!(direct >= Some(1.0), "blocks that went directly: {direct:?}");
    production.wait_records(1);
    production.assert_conserved(load);
}
