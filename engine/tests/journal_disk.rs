//! The journal on the real file system: its keeper's thread, its lock, a restart.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

mod journal_support;

use std::time::Duration;

use engine::journal::{Journal, JournalConfig, JournalError, OpenedJournal, Stall, verify};
use journal_support::{drain, sync, threaded, try_commit, wait_for};

/// Commits one row, waiting for the keeper.
fn commit(shard: &mut OpenedJournal, number: u64, bytes: usize) {
    wait_for("segment", || match try_commit(shard, number, bytes) {
        Ok(_) => true,
        Err(stall) => {
            assert_eq!(stall, Stall::Busy);
            false
        }
    });
}

#[test]
fn segments_are_prepared_filled_and_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path(), threaded()).unwrap();
    let mut shard = journal.open_shard(0).unwrap();
    let mut forwarded = Vec::new();
    for number in 0..100 {
        commit(&mut shard, number, 60_000);
        sync(&mut shard);
        if number == 70 {
            forwarded = drain(&mut shard.feed).0;
            shard.feed.mark_forwarded(shard.appender.synced_through()).unwrap();
        }
    }
    assert!(shard.status.segments() > 1);
    journal.stop();
    drop((journal, shard));
    let report = verify(dir.path()).unwrap();
    assert!(report.is_good(), "{report}");

    let journal = Journal::open(dir.path(), threaded()).unwrap();
    let mut shard = journal.open_shard(0).unwrap();
    assert!(shard.report.segments_skipped > 0, "{:?}", shard.report);
    forwarded.extend(drain(&mut shard.feed).0);
    assert_eq!(forwarded, (0..100).collect::<Vec<u64>>());
}

#[test]
fn a_second_engine_is_told_who_holds_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), threaded()).unwrap();
    match Journal::open(dir.path(), threaded()) {
        Err(JournalError::Locked { pid, .. }) => assert_eq!(pid, std::process::id().to_string()),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("two journals on one directory"),
    }
    drop(journal);
    assert!(Journal::open(dir.path(), threaded()).is_ok());
}

#[test]
fn the_waker_is_called_when_a_segment_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let (sender, woken) = std::sync::mpsc::channel();
    let waker: engine::journal::Waker = std::sync::Arc::new(move |shard| {
        let _ = sender.send(shard);
    });
    let journal =
        Journal::open(dir.path(), JournalConfig { waker: Some(waker), ..threaded() }).unwrap();
    let mut shard = journal.open_shard(3).unwrap();
    assert_eq!(woken.recv_timeout(Duration::from_secs(20)), Ok(3));
    // Opening the first segment asks for the next.
    try_commit(&mut shard, 1, 300).unwrap();
    assert_eq!(woken.recv_timeout(Duration::from_secs(20)), Ok(3));
    shard.appender.poll_segments();
}
