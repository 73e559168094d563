//! An orderly stop under load loses nothing, and what it left is soon in the answers.

use tests::sender::{Senders, acknowledged_count, assert_conserved};
use tests::stack::STOP_WITHIN;
use tests::wait::{seconds, wait_for};
use tests::{Batch, Driver, Stack, StackOptions};

/// After a restart, what recovery left to forward is in the answers within this.
const VISIBLE_WITHIN: std::time::Duration = seconds(2);

fn stopped_under_load(driver: Driver) {
    let mut stack = Stack::start(StackOptions::default().driver(driver));
    let senders = Senders::start(&stack, 4, "stopped");
    wait_for("the senders get their 200s", seconds(30), || {
        (senders.acknowledged_batches() >= 50).then_some(())
    });
    let status = stack.engine().terminate(STOP_WITHIN);
    assert!(status.success(), "{status}");
    let sent = senders.finish();
    stack.start_engine();
    let expected = acknowledged_count(&sent);
    wait_for("what was acknowledged is counted", VISIBLE_WITHIN, || {
        (stack.count("stopped") >= expected).then_some(())
    });
    assert_conserved(&stack, &sent, VISIBLE_WITHIN);
}

#[test]
fn a_stop_under_load_loses_nothing_with_epoll() {
    stopped_under_load(Driver::Epoll);
}

#[test]
fn a_stop_under_load_loses_nothing_with_uring() {
    stopped_under_load(Driver::Uring);
}

#[test]
fn a_stop_under_load_loses_nothing_with_glommio() {
    stopped_under_load(Driver::Glommio);
}

/// The backlog of an engine that died while ClickHouse was away.
#[test]
fn a_backlog_is_visible_soon_after_the_start() {
    const BATCHES: u64 = 20;
    let mut stack = Stack::start(StackOptions::default());
    let clickhouse = |stack: &Stack, signal| {
        stack.clickhouse_process.as_ref().expect("ClickHouse runs").signal(signal);
    };
    clickhouse(&stack, "STOP");
    for _ in 0..BATCHES {
        stack.post_ok(&Batch::of(1_000, "backlog", 100));
    }
    stack.engine().kill_9();
    clickhouse(&stack, "CONT");
    stack.start_engine();
    wait_for("the backlog is counted", VISIBLE_WITHIN, || {
        (stack.count("backlog") == BATCHES * 1_000).then_some(())
    });
}

#[test]
fn the_journal_can_be_verified_and_drained_by_hand() {
    let mut stack = Stack::start(StackOptions::default());
    let clickhouse = stack.clickhouse_process.as_ref().expect("ClickHouse runs");
    clickhouse.signal("STOP");
    stack.post_ok(&Batch::of(500, "by-hand", 5));
    stack.engine().kill_9();
    stack.clickhouse_process.as_ref().expect("ClickHouse runs").signal("CONT");

    let journal = |command: &str| {
        let url = stack.clickhouse.replace("://", &format!("://unmogrowp:{}@", stack.password));
        std::process::Command::new(tests::process::binary("unmogrowp-engine"))
            .args(["journal", command])
            .arg(stack.journal_dir())
            .env("UNMOGROWP_CLICKHOUSE_URL", url)
            .output()
            .expect("the engine's binary starts")
    };
    for command in ["verify", "drain", "verify"] {
        let output = journal(command);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "journal {command}: {errors}");
    }
    wait_for("the drained events are counted", seconds(5), || {
        (stack.count("by-hand") == 500).then_some(())
    });
}
