//! Consumers join and leave a group under load, by SIGTERM and by SIGKILL.

use tests::wait::{seconds, wait_for};
use tests::{Consumer, Path, Production};

fn has_partitions(consumer: &Consumer) {
    wait_for("partitions are given to the consumer", seconds(30), || {
        (consumer.metric("unmogrowp_consumer_rows_total")? > 0.0).then_some(())
    });
}

#[test]
fn members_come_and_go() {
    let mut production = Production::start(Path::default());
    let load = production.load("rebalanced");
    production.wait_flowing(&load);
    has_partitions(production.add_consumer(None));
    production.consumers[0].stop();
    load.wait_batches(50);
    has_partitions(production.add_consumer(None));
    production.consumers[1].process.kill_9();
    load.wait_batches(50);
    production.assert_conserved(load);
}
