//! What the journal makes of failing writes, torn tails, flipped bits, stale frames and damaged
//! small files.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

mod journal_support;

use std::path::{Path, PathBuf};

use engine::journal::simulated_disk::{AppendFault, SimulatedDisk};
use engine::journal::storage::Storage;
use engine::journal::{
    BootId, CheckpointState, JournalFailed, OpenedJournal, SpaceState, Stall, verify_on,
};
use journal_support::*;
use proptest::prelude::*;

fn segment_path(number: u64) -> PathBuf {
    Path::new(ROOT).join(format!("shard-00/segment-{number:020}.jnl"))
}

/// Frames of rows of 300 bytes are one page long, behind the header's page.
fn frame_offset(index: usize) -> usize {
    4096 * (1 + index)
}

/// `count` blocks of one row each, numbered from 1 like their sequences.
fn synced(disk: &SimulatedDisk, count: u64) -> (engine::journal::Journal, OpenedJournal) {
    let (journal, mut shard) = open(disk);
    for number in 1..=count {
        commit(&mut shard, number, 300);
        sync(&mut shard);
    }
    (journal, shard)
}

/// Two writes in flight: blocks 4 and 5 behind three good ones.
fn two_in_flight(
    disk: &SimulatedDisk,
) -> (engine::journal::Journal, OpenedJournal, [engine::journal::Write; 2]) {
    let (journal, mut shard) = synced(disk, 3);
    commit(&mut shard, 4, 300);
    let first = shard.appender.next_write().unwrap();
    commit(&mut shard, 5, 300);
    let second = shard.appender.next_write().unwrap();
    (journal, shard, [first, second])
}

#[test]
fn of_two_writes_in_flight_the_second_alone_counts_for_nothing() {
    let disk = SimulatedDisk::default();
    let (_journal, _shard, [_first, second]) = two_in_flight(&disk);
    second.write_blocking().unwrap();

    let mut disk = disk.fork();
    for start in 0..3 {
        let (_journal, mut shard) = open(&disk);
        assert!(shard.report.damage.is_empty(), "start {start}: {:?}", shard.report);
        assert_eq!(shard.report.dropped_blocks, 1, "start {start}");
        let (rows, damage) = drain(&mut shard.feed);
        let new: Vec<u64> = (0..start).map(|start| 100 + start).collect();
        assert_eq!(rows[..3], [1, 2, 3], "start {start}");
        assert_eq!((&rows[3..], damage), (&new[..], vec![]), "start {start}");
        // The dropped frame's sequence is given again, in another epoch.
        assert_eq!(commit(&mut shard, 100 + start, 300), 4 + start);
        sync(&mut shard);
        disk = disk.fork();
    }
}

#[test]
fn of_two_writes_in_flight_the_first_may_count() {
    let disk = SimulatedDisk::default();
    let (_journal, _shard, [first, _second]) = two_in_flight(&disk);
    first.write_blocking().unwrap();
    let (_journal, mut shard) = open(&disk.fork());
    assert_eq!(drain(&mut shard.feed).0, [1, 2, 3, 4]);
}

#[test]
fn a_torn_write_is_the_end_of_the_log() {
    for seed in 0..16 {
        let disk = SimulatedDisk::default();
        let (_journal, mut shard) = synced(&disk, 3);
        commit(&mut shard, 4, 60_000);
        let write = shard.appender.next_write().unwrap();
        disk.fault_next_append(AppendFault::Torn { seed });
        write.write_blocking().unwrap_err();
        let (_journal, mut shard) = open(&disk.fork());
        assert_eq!(drain(&mut shard.feed), (vec![1, 2, 3], vec![]), "seed {seed}");
        assert!(shard.report.damage.is_empty());
    }
}

fn check_failed(fault: AppendFault, expected: impl Fn(&JournalFailed) -> bool) {
    let disk = SimulatedDisk::default();
    let (_journal, mut shard, [first, second]) = two_in_flight(&disk);
    disk.fault_next_append(fault);
    let result = first.write_blocking();
    let failed = shard.appender.on_write_done(first, result).unwrap_err();
    assert!(expected(&failed), "{failed}");
    let result = second.write_blocking();
    assert_eq!(shard.appender.on_write_done(second, result), Err(failed));
    assert_eq!(shard.appender.synced_through(), 3);
    assert_eq!(shard.appender.room(10).err(), Some(Stall::Failed));
    assert_eq!(shard.appender.take_buffer().err(), Some(Stall::Failed));
    assert!(shard.appender.next_write().is_none());
    assert!(shard.status.failed());
    assert_eq!(drain(&mut shard.feed).0, [1, 2, 3], "what is durable is still forwarded");
}

#[test]
fn a_failed_write_is_the_end_of_the_shard() {
    check_failed(AppendFault::Fail, |failed| {
        matches!(failed, JournalFailed::Write { sequence: 4, os_error: Some(5), .. })
    });
}

#[test]
fn a_short_write_is_a_failed_write() {
    check_failed(AppendFault::Short { pages: 0 }, |failed| {
        *failed == JournalFailed::Short { sequence: 4, written: 0, expected: 4096 }
    });
}

#[test]
fn flipped_bits_in_acknowledged_blocks_are_damage() {
    let disk = SimulatedDisk::default();
    drop(synced(&disk, 6));
    // In the payload of block 3, and in the header of block 4.
    disk.flip_bit(&segment_path(1), frame_offset(2) + 100, 3);
    disk.flip_bit(&segment_path(1), frame_offset(3) + 1, 0);
    for start in 0..2 {
        let (_journal, mut shard) = open(&disk);
        assert_eq!(shard.report.damaged_blocks(), 2, "start {start}");
        assert_eq!(shard.report.last_sequence, 6);
        assert_eq!(shard.report.quarantined.len(), 1);
        assert_eq!(drain(&mut shard.feed), (vec![1, 2, 5, 6], vec![(3, 4)]), "start {start}");
    }
    let copy = segment_path(1).with_extension("jnl.quarantined");
    assert_eq!(disk.read_file(&copy).unwrap(), disk.read_file(&segment_path(1)).unwrap());
    let report = verify_on(&disk, Path::new(ROOT)).unwrap();
    assert!(!report.is_good());
    assert!(report.to_string().contains("DAMAGE: acknowledged blocks 3 to 4"), "{report}");
}

#[test]
fn a_later_start_vouches_for_the_end_of_an_earlier_one() {
    let disk = SimulatedDisk::default();
    drop(synced(&disk, 3));
    // Nothing on disk vouches for block 3 yet.
    let unvouched = disk.fork();
    unvouched.flip_bit(&segment_path(1), frame_offset(2) + 70, 0);
    let (_journal, shard) = open(&unvouched);
    assert_eq!((shard.report.last_sequence, shard.report.damaged_blocks()), (2, 0));

    drop(open(&disk));
    disk.flip_bit(&segment_path(1), frame_offset(2) + 70, 0);
    let (_journal, mut shard) = open(&disk);
    assert_eq!((shard.report.last_sequence, shard.report.damaged_blocks()), (3, 1));
    assert_eq!(drain(&mut shard.feed), (vec![1, 2], vec![(3, 3)]));
}

#[test]
fn a_forwarded_block_was_durable() {
    let disk = SimulatedDisk::default();
    let (journal, mut shard) = synced(&disk, 3);
    drain(&mut shard.feed);
    shard.feed.mark_forwarded(3).unwrap();
    drop((journal, shard));
    disk.flip_bit(&segment_path(1), frame_offset(2) + 70, 0);
    let mut config = config(disk.clone());
    config.boot_id = Some(BootId([b'b'; 36]));
    let (_journal, mut shard) = open_with(config);
    assert_eq!(shard.report.damaged_blocks(), 1);
    assert_eq!(commit(&mut shard, 4, 300), 4, "its sequence is not given again");
}

#[test]
fn a_damaged_segment_header_loses_no_frame() {
    let disk = SimulatedDisk::default();
    let (journal, mut shard) = synced(&disk, 3);
    for number in 4..8 {
        journal.keep();
        commit(&mut shard, number, 500_000);
        sync(&mut shard);
    }
    drop((journal, shard));
    for number in 1..=2 {
        disk.flip_bit(&segment_path(number), 40, 0);
    }
    let (_journal, mut shard) = open(&disk);
    assert_eq!(shard.report.damaged_headers, [1, 2]);
    assert_eq!(shard.report.quarantined.len(), 2);
    assert_eq!(drain(&mut shard.feed), ((1..8).collect(), vec![]));
}

#[test]
fn stale_frames_of_a_used_segment_are_not_seen() {
    let disk = SimulatedDisk::default();
    let (journal, mut shard) = open(&disk);
    let mut number = 0;
    // Fills segments with frames of the same epoch until the first was used again.
    while disk.read_file(&segment_path(1)).is_ok() {
        number += 1;
        journal.keep();
        commit(&mut shard, number, 20_000);
        sync(&mut shard);
        drain(&mut shard.feed);
        shard.feed.mark_forwarded(number).unwrap();
    }
    // The spare is a used one now. One more block opens it only after the live one is full.
    for _ in 0..60 {
        number += 1;
        journal.keep();
        commit(&mut shard, number, 20_000);
        sync(&mut shard);
    }
    let disk = disk.fork();
    let forwarded = shard.status.forwarded_through();
    let (_journal, mut shard) = open(&disk);
    assert_eq!(shard.report.last_sequence, number);
    assert!(shard.report.damage.is_empty());
    let expected: Vec<u64> = (shard.status.forwarded_through() + 1..=number).collect();
    assert!(shard.status.forwarded_through() <= forwarded);
    assert_eq!(drain(&mut shard.feed), (expected, vec![]));
}

#[test]
fn a_damaged_or_lost_checkpoint_forwards_again() {
    let check = |change: &dyn Fn(&SimulatedDisk, &Path), expected: CheckpointState| {
        let disk = SimulatedDisk::default();
        let (journal, mut shard) = synced(&disk, 3);
        drain(&mut shard.feed);
        shard.feed.mark_forwarded(2).unwrap();
        drop((journal, shard));
        change(&disk, &Path::new(ROOT).join("shard-00/forwarded.ckpt"));
        let (_journal, mut shard) = open(&disk);
        assert_eq!(shard.report.checkpoint, expected);
        let rows = drain(&mut shard.feed).0;
        let good = expected == CheckpointState::Good;
        assert_eq!(rows, if good { vec![3] } else { vec![1, 2, 3] }, "{expected:?}");
    };
    check(&|_, _| (), CheckpointState::Good);
    check(&|disk, path| disk.flip_bit(path, 26, 1), CheckpointState::Damaged);
    check(&|disk, path| disk.remove(path).unwrap(), CheckpointState::Missing);
    check(&|disk, path| disk.replace_file(path, b"", true).unwrap(), CheckpointState::Damaged);
}

#[test]
fn after_a_reboot_all_that_is_kept_is_forwarded_again() {
    let disk = SimulatedDisk::default();
    let (journal, mut shard) = synced(&disk, 3);
    drain(&mut shard.feed);
    shard.feed.mark_forwarded(3).unwrap();
    drop((journal, shard));
    let mut config = config(disk.clone());
    config.boot_id = Some(BootId([b'b'; 36]));
    let (_journal, mut shard) = open_with(config);
    assert_eq!(shard.report.checkpoint, CheckpointState::Rebooted);
    assert_eq!(drain(&mut shard.feed).0, [1, 2, 3]);
    assert_eq!(shard.feed.backlog().blocks, 3);
}

#[test]
fn a_lost_name_is_found_in_the_segments() {
    let disk = SimulatedDisk::default();
    let (journal, shard) = synced(&disk, 2);
    let id = shard.report.journal_id;
    drop((journal, shard));
    disk.flip_bit(&Path::new(ROOT).join("shard-00/journal.id"), 10, 1);
    let (_journal, mut shard) = open(&disk);
    assert_eq!(shard.report.journal_id, id);
    assert_eq!(drain(&mut shard.feed).0, [1, 2]);
}

#[test]
fn a_journal_without_segments_gets_a_new_name() {
    let disk = SimulatedDisk::default();
    let (journal, shard) = synced(&disk, 2);
    let id = shard.report.journal_id;
    drop((journal, shard));
    for number in 1..=2 {
        let _ = disk.remove(&segment_path(number));
    }
    let (_journal, shard) = open(&disk);
    assert_ne!(shard.report.journal_id, id, "its sequences begin at 1 again");
    assert_eq!(shard.report.last_sequence, 0);
}

#[test]
fn damage_that_comes_while_running_is_reported_and_passed() {
    let disk = SimulatedDisk::default();
    let mut config = config(disk.clone());
    config.tail_bytes_max = 0;
    let (_journal, mut shard) = open_with(config);
    for number in 1..=5 {
        commit(&mut shard, number, 300);
        sync(&mut shard);
    }
    disk.flip_bit(&segment_path(1), frame_offset(1) + 80, 7);
    disk.flip_bit(&segment_path(1), frame_offset(4) + 80, 7);
    assert_eq!(drain(&mut shard.feed), (vec![1, 3, 4], vec![(2, 2), (5, 5)]));
}

#[test]
fn a_full_disk_stalls_and_passes() {
    let disk = SimulatedDisk::default();
    let (journal, mut shard) = open(&disk);
    disk.set_bytes_max(Some(disk.bytes() + 4096));
    journal.keep();
    let mut number = 0;
    let stall = loop {
        match shard.appender.room(60_000) {
            Ok(_) => {
                number += 1;
                commit(&mut shard, number, 60_000);
                sync(&mut shard);
                journal.keep();
            }
            Err(stall) => break stall,
        }
    };
    assert_eq!(stall, Stall::Full);
    assert_eq!(shard.status.space(), SpaceState::Disk { os_error: 28 });
    assert!(number >= 10, "the segment in use is filled first");
    disk.set_bytes_max(None);
    journal.keep();
    assert_eq!(shard.status.space(), SpaceState::Ready);
    commit(&mut shard, number + 1, 60_000);
    sync(&mut shard);
    assert_eq!(drain(&mut shard.feed).0, (1..=number + 1).collect::<Vec<u64>>());
}

#[test]
fn a_start_on_a_full_disk_waits_for_room() {
    let disk = SimulatedDisk::default();
    disk.set_bytes_max(Some(4096));
    let (journal, mut shard) = open(&disk);
    assert_eq!(shard.appender.room(10).err(), Some(Stall::Full));
    disk.set_bytes_max(None);
    journal.keep();
    commit(&mut shard, 1, 300);
    sync(&mut shard);
    assert_eq!(drain(&mut shard.feed).0, [1]);
}

#[test]
fn the_backlog_limit_stalls_until_something_is_forwarded() {
    let disk = SimulatedDisk::default();
    let mut config = config(disk.clone());
    config.backlog_bytes_max = Some(3 * MIB);
    config.keep_forwarded = std::time::Duration::from_secs(3600);
    let (journal, mut shard) = open_with(config);
    let mut number = 0;
    let mut fill = |shard: &mut OpenedJournal| {
        while shard.appender.room(60_000).is_ok() {
            number += 1;
            commit(shard, number, 60_000);
            sync(shard);
            journal.keep();
        }
        number
    };
    let blocks = fill(&mut shard);
    assert_eq!(shard.appender.room(60_000).err(), Some(Stall::Full));
    assert_eq!(shard.status.space(), SpaceState::BacklogLimit);
    assert_eq!(shard.feed.backlog().blocks, blocks);
    assert_eq!(drain(&mut shard.feed).0.len() as u64, blocks);
    shard.feed.mark_forwarded(blocks / 2).unwrap();
    journal.keep();
    let more = fill(&mut shard);
    assert!(more > blocks, "a forwarded segment is used before its time when space is short");
    assert_eq!(drain(&mut shard.feed).0, (blocks + 1..=more).collect::<Vec<u64>>());
}

#[test]
fn failing_syncs_give_no_segment() {
    let disk = SimulatedDisk::default();
    let (journal, mut shard) = open(&disk);
    commit(&mut shard, 1, 300);
    disk.set_syncs_fail(true);
    for number in 2..20 {
        if shard.appender.room(100_000).is_ok() {
            commit(&mut shard, number, 100_000);
        }
        sync(&mut shard);
        journal.keep();
    }
    assert_eq!(shard.status.space(), SpaceState::Disk { os_error: 5 });
    assert_eq!(shard.appender.room(100_000).err(), Some(Stall::Full));
    disk.set_syncs_fail(false);
    journal.keep();
    assert!(shard.appender.room(100_000).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Wherever a bit flips in a block that something vouches for, that block and no other is
    /// missed, and it is reported.
    #[test]
    fn any_flipped_bit_costs_its_block_alone(
        sizes in prop::collection::vec(100usize..20_000, 1..12),
        which in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        bit in 0u32..8,
    ) {
        let disk = SimulatedDisk::default();
        let (journal, mut shard) = open(&disk);
        let mut offsets = vec![4096];
        for (index, size) in sizes.iter().enumerate() {
            commit(&mut shard, index as u64 + 1, *size);
            sync(&mut shard);
            let block = shard.feed.next_block().unwrap().unwrap();
            offsets.push(offsets[index] + block.bytes().len().next_multiple_of(4096));
        }
        let block = which.index(sizes.len());
        drop((journal, shard));
        drop(open(&disk));
        let block_bytes = 64 + row(0, sizes[block]).len();
        disk.flip_bit(&segment_path(1), offsets[block] + place.index(block_bytes), bit);
        let (_journal, mut shard) = open(&disk);
        let hit = block as u64 + 1;
        let expected: Vec<u64> = (1..=sizes.len() as u64).filter(|number| *number != hit).collect();
        prop_assert_eq!(shard.report.damaged_blocks(), 1);
        prop_assert_eq!(drain(&mut shard.feed), (expected, vec![(hit, hit)]));
    }
}

fn segments(disk: &SimulatedDisk) -> Vec<u64> {
    let names = disk.list(&Path::new(ROOT).join("shard-00")).unwrap();
    let number = |name: &String| name.strip_prefix("segment-")?.strip_suffix(".jnl")?.parse().ok();
    names.iter().filter_map(number).collect()
}

/// The one of these segments whose first frame is of that start.
fn written_by(disk: &SimulatedDisk, segments: &[u64], epoch: u64) -> u64 {
    let found = segments.iter().find(|number| {
        let bytes = disk.read_file(&segment_path(**number)).unwrap();
        proto::BlockHeader::decode(&bytes[4096..]).is_ok_and(|header| header.id.epoch == epoch)
    });
    *found.expect("the start has written to one of its segments")
}

/// Three starts of three, three and one blocks; gives the numbers of the segments that they wrote.
fn three_starts(disk: &SimulatedDisk) -> [u64; 3] {
    let mut written = [0; 3];
    for (start, numbers) in [(0, 1..=3), (1, 4..=6), (2, 7..=7)] {
        let (_journal, mut shard) = open(disk);
        let before = segments(disk);
        for number in numbers {
            assert_eq!(commit(&mut shard, number, 300), number);
            sync(&mut shard);
        }
        written[start] = written_by(disk, &before, start as u64 + 1);
    }
    written
}

/// Found by the simulation: with its predecessors removed and the checkpoint of another boot, nothing
/// was said of the oldest segment when none of its frames could be read.
#[test]
fn an_oldest_segment_without_a_readable_frame_is_told_of() {
    let disk = SimulatedDisk::default();
    let [first, second, _] = three_starts(&disk);
    disk.remove(&segment_path(first)).unwrap();
    for index in 0..3 {
        disk.flip_bit(&segment_path(second), frame_offset(index) + 70, 0);
    }
    let (_journal, mut shard) = open(&disk);
    assert_eq!(shard.report.damaged_blocks(), 3, "{:?}", shard.report);
    assert_eq!(drain(&mut shard.feed), (vec![7], vec![(4, 6)]));
}

/// Found by the simulation: behind the damage nothing counts either, as the frame there is on the far side
/// of a write that never landed. It still vouches for the acknowledged block before that one.
#[test]
fn a_damaged_block_is_told_of_where_nothing_else_of_the_oldest_segment_counts() {
    let disk = SimulatedDisk::default();
    drop(synced(&disk, 3));
    let (journal, mut shard) = open(&disk);
    let before = segments(&disk);
    commit(&mut shard, 4, 300);
    sync(&mut shard);
    commit(&mut shard, 5, 300);
    let lost = shard.appender.next_write().unwrap();
    commit(&mut shard, 6, 300);
    shard.appender.next_write().unwrap().write_blocking().unwrap();
    drop((journal, shard, lost));

    let (first, second) = (before[0], written_by(&disk, &before, 2));
    disk.remove(&segment_path(first)).unwrap();
    disk.flip_bit(&segment_path(second), frame_offset(0) + 70, 0);
    let (_journal, mut shard) = open(&disk.fork());
    assert_eq!(shard.report.damaged_blocks(), 1, "{:?}", shard.report);
    assert_eq!(shard.report.dropped_blocks, 1, "{:?}", shard.report);
    assert_eq!(drain(&mut shard.feed), (vec![], vec![(4, 4)]));
}

/// The same segment, never written to: a spare that outlived what was in use before it.
#[test]
fn an_oldest_segment_that_was_never_used_is_no_damage() {
    let disk = SimulatedDisk::default();
    let [first, second, _] = three_starts(&disk);
    disk.remove(&segment_path(first)).unwrap();
    for index in 0..3 {
        disk.erase_page(&segment_path(second), frame_offset(index));
    }
    let (_journal, mut shard) = open(&disk);
    assert_eq!(shard.report.damaged_blocks(), 0, "{:?}", shard.report);
    assert_eq!(drain(&mut shard.feed), (vec![7], vec![]));
}

/// Found by fuzzing: the beginning of a later start is unreadable, header and first frame, and the
/// earlier one ends in a block that was dropped. It must not come back in another's place.
#[test]
fn a_dropped_block_never_takes_the_place_of_a_damaged_one() {
    let disk = SimulatedDisk::default();
    let (journal, mut shard) = synced(&disk, 2);
    let mut chain = Vec::new();
    for number in [101, 102] {
        let mut buffer = shard.appender.take_buffer().unwrap();
        let row = row(number, 300);
        buffer.payload_mut()[..row.len()].copy_from_slice(&row);
        chain.push(engine::journal::FilledBuffer { buffer, written: row.len(), rows: 1 });
    }
    shard.appender.append_chain(chain).map_err(|(stall, _)| stall).unwrap();
    // Its first block reaches the disk, its last one does not.
    let write = shard.appender.next_write().unwrap();
    disk.fault_next_append(AppendFault::Short { pages: 1 });
    write.write_blocking().unwrap();
    drop((journal, shard, write));

    let disk = disk.fork();
    let (journal, mut shard) = open(&disk);
    assert_eq!((shard.report.last_sequence, shard.report.dropped_blocks), (2, 1));
    let before = segments(&disk);
    for number in 3..=5 {
        assert_eq!(commit(&mut shard, number, 300), number);
        sync(&mut shard);
    }
    drop((journal, shard));
    let used = segment_path(written_by(&disk, &before, 2));
    disk.flip_bit(&used, 40, 0);
    disk.flip_bit(&used, frame_offset(0) + 70, 0);
    let (_journal, mut shard) = open(&disk);
    assert_eq!(drain(&mut shard.feed), (vec![1, 2, 4, 5], vec![(3, 3)]), "{:?}", shard.report);
}
