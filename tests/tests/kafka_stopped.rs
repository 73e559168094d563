//! The broker is stopped as an operator stops it, and started again: no request fails, nothing is lost,
//! nothing is there twice.

use tests::wait::seconds;
use tests::{Path, Production};

#[test]
fn a_stopped_broker_is_missed_by_nobody() {
    let mut production = Production::start(Path::default());
    let load = production.load("stopped");
    production.wait_flowing(&load);
    production.broker.stop();
    production.wait_engine("unmogrowp_kafka_breaker_state", |state| state > 0.0);
    load.go_on_for(seconds(2));
    let readyz = production.stack.admin_get("/readyz");
    assert_eq!(readyz.status, 200, "{}", readyz.text());
    assert!(readyz.text().contains("kafka"), "{}", readyz.text());
    production.broker.start_again();
    production.wait_engine("unmogrowp_kafka_breaker_state", |state| state == 0.0);
    load.wait_batches(100);
    production.assert_conserved(load);
}
