//! The broker dies by SIGKILL under load and comes back.

use tests::wait::seconds;
use tests::{Path, Production};

#[test]
fn a_killed_broker_loses_and_doubles_nothing() {
    let mut production = Production::start(Path::default());
    let load = production.load("killed");
    production.wait_flowing(&load);
    production.broker.kill();
    load.go_on_for(seconds(2));
    production.broker.start_again();
    load.wait_batches(100);
    production.assert_conserved(load);
}
