//! ClickHouse refuses every row (somebody's constraint is wrong): where nothing was taken nothing is put
//! aside, the consumer stops and says so, and it goes on when somebody has mended it.

use tests::wait::{seconds, wait_for};
use tests::{Path, Production};

#[test]
fn a_wrong_constraint_stops_the_consumer_and_loses_nothing() {
    let production = Production::start(Path::default());
    let load = production.load("refused");
    production.wait_flowing(&load);
    let statement = |text: &str| {
        let answer = production.stack.clickhouse("", text);
        assert_eq!(answer.status, 200, "{text}: {}", answer.text());
    };
    statement("ALTER TABLE events ADD CONSTRAINT wrong CHECK user_id = 'nobody'");
    let consumer = &production.consumers[0];
    wait_for("the consumer's /readyz says that it is stopped", seconds(20), || {
        let answer = consumer.admin_get("/readyz");
        (answer.status == 503).then_some(())
    });
    load.go_on_for(seconds(1));
    assert_eq!(consumer.metric("unmogrowp_consumer_dead_rows_total"), Some(0.0));
    statement("ALTER TABLE events DROP CONSTRAINT wrong");
    production.assert_conserved(load);
    assert_eq!(consumer.metric("unmogrowp_consumer_dead_rows_total"), Some(0.0));
    wait_for("the consumer is well again", seconds(20), || {
        (consumer.admin_get("/readyz").status == 200).then_some(())
    });
}
