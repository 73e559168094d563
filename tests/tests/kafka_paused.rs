//! The broker hangs for ten seconds (SIGSTOP): its connections stay open and nobody answers. Even where a
//! 200 waits for Kafka, no request fails or waits long.

use tests::sender::slowest;
use tests::wait::seconds;
use tests::{Path, Production};

#[test]
fn ten_seconds_without_an_answer_from_the_broker() {
    let mut production = Production::start(Path::default().set("kafka.ack=kafka"));
    let load = production.load("paused");
    production.wait_flowing(&load);
    production.broker.pause();
    load.go_on_for(seconds(10));
    production.broker.resume();
    load.wait_batches(100);
    let sent = production.assert_conserved(load);
    // The deadline of 5 ms, on a machine that does much else.
    assert!(slowest(&sent) < seconds(3), "{:?}", slowest(&sent));
}
