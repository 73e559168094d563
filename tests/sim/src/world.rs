//! One run: virtual time, the queue of what is going to happen, and the two phases: faults, then
//! calm, in which everything must drain.

use crate::batch::START_MS;
use crate::client::{Client, Patience};
use crate::clock::SimulatedEnvironment;
use crate::consumers::{CONSUMERS, Consumer};
use crate::engine::{Build, Engine, Place};
use crate::faults::{Fault, Faults};
use crate::forwarding::{Asker, DeadRows};
use crate::kafka::Kafka;
use crate::link::Link;
use crate::oracle::Oracle;
use crate::table::{Mood, Table};
use crate::trace::Trace;
use bytes::Bytes;
use consumer::worker::Parcel;
use engine::journal::simulated_disk::SimulatedDisk;
use proto::random::SplitMix64;
use std::collections::BTreeMap;
use std::sync::Arc;

/// After the faults everything must have drained by then.
const CALM_US_MAX: u64 = 300_000_000;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub without: Vec<Fault>,
    /// How long faults and load go on.
    pub chaos_us: u64,
    pub clients: usize,
    pub printed: bool,
}

impl Plan {
    pub fn new(seed: u64) -> Plan {
        Plan { seed, without: Vec::new(), chaos_us: 4_000_000, clients: 4, printed: false }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub crashes: u64,
    pub recoveries: u64,
    pub events: u64,
    pub acknowledged: u64,
    pub stored: u64,
    pub steps: u64,
    pub virtual_us: u64,
    pub trace_hash: u64,
}

impl Stats {
    pub fn add(&mut self, other: &Stats) {
        self.crashes += other.crashes;
        self.recoveries += other.recoveries;
        self.events += other.events;
        self.acknowledged += other.acknowledged;
        self.stored += other.stored;
        self.steps += other.steps;
        self.virtual_us += other.virtual_us;
    }
}

#[derive(Debug)]
pub enum Event {
    Start,
    /// This incarnation ends; with a loss of power or without.
    End(u64, bool),
    Tick(u64),
    WriteDone(u64, usize, u64),
    Bytes(u64, Vec<u8>),
    InputEnds(u64),
    Sent(u64),
    Client(usize),
    ClientGivesUp(u64, usize),
    TurnForwarding(u64),
    /// An INSERT reaches ClickHouse: whose, which, what, whether its answer is lost.
    InsertArrives(Asker, u64, Arc<(Vec<Bytes>, usize, String)>, bool),
    InsertAnswered(Asker, u64, Result<(), proto::insert::Failure>),
    Pinged(u64),
    ShardWoken(u64, usize),
    RecordArrives(u64, u64),
    RecordStrays(Bytes),
    ConsumerStarts,
    ConsumerEnds(u64),
    ConsumerTurn(u64),
    ConsumerProbed(u64),
    LettersArrive(u64, Parcel),
    CommitArrives(u64, Vec<(i32, i64)>),
    SessionEnds(u64),
    Mood(Mood),
    KafkaReturns,
    /// The group's coordinator looks around.
    Group,
    DiskHeals,
    Weather,
    Calm,
}

pub struct World {
    pub random: SplitMix64,
    pub faults: Faults,
    pub now_us: u64,
    queue: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    turn_at: Option<u64>,
    pub trace: Trace,
    pub environment: Arc<SimulatedEnvironment>,
    wall_offset_ms: i64,
    /// What clients say of their time may have been refused.
    pub clock_jumped: bool,
    pub disk: SimulatedDisk,
    pub boots: u64,
    pub build: Build,
    pub life_us_max: u64,
    pub engine: Option<Engine>,
    pub incarnation: u64,
    pub links: BTreeMap<u64, Link>,
    pub next_link: u64,
    pub clients: Vec<Client>,
    pub table: Table,
    pub dead: DeadRows,
    /// Not in every run.
    pub kafka: Option<Kafka>,
    pub consumers: BTreeMap<u64, Consumer>,
    pub next_member: u64,
    /// Durable frames that may rot, by shard and sequence.
    pub frames: BTreeMap<(usize, u64), Place>,
    /// For each shard the last sequence that a later frame says was durable.
    pub vouched: BTreeMap<usize, u64>,
    pub oracle: Oracle,
    pub stats: Stats,
    pub calm: bool,
}

/// Runs a plan to its end. Panics where something does not hold.
pub fn run(plan: &Plan) -> Stats {
    let mut world = World::new(plan);
    world.start(plan);
    while let Some(((at_us, _), event)) = world.queue.pop_first() {
        world.now_us = at_us;
        world.environment.set_now(at_us);
        world.happen(event);
        if world.calm && world.is_drained() {
            break;
        }
        let late = world.calm && at_us > plan.chaos_us + CALM_US_MAX;
        assert!(!late, "not drained {} s after the last fault", CALM_US_MAX / 1_000_000);
    }
    world.take_dead_rows();
    world.oracle.check_answers(&world.table);
    world.stats.stored = world.table.rows;
    world.stats.steps = world.trace.steps();
    world.stats.virtual_us = world.now_us;
    world.stats.trace_hash = world.trace.hash();
    world.stats
}

impl World {
    fn new(plan: &Plan) -> World {
        let mut random = SplitMix64::new(plan.seed);
        let faults = Faults::draw(&mut random, &plan.without);
        let build = Build::draw(&mut random);
        let kafka = (random.below(5) < 3).then(Kafka::new);
        // From a millisecond to a second, evenly on a logarithmic scale.
        let life_us_max = (1_000.0 * 1000_f64.powf(random.unit())) as u64;
        let environment = Arc::new(SimulatedEnvironment::new(random.next_u64()));
        World {
            random,
            faults,
            now_us: 0,
            queue: BTreeMap::new(),
            next_event: 0,
            turn_at: None,
            trace: Trace::new(plan.printed),
            environment,
            wall_offset_ms: 0,
            clock_jumped: false,
            disk: SimulatedDisk::default(),
            boots: 0,
            build,
            life_us_max,
            engine: None,
            incarnation: 0,
            links: BTreeMap::new(),
            next_link: 0,
            clients: (0..plan.clients).map(|_| Client::default()).collect(),
            table: Table::new(),
            dead: DeadRows::default(),
            kafka,
            consumers: BTreeMap::new(),
            next_member: 1,
            frames: BTreeMap::new(),
            vouched: BTreeMap::new(),
            oracle: Oracle::default(),
            stats: Stats::default(),
            calm: false,
        }
    }

    fn start(&mut self, plan: &Plan) {
        self.at(0, Event::Start);
        self.at(1_000, Event::Weather);
        self.at(plan.chaos_us, Event::Calm);
        if self.kafka.is_some() {
            (0..CONSUMERS).for_each(|_| self.at(500, Event::ConsumerStarts));
            self.at(1_000, Event::Group);
        }
        for client in 0..self.clients.len() {
            self.wake_client(client, Patience::Answered);
        }
    }

    pub fn at(&mut self, at_us: u64, event: Event) {
        self.queue.insert((at_us, self.next_event), event);
        self.next_event += 1;
    }

    pub fn note(&mut self, what: &'static str, which: u64, detail: u64) {
        self.trace.note(self.now_us, what, which, detail);
    }

    pub fn strikes(&mut self, fault: Fault) -> bool {
        self.faults.strikes(fault, &mut self.random)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.random.below(high - low + 1)
    }

    pub fn unix_ns(&self) -> i64 {
        (START_MS + self.wall_offset_ms) * 1_000_000 + self.now_us as i64 * 1_000
    }

    /// The forwarder wants its turn then, if not before.
    pub fn turn_forwarding_at(&mut self, at_us: u64) {
        if self.turn_at.is_some_and(|at| at <= at_us && at > self.now_us) {
            return;
        }
        self.turn_at = Some(at_us);
        self.at(at_us, Event::TurnForwarding(self.incarnation));
    }

    fn happen(&mut self, event: Event) {
        let live = self.engine.is_some();
        match event {
            Event::Start => self.start_engine(),
            Event::End(incarnation, cuts_power) if incarnation == self.incarnation => {
                self.end_engine(cuts_power);
            }
            Event::Tick(incarnation) if live && incarnation == self.incarnation => self.on_tick(),
            Event::WriteDone(incarnation, shard, id) if live && incarnation == self.incarnation => {
                self.on_write_done(shard, id);
            }
            Event::TurnForwarding(incarnation) if live && incarnation == self.incarnation => {
                self.turn_forwarding();
            }
            Event::ShardWoken(incarnation, shard) if live && incarnation == self.incarnation => {
                self.pump(shard);
            }
            Event::Pinged(incarnation) if live && incarnation == self.incarnation => {
                self.on_pinged();
            }
            Event::RecordArrives(incarnation, number) if incarnation == self.incarnation => {
                self.on_record_arrives(number);
            }
            Event::End(..)
            | Event::Tick(_)
            | Event::WriteDone(..)
            | Event::TurnForwarding(_)
            | Event::ShardWoken(..)
            | Event::Pinged(_)
            | Event::RecordArrives(..) => {}
            Event::RecordStrays(bytes) => self.on_record_strays(bytes),
            Event::ConsumerStarts => self.start_consumer(),
            Event::ConsumerEnds(member) if !self.calm => self.end_consumer(member),
            Event::ConsumerEnds(_) => {}
            Event::ConsumerTurn(member) => self.turn_consumer(member),
            Event::ConsumerProbed(member) => self.on_consumer_probed(member),
            Event::LettersArrive(member, parcel) => self.on_letters_arrive(member, parcel),
            Event::CommitArrives(member, offsets) => self.on_commit_arrives(member, offsets),
            Event::SessionEnds(member) => self.on_session_ends(member),
            Event::KafkaReturns => self.return_kafka(),
            Event::Group => self.look_around(),
            Event::Bytes(link, bytes) => self.on_bytes(link, bytes),
            Event::InputEnds(link) => self.on_input_end(link),
            Event::Sent(link) => self.on_sent(link),
            Event::Client(client) => self.on_client(client),
            Event::ClientGivesUp(link, batch) => self.on_client_gives_up(link, batch),
            Event::InsertArrives(asker, id, insert, loses_answer) => {
                self.on_insert_arrives(asker, id, &insert, loses_answer);
            }
            Event::InsertAnswered(asker, id, outcome) => {
                self.on_insert_answered(asker, id, outcome);
            }
            Event::Mood(mood) => self.table.mood = mood,
            Event::DiskHeals => self.heal_disk(),
            Event::Weather => self.change_weather(),
            Event::Calm => self.become_calm(),
        }
    }

    /// What lasts for a while begins here, and the wall clock jumps.
    fn change_weather(&mut self) {
        if self.calm {
            return;
        }
        let moods = [
            (Fault::ClickhouseDown, Mood::Down),
            (Fault::TooManyParts, Mood::TooManyParts),
            (Fault::RefusesAll, Mood::RefusesAll),
        ];
        for (fault, mood) in moods {
            if self.strikes(fault) {
                self.note("clickhouse", mood as u64, 0);
                self.table.mood = mood;
                let at = self.now_us + self.between(1_000, 600_000);
                self.at(at, Event::Mood(Mood::Well));
            }
        }
        let fails =
            [Fault::SyncFails, Fault::DiskFull, Fault::DeadFileFails].map(|f| self.strikes(f));
        if fails.contains(&true) {
            self.note("disk", u64::from(fails[0]), u64::from(fails[1]));
            self.disk.set_syncs_fail(fails[0]);
            let used = self.disk.bytes();
            self.disk.set_bytes_max(fails[1].then_some(used));
            self.dead.set_fails(fails[2]);
            let at = self.now_us + self.between(1_000, 400_000);
            self.at(at, Event::DiskHeals);
        }
        if self.strikes(Fault::Retention)
            && let Some(kafka) = &mut self.kafka
        {
            kafka.forget_consumed();
        }
        if self.kafka.is_some() && self.strikes(Fault::KafkaDown) {
            self.note("kafka is down", 0, 0);
            self.kafka.as_mut().expect("asked about just above").is_down = true;
            let at = self.now_us + self.between(1_000, 1_500_000);
            self.at(at, Event::KafkaReturns);
        }
        if self.strikes(Fault::ClockJump) {
            let hours = self.between(0, 48) as i64 - 24;
            self.note("clock jumps", hours.unsigned_abs(), 0);
            self.clock_jumped = true;
            self.wall_offset_ms = hours * 3_600_000;
        }
        let at = self.now_us + self.between(1_000, 60_000);
        self.at(at, Event::Weather);
    }

    fn heal_disk(&mut self) {
        self.disk.set_syncs_fail(false);
        self.disk.set_bytes_max(None);
        self.dead.set_fails(false);
    }

    fn return_kafka(&mut self) {
        if let Some(kafka) = &mut self.kafka {
            kafka.is_down = false;
        }
    }

    /// The group, and what keeps consumers fetching.
    fn look_around(&mut self) {
        self.fence_somebody();
        self.rebalance();
        let members: Vec<u64> = self.consumers.keys().copied().collect();
        members.into_iter().for_each(|member| self.wake_consumer_soon(member));
        let at = self.now_us + self.between(5_000, 50_000);
        self.at(at, Event::Group);
    }

    fn become_calm(&mut self) {
        self.note("calm", 0, 0);
        self.calm = true;
        self.faults = Faults::none();
        self.table.mood = Mood::Well;
        self.wall_offset_ms = 0;
        self.heal_disk();
        self.return_kafka();
        self.wake_client(0, Patience::Rested);
        // The last life begins with what the chaos left.
        if self.engine.is_some() {
            let at = self.now_us + self.between(1, 5_000);
            self.at(at, Event::End(self.incarnation, false));
        }
    }

    /// All that is durable is forwarded, but for what came within the last moments.
    pub fn all_placed(&self) -> bool {
        let consumed = self.kafka.as_ref().is_none_or(Kafka::is_consumed);
        consumed && self.engine.as_ref().is_some_and(|engine| engine.forwarding.is_idle())
    }

    fn is_drained(&self) -> bool {
        let answered = self.oracle.batches.iter().rev().take(8).all(|batch| batch.under_way == 0);
        answered && self.all_placed()
    }
}
