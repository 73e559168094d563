//! ClickHouse refuses single rows of a load: they become dead letters, everything else is stored.

use tests::wait::{seconds, wait_equal};
use tests::{Batch, Event, Path, Production};

#[test]
fn one_bad_row_costs_one_row() {
    let production = Production::start(Path::default());
    let constraint = "ALTER TABLE events ADD CONSTRAINT no_poison CHECK user_id != 'poison'";
    let answer = production.stack.clickhouse("", constraint);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let load = production.load("good");
    production.wait_flowing(&load);
    for _ in 0..3 {
        let mut batch = Batch::of(10, "mixed", 10);
        batch.events[4] = Event::new("mixed", "poison");
        production.stack.post_ok(&batch);
    }
    wait_equal("the good rows of the mixed batches", seconds(30), 27, || {
        production.stack.count("mixed")
    });
    wait_equal("dead letters", seconds(20), "3".to_owned(), || {
        production
            .stack
            .clickhouse("", "SELECT count() FROM events_dead FINAL")
            .text()
            .trim()
            .to_owned()
    });
    // Counted once the letters are known to be kept, a moment after they are seen.
    wait_equal("counted dead rows", seconds(20), Some(3.0), || {
        production.consumers[0].metric("unmogrowp_consumer_dead_rows_total")
    });
    production.assert_conserved(load);
}
