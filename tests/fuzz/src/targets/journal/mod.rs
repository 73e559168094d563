//! Any bytes as what happened to a journal's files, then two starts on them.
//!
//! Laws, whatever happened: a start and `verify` end with a report or an error that says why, never a
//! panic; blocks come in order, and each sequence up to the end of the log is given or reported; all
//! that is given lies on the disk under a right checksum; `verify` and the start say the same; a second
//! start says the same as the first; what is acknowledged after a start is there at the next one.
//!
//! Where bytes were damaged in place: no block is given that was not acknowledged; one that is whole is
//! given; one that is not is reported as damage as soon as anything whole vouches for it, and is a torn
//! tail where nothing does.

mod disk;
mod history;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engine::journal::simulated_disk::SimulatedDisk;
use engine::journal::{
    BootId, CheckpointState, Damage, Feed, FeedError, Journal, JournalConfig, JournalError,
    OpenedJournal, verify_on,
};
use proto::BlockHeader;
use proto::samples::numbered_row;

use crate::Target;
use disk::{Edited, frames_of};
use history::History;

pub const TARGET: Target = Target {
    name: "journal",
    run: target,
    dictionary: &[
        // An edit has six bytes: what, file, page, place in the page (2), value.
        &[0, 1, 1, 10, 0, 3],
        &[2, 1, 1, 0, 0, 0],
        &[2, 1, 2, 0, 0, 0],
        &[2, 1, 0, 0, 0, 0],
        &[2, 2, 0, 0, 0, 0],
        &[4, 1, 3, 40, 0, 1],
        &[5, 1, 2, 1, 4, 0],
        &[6, 1, 2, 0, 0, 0],
        &[7, 1, 0, 0, 0, 0],
        &[8, 1, 1, 2, 0, 1],
        &[9, 0, 0, 10, 0, 1],
    ],
    input_bytes_max: 400,
    test_cases: 800,
};

const ROOT: &str = "/journal";
const BOOT: [u8; 36] = [b'a'; 36];

fn config(disk: &SimulatedDisk, boot: u8) -> JournalConfig {
    JournalConfig {
        segment_bytes: 1 << 20,
        buffers_max: 8,
        tail_bytes_max: 1 << 20,
        backlog_bytes_max: Some(64 << 20),
        checkpoint_interval: Duration::ZERO,
        keep_forwarded: Duration::from_secs(3_600),
        storage: Arc::new(disk.clone()),
        boot_id: Some(BootId([boot; 36])),
        keeper_thread: false,
        ..JournalConfig::default()
    }
}

fn open(disk: &SimulatedDisk, boot: u8) -> Result<(Journal, OpenedJournal), JournalError> {
    let journal = Journal::open(Path::new(ROOT), config(disk, boot))?;
    let shard = journal.open_shard(0)?;
    Ok((journal, shard))
}

/// What one start gave out.
#[derive(Debug, PartialEq)]
struct Given {
    /// By sequence: the block as it lies in the journal.
    blocks: BTreeMap<u64, Vec<u8>>,
    /// First and last sequences.
    lost: Vec<(u64, u64)>,
    forwarded_through: u64,
    last_sequence: u64,
}

impl Given {
    fn is_lost(&self, sequence: u64) -> bool {
        self.lost.iter().any(|(first, last)| (*first..=*last).contains(&sequence))
    }
}

/// Reads the feed to its end. Nothing is skipped silently.
fn drain(feed: &mut Feed, forwarded_through: u64, last_sequence: u64) -> Given {
    let mut given =
        Given { blocks: BTreeMap::new(), lost: Vec::new(), forwarded_through, last_sequence };
    let mut next = forwarded_through + 1;
    loop {
        match feed.next_block() {
            Ok(None) => break,
            Ok(Some(block)) => {
                assert_eq!(block.header.id.sequence, next, "blocks come in order");
                let decoded = BlockHeader::decode_block(block.bytes());
                assert_eq!(decoded, Ok((block.header, block.payload())));
                given.blocks.insert(next, block.bytes().to_vec());
                next += 1;
            }
            Err(FeedError::Damaged { first_sequence, last_sequence }) => {
                assert_eq!(first_sequence, next, "damage is reported in its place");
                assert!(first_sequence <= last_sequence);
                given.lost.push((first_sequence, last_sequence));
                next = last_sequence + 1;
            }
            Err(error) => panic!("a sound disk: {error}"),
        }
    }
    assert_eq!(next, last_sequence.max(forwarded_through) + 1, "up to the end of the log");
    given
}

fn start(disk: &SimulatedDisk, boot: u8) -> Option<(Journal, OpenedJournal, Given)> {
    match open(disk, boot) {
        Ok((journal, mut shard)) => {
            let forwarded = shard.status.forwarded_through();
            let given = drain(&mut shard.feed, forwarded, shard.report.last_sequence);
            Some((journal, shard, given))
        }
        Err(JournalError::Identity { .. }) => None,
        Err(error) => panic!("a sound disk: {error}"),
    }
}

pub fn target(bytes: &[u8]) {
    let (&kind, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let (&reboot, edits) = rest.split_first().unwrap_or((&0, &[]));
    let boot = if reboot.is_multiple_of(2) { BOOT[0] } else { b'b' };
    History::with(kind, |history| {
        let edited = Edited::new(history, edits);
        two_starts(history, &edited, boot);
    });
}

fn two_starts(history: &History, edited: &Edited, boot: u8) {
    let disk = edited.disk();
    let frames = edited.files.iter().flat_map(|(_, bytes)| frames_of(bytes));
    let on_disk: Vec<Vec<u8>> = frames.map(|frame| frame.bytes).collect();
    let verified = verify_on(&disk, Path::new(ROOT));
    let Some((journal, mut shard, given)) = start(&disk, boot) else {
        assert!(!edited.knows_its_name(), "an intact name was not found");
        return;
    };
    for block in given.blocks.values() {
        assert!(on_disk.contains(block), "a block that is not on the disk");
    }
    let report = &shard.report;
    if let Ok(verified) = &verified
        && report.checkpoint != CheckpointState::Good
        && report.segments_skipped == 0
    {
        let of_shard = &verified.shards[0];
        assert_eq!(of_shard.last_sequence, report.last_sequence, "verify and start");
        assert_eq!(of_shard.damage, report.damage, "verify and start");
    }
    if edited.in_place {
        damage_is_told_from_a_torn_tail(history, edited, &given, &report.damage);
    }
    let (_, _, again) = start(&disk.fork(), boot).expect("it has a name by now");
    same_again(&given, &again);
    assert_eq!(again.last_sequence, given.last_sequence, "a second start");
    assert_eq!(again.blocks.len(), given.blocks.len(), "a second start");

    let row = numbered_row(999, 300);
    let room = shard.appender.room(row.len()).expect("the disk has room");
    room[..row.len()].copy_from_slice(&row);
    let sequence = shard.appender.commit(row.len(), 1);
    assert_eq!(sequence, given.last_sequence + 1, "no sequence is given twice");
    while let Some(write) = shard.appender.next_write() {
        let result = write.write_blocking();
        shard.appender.on_write_done(write, result).expect("a sound disk");
    }
    drop((journal, shard));
    let (_journal, _shard, later) = start(&disk.fork(), boot).expect("it has a name by now");
    assert_eq!(later.last_sequence, sequence, "acknowledged after the first start");
    same_again(&given, &later);
    let new = later.blocks.get(&sequence).expect("acknowledged after the first start");
    assert_eq!(history::rows(new), [999]);
}

/// What one start gave, a later one gives. Damage may go unsaid: a segment in which nothing is left to
/// give has been copied aside and is used again.
fn same_again(given: &Given, later: &Given) {
    for (sequence, block) in &given.blocks {
        assert!(later.blocks.get(sequence) == Some(block), "block {sequence} at a later start");
    }
    for gap in &later.lost {
        assert!(given.lost.contains(gap), "blocks {gap:?} are lost at a later start");
    }
}

fn damage_is_told_from_a_torn_tail(
    history: &History,
    edited: &Edited,
    given: &Given,
    damage: &[Damage],
) {
    for (sequence, block) in &given.blocks {
        let is_known = history.acknowledged.get(sequence) == Some(block);
        assert!(is_known, "block {sequence} was never acknowledged");
    }
    let vouched_through = edited.vouched_through(history);
    let vouched_at_most = edited.vouched_at_most();
    for gap in damage {
        assert!(gap.last_sequence <= vouched_at_most, "a torn tail is called damage: {gap:?}");
    }
    for (sequence, block) in &history.acknowledged {
        let (sequence, is_whole) = (*sequence, edited.holds(block));
        let is_read = given.blocks.contains_key(&sequence);
        let is_given = is_read || sequence <= given.forwarded_through;
        let is_reported = given.is_lost(sequence)
            || damage
                .iter()
                .any(|gap| (gap.first_sequence..=gap.last_sequence).contains(&sequence));
        assert!(!is_read || !is_reported, "block {sequence} is given and lost");
        if sequence <= vouched_through {
            assert!(
                is_given || is_reported,
                "block {sequence} of {vouched_through} is passed over"
            );
            assert!(is_given || !is_whole, "block {sequence} is whole and taken for lost");
        }
    }
    if edited.is_untouched {
        assert_eq!(given.last_sequence, history.last_sequence());
        assert!(given.lost.is_empty() && damage.is_empty());
    }
}
