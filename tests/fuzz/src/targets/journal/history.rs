//! Journals as the engine itself writes them, each with a past of its own: what the edits start from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::journal::simulated_disk::SimulatedDisk;
use engine::journal::storage::Storage;
use engine::journal::{FilledBuffer, OpenedJournal};
use proto::block::HEADER_BYTES;
use proto::samples::{numbered_row, numbers};

use super::disk::frames_of;
use super::{BOOT, ROOT, config, open, start};

pub const PAGE_BYTES: usize = 4096;

/// A journal at rest.
pub struct History {
    /// All files of the shard's directory, by name.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// Blocks by sequence, header included, as they were acknowledged.
    pub acknowledged: BTreeMap<u64, Vec<u8>>,
}

/// What a journal has lived through before the edits.
const PASTS: [fn(&SimulatedDisk); 7] =
    [one_start, three_starts, forwarded_in_part, torn_tails, a_chain_cut_off, chains, long_blocks];

thread_local! {
    static HISTORIES: [History; PASTS.len()] = PASTS.map(History::of);
}

impl History {
    pub fn with<T>(kind: u8, run: impl FnOnce(&History) -> T) -> T {
        // Long blocks take ten times as long as any other past.
        let index =
            if kind == 255 { PASTS.len() - 1 } else { usize::from(kind) % (PASTS.len() - 1) };
        HISTORIES.with(|histories| run(&histories[index]))
    }

    fn of(past: fn(&SimulatedDisk)) -> History {
        let disk = SimulatedDisk::default();
        past(&disk);
        let dir = Path::new(ROOT).join("shard-00");
        let names = disk.list(&dir).expect("the shard's directory");
        let file = |name: String| {
            let bytes = disk.read_file(&dir.join(&name)).expect("a file that was listed");
            (PathBuf::from(name), trimmed(bytes))
        };
        let files = names.into_iter().map(file).collect();
        // In another boot all is given that is kept.
        let (_journal, shard, given) = start(&disk.fork(), b'b').expect("an undamaged journal");
        assert!(given.lost.is_empty() && shard.report.damage.is_empty());
        History { files, acknowledged: given.blocks }
    }

    pub fn last_sequence(&self) -> u64 {
        self.acknowledged.keys().next_back().copied().unwrap_or(0)
    }
}

/// The pages that hold frames and eight more: the rest of a segment is zero, and costs time.
fn trimmed(mut bytes: Vec<u8>) -> Vec<u8> {
    let used = frames_of(&bytes).last().map_or(0, |last| last.offset + last.bytes.len());
    bytes.truncate((used.next_multiple_of(PAGE_BYTES) + 8 * PAGE_BYTES).min(bytes.len()));
    bytes
}

/// The numbers of the rows in a block.
pub fn rows(block: &[u8]) -> Vec<u64> {
    numbers(&block[HEADER_BYTES..])
}

fn opened(disk: &SimulatedDisk) -> (engine::journal::Journal, OpenedJournal) {
    let (journal, shard) = open(disk, BOOT[0]).expect("a sound disk");
    journal.keep();
    (journal, shard)
}

fn commit(shard: &mut OpenedJournal, number: u64, bytes: usize) {
    let row = numbered_row(number, bytes);
    let room = shard.appender.room(row.len()).expect("room");
    room[..row.len()].copy_from_slice(&row);
    shard.appender.commit(row.len(), 1);
}

fn sync(shard: &mut OpenedJournal) {
    while let Some(write) = shard.appender.next_write() {
        let result = write.write_blocking();
        shard.appender.on_write_done(write, result).expect("a sound disk");
    }
}

/// `count` blocks of one row each.
fn write(shard: &mut OpenedJournal, first_number: u64, count: u64, bytes: usize) {
    for number in first_number..first_number + count {
        commit(shard, number, bytes);
        sync(shard);
    }
}

fn append_chain(shard: &mut OpenedJournal, first_number: u64, blocks: u64) {
    let filled = |number: u64| {
        let row = numbered_row(number, 300);
        let mut buffer = shard.appender.take_buffer().expect("a buffer");
        buffer.payload_mut()[..row.len()].copy_from_slice(&row);
        FilledBuffer { buffer, written: row.len(), rows: 1 }
    };
    let chain: Vec<FilledBuffer> = (first_number..first_number + blocks).map(filled).collect();
    assert!(shard.appender.append_chain(chain).is_ok(), "room for a chain");
}

fn one_start(disk: &SimulatedDisk) {
    let (_journal, mut shard) = opened(disk);
    write(&mut shard, 1, 5, 300);
    write(&mut shard, 6, 1, 9_000);
}

fn three_starts(disk: &SimulatedDisk) {
    for first_number in [1, 4, 7] {
        let (_journal, mut shard) = opened(disk);
        write(&mut shard, first_number, 3, 300);
    }
}

fn forwarded_in_part(disk: &SimulatedDisk) {
    three_starts(disk);
    let (_journal, mut shard) = opened(disk);
    while let Ok(Some(_)) = shard.feed.next_block() {}
    shard.feed.mark_forwarded(5).expect("a sound disk");
    write(&mut shard, 10, 3, 300);
}

/// Twice the second of two writes in flight is whole and the first is not.
fn torn_tails(disk: &SimulatedDisk) {
    for first_number in [1, 4, 7] {
        let (_journal, mut shard) = opened(disk);
        write(&mut shard, first_number, 3, 300);
        if first_number < 7 {
            commit(&mut shard, 100, 300);
            let _lost = shard.appender.next_write().expect("a write");
            commit(&mut shard, 101, 300);
            let second = shard.appender.next_write().expect("a second write");
            second.write_blocking().expect("a sound disk");
        }
    }
}

/// Of a chain of twelve only the first write, of eight, was done; then there was another start.
fn a_chain_cut_off(disk: &SimulatedDisk) {
    let (journal, mut shard) = open_with_buffers(disk);
    write(&mut shard, 1, 2, 300);
    append_chain(&mut shard, 100, 12);
    let first = shard.appender.next_write().expect("a write");
    first.write_blocking().expect("a sound disk");
    drop((journal, shard));
    let (_journal, mut shard) = opened(disk);
    write(&mut shard, 3, 4, 300);
}

fn open_with_buffers(disk: &SimulatedDisk) -> (engine::journal::Journal, OpenedJournal) {
    let mut config = config(disk, BOOT[0]);
    config.buffers_max = 24;
    let journal = engine::journal::Journal::open(Path::new(ROOT), config).expect("a sound disk");
    let shard = journal.open_shard(0).expect("a sound disk");
    journal.keep();
    (journal, shard)
}

fn chains(disk: &SimulatedDisk) {
    let (_journal, mut shard) = opened(disk);
    write(&mut shard, 1, 1, 300);
    append_chain(&mut shard, 2, 3);
    sync(&mut shard);
    write(&mut shard, 5, 1, 300);
    append_chain(&mut shard, 6, 2);
    sync(&mut shard);
}

/// Several segments of one start.
fn long_blocks(disk: &SimulatedDisk) {
    let (journal, mut shard) = opened(disk);
    for number in 1..=7 {
        journal.keep();
        write(&mut shard, number, 1, 400_000);
    }
}
