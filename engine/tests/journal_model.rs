//! The journal against a model, under generated actions: commits, chains, writes that complete in any
//! order, fail or tear, forwarding, kills and power cuts.
//!
//! The model is the list of committed rows with the sequences of their blocks. After every restart:
//! all that was durable is there, once and in order; what was not may be missing from some point on,
//! a request as a whole; nothing else appears.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

mod journal_support;

use std::path::Path;
use std::time::Duration;

use engine::journal::simulated_disk::{AppendFault, SimulatedDisk};
use engine::journal::{
    BootId, CheckpointState, FilledBuffer, Journal, JournalConfig, OpenedJournal, Write, verify_on,
};
use journal_support::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Fate {
    Lost,
    Whole,
    Torn(u64),
}

#[derive(Clone, Debug)]
enum Action {
    Commit { bytes: usize },
    Reject { bytes: usize },
    Chain { blocks: usize, bytes: usize },
    Submit,
    Complete { index: prop::sample::Index },
    Fail { index: prop::sample::Index, short: bool },
    Keep,
    Forward { blocks: usize, mark: bool },
    Rewind,
    Save,
    Kill { fates: Vec<Fate> },
    PowerCut { fates: Vec<Fate>, seed: u64 },
}

fn action() -> impl Strategy<Value = Action> {
    let bytes = prop_oneof![80usize..2_000, 2_000usize..80_000, 300_000usize..520_000];
    let fate = prop_oneof![Just(Fate::Lost), Just(Fate::Whole), any::<u64>().prop_map(Fate::Torn)];
    let fates = prop::collection::vec(fate, 3);
    prop_oneof![
        8 => bytes.clone().prop_map(|bytes| Action::Commit { bytes }),
        1 => (80usize..80_000).prop_map(|bytes| Action::Reject { bytes }),
        2 => (1usize..6, bytes).prop_map(|(blocks, bytes)| Action::Chain { blocks, bytes }),
        8 => Just(Action::Submit),
        8 => any::<prop::sample::Index>().prop_map(|index| Action::Complete { index }),
        1 => (any::<prop::sample::Index>(), any::<bool>())
            .prop_map(|(index, short)| Action::Fail { index, short }),
        6 => Just(Action::Keep),
        4 => (1usize..20, any::<bool>()).prop_map(|(blocks, mark)| Action::Forward { blocks, mark }),
        1 => Just(Action::Rewind),
        3 => Just(Action::Save),
        1 => fates.clone().prop_map(|fates| Action::Kill { fates }),
        1 => (fates, any::<u64>()).prop_map(|(fates, seed)| Action::PowerCut { fates, seed }),
    ]
}

struct Row {
    /// Of the block.
    sequence: u64,
    /// Of the last block of the request.
    ends: u64,
    number: u64,
}

/// The checkpoint is written when an action says so.
fn model_config(disk: &SimulatedDisk, boot: u8) -> JournalConfig {
    JournalConfig {
        checkpoint_interval: Duration::from_secs(3600),
        boot_id: Some(BootId([boot; 36])),
        ..config(disk.clone())
    }
}

struct Model {
    disk: SimulatedDisk,
    journal: Journal,
    shard: OpenedJournal,
    in_flight: Vec<Write>,
    rows: Vec<Row>,
    next_number: u64,
    /// Blocks up to here were given out by the feed since it was opened or rewound.
    given: u64,
    boot: u8,
}

impl Model {
    fn new() -> Model {
        let disk = SimulatedDisk::default();
        let (journal, shard) = open_with(model_config(&disk, b'a'));
        let (in_flight, rows) = (Vec::new(), Vec::new());
        Model { disk, journal, shard, in_flight, rows, next_number: 0, given: 0, boot: b'a' }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Commit { bytes } => self.commit(bytes),
            Action::Reject { bytes } => {
                if let Ok(room) = self.shard.appender.room(bytes) {
                    room.fill(0xdd);
                }
            }
            Action::Chain { blocks, bytes } => self.chain(blocks, bytes),
            Action::Submit => self.in_flight.extend(self.shard.appender.next_write()),
            Action::Complete { index } if !self.in_flight.is_empty() => {
                let write = self.in_flight.swap_remove(index.index(self.in_flight.len()));
                let result = write.write_blocking();
                let failed = self.shard.appender.failed().copied();
                let done = self.shard.appender.on_write_done(write, result);
                assert_eq!(done.err(), failed);
            }
            Action::Fail { index, short } if !self.in_flight.is_empty() => {
                let write = self.in_flight.swap_remove(index.index(self.in_flight.len()));
                let pages = write.bytes() / 4096 - 1;
                self.disk.fault_next_append(match short {
                    true => AppendFault::Short { pages },
                    false => AppendFault::Fail,
                });
                let result = write.write_blocking();
                self.shard.appender.on_write_done(write, result).unwrap_err();
            }
            Action::Complete { .. } | Action::Fail { .. } => {}
            Action::Keep => self.journal.keep(),
            Action::Forward { blocks, mark } => self.forward(blocks, mark),
            Action::Rewind => {
                self.shard.feed.rewind();
                self.given = self.shard.status.forwarded_through();
            }
            Action::Save => self.shard.feed.save_checkpoint().unwrap(),
            Action::Kill { fates } => self.restart(&fates, None),
            Action::PowerCut { fates, seed } => self.restart(&fates, Some(seed)),
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn commit(&mut self, bytes: usize) {
        let row = row(self.next_number + 1, bytes);
        let Ok(room) = self.shard.appender.room(row.len()) else { return };
        room[..row.len()].copy_from_slice(&row);
        let sequence = self.shard.appender.commit(row.len(), 1);
        let number = self.number();
        self.rows.push(Row { sequence, ends: sequence, number });
    }

    fn chain(&mut self, blocks: usize, bytes: usize) {
        let mut chain = Vec::new();
        for index in 0..blocks {
            let Ok(mut buffer) = self.shard.appender.take_buffer() else { return };
            let row = row(self.next_number + 1 + index as u64, bytes);
            buffer.payload_mut()[..row.len()].copy_from_slice(&row);
            chain.push(FilledBuffer { buffer, written: row.len(), rows: 1 });
        }
        if let Ok(ends) = self.shard.appender.append_chain(chain) {
            for index in 0..blocks as u64 {
                let (sequence, number) = (ends + 1 + index - blocks as u64, self.number());
                self.rows.push(Row { sequence, ends, number });
            }
        }
    }

    /// The rows of the next `blocks` blocks are those that the model knows.
    fn forward(&mut self, blocks: usize, mark: bool) {
        for _ in 0..blocks {
            let Some(block) = self.shard.feed.next_block().unwrap() else { break };
            let sequence = block.header.id.sequence;
            assert_eq!(sequence, self.given + 1, "blocks come in order");
            assert!(sequence <= self.shard.appender.synced_through(), "only what is durable");
            let known = self.rows.iter().filter(|row| row.sequence == sequence);
            assert_eq!(numbers(block.payload()), known.map(|row| row.number).collect::<Vec<_>>());
            self.given = sequence;
        }
        if mark && self.given > 0 {
            self.shard.feed.mark_forwarded(self.given).unwrap();
        }
    }

    fn restart(&mut self, fates: &[Fate], power_cut: Option<u64>) {
        let durable = self.shard.appender.synced_through();
        let forwarded = self.shard.status.forwarded_through();
        for (write, fate) in self.in_flight.drain(..).zip(fates) {
            match fate {
                Fate::Lost => {}
                Fate::Whole => drop(write.write_blocking()),
                Fate::Torn(seed) => {
                    self.disk.fault_next_append(AppendFault::Torn { seed: *seed });
                    write.write_blocking().unwrap_err();
                }
            }
        }
        self.disk = self.disk.fork();
        if let Some(seed) = power_cut {
            self.disk.power_cut(seed);
            self.boot += 1;
        }
        (self.journal, self.shard) = open_with(model_config(&self.disk, self.boot));
        let report = &self.shard.report;
        assert!(report.damage.is_empty() && report.damaged_headers.is_empty(), "{report:?}");
        let kept = self.rows.iter().filter(|row| row.ends <= durable).map(|row| row.ends).max();
        assert!(Some(report.last_sequence) >= kept, "durable: {kept:?}, {report:?}");
        self.rows.retain(|row| row.ends <= report.last_sequence);
        let last_row = self.rows.last().map_or(0, |row| row.sequence);
        assert_eq!(report.last_sequence, last_row, "a request is there as a whole or not at all");
        if power_cut.is_some() {
            assert_ne!(report.checkpoint, CheckpointState::Good);
        }
        self.given = self.shard.status.forwarded_through();
        assert!(self.given <= forwarded, "nothing is skipped");
        self.forward(usize::MAX, false);
        assert_eq!(self.given, last_row, "all that was recovered is given out");
        self.shard.feed.rewind();
        self.given = self.shard.status.forwarded_through();
        let report = verify_on(&self.disk, Path::new(ROOT)).unwrap();
        assert!(report.is_good(), "{report}");
    }
}

/// `PROPTEST_CASES` asks for a longer run.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(96)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_does_what_its_model_does(actions in prop::collection::vec(action(), 1..120)) {
        let mut model = Model::new();
        for action in actions {
            model.act(action);
        }
        model.restart(&[Fate::Torn(1), Fate::Whole, Fate::Lost], None);
        model.restart(&[], Some(7));
    }
}
