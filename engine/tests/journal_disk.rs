//! The journal on the real file system: its keeper's thread, its lock, a restart, a full disk.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

mod journal_support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use engine::journal::storage::DiskStorage;
use engine::journal::{
    Journal, JournalConfig, JournalError, OpenedJournal, SpaceState, Stall, verify,
};
use journal_support::{MIB, config, drain, row, sync};

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "no {what} within 20 s");
        std::thread::yield_now();
    }
}

fn threaded() -> JournalConfig {
    JournalConfig { keeper_thread: true, boot_id: None, ..config(DiskStorage) }
}

/// Commits one row when there is room; says what is in the way.
fn try_commit(shard: &mut OpenedJournal, number: u64, bytes: usize) -> Result<u64, Stall> {
    let row = row(number, bytes);
    let room = shard.appender.room(row.len())?;
    room[..row.len()].copy_from_slice(&row);
    Ok(shard.appender.commit(row.len(), 1))
}

/// The same, waiting for the keeper.
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

#[test]
fn a_waiting_feed_is_woken_by_a_write() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), threaded()).unwrap();
    let mut shard = journal.open_shard(0).unwrap();
    assert!(!shard.feed.wait(Duration::from_millis(1)));
    let OpenedJournal { appender, mut feed, .. } = shard;
    let waiting = std::thread::spawn(move || {
        assert!(feed.wait(Duration::from_secs(20)));
        drain(&mut feed).0
    });
    shard = OpenedJournal { appender, ..journal.open_shard(1).unwrap() };
    commit(&mut shard, 7, 300);
    sync(&mut shard);
    assert_eq!(waiting.join().unwrap(), [7]);
}

/// A small file system of its own; unmounted when dropped.
struct SmallDisk<'a>(&'a Path);

impl SmallDisk<'_> {
    fn mount(dir: &Path, megabytes: u64) -> SmallDisk<'_> {
        let options = format!("size={megabytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "unmogrowp-test"])
            .arg(dir)
            .status()
            .unwrap();
        assert!(mounted.success(), "mounting a small tmpfs failed");
        SmallDisk(dir)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// Without root's rights the same is tested on the simulated disk alone.
#[test]
fn a_really_full_disk_stalls_and_passes() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let _small = SmallDisk::mount(dir.path(), 5);
    let filler = dir.path().join("filler");
    std::fs::write(&filler, vec![1; 2 * MIB as usize]).unwrap();
    let journal = Journal::open(&dir.path().join("journal"), threaded()).unwrap();
    let mut shard = journal.open_shard(0).unwrap();
    let mut number = 0;
    let mut fill = |shard: &mut OpenedJournal| {
        wait_for("full disk", || match try_commit(shard, number, 60_000) {
            Ok(_) => {
                number += 1;
                sync(shard);
                false
            }
            Err(stall) => stall == Stall::Full,
        });
        number
    };
    let before = fill(&mut shard);
    assert_eq!(shard.status.space(), SpaceState::Disk { os_error: 28 });
    std::fs::remove_file(&filler).unwrap();
    wait_for("space", || shard.status.space() == SpaceState::Ready);
    let after = fill(&mut shard);
    assert!(after > before);
    assert_eq!(drain(&mut shard.feed).0, (0..after).collect::<Vec<u64>>());
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
