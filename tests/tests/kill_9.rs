//! `kill -9` at any moment: every event of every 200 is in the answers after the restart, once.

use tests::sender::{Senders, acknowledged_count, assert_conserved};
use tests::wait::{seconds, wait_for};
use tests::{Driver, Stack, StackOptions};

const CLIENTS: usize = 4;
/// From the start of the engine until all of it is in the answers.
const SEEN_WITHIN: std::time::Duration = seconds(30);

/// A number below `bound` that differs from run to run; a failure prints it.
fn any_below(bound: u32) -> u32 {
    getrandom::u32().expect("the system gives random bytes") % bound
}

fn killed_rounds(driver: Driver, rounds: usize) {
    let mut stack = Stack::start(StackOptions::default().driver(driver));
    for round in 0..rounds {
        let name = format!("round-{round}");
        let kill_after = 1 + any_below(200) as usize;
        println!("{name}: killed after {kill_after} acknowledged batches");
        let senders = Senders::start(&stack, CLIENTS, &name);
        wait_for("the senders get their 200s", seconds(30), || {
            (senders.acknowledged_batches() >= kill_after).then_some(())
        });
        stack.engine().kill_9();
        let sent = senders.finish();
        let expected = acknowledged_count(&sent);
        assert!(expected > 0);
        stack.start_engine();
        wait_for("what was acknowledged is counted", SEEN_WITHIN, || {
            (stack.count(&name) >= expected).then_some(())
        });
        assert_conserved(&stack, &sent, SEEN_WITHIN);
    }
}

#[test]
fn nothing_acknowledged_is_lost_with_epoll() {
    killed_rounds(Driver::Epoll, 3);
}

#[test]
fn nothing_acknowledged_is_lost_with_uring() {
    killed_rounds(Driver::Uring, 3);
}

#[test]
fn nothing_acknowledged_is_lost_with_glommio() {
    killed_rounds(Driver::Glommio, 3);
}

#[test]
#[ignore = "takes minutes"]
fn nothing_acknowledged_is_lost_in_many_rounds() {
    killed_rounds(Driver::Epoll, 25);
    killed_rounds(Driver::Uring, 25);
    killed_rounds(Driver::Glommio, 25);
}

/// ClickHouse dies with the engine: what it took and what it did not, both come out once.
#[test]
fn nothing_is_lost_when_clickhouse_is_killed_too() {
    let mut stack = Stack::start(StackOptions::default());
    let senders = Senders::start(&stack, CLIENTS, "both");
    wait_for("the senders get their 200s", seconds(30), || {
        (senders.acknowledged_batches() >= 100).then_some(())
    });
    stack.clickhouse_process.as_mut().expect("ClickHouse runs").kill_9();
    stack.engine().kill_9();
    let sent = senders.finish();
    let expected = acknowledged_count(&sent);
    stack.restart_clickhouse();
    stack.start_engine();
    wait_for("what was acknowledged is counted", SEEN_WITHIN, || {
        (stack.ask("/healthz").status != 503 && stack.count("both") >= expected).then_some(())
    });
    assert_conserved(&stack, &sent, SEEN_WITHIN);
}
