//! What the journal's tests share: a journal on a simulated disk, rows that name themselves, and a
//! feed read to its end.

#![allow(dead_code, reason = "every test binary uses its own part")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::journal::simulated_disk::SimulatedDisk;
use engine::journal::storage::{DiskStorage, Storage};
use engine::journal::{
    BootId, Feed, FeedBlock, FeedError, Journal, JournalConfig, OpenedJournal, Stall, Write,
};
pub use proto::samples::{numbered_row as row, numbers};

pub const ROOT: &str = "/journal";
pub const MIB: u64 = 1 << 20;

pub fn config(storage: impl Storage) -> JournalConfig {
    JournalConfig {
        segment_bytes: MIB,
        buffers_max: 24,
        backlog_bytes_max: Some(16 * MIB),
        checkpoint_interval: Duration::ZERO,
        keep_forwarded: Duration::ZERO,
        storage: Arc::new(storage),
        boot_id: Some(BootId([b'a'; 36])),
        keeper_thread: false,
        ..JournalConfig::default()
    }
}

/// On the real disk, with the keeper's thread.
pub fn threaded() -> JournalConfig {
    JournalConfig { keeper_thread: true, boot_id: None, ..config(DiskStorage) }
}

pub fn open(disk: &SimulatedDisk) -> (Journal, OpenedJournal) {
    open_with(config(disk.clone()))
}

pub fn open_with(config: JournalConfig) -> (Journal, OpenedJournal) {
    let journal = Journal::open(Path::new(ROOT), config).unwrap();
    let shard = journal.open_shard(0).unwrap();
    (journal, shard)
}

/// Commits one row as one request; gives the sequence to wait for.
pub fn commit(shard: &mut OpenedJournal, number: u64, bytes: usize) -> u64 {
    let row = row(number, bytes);
    let room = shard.appender.room(row.len()).unwrap();
    room[..row.len()].copy_from_slice(&row);
    // What lies behind the rows may be scribbled over.
    room[row.len()..row.len() + 64].fill(0xee);
    shard.appender.commit(row.len(), 1)
}

/// Commits one row when there is room; says what is in the way.
pub fn try_commit(shard: &mut OpenedJournal, number: u64, bytes: usize) -> Result<u64, Stall> {
    let row = row(number, bytes);
    let room = shard.appender.room(row.len())?;
    room[..row.len()].copy_from_slice(&row);
    Ok(shard.appender.commit(row.len(), 1))
}

/// Performs a write and completes it.
pub fn perform(shard: &mut OpenedJournal, write: Write) -> u64 {
    let result = write.write_blocking();
    shard.appender.on_write_done(write, result).unwrap()
}

/// Writes all that was committed.
pub fn sync(shard: &mut OpenedJournal) {
    while let Some(write) = shard.appender.next_write() {
        perform(shard, write);
    }
    assert!(!shard.appender.has_unsynced());
}

pub fn blocks(feed: &mut Feed) -> Vec<FeedBlock> {
    let mut blocks = Vec::new();
    while let Some(block) = feed.next_block().unwrap() {
        blocks.push(block);
    }
    blocks
}

/// The rows that the feed gives, and the damage that it reports on the way.
pub fn drain(feed: &mut Feed) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut rows, mut damage) = (Vec::new(), Vec::new());
    loop {
        match feed.next_block() {
            Ok(Some(block)) => rows.extend(numbers(block.payload())),
            Ok(None) => return (rows, damage),
            Err(FeedError::Damaged { first_sequence, last_sequence }) => {
                damage.push((first_sequence, last_sequence));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "no {what} within 20 s");
        std::thread::yield_now();
    }
}
