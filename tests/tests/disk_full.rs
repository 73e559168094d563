//! The journal's disk full, or its share of it: 503 and nothing acknowledged that is not kept; when
//! there is room again, 200 again.

use tests::small_disk::{SmallDisk, path_text, run};
use tests::wait::{seconds, wait_equal, wait_for};
use tests::{Batch, Driver, Stack, StackOptions};

const BATCH_EVENTS: usize = 1_000;

/// Posts batches until one is answered 503; gives how many were answered 200.
fn fill(stack: &Stack, name: &str, batches_max: usize) -> u64 {
    for accepted in 0..batches_max {
        let answer = stack.post(&Batch::of(BATCH_EVENTS, name, 10));
        if answer.status == 503 {
            assert_eq!(answer.code(), "UNAVAILABLE");
            let after = answer.header("retry-after").and_then(|value| value.parse::<u32>().ok());
            assert!(after.is_some(), "Retry-After is a number of seconds");
            return accepted as u64;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    panic!("{batches_max} batches and the journal is not full");
}

fn recovers(mut stack: Stack, name: &str, make_room: impl FnOnce()) {
    stack.clickhouse_process.as_mut().expect("ClickHouse runs").kill_9();
    let accepted = fill(&stack, name, 2_000);
    assert!(accepted > 0, "some fit");
    let text = stack.admin_get("/readyz");
    assert_eq!(text.status, 503, "a valid batch would not get 200: {}", text.text());
    make_room();
    stack.restart_clickhouse();
    wait_equal(
        "every acknowledged event is counted",
        seconds(60),
        accepted * BATCH_EVENTS as u64,
        || stack.count(name),
    );
    wait_for("200 again", seconds(30), || {
        (stack.post(&Batch::of(1, "again", 1)).status == 200).then_some(())
    });
    wait_equal("ready again", seconds(15), 200, || stack.admin_get("/readyz").status);
}

#[test]
fn a_full_backlog_is_refused_and_recovers() {
    for driver in Driver::ALL {
        let options = StackOptions::default()
            .driver(driver)
            .set("journal.segment_bytes=2097152")
            .set("limits.body_bytes_max=1048576")
            .set("journal.backlog_bytes_max=8388608")
            .set("clickhouse.connect_timeout_ms=500")
            .set("clickhouse.retry_max_ms=500");
        recovers(Stack::start(options), "backlog", || {});
    }
}

#[test]
fn a_full_disk_is_refused_and_recovers() {
    for driver in Driver::ALL {
        let disk = SmallDisk::mount(64);
        let options = StackOptions {
            journal_dir: Some(disk.path().join("journal")),
            ..StackOptions::default()
                .driver(driver)
                .set("journal.segment_bytes=2097152")
                .set("limits.body_bytes_max=1048576")
                .set("journal.backlog_bytes_max=1073741824")
                .set("clickhouse.connect_timeout_ms=500")
                .set("clickhouse.retry_max_ms=500")
        };
        let stack = Stack::start(options);
        let ballast = disk.path().join("ballast");
        run("fallocate", &["-l", "24M", path_text(&ballast)]);
        recovers(stack, "disk", || {
            std::fs::remove_file(&ballast).expect("the ballast is there");
        });
    }
}

/// A crash on a full disk: what was acknowledged before is there after it.
#[test]
fn a_crash_on_a_full_journal_loses_nothing() {
    let options = StackOptions::default()
        .set("journal.segment_bytes=2097152")
        .set("limits.body_bytes_max=1048576")
        .set("journal.backlog_bytes_max=8388608");
    let mut stack = Stack::start(options);
    stack.clickhouse_process.as_mut().expect("ClickHouse runs").kill_9();
    let accepted = fill(&stack, "crash", 2_000);
    stack.engine().kill_9();
    stack.restart_clickhouse();
    stack.start_engine();
    wait_equal(
        "every acknowledged event is counted",
        seconds(60),
        accepted * BATCH_EVENTS as u64,
        || stack.count("crash"),
    );
}
