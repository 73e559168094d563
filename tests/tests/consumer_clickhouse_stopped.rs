//! ClickHouse is killed, and hangs, while the consumer inserts: it waits, and commits nothing that is not
//! stored.

use tests::wait::seconds;
use tests::{Path, Production};

#[test]
fn the_consumer_waits_for_clickhouse() {
    let mut production = Production::start(Path::default());
    let load = production.load("stopped");
    production.wait_flowing(&load);
    production.stack.clickhouse_process.as_mut().expect("ClickHouse runs").kill_9();
    load.go_on_for(seconds(2));
    production.stack.restart_clickhouse();
    load.wait_batches(50);

    let clickhouse = production.stack.clickhouse_process.as_ref().expect("ClickHouse runs");
    clickhouse.signal("STOP");
    load.go_on_for(seconds(3));
    clickhouse.signal("CONT");
    load.wait_batches(50);
    production.assert_conserved(load);
    assert_eq!(production.consumers[0].metric("unmogrowp_consumer_dead_rows_total"), Some(0.0));
}
