//! "Too many parts" is back-pressure: the consumer waits, and no row is put aside.

use tests::wait::{seconds, wait_for};
use tests::{Path, Production};

#[test]
fn too_many_parts_is_waited_out() {
    let production = Production::start(Path::default());
    let load = production.load("parts");
    production.wait_flowing(&load);
    let statement = |text: &str| {
        let answer = production.stack.clickhouse("", text);
        assert_eq!(answer.status, 200, "{text}: {}", answer.text());
    };
    statement(
        "ALTER TABLE events MODIFY SETTING parts_to_delay_insert = 1, parts_to_throw_insert = 1",
    );
    let consumer = &production.consumers[0];
    wait_for("INSERTs are refused for now", seconds(20), || {
        (consumer.metric("unmogrowp_consumer_insert_failures_total")? > 0.0).then_some(())
    });
    load.go_on_for(seconds(1));
    statement("ALTER TABLE events RESET SETTING parts_to_delay_insert, parts_to_throw_insert");
    production.assert_conserved(load);
    assert_eq!(consumer.metric("unmogrowp_consumer_dead_rows_total"), Some(0.0));
}
