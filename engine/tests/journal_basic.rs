//! The journal without faults: what is committed comes out once, in order, in memory, from disk and
//! after a restart.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

mod journal_support;

use std::path::Path;

use engine::journal::simulated_disk::SimulatedDisk;
use engine::journal::{FilledBuffer, Journal, JournalConfig, Stall, verify_on};
use journal_support::*;
use proto::limits::BLOCK_PAYLOAD_BYTES_MAX;

#[test]
fn rows_come_out_once_and_in_order() {
    let disk = SimulatedDisk::default();
    let (_journal, mut shard) = open(&disk);
    let mut sequences = Vec::new();
    for number in 0..100 {
        sequences.push(commit(&mut shard, number, 300));
        if number % 10 == 9 {
            assert!(shard.appender.has_unsynced());
            sync(&mut shard);
        }
    }
    assert_eq!(sequences.first(), Some(&1));
    assert_eq!(sequences.last(), Some(&10));
    assert_eq!(shard.appender.synced_through(), 10);
    assert_eq!(drain(&mut shard.feed), ((0..100).collect(), vec![]));
    shard.feed.mark_forwarded(10).unwrap();
    assert_eq!(shard.feed.backlog().blocks, 0);
}

#[test]
fn a_restart_gives_what_was_not_forwarded_and_goes_on() {
    let disk = SimulatedDisk::default();
    let (journal, mut shard) = open(&disk);
    for number in 0..3 {
        commit(&mut shard, number, 300);
        sync(&mut shard);
    }
    assert_eq!(numbers(shard.feed.next_block().unwrap().unwrap().payload()), [0]);
    shard.feed.mark_forwarded(1).unwrap();
    drop((journal, shard));

    let (_journal, mut shard) = open(&disk);
    assert_eq!(shard.report.last_sequence, 3);
    assert_eq!(shard.report.blocks_to_forward, 2);
    assert_eq!(shard.report.epoch_found, 1);
    assert_eq!(shard.feed.backlog().blocks, 2);
    assert_eq!(commit(&mut shard, 3, 300), 4);
    sync(&mut shard);
    assert_eq!(drain(&mut shard.feed), (vec![1, 2, 3], vec![]));
    let report = verify_on(&disk, Path::new(ROOT)).unwrap();
    assert!(report.is_good(), "{report}");
    assert_eq!(report.shards[0].last_sequence, 4);
}

#[test]
fn what_is_not_committed_is_dropped() {
    let disk = SimulatedDisk::default();
    let (_journal, mut shard) = open(&disk);
    let rejected = row(666, 300);
    shard.appender.room(rejected.len()).unwrap()[..rejected.len()].copy_from_slice(&rejected);
    assert!(!shard.appender.has_unsynced());
    assert!(shard.appender.next_write().is_none());
    commit(&mut shard, 1, 300);
    shard.appender.room(rejected.len()).unwrap()[..rejected.len()].copy_from_slice(&rejected);
    sync(&mut shard);
    assert_eq!(drain(&mut shard.feed).0, [1]);
}

#[test]
fn a_request_without_rows_waits_for_nothing() {
    let disk = SimulatedDisk::default();
    let (_journal, mut shard) = open(&disk);
    shard.appender.room(100).unwrap();
    assert_eq!(shard.appender.commit(0, 0), 0);
    assert!(!shard.appender.has_unsynced());
}

#[test]
fn completions_in_any_order_move_the_watermark_in_order() {
    let disk = SimulatedDisk::default();
    let (_journal, mut shard) = open(&disk);
    commit(&mut shard, 1, 300);
    let first = shard.appender.next_write().unwrap();
    commit(&mut shard, 2, 300);
    let second = shard.appender.next_write().unwrap();
    commit(&mut shard, 3, 300);
    assert!(shard.appender.next_write().is_none(), "two writes are in flight");
    assert_eq!(shard.appender.in_flight(), 2);
    assert_eq!(perform(&mut shard, second), 0);
    assert!(shard.feed.next_block().unwrap().is_none());
    assert!(shard.appender.next_write().is_none(), "the first is still in flight");
    assert_eq!(perform(&mut shard, first), 2);
    sync(&mut shard);
    assert_eq!(drain(&mut shard.feed).0, [1, 2, 3]);
}

#[test]
fn many_segments_are_filled_forwarded_and_used_again() {
    let disk = SimulatedDisk::default();
    let (journal, mut shard) = open(&disk);
    let mut expected = Vec::new();
    let mut seen = Vec::new();
    for number in 0..400 {
        journal.keep();
        commit(&mut shard, number, 60_000);
        sync(&mut shard);
        expected.push(number);
        if number % 7 == 0 {
            while let Some(block) = shard.feed.next_block().unwrap() {
                seen.extend(numbers(block.payload()));
                shard.feed.mark_forwarded(block.header.id.sequence).unwrap();
            }
        }
    }
    seen.extend(drain(&mut shard.feed).0);
    assert_eq!(seen, expected);
    assert!(disk.bytes() < 8 * MIB, "25 MB of rows in {} bytes of segments", disk.bytes());
}

#[test]
fn a_feed_that_is_behind_reads_the_disk() {
    let disk = SimulatedDisk::default();
    let mut config = config(disk.clone());
    config.tail_bytes_max = 0;
    let (journal, mut shard) = open_with(config);
    for number in 0..60 {
        journal.keep();
        commit(&mut shard, number, [300, 60_000][number as usize % 2]);
        sync(&mut shard);
        if number % 11 == 3 {
            assert_eq!(numbers(shard.feed.next_block().unwrap().unwrap().payload()).len(), 1);
        }
    }
    shard.feed.rewind();
    assert_eq!(drain(&mut shard.feed).0, (0..60).collect::<Vec<u64>>());
}

#[test]
fn a_forwarder_that_keeps_blocks_does_not_hold_the_shard_up() {
    let disk = SimulatedDisk::default();
    let mut config = config(disk.clone());
    config.tail_bytes_max = 1 << 20;
    let (journal, mut shard) = open_with(config);
    let mut kept = Vec::new();
    for number in 0..20 {
        journal.keep();
        for part in 0..8 {
            commit(&mut shard, number * 8 + part, 60_000);
        }
        sync(&mut shard);
        kept.extend(blocks(&mut shard.feed));
    }
    let rows: Vec<u64> = kept.iter().flat_map(|block| numbers(block.payload())).collect();
    assert_eq!(rows, (0..160).collect::<Vec<u64>>());
}

/// A chain of `blocks` blocks, each with one short row.
fn chain(shard: &mut engine::journal::OpenedJournal, numbers: &[u64]) -> Vec<FilledBuffer> {
    let mut chain = Vec::new();
    for number in numbers {
        let row = row(*number, 1000);
        let mut buffer = shard.appender.take_buffer().unwrap();
        buffer.payload_mut()[..row.len()].copy_from_slice(&row);
        chain.push(FilledBuffer { buffer, written: row.len(), rows: 1 });
    }
    chain
}

#[test]
fn a_chain_comes_out_whole_or_not_at_all() {
    let disk = SimulatedDisk::default();
    let (journal, mut shard) = open(&disk);
    commit(&mut shard, 1, 300);
    // An open block without rows must not keep the chain's place.
    shard.appender.room(10).unwrap();
    let numbers: Vec<u64> = (2..14).collect();
    let blocks = chain(&mut shard, &numbers);
    assert_eq!(shard.appender.append_chain(blocks).ok(), Some(13));
    let first = shard.appender.next_write().unwrap();
    let second = shard.appender.next_write().unwrap();
    assert_eq!(first.slices().len(), 8);
    assert_eq!(perform(&mut shard, first), 8);
    assert_eq!(drain(&mut shard.feed).0, [1], "the chain is not whole yet");
    drop((journal, shard, second));

    let (_journal, mut shard) = open(&disk);
    assert_eq!(shard.report.dropped_blocks, 7);
    assert_eq!(drain(&mut shard.feed).0, [1]);
    let blocks = chain(&mut shard, &numbers);
    let last = shard.appender.append_chain(blocks).ok().unwrap();
    sync(&mut shard);
    assert_eq!(shard.appender.synced_through(), last);
    assert_eq!(drain(&mut shard.feed).0, numbers);
}

#[test]
fn a_chain_crosses_segments_or_is_given_back() {
    let disk = SimulatedDisk::default();
    let mut config = config(disk.clone());
    config.backlog_bytes_max = Some(2 * MIB);
    let (_journal, mut shard) = open_with(config);
    let full = |shard: &mut engine::journal::OpenedJournal, count: usize| -> Vec<FilledBuffer> {
        (0..count)
            .map(|number| {
                let row = row(number as u64, BLOCK_PAYLOAD_BYTES_MAX - 10);
                let mut buffer = shard.appender.take_buffer().unwrap();
                buffer.payload_mut()[..row.len()].copy_from_slice(&row);
                FilledBuffer { buffer, written: row.len(), rows: 1 }
            })
            .collect()
    };
    let blocks = full(&mut shard, 3);
    let (stall, blocks) = shard.appender.append_chain(blocks).err().unwrap();
    assert_eq!((stall, blocks.len()), (Stall::Busy, 3), "one segment is there: room for one block");
    drop(blocks);
    assert!(!shard.appender.has_unsynced());
    let blocks = full(&mut shard, 1);
    assert_eq!(shard.appender.append_chain(blocks).ok(), Some(1));
    _journal.keep();
    let blocks = full(&mut shard, 1);
    assert_eq!(shard.appender.append_chain(blocks).ok(), Some(2));
    sync(&mut shard);
    _journal.keep();
    let blocks = full(&mut shard, 1);
    let (stall, _) = shard.appender.append_chain(blocks).err().unwrap();
    assert_eq!(stall, Stall::Full);
    assert_eq!(drain(&mut shard.feed).0, [0, 0]);
}

#[test]
fn buffers_are_bounded_and_come_back() {
    let disk = SimulatedDisk::default();
    let (_journal, mut shard) = open(&disk);
    let mut taken = Vec::new();
    let stall = loop {
        match shard.appender.take_buffer() {
            Ok(buffer) => taken.push(buffer),
            Err(stall) => break stall,
        }
    };
    assert_eq!(stall, Stall::Busy);
    commit(&mut shard, 1, 300);
    taken.clear();
    assert!(shard.appender.take_buffer().is_ok());
}

#[test]
fn orphans_are_drained_and_removed() {
    let disk = SimulatedDisk::default();
    let (journal, mut shard) = open(&disk);
    commit(&mut shard, 1, 300);
    sync(&mut shard);
    assert_eq!(journal.orphans(1).unwrap(), Vec::<usize>::new());
    drop((journal, shard));

    let journal = engine::journal::Journal::open(Path::new(ROOT), config(disk.clone())).unwrap();
    assert_eq!(journal.orphans(0).unwrap(), [0]);
    let mut orphan = journal.open_orphan(0).unwrap();
    assert_eq!(drain(&mut orphan.feed).0, [1]);
    let mut orphan = journal.remove_orphan(orphan).unwrap().expect("it is not forwarded");
    orphan.feed.mark_forwarded(1).unwrap();
    assert!(journal.remove_orphan(orphan).unwrap().is_none());
    assert_eq!(journal.orphans(0).unwrap(), Vec::<usize>::new());
    assert_eq!(disk.bytes(), 0);
    assert_eq!(journal.disk_bytes().0, 0);
}

/// Found by the simulation: a start counted a shard's segments only when it came to that shard, and
/// the spares of those before it went over the limit.
#[test]
fn a_start_stays_within_the_limit_of_the_disk() {
    let disk = SimulatedDisk::default();
    let limit = 8 * MIB;
    let open = || {
        let config = JournalConfig { backlog_bytes_max: Some(limit), ..config(disk.clone()) };
        Journal::open(Path::new(ROOT), JournalConfig { segments_ahead: 2, ..config }).unwrap()
    };
    let journal = open();
    let mut shards = [journal.open_shard(0).unwrap(), journal.open_shard(1).unwrap()];
    for round in 0..40 {
        for shard in &mut shards {
            if let Ok(room) = shard.appender.room(400_000) {
                let row = row(round, 400_000);
                room[..row.len()].copy_from_slice(&row);
                shard.appender.commit(row.len(), 1);
                sync(shard);
            }
        }
        journal.keep();
    }
    assert_eq!(journal.disk_bytes(), (limit, limit), "it is full");
    drop((shards, journal));
    let journal = open();
    let _first = journal.open_shard(0).unwrap();
    let _second = journal.open_shard(1).unwrap();
    journal.keep();
    assert!(journal.disk_bytes().0 <= limit, "{:?}", journal.disk_bytes());
}
