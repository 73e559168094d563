//! The consumer dies as by `kill -9` before, while and after it inserts, and before it commits: another
//! member of the group takes over what was not committed, and nothing is there twice.

use tests::wait::{seconds, wait_for};
use tests::{Path, Production};

/// Where the process ends itself, in builds with debug assertions.
const FAULT_POINTS: [&str; 4] =
    ["before_insert:2", "during_insert:2", "after_insert:2", "before_commit:2"];

#[test]
fn a_consumer_may_die_at_any_point() {
    let mut production = Production::start(Path::default().consumers(0));
    let load = production.load("killed");
    for point in FAULT_POINTS {
        let consumer = production.add_consumer(Some(point));
        wait_for(&format!("the consumer dies at {point}"), seconds(20), || {
            consumer.process.exited().filter(|status| !status.success())
        });
        println!("died at {point}");
    }
    production.add_consumer(None);
    production.assert_conserved(load);
}
