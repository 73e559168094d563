//! The engine's process: the real journal and shards on a simulated disk, the forwarder behind them,
//! and the ways in which a process and its disk can fail.

use crate::batch::{APP, KEY, number_of};
use crate::clock::instant;
use crate::faults::Fault;
use crate::forwarding::Forwarding;
use crate::world::{Event, World};
use engine::admin::{Component, Health, Level};
use engine::config::Config;
use engine::connection::ConnectionId;
use engine::journal::simulated_disk::AppendFault;
use engine::journal::storage::Storage as _;
use engine::journal::{BootId, Journal, JournalConfig, ShardStatus, Write};
use engine::keys::{KeyCache, KeySnapshot, Keys};
use engine::metrics::ShardCounters;
use engine::shard::{Now, Shard, ShardLimits};
use proto::BlockHeader;
use proto::block::HEADER_BYTES;
use proto::random::SplitMix64;
use proto::row::Rows;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const ROOT: &str = "/journal";
const MIB: u64 = 1 << 20;
/// How often the driver calls the shard's tick.
const TICK_US: u64 = 50_000;

pub struct Engine {
    pub journal: Journal,
    /// A loss of power may bring back what was removed.
    disk_bytes_at_start: u64,
    pub shards: Vec<Seat>,
    pub forwarding: Forwarding,
}

/// A shard and what its driver holds for it.
pub struct Seat {
    pub shard: Shard,
    pub links: BTreeMap<ConnectionId, u64>,
    pub status: ShardStatus,
    writes: BTreeMap<u64, Write>,
    /// When the shard wants its turn though nothing happens.
    deadline_us: Option<u64>,
}

/// A durable frame on the disk.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    segment: u64,
    offset: u64,
    /// Header and payload.
    bytes: usize,
}

/// What stays the same over the restarts of one run.
#[derive(Clone, Debug)]
pub struct Build {
    pub shards: usize,
    segments_ahead: usize,
    writes_in_flight_max: usize,
    buffers_max: usize,
    tail_bytes_max: usize,
    backlog_bytes_max: u64,
    checkpoint_interval: Duration,
    keep_forwarded: Duration,
    pub linger_ms: u64,
    pub insert_rows_max: usize,
    pub direct_after_ms: u64,
    /// A 200 waits for Kafka, but not longer.
    ack_deadline_us: Option<u64>,
}

impl Build {
    pub fn draw(random: &mut SplitMix64) -> Build {
        let intervals = [0, 1_000, 200_000].map(Duration::from_micros);
        Build {
            shards: 1 + random.below(2) as usize,
            segments_ahead: 1 + random.below(2) as usize,
            writes_in_flight_max: 1 + random.below(3) as usize,
            buffers_max: 8 + random.below(8) as usize,
            tail_bytes_max: [0, 600 * 1024, 2 << 20][random.below(3) as usize],
            backlog_bytes_max: (6 + random.below(10)) * MIB,
            checkpoint_interval: intervals[random.below(3) as usize],
            keep_forwarded: intervals[random.below(3) as usize],
            linger_ms: random.below(3) * 10,
            insert_rows_max: [10, 100, 10_000][random.below(3) as usize],
            direct_after_ms: [200, 1_000, 60_000][random.below(3) as usize],
            ack_deadline_us: (random.below(2) == 0).then_some(5_000),
        }
    }
}

fn keys() -> Arc<Keys> {
    static SNAPSHOT: OnceLock<String> = OnceLock::new();
    let json = SNAPSHOT.get_or_init(|| {
        use sha2::{Digest, Sha256};
        let hex: String = Sha256::digest(KEY).iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            r#"{{"version":1,"keys":[{{"sha256":"{hex}","app_id":"{APP}","scopes":["ingest"]}}]}}"#
        )
    });
    let keys = Keys::new();
    keys.swap(KeySnapshot::parse(json.as_bytes()).expect("the snapshot is of our own making"));
    keys
}

fn limits() -> ShardLimits {
    static LIMITS: OnceLock<ShardLimits> = OnceLock::new();
    let limits = || ShardLimits {
        connections_max: 24,
        pipeline_max: 3,
        body_budget_bytes: 20 << 20,
        ..ShardLimits::from(&Config::default())
    };
    LIMITS.get_or_init(limits).clone()
}

impl World {
    pub fn shard(&mut self, shard: usize) -> &mut Shard {
        let engine = self.engine.as_mut().expect("events of a dead engine are dropped");
        &mut engine.shards[shard].shard
    }

    /// Starts the process; where its disk does not let it, it tries again later.
    pub fn start_engine(&mut self) {
        if self.engine.is_some() {
            return;
        }
        match self.open_journal() {
            Ok(engine) => {
                self.engine = Some(engine);
                self.note("engine starts", self.incarnation, 0);
                for shard in 0..self.build.shards {
                    self.pump(shard);
                }
                let tick = self.now_us + TICK_US;
                self.at(tick, Event::Tick(self.incarnation));
                self.turn_forwarding();
                self.schedule_end();
            }
            Err(error) => {
                let faulty = [Fault::SyncFails, Fault::DiskFull];
                let excused = faulty.into_iter().any(|fault| self.faults.is_on(fault));
                assert!(excused, "the journal does not open: {error}");
                self.note("engine cannot start", self.incarnation, 0);
                let at = self.now_us + self.between(10_000, 200_000);
                self.at(at, Event::Start);
            }
        }
    }

    fn open_journal(&mut self) -> Result<Engine, engine::journal::JournalError> {
        let build = self.build.clone();
        let config = JournalConfig {
            segment_bytes: MIB,
            segments_ahead: build.segments_ahead,
            writes_in_flight_max: build.writes_in_flight_max,
            buffers_max: build.buffers_max,
            tail_bytes_max: build.tail_bytes_max,
            backlog_bytes_max: Some(build.backlog_bytes_max),
            checkpoint_interval: build.checkpoint_interval,
            keep_forwarded: build.keep_forwarded,
            storage: Arc::new(self.disk.clone()),
            environment: self.environment.clone(),
            boot_id: Some(BootId([b'a' + (self.boots % 26) as u8; 36])),
            keeper_thread: false,
            ..JournalConfig::default()
        };
        let journal = Journal::open(Path::new(ROOT), config)?;
        let (disk_bytes_at_start, _) = journal.disk_bytes();
        let health = Health::new(build.shards);
        health.set(Component::Keys, Level::Ok, "");
        let (mut shards, mut feeds) = (Vec::new(), Vec::new());
        for index in 0..build.shards {
            let opened = journal.open_shard(index)?;
            self.check_recovery(index, &opened.report);
            health.set(Component::Shard(index), Level::Ok, "");
            let shard = Shard::new(
                index,
                limits(),
                Arc::default(),
                opened.appender,
                KeyCache::new(keys()),
                Arc::clone(&health),
                Arc::new(ShardCounters::default()),
            );
            shards.push((shard, opened.status));
            feeds.push(opened.feed);
        }
        let forwarding = Forwarding::new(self, feeds, health);
        let watches = forwarding.lanes.as_ref().map(|lanes| lanes.watches.clone());
        let seat = |(index, (mut shard, status)): (usize, (Shard, ShardStatus))| {
            if let (Some(watches), Some(deadline_us)) = (&watches, build.ack_deadline_us) {
                shard = shard.wait_for_delivery(Arc::clone(&watches[index]), deadline_us);
            }
            let (links, writes) = (BTreeMap::new(), BTreeMap::new());
            Seat { shard, links, status, writes, deadline_us: None }
        };
        let shards = shards.into_iter().enumerate().map(seat).collect();
        Ok(Engine { journal, disk_bytes_at_start, shards, forwarding })
    }

    fn check_recovery(&mut self, shard: usize, report: &engine::journal::RecoveryReport) {
        self.note("recovered", shard as u64, report.last_sequence);
        if self.oracle.on_recovered(shard, report) {
            // Its sequences begin again, and what an older journal's frames said is of no block in it.
            self.vouched.remove(&shard);
            self.frames.retain(|(of, _), _| *of != shard);
        }
        for gap in &report.damage {
            self.oracle.on_lost(shard, gap.first_sequence, gap.last_sequence, report);
        }
        let headers = &report.damaged_headers;
        assert!(headers.is_empty(), "headers do not rot here: {report:?}");
        self.stats.recoveries += 1;
    }

    /// How this life ends, unless it is the last.
    fn schedule_end(&mut self) {
        if self.calm {
            return;
        }
        let life = self.between(1, self.life_us_max);
        let crash = self.faults.is_on(Fault::Crash);
        let power = self.faults.is_on(Fault::PowerLoss);
        if crash || power {
            let cuts_power = power && (!crash || self.random.below(2) == 0);
            let at = self.now_us + life;
            self.at(at, Event::End(self.incarnation, cuts_power));
        }
    }

    /// The process is no more. What was on its way to the disk may have arrived whole, in part or
    /// not at all; what was on its way to clients and to ClickHouse goes on.
    pub fn end_engine(&mut self, cuts_power: bool) {
        let Some(engine) = self.engine.take() else { return };
        self.note(if cuts_power { "power loss" } else { "crash" }, self.incarnation, 0);
        self.stats.crashes += 1;
        for (index, seat) in engine.shards.iter().enumerate() {
            let known = self.oracle.journals.get_mut(&index).expect("it was recovered");
            known.durable_through = known.durable_through.max(seat.status.released_through());
            let forwarded = seat.status.forwarded_through();
            known.forwarded_through = known.forwarded_through.max(forwarded);
            for write in seat.writes.values() {
                match self.random.below(3) {
                    0 => {}
                    1 => drop(write.write_blocking()),
                    _ => {
                        let seed = self.random.next_u64();
                        self.disk.fault_next_append(AppendFault::Torn { seed });
                        let _ = write.write_blocking();
                    }
                }
            }
        }
        let disk = self.disk.fork();
        if let Some(lanes) = &engine.forwarding.lanes {
            self.lose_records(lanes);
        }
        // What the old process would still do on its way out must not reach the disk.
        drop(engine);
        self.disk = disk;
        if cuts_power {
            let seed = self.random.next_u64();
            self.disk.power_cut(seed);
            self.boots += 1;
        }
        self.rot();
        self.incarnation += 1;
        let links: Vec<u64> = self.links.keys().copied().collect();
        for link in links {
            self.drop_link(link);
        }
        let at = self.now_us + self.between(100, 20_000);
        self.at(at, Event::Start);
    }

    /// The driver's turn: work, journal writes and actions, until nothing moves.
    pub fn pump(&mut self, shard: usize) {
        if self.engine.is_none() {
            return;
        }
        self.tell_time(shard);
        for _ in 0..10_000 {
            self.shard(shard).turn();
            let mut moved = self.shard(shard).has_work();
            while let Some(write) = self.shard(shard).next_write() {
                moved = true;
                self.submit(shard, write);
            }
            moved |= self.perform(shard);
            if self.engine.is_none() {
                return;
            }
            if !moved {
                return self.wait_for_deadline(shard);
            }
        }
        panic!("the shard never comes to rest");
    }

    fn wait_for_deadline(&mut self, shard: usize) {
        let engine = self.engine.as_mut().expect("asked about just above");
        let seat = &mut engine.shards[shard];
        let deadline_us = seat.shard.next_deadline_us();
        if deadline_us == u64::MAX || seat.deadline_us == Some(deadline_us) {
            return;
        }
        seat.deadline_us = Some(deadline_us);
        let at = deadline_us.max(self.now_us + 1);
        self.at(at, Event::ShardWoken(self.incarnation, shard));
    }

    fn tell_time(&mut self, shard: usize) {
        let monotonic_us = self.now_us + 1;
        let unix_ns = self.unix_ns();
        self.shard(shard).set_now(Now { monotonic_us, unix_ns });
    }

    fn submit(&mut self, shard: usize, write: Write) {
        let slow = self.strikes(Fault::SlowDisk);
        let takes = if slow { self.between(1_000, 400_000) } else { self.between(20, 500) };
        self.note("write", write.id(), write.bytes() as u64);
        let event = Event::WriteDone(self.incarnation, shard, write.id());
        let engine = self.engine.as_mut().expect("only a running shard writes");
        engine.shards[shard].writes.insert(write.id(), write);
        let at = self.now_us + takes;
        self.at(at, event);
    }

    pub fn on_write_done(&mut self, shard: usize, id: u64) {
        let engine = self.engine.as_mut().expect("events of a dead engine are dropped");
        let Some(write) = engine.shards[shard].writes.remove(&id) else { return };
        if self.strikes(Fault::WriteFails) {
            let fault = match self.random.below(2) {
                0 => AppendFault::Fail,
                _ => AppendFault::Torn { seed: self.random.next_u64() },
            };
            self.disk.fault_next_append(fault);
        } else if self.strikes(Fault::ShortWrite) {
            let pages = write.bytes() / 4096;
            let pages = self.random.below(pages as u64) as usize;
            self.disk.fault_next_append(AppendFault::Short { pages });
        }
        self.tell_time(shard);
        let result = write.write_blocking();
        if result.as_ref().is_ok_and(|written| *written == write.bytes()) {
            self.remember_frames(shard, &write);
        }
        let failed = self.shard(shard).on_write_done(write, result).is_err();
        self.note("written", id, u64::from(failed));
        self.pump(shard);
        if failed {
            // A supervisor starts a failed engine again.
            let at = self.now_us + self.between(1_000, 100_000);
            self.at(at, Event::End(self.incarnation, false));
        }
        self.turn_forwarding();
    }

    /// Where frames lie that may rot, in the runs in which bits do.
    fn remember_frames(&mut self, shard: usize, write: &Write) {
        if !self.faults.is_on(Fault::BitRot) {
            return;
        }
        let (segment, mut offset) = (write.segment().number, write.offset());
        for frame in write.slices() {
            let header = BlockHeader::decode(frame).expect("a frame begins with its header");
            let place = Place { segment, offset, bytes: header.block_bytes() };
            self.frames.insert((shard, header.id.sequence), place);
            let vouched = self.vouched.entry(shard).or_default();
            *vouched = header.durable_through.max(*vouched);
            offset += frame.len() as u64;
        }
    }

    /// While the engine is down a bit flips in a block that is durable, vouched for by a later one,
    /// and not yet forwarded.
    fn rot(&mut self) {
        if !self.strikes(Fault::BitRot) {
            return;
        }
        let still = |world: &World, (shard, sequence): (usize, u64)| {
            let forwarded = world.oracle.journals[&shard].forwarded_through;
            sequence > forwarded && sequence <= world.vouched[&shard]
        };
        let mut frames = std::mem::take(&mut self.frames);
        frames.retain(|block, _| still(self, *block));
        if !frames.is_empty() {
            let index = self.random.below(frames.len() as u64) as usize;
            let (block, place) = frames.iter().nth(index).map(|(b, p)| (*b, *p)).expect("counted");
            // Behind the header: where nothing of the oldest segment can be read, headers neither,
            // nobody can tell it from one that was never used.
            let rows = (place.bytes - HEADER_BYTES) as u64;
            let bit = HEADER_BYTES as u64 * 8 + self.random.below(rows * 8);
            self.flip(block, place, bit);
        }
        self.frames = frames;
    }

    fn flip(&mut self, block: (usize, u64), place: Place, bit: u64) {
        let (shard, sequence) = block;
        let path = format!("{ROOT}/shard-{shard:02}/segment-{:020}.jnl", place.segment);
        let Ok(bytes) = self.disk.read_file(Path::new(&path)) else { return };
        let start = place.offset as usize;
        let whole = BlockHeader::decode_block(&bytes[start..start + place.bytes]);
        // Another block may lie there by now.
        let Ok((header, payload)) = whole else { return };
        if header.id.sequence != sequence {
            return;
        }
        self.note("bit rots", shard as u64, sequence);
        let numbers = Rows::new(payload).map(|row| number_of(&row.expect("a row")).expect("ours"));
        self.oracle.rotten.insert(block, numbers.collect());
        self.disk.flip_bit(Path::new(&path), start + (bit / 8) as usize, (bit % 8) as u32);
    }

    pub fn on_tick(&mut self) {
        let Some(engine) = &self.engine else { return };
        engine.journal.keep();
        let (used, most) = engine.journal.disk_bytes();
        let most = most.max(engine.disk_bytes_at_start);
        assert!(used <= most, "the journal takes {used} bytes of the disk, {most} are allowed");
        for shard in 0..self.build.shards {
            if self.engine.is_none() {
                return;
            }
            self.tell_time(shard);
            self.shard(shard).tick();
            let (load, most) = (self.shard(shard).load(), limits());
            let within = load.connections <= most.connections_max
                && load.body_bytes <= most.body_budget_bytes
                && load.unacknowledged <= most.connections_max * most.pipeline_max;
            assert!(within, "the shard is beyond its limits: {load:?}");
            self.pump(shard);
        }
        self.turn_forwarding();
        let at = self.now_us + TICK_US;
        self.at(at, Event::Tick(self.incarnation));
    }

    pub fn now(&self) -> std::time::Instant {
        instant(self.now_us)
    }
}
