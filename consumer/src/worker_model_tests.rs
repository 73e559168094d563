//! Two members of a group, a broker and a table around workers: whatever happens between them, nothing
//! is lost, nothing is committed early, and everything drains once faults stop.

use super::*;
use crate::dead::WHOLE_RECORD;
use crate::desk::DeskLimits;
use crate::partition::RangeLimits;
use crate::samples;
use proptest::prelude::*;
use proto::backoff::{Backoff, Pace};
use proto::insert::{Insert, InsertFailure};
use proto::row::Rows;
use std::collections::BTreeSet;
use std::time::Duration;

const PARTITIONS: usize = 3;
const MEMBERS: usize = 2;
const RECORDS_MAX: usize = 60;
const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) const LIMITS: WorkerLimits = WorkerLimits {
    desk: DeskLimits {
        range: RangeLimits { rows_max: 10, bytes_max: 20_000, linger: ms(1_000) },
        inserts_max: 2,
        bytes_max: 40_000,
        hold_max: ms(500),
    },
    backoff: Backoff { min: ms(10), max: ms(200) },
    breaker_failures_max: 3,
    breaker_open: ms(300),
    revoke_patience: ms(900),
    stop_patience: ms(700),
    probe_every: Some(ms(1_000)),
};

#[derive(Clone, Copy, Debug)]
enum Answer {
    /// What the table makes of it.
    Fair,
    /// The same, but the word of it is lost.
    Lost,
    Away,
}

#[derive(Clone, Debug)]
enum Step {
    /// A record comes into the topic: a block of so many rows, one of which may be bad, or no block.
    Produce {
        partition: usize,
        rows: u64,
        bad_row: Option<u64>,
    },
    Deliver {
        partition: usize,
    },
    Work {
        member: usize,
    },
    Insert {
        which: usize,
        answer: Answer,
    },
    /// An INSERT that nobody waits for any more lands.
    Late {
        which: usize,
    },
    /// So many letters of a parcel are not written.
    Letters {
        which: usize,
        left: usize,
    },
    Commit {
        done: bool,
    },
    Wait {
        ms: u64,
    },
    /// From now on every INSERT fails so.
    Break {
        kind: Option<InsertFailure>,
    },
    Revoke {
        partition: usize,
    },
    Lose {
        partition: usize,
    },
    Stop {
        member: usize,
    },
    /// `kill -9`, and a new process in its place.
    Die {
        member: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let answer =
        prop_oneof![4 => Just(Answer::Fair), 1 => Just(Answer::Lost), 1 => Just(Answer::Away)];
    let kind = prop_oneof![
        3 => Just(None),
        1 => Just(Some(InsertFailure::Schema)),
        1 => Just(Some(InsertFailure::Refused)),
    ];
    let partition = || 0..PARTITIONS;
    let member = || 0..MEMBERS;
    prop_oneof![
        6 => (partition(), 0..6u64, prop::option::weighted(0.15, 0..6u64)).prop_map(
            |(partition, rows, bad_row)| Step::Produce { partition, rows, bad_row }
        ),
        8 => partition().prop_map(|partition| Step::Deliver { partition }),
        8 => member().prop_map(|member| Step::Work { member }),
        8 => (0..4usize, answer).prop_map(|(which, answer)| Step::Insert { which, answer }),
        1 => (0..4usize).prop_map(|which| Step::Late { which }),
        3 => (0..4usize, 0..3usize).prop_map(|(which, left)| Step::Letters { which, left }),
        4 => prop::bool::weighted(0.8).prop_map(|done| Step::Commit { done }),
        4 => (0..800u64).prop_map(|ms| Step::Wait { ms }),
        1 => kind.prop_map(|kind| Step::Break { kind }),
        1 => partition().prop_map(|partition| Step::Revoke { partition }),
        1 => partition().prop_map(|partition| Step::Lose { partition }),
        1 => member().prop_map(|member| Step::Stop { member }),
        1 => member().prop_map(|member| Step::Die { member }),
    ]
}

struct Flight {
    member: usize,
    partition: usize,
    insert: Insert,
}

struct AskedCommit {
    member: usize,
    offsets: Vec<(i32, i64)>,
    forgotten: bool,
}

struct World {
    now: Instant,
    workers: Vec<Worker>,
    incarnations: u64,
    /// Kafka.
    log: [Vec<Vec<u8>>; PARTITIONS],
    committed: [i64; PARTITIONS],
    owner: [usize; PARTITIONS],
    /// Of the owner.
    position: [i64; PARTITIONS],
    paused: [bool; PARTITIONS],
    /// What each member has to give back, and until when.
    revoked: [Option<(usize, Instant)>; MEMBERS],
    stopping: [Option<Instant>; MEMBERS],
    commits: Vec<AskedCommit>,
    /// ClickHouse.
    bad_users: BTreeSet<u64>,
    table: BTreeMap<u64, u32>,
    tokens: BTreeMap<String, Vec<u64>>,
    broken: Option<InsertFailure>,
    has_refused_all: bool,
    flights: Vec<Flight>,
    /// Nobody waits for them.
    late: Vec<Insert>,
    /// Dead letters.
    parcels: Vec<(usize, Parcel)>,
    dead_users: [BTreeSet<u64>; 2],
    dead_records: [BTreeSet<(usize, i64)>; 2],
    trace: Vec<String>,
}

/// A row's user tells where it is from: partition, offset, row.
fn user(partition: usize, offset: usize, row: u64) -> u64 {
    (partition as u64 * 1_000 + offset as u64) * 10 + row
}

fn origin(user: u64) -> (usize, i64) {
    ((user / 10_000) as usize, (user / 10 % 1_000) as i64)
}

fn users(rows: &[u8]) -> Vec<u64> {
    let user = |row: &[u8]| std::str::from_utf8(row).unwrap().parse().unwrap();
    Rows::new(rows).map(|row| user(row.unwrap().user_id)).collect()
}

impl World {
    fn new(now: Instant) -> World {
        let mut world = World {
            now,
            workers: Vec::new(),
            incarnations: 0,
            log: Default::default(),
            committed: [0; PARTITIONS],
            owner: [0; PARTITIONS],
            position: [0; PARTITIONS],
            paused: [false; PARTITIONS],
            revoked: [None; MEMBERS],
            stopping: [None; MEMBERS],
            commits: Vec::new(),
            bad_users: BTreeSet::new(),
            table: BTreeMap::new(),
            tokens: BTreeMap::new(),
            broken: None,
            has_refused_all: false,
            flights: Vec::new(),
            late: Vec::new(),
            parcels: Vec::new(),
            dead_users: Default::default(),
            dead_records: Default::default(),
            trace: Vec::new(),
        };
        for _ in 0..MEMBERS {
            let worker = world.new_worker();
            world.workers.push(worker);
        }
        (0..PARTITIONS).for_each(|partition| world.assign(partition, partition % MEMBERS));
        world
    }

    fn new_worker(&mut self) -> Worker {
        self.incarnations += 1;
        let (health, metrics) = (Arc::new(Health::starting()), Arc::new(Metrics::new()));
        Worker::new(LIMITS, None, self.incarnations, self.now, health, metrics)
    }

    fn assign(&mut self, partition: usize, member: usize) {
        self.owner[partition] = member;
        self.position[partition] = self.committed[partition];
        self.paused[partition] = false;
        self.workers[member].assign(self.now, partition as i32, self.committed[partition]);
    }

    /// To the other member, or to nobody new while both stop.
    fn hand_over(&mut self, partition: usize) {
        let member = self.owner[partition];
        let takers = [(member + 1) % MEMBERS, member];
        if let Some(taker) = takers.into_iter().find(|taker| self.stopping[*taker].is_none()) {
            self.assign(partition, taker);
        }
    }

    fn produce(&mut self, partition: usize, rows: u64, bad_row: Option<u64>) {
        let offset = self.log[partition].len();
        let sequence = (partition * 1_000 + offset + 1) as u64;
        let value = match rows {
            0 => format!("no block {sequence}").into_bytes(),
            _ => {
                samples::record(sequence, user(partition, offset, 0)..user(partition, offset, rows))
            }
        };
        self.log[partition].push(value);
        if let Some(row) = bad_row.filter(|row| *row < rows) {
            self.bad_users.insert(user(partition, offset, row));
        }
    }

    fn deliver(&mut self, partition: usize) {
        let worker = &mut self.workers[self.owner[partition]];
        let offset = self.position[partition];
        let open = worker.intake(self.now) == Intake::Open && !self.paused[partition];
        let Some(value) = self.log[partition].get(offset as usize).filter(|_| open) else { return };
        if worker.push(self.now, partition as i32, offset, value.clone().into()) {
            self.position[partition] += 1;
        }
        let most = LIMITS.desk.bytes_max + 2_048;
        assert!(worker.held_bytes() <= most, "memory has a bound");
    }

    fn work(&mut self, member: usize) {
        for turn in 0.. {
            assert!(turn < 10_000, "it comes to rest");
            let Some(action) = self.workers[member].next_action(self.now) else { break };
            self.trace.push(format!("{member} {action:?}"));
            self.carry_out(member, action);
        }
        if let Some((partition, until)) = self.revoked[member] {
            assert!(self.now < until, "partition {partition} is given back in time");
        }
        if let Some(until) = self.stopping[member] {
            assert!(self.now < until || self.workers[member].is_empty(), "it stops in time");
            if self.workers[member].is_empty() {
                self.replace(member);
            }
        }
    }

    fn carry_out(&mut self, member: usize, action: Action) {
        match action {
            Action::Insert(insert) => {
                let partition = origin(users(&insert.payloads[0])[0]).0;
                self.check_one_range(member, partition);
                self.flights.push(Flight { member, partition, insert });
            }
            Action::Letters(parcel) => {
                let partition = parcel.letters[0].partition as usize;
                self.check_one_range(member, partition);
                self.parcels.push((member, parcel));
            }
            Action::Commit(offsets) => {
                for (partition, offset) in &offsets {
                    self.check_placed(*partition as usize, *offset);
                }
                self.commits.push(AskedCommit { member, offsets, forgotten: false });
            }
            Action::ForgetCommits => {
                let ours = self.commits.iter_mut().filter(|asked| asked.member == member);
                ours.for_each(|asked| asked.forgotten = true);
            }
            Action::Pause(partition) => self.pause(member, partition, true),
            Action::Resume(partition) => self.pause(member, partition, false),
            Action::Abandon(range) => {
                let theirs =
                    |flight: &mut Flight| flight.member == member && flight.insert.id == range.0;
                self.late.extend(self.flights.extract_if(.., theirs).map(|flight| flight.insert));
                self.parcels.retain(|(of, parcel)| *of != member || parcel.range != range);
            }
            Action::GiveBack(partitions) => {
                for partition in partitions {
                    let partition = partition as usize;
                    self.check_one_range(member, partition);
                    self.revoked[member].take_if(|(of, _)| *of == partition);
                    if self.owner[partition] == member {
                        self.hand_over(partition);
                    }
                }
            }
            Action::Probe => self.workers[member].on_probe(self.now, &Ok(())),
        }
    }

    fn pause(&mut self, member: usize, partition: i32, pause: bool) {
        let partition = partition as usize;
        assert_eq!((self.owner[partition], self.paused[partition]), (member, !pause));
        self.paused[partition] = pause;
    }

    fn check_one_range(&self, member: usize, partition: usize) {
        let flying = self
            .flights
            .iter()
            .any(|flight| (flight.member, flight.partition) == (member, partition));
        let writing = self
            .parcels
            .iter()
            .any(|(of, parcel)| (*of, parcel.letters[0].partition as usize) == (member, partition));
        assert!(!flying && !writing, "something is under way of partition {partition} already");
    }

    /// Everything below `end` is in the table or, in both places, a dead letter.
    fn check_placed(&self, partition: usize, end: i64) {
        for (offset, value) in self.log[partition][..end as usize].iter().enumerate() {
            let Record::Block { block, .. } = Record::read(value.clone().into()) else {
                let key = (partition, offset as i64);
                assert!(self.dead_records.iter().all(|place| place.contains(&key)), "{key:?}");
                continue;
            };
            for user in users(&block.payload) {
                let dead = self.dead_users.iter().all(|place| place.contains(&user));
                assert!(self.table.contains_key(&user) || dead, "{user} has no place");
            }
        }
    }

    /// What ClickHouse does with an INSERT.
    fn take(&mut self, insert: &Insert) -> Result<(), Failure> {
        let fail = |kind| Err(Failure::new(kind, Pace::Slow, 1, "so it is"));
        if let Some(kind) = self.broken {
            return fail(kind);
        }
        let rows: Vec<u64> = insert.payloads.iter().flat_map(|rows| users(rows)).collect();
        assert_eq!(rows.len(), insert.rows);
        if let Some(known) = self.tokens.get(&insert.token) {
            assert_eq!(known, &rows, "a token is of the same rows always");
            return Ok(());
        }
        if rows.iter().any(|user| self.bad_users.contains(user)) {
            return fail(InsertFailure::Refused);
        }
        rows.iter().for_each(|user| *self.table.entry(*user).or_default() += 1);
        self.tokens.insert(insert.token.clone(), rows);
        Ok(())
    }

    fn answer_insert(&mut self, which: usize, answer: Answer) {
        if self.flights.is_empty() {
            return;
        }
        let Flight { member, insert, .. } = self.flights.remove(which % self.flights.len());
        let outcome = match answer {
            Answer::Fair => self.take(&insert),
            Answer::Lost => {
                let taken = self.take(&insert);
                let lost = || Failure::new(InsertFailure::Unknown, Pace::Busy, 0, "lost");
                taken.and_then(|()| Err(lost()))
            }
            Answer::Away => Err(Failure::new(InsertFailure::Retry, Pace::Away, 0, "away")),
        };
        self.workers[member].on_insert(self.now, RangeId(insert.id), &outcome);
    }

    fn answer_letters(&mut self, which: usize, left: usize) {
        if self.parcels.is_empty() {
            return;
        }
        let (member, parcel) = self.parcels.remove(which % self.parcels.len());
        let written = parcel.letters.len().saturating_sub(left);
        let place = parcel.place as usize;
        for letter in &parcel.letters[..written] {
            let at = (letter.partition as usize, letter.offset);
            if letter.layout == WHOLE_RECORD {
                self.dead_records[place].insert(at);
                continue;
            }
            let user = users(&letter.raw)[0];
            assert_eq!(origin(user), at, "the letter says where its row is from");
            assert!(self.bad_users.contains(&user) || self.has_refused_all, "{user} is good");
            self.dead_users[place].insert(user);
        }
        let left = parcel.letters[written..].to_vec();
        let failure = NotWritten { left, pace: Pace::Slow, text: "away".to_owned() };
        let outcome = if failure.left.is_empty() { Ok(()) } else { Err(failure) };
        self.workers[member].on_letters(self.now, parcel.range, outcome);
    }

    fn answer_commit(&mut self, done: bool) {
        if self.commits.is_empty() {
            return;
        }
        let AskedCommit { member, offsets, forgotten } = self.commits.remove(0);
        for (partition, offset) in offsets {
            let at = partition as usize;
            // The broker takes no commit of who does not have the partition.
            let done = done && !forgotten && self.owner[at] == member;
            if done {
                assert!(offset > self.committed[at], "a commit never goes back");
                self.committed[at] = offset;
            }
            self.workers[member].on_commit(self.now, partition, offset, done);
        }
    }

    /// A member is gone; another process comes in its place and reads on.
    fn replace(&mut self, member: usize) {
        let gone = |flight: &mut Flight| flight.member == member;
        self.late.extend(self.flights.extract_if(.., gone).map(|flight| flight.insert));
        self.parcels.retain(|(of, _)| *of != member);
        self.commits.retain(|asked| asked.member != member);
        (self.revoked[member], self.stopping[member]) = (None, None);
        self.workers[member] = self.new_worker();
        for partition in 0..PARTITIONS {
            if self.owner[partition] == member {
                self.assign(partition, member);
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Produce { partition, rows, bad_row } => {
                if self.log[partition].len() < RECORDS_MAX {
                    self.produce(partition, rows, bad_row);
                }
            }
            Step::Deliver { partition } => self.deliver(partition),
            Step::Work { member } => self.work(member),
            Step::Insert { which, answer } => self.answer_insert(which, answer),
            Step::Late { which } => {
                if !self.late.is_empty() {
                    let insert = self.late.remove(which % self.late.len());
                    let _ = self.take(&insert);
                }
            }
            Step::Letters { which, left } => self.answer_letters(which, left),
            Step::Commit { done } => self.answer_commit(done),
            Step::Wait { ms } => {
                self.now += Duration::from_millis(ms);
                (0..MEMBERS).for_each(|member| self.work(member));
            }
            Step::Break { kind } => {
                self.broken = kind;
                self.has_refused_all |= kind == Some(InsertFailure::Refused);
            }
            Step::Revoke { partition } => {
                let member = self.owner[partition];
                if self.revoked[member].is_none() && self.stopping[member].is_none() {
                    let until = self.now + LIMITS.revoke_patience;
                    self.revoked[member] = Some((partition, until));
                    self.workers[member].revoke(self.now, vec![partition as i32]);
                }
            }
            Step::Lose { partition } => {
                let member = self.owner[partition];
                if self.revoked[member].is_none() && self.stopping[member].is_none() {
                    self.revoked[member] = Some((partition, self.now + LIMITS.revoke_patience));
                    self.workers[member].lose(self.now, vec![partition as i32]);
                    let other = (member + 1) % MEMBERS;
                    if self.stopping[other].is_none() {
                        self.assign(partition, other);
                    }
                }
            }
            Step::Stop { member } => {
                if self.stopping[member].is_none() {
                    let until = self.now + LIMITS.stop_patience;
                    self.stopping[member] = Some(until);
                    self.workers[member].stop(self.now);
                }
            }
            Step::Die { member } => self.replace(member),
        }
    }

    /// Without faults, and with some good rows more, everything finds its place.
    fn settle(&mut self) {
        self.broken = None;
        for partition in 0..PARTITIONS {
            (0..5).for_each(|_| self.produce(partition, 2, None));
        }
        for _ in 0..4_000 {
            self.now += ms(20);
            (0..PARTITIONS).for_each(|partition| self.deliver(partition));
            (0..MEMBERS).for_each(|member| self.work(member));
            self.answer_insert(0, Answer::Fair);
            self.answer_letters(0, 0);
            self.answer_commit(true);
        }
        for partition in 0..PARTITIONS {
            assert_eq!(self.committed[partition], self.log[partition].len() as i64, "it drains");
            self.check_placed(partition, self.committed[partition]);
        }
        for bad in &self.bad_users {
            assert!(!self.table.contains_key(bad) && self.dead_users[1].contains(bad));
        }
        assert_eq!(self.paused, [false; PARTITIONS]);
        assert_eq!(self.workers.iter().map(Worker::held_bytes).sum::<usize>(), 0);
    }
}

fn run(now: Instant, steps: &[Step]) -> Vec<String> {
    let mut world = World::new(now);
    steps.iter().for_each(|next| world.step(next.clone()));
    world.settle();
    world.trace
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn everything_finds_its_place_before_it_is_committed(
        steps in prop::collection::vec(step(), 0..400)
    ) {
        let now = Instant::now();
        let trace = run(now, &steps);
        prop_assert!(trace == run(now, &steps), "the same again does the same");
    }
}
