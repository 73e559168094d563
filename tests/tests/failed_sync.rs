//! A journal write that the disk refuses: the shard is out, says why, and has acknowledged nothing
//! that is not kept.

use tests::small_disk::SmallDisk;
use tests::wait::{seconds, wait_equal};
use tests::{Batch, Driver, Stack, StackOptions};

const BATCH_EVENTS: u64 = 500;

fn a_failing_disk(driver: Driver) {
    let disk = SmallDisk::mount_failing(48);
    let options = StackOptions {
        journal_dir: Some(disk.path().join("journal")),
        ..StackOptions::default()
            .driver(driver)
            .set("journal.segment_bytes=2097152")
            .set("limits.body_bytes_max=1048576")
    };
    let mut stack = Stack::start(options);
    let name = "failing";
    stack.post_ok(&Batch::of(BATCH_EVENTS as usize, name, 10));
    disk.begin_to_fail();

    let mut open = stack.client();
    let mut acknowledged = 1;
    let refused = loop {
        assert!(acknowledged < 100, "the disk never failed");
        let body = Batch::of(BATCH_EVENTS as usize, name, 10).json(&stack.app_id);
        let answer = open.request("POST", "/api/v1/events", &stack.post_headers(), body.as_bytes());
        if answer.status != 200 {
            break answer;
        }
        acknowledged += 1;
    };
    assert_eq!((refused.status, refused.code().as_str()), (503, "UNAVAILABLE"));
    assert!(refused.text().contains("outcome is unknown"), "{}", refused.text());
    assert!(open.closes(), "a shard without a journal keeps no connection");

    // It was the only shard: the engine ends, and says why.
    let exit = stack.engine().wait_exit(seconds(20));
    assert!(!exit.success(), "an engine that can take nothing has failed");
    let log = stack.engine().log_text();
    assert!(log.contains("its journal failed"), "{log}");

    disk.heal();
    stack.start_engine();
    let kept = acknowledged * BATCH_EVENTS;
    wait_equal("all that was acknowledged is counted once", seconds(30), kept, || {
        stack.count(name)
    });
}

#[test]
fn a_failed_sync_is_the_end_of_the_shard_with_epoll() {
    a_failing_disk(Driver::Epoll);
}

#[test]
fn a_failed_sync_is_the_end_of_the_shard_with_uring() {
    a_failing_disk(Driver::Uring);
}

#[test]
fn a_failed_sync_is_the_end_of_the_shard_with_glommio() {
    a_failing_disk(Driver::Glommio);
}
