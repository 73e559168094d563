//! Kafka is away for longer than `direct_insert_after_ms`: the engine inserts into ClickHouse itself, and
//! goes back to Kafka when it is back.

use tests::conserved::stored_count;
use tests::wait::{seconds, wait_for};
use tests::{Path, Production};

#[test]
fn with_kafka_long_away_events_reach_clickhouse_directly() {
    let path = Path::default().set("kafka.direct_insert_after_ms=1500");
    let mut production = Production::start(path);
    let load = production.load("direct");
    production.wait_flowing(&load);
    production.broker.kill();
    load.wait_batches(20);
    wait_for("the engine inserts directly", seconds(20), || {
        (production.stack.metric("unmogrowp_kafka_direct_blocks_total")? > 0.0).then_some(())
    });
    let before = stored_count(&production.stack, "direct").expect("ClickHouse answers");
    production.wait_stored("direct", before + 100);

    production.broker.start_again();
    production.wait_engine("unmogrowp_kafka_route", |route| route == 0.0);
    production.wait_records(1);
    production.assert_conserved(load);
}
