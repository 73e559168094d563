use super::*;
use crate::partition::RECORD_OVERHEAD_BYTES;
use crate::samples::record;
use proptest::prelude::*;
use std::collections::BTreeSet;

const LIMITS: DeskLimits = DeskLimits {
    range: RangeLimits { rows_max: 10, bytes_max: 20_000, linger: Duration::from_millis(1_000) },
    inserts_max: 2,
    bytes_max: 40_000,
    hold_max: Duration::from_millis(500),
};
const REFUSED: Refusals = Refusals { times: 1, moment: Some(1) };

fn good(rows: u64) -> Record {
    Record::read(record(1, 0..rows).into())
}

fn bad() -> Record {
    Record::read(bytes::Bytes::from_static(b"no block"))
}

fn push(desk: &mut Desk, now: Instant, partition: i32, offset: i64, rows: u64) {
    let record = if rows == 0 { bad() } else { good(rows) };
    assert!(desk.push(now, partition, offset, record, 500));
}

/// Everything that is to be done at `now`.
fn actions(desk: &mut Desk, now: Instant) -> Vec<Action> {
    std::iter::from_fn(|| desk.next_action(now)).collect()
}

/// The offsets of the only INSERT that is to be sent now.
#[track_caller]
fn insert(desk: &mut Desk, now: Instant) -> Range {
    match actions(desk, now).as_slice() {
        [Action::Insert(range)] => range.clone(),
        other => panic!("one INSERT was expected: {other:?}"),
    }
}

#[test]
fn a_range_waits_until_it_is_full_or_has_lingered() {
    let now = Instant::now();
    let mut desk = Desk::new(LIMITS);
    desk.assign(0, 100);
    push(&mut desk, now, 0, 100, 4);
    assert!(actions(&mut desk, now).is_empty());
    assert_eq!(desk.next_deadline(), Some(now + LIMITS.range.linger));
    let range = insert(&mut desk, now + LIMITS.range.linger);
    assert_eq!((range.first_offset, range.next_offset, range.rows), (100, 101, 4));
    push(&mut desk, now, 0, 101, 6);
    push(&mut desk, now, 0, 103, 6);
    assert!(actions(&mut desk, now).is_empty(), "one in flight a partition");
    desk.on_done(range.id);
    let found = actions(&mut desk, now);
    let [Action::Commit(commits), Action::Insert(range)] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(commits, &[(0, 101)]);
    assert_eq!((range.first_offset, range.next_offset), (101, 102), "ten rows at most");
}

#[test]
fn bad_records_are_part_of_their_range() {
    let now = Instant::now();
    let mut desk = Desk::new(LIMITS);
    desk.assign(3, 0);
    for (offset, rows) in [(0, 0), (1, 2), (2, 0)] {
        push(&mut desk, now, 3, offset, rows);
    }
    let range = insert(&mut desk, now + LIMITS.range.linger);
    let bad: Vec<i64> = range.bad.iter().map(|bad| bad.offset).collect();
    assert_eq!((bad, range.offsets, range.rows, range.next_offset), (vec![0, 2], vec![1], 2, 3));
}

#[test]
fn what_was_taken_is_not_taken_again_and_strangers_are_refused() {
    let now = Instant::now();
    let mut desk = Desk::new(LIMITS);
    desk.assign(0, 5);
    assert!(!desk.push(now, 0, 4, good(1), 1));
    assert!(desk.push(now, 0, 5, good(1), 1));
    assert!(!desk.push(now, 0, 5, good(1), 1));
    assert_eq!((desk.expected(0), desk.expected(1)), (Some(6), None));
    assert!(!desk.push(now, 1, 0, good(1), 1));
}

#[test]
fn a_revoked_partition_waits_for_its_insert_and_its_commit() {
    let now = Instant::now();
    let until = now + Duration::from_secs(5);
    let mut desk = Desk::new(LIMITS);
    desk.assign(0, 0);
    push(&mut desk, now, 0, 0, 10);
    let range = insert(&mut desk, now);
    push(&mut desk, now, 0, 1, 10);
    desk.revoke(0, until);
    assert!(actions(&mut desk, now).is_empty());
    desk.on_done(range.id);
    let found = actions(&mut desk, now);
    assert!(matches!(found.as_slice(), [Action::Commit(c)] if c == &[(0, 1)]), "{found:?}");
    desk.on_commit(now, 0, 1, false);
    let later = desk.next_deadline().unwrap();
    let found = actions(&mut desk, later);
    assert!(matches!(found.as_slice(), [Action::Commit(c)] if c == &[(0, 1)]), "{found:?}");
    desk.on_commit(later, 0, 1, true);
    let found = actions(&mut desk, later);
    let released =
        |action: &Action| matches!(action, Action::Release { partition: 0, unfinished: None, .. });
    assert!(found.len() == 1 && released(&found[0]), "{found:?}");
    assert!(desk.is_empty());
}

#[test]
fn a_revoked_partition_does_not_wait_for_ever() {
    let now = Instant::now();
    let until = now + Duration::from_secs(5);
    let mut desk = Desk::new(LIMITS);
    desk.assign(0, 0);
    push(&mut desk, now, 0, 0, 10);
    let range = insert(&mut desk, now);
    desk.revoke(0, until);
    assert_eq!(desk.next_deadline(), Some(until));
    let found = actions(&mut desk, until);
    let released = |action: &Action| matches!(action, Action::Release { partition: 0, unfinished: Some(id), .. } if *id == range.id);
    assert!(found.len() == 1 && released(&found[0]), "{found:?}");
    desk.on_done(range.id);
    assert!(actions(&mut desk, until).is_empty(), "too late to commit");
}

#[test]
fn a_lost_partition_is_never_committed() {
    let now = Instant::now();
    let mut desk = Desk::new(LIMITS);
    desk.assign(0, 0);
    push(&mut desk, now, 0, 0, 10);
    let range = insert(&mut desk, now);
    assert_eq!(desk.lose(0), Some(range.id));
    desk.on_done(range.id);
    assert!(actions(&mut desk, now).is_empty());
    desk.assign(0, 0);
    desk.on_done(range.id);
    assert!(actions(&mut desk, now).is_empty(), "of an earlier time");
    assert_eq!(desk.in_flight(), 0);
}

#[test]
fn a_full_partition_holds_all_and_is_then_paused() {
    let now = Instant::now();
    let mut desk = Desk::new(LIMITS);
    desk.assign(0, 0);
    desk.assign(1, 0);
    push(&mut desk, now, 0, 0, 10);
    let range = insert(&mut desk, now);
    let share = LIMITS.bytes_max / 2;
    assert!(desk.push(now, 0, 1, good(1), share));
    let held_until = now + LIMITS.hold_max;
    assert_eq!(desk.intake(now), Intake::Held(held_until));
    assert!(actions(&mut desk, now).is_empty());
    let found = actions(&mut desk, held_until);
    assert!(matches!(found.as_slice(), [Action::Pause(0)]), "{found:?}");
    assert_eq!(desk.intake(held_until), Intake::Open, "for the others");
    desk.on_done(range.id);
    let second = actions(&mut desk, held_until);
    let [Action::Commit(_), Action::Insert(range)] = second.as_slice() else {
        panic!("{second:?}: a full partition does not linger")
    };
    desk.on_done(range.id);
    let third = actions(&mut desk, held_until);
    let resumed = matches!(third.as_slice(), [Action::Resume(0)]);
    assert!(resumed, "{third:?}: one commit is under way at a time");
}

#[test]
fn a_range_that_is_refused_whole_comes_again_with_what_is_behind_it() {
    let now = Instant::now();
    let until = now + 2 * LIMITS.range.linger;
    let mut desk = Desk::new(LIMITS);
    desk.assign(0, 0);
    push(&mut desk, now, 0, 0, 1);
    push(&mut desk, now, 0, 1, 0);
    let first = insert(&mut desk, now + LIMITS.range.linger);
    assert_eq!(first.refusals, Refusals::default());
    let once = Refusals { times: 1, moment: Some(7) };
    desk.on_refused(first.id, until, once);
    assert!(actions(&mut desk, until - Duration::from_millis(1)).is_empty());
    assert_eq!(desk.next_deadline(), Some(until));
    let same = insert(&mut desk, until);
    assert_eq!((same.refusals, same.next_offset), (once, 2));
    (2..20).for_each(|offset| push(&mut desk, now, 0, offset, 1));
    desk.on_refused(same.id, until, Refusals { times: 2, ..once });
    let grown = insert(&mut desk, until);
    assert_eq!((grown.first_offset, grown.next_offset, grown.rows), (0, 11, 10), "to the limit");
    assert_eq!(grown.refusals, Refusals { times: 2, moment: None }, "of other records");
    assert_eq!(grown.bad.len(), 1);
    desk.on_done(grown.id);
    let found = actions(&mut desk, until);
    assert!(matches!(&found[0], Action::Commit(commits) if commits == &[(0, 11)]), "{found:?}");
}

#[test]
fn a_range_that_is_refused_while_its_partition_is_given_back_is_left_to_the_next_member() {
    let now = Instant::now();
    let mut desk = Desk::new(LIMITS);
    desk.assign(0, 0);
    push(&mut desk, now, 0, 0, 10);
    let range = insert(&mut desk, now);
    desk.revoke(0, now + Duration::from_secs(5));
    desk.on_refused(range.id, now, REFUSED);
    let found = actions(&mut desk, now);
    let released = |action: &Action| matches!(action, Action::Release { unfinished: None, .. });
    assert!(found.len() == 1 && released(&found[0]), "{found:?}");
}

#[derive(Clone, Debug)]
enum Step {
    /// Kafka delivers the next record of a partition, or one from before.
    Deliver {
        partition: i32,
        rows: u64,
        bytes: usize,
        again: bool,
    },
    Work,
    Finish {
        which: usize,
    },
    Refuse {
        which: usize,
        ms: u64,
    },
    Commit {
        done: bool,
    },
    Wait {
        ms: u64,
    },
    Revoke {
        partition: i32,
    },
    Lose {
        partition: i32,
    },
    /// `kill -9`: all is forgotten but what was committed and inserted.
    Die,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3i32, 0..7u64, 0..9_000usize, prop::bool::weighted(0.1)).prop_map(
            |(partition, rows, bytes, again)| Step::Deliver { partition, rows, bytes, again }
        ),
        8 => Just(Step::Work),
        5 => (0..4usize).prop_map(|which| Step::Finish { which }),
        2 => (0..4usize, 0..900u64).prop_map(|(which, ms)| Step::Refuse { which, ms }),
        4 => prop::bool::weighted(0.8).prop_map(|done| Step::Commit { done }),
        2 => (0..800u64).prop_map(|ms| Step::Wait { ms }),
        1 => (0..3i32).prop_map(|partition| Step::Revoke { partition }),
        1 => (0..3i32).prop_map(|partition| Step::Lose { partition }),
        1 => Just(Step::Die),
    ]
}

/// Kafka, ClickHouse and one consumer around a desk.
struct World {
    now: Instant,
    desk: Desk,
    /// What each partition's next fetch gives.
    position: [i64; 3],
    paused: [bool; 3],
    committed: [i64; 3],
    flying: Vec<Range>,
    commits: Vec<(i32, i64)>,
    inserted: [BTreeSet<i64>; 3],
}

impl World {
    fn new() -> World {
        let mut world = World {
            now: Instant::now(),
            desk: Desk::new(LIMITS),
            position: [0; 3],
            paused: [false; 3],
            committed: [0; 3],
            flying: Vec::new(),
            commits: Vec::new(),
            inserted: Default::default(),
        };
        (0..3).for_each(|partition| world.assign(partition));
        world
    }

    fn assign(&mut self, partition: i32) {
        let offset = self.committed[partition as usize];
        self.position[partition as usize] = offset;
        self.paused[partition as usize] = false;
        self.desk.assign(partition, offset);
    }

    fn work(&mut self) {
        while let Some(action) = self.desk.next_action(self.now) {
            match action {
                Action::Insert(range) => {
                    self.check_range(&range);
                    self.flying.push(range);
                }
                Action::Commit(commits) => {
                    for (partition, offset) in commits {
                        self.check_commit(partition, offset);
                        self.commits.push((partition, offset));
                    }
                }
                Action::Pause(partition) => self.paused[partition as usize] = true,
                Action::Resume(partition) => {
                    assert!(self.paused[partition as usize], "only what is paused is resumed");
                    self.paused[partition as usize] = false;
                }
                // Another member reads on and gives it back.
                Action::Release { partition, .. } => {
                    self.commits.retain(|(of, _)| *of != partition);
                    self.assign(partition);
                }
            }
        }
        assert!(self.desk.in_flight() <= LIMITS.inserts_max);
        let over = self.desk.next_deadline().filter(|due| *due <= self.now);
        assert_eq!(over, None, "whoever waits for a deadline that is over turns for ever");
    }

    fn check_range(&self, range: &Range) {
        let records = range.blocks.len() + range.bad.len();
        assert!(records > 0 && range.offsets.len() == range.blocks.len());
        assert!(range.rows <= LIMITS.range.rows_max || records == 1, "rows");
        assert!(range.bytes <= LIMITS.range.bytes_max || records == 1, "bytes");
        assert_eq!(records as i64, range.next_offset - range.first_offset, "contiguous");
        let one = self.flying.iter().all(|other| {
            other.partition != range.partition || !self.desk.flights.contains_key(&other.id)
        });
        assert!(one, "one range in flight per partition");
    }

    fn check_commit(&self, partition: i32, offset: i64) {
        let inserted = &self.inserted[partition as usize];
        let missing = (0..offset).find(|below| !inserted.contains(below));
        assert_eq!(missing, None, "committed before it was inserted, up to {offset}");
    }

    fn finish(&mut self, which: usize) {
        if self.flying.is_empty() {
            return;
        }
        let range = self.flying.remove(which % self.flying.len());
        let inserted = &mut self.inserted[range.partition as usize];
        inserted.extend(range.first_offset..range.next_offset);
        self.desk.on_done(range.id);
    }

    fn refuse(&mut self, which: usize, ms: u64) {
        if self.flying.is_empty() {
            return;
        }
        let range = self.flying.remove(which % self.flying.len());
        let held = self.desk.held_bytes();
        self.desk.on_refused(range.id, self.now + Duration::from_millis(ms), REFUSED);
        assert!(self.desk.held_bytes() <= held, "it is counted once");
    }

    fn answer_commit(&mut self, done: bool) {
        if self.commits.is_empty() {
            return;
        }
        let (partition, offset) = self.commits.remove(0);
        if done {
            let committed = &mut self.committed[partition as usize];
            *committed = (*committed).max(offset);
        }
        self.desk.on_commit(self.now, partition, offset, done);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Deliver { partition, rows, bytes, again } => {
                let at = partition as usize;
                let open = self.desk.intake(self.now) == Intake::Open && !self.paused[at];
                let offset = self.position[at] - i64::from(again);
                if !open || !(0..200).contains(&offset) {
                    return;
                }
                let record = if rows == 0 { bad() } else { good(rows) };
                let before = self.desk.held_bytes();
                let taken = self.desk.push(self.now, partition, offset, record, bytes);
                let most = LIMITS.bytes_max + 9_000 + RECORD_OVERHEAD_BYTES;
                assert!(self.desk.held_bytes() <= most, "from {before}");
                self.position[at] += i64::from(taken);
            }
            Step::Work => self.work(),
            Step::Finish { which } => self.finish(which),
            Step::Refuse { which, ms } => self.refuse(which, ms),
            Step::Commit { done } => self.answer_commit(done),
            Step::Wait { ms } => self.now += Duration::from_millis(ms),
            Step::Revoke { partition } => {
                self.desk.revoke(partition, self.now + Duration::from_millis(900));
            }
            Step::Lose { partition } => {
                self.desk.lose(partition);
                self.commits.retain(|(of, _)| *of != partition);
                self.assign(partition);
            }
            Step::Die => {
                self.desk = Desk::new(LIMITS);
                self.flying.clear();
                self.commits.clear();
                (0..3).for_each(|partition| self.assign(partition));
            }
        }
    }

    /// With a ClickHouse and a Kafka that do their work, everything ends inserted and committed.
    fn settle(&mut self) {
        for _ in 0..2_000 {
            self.now += Duration::from_millis(100);
            for partition in 0..3 {
                self.take(Step::Deliver { partition, rows: 1, bytes: 100, again: false });
            }
            self.work();
            self.finish(0);
            self.answer_commit(true);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever happens: nothing is committed before it is inserted, the bounds hold, and in the end
    /// every record is inserted and committed, and no partition stays paused.
    #[test]
    fn nothing_is_lost_and_nothing_stays_behind(steps in prop::collection::vec(step(), 0..250)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.settle();
        for partition in 0..3 {
            prop_assert_eq!(world.inserted[partition].len(), 200);
            prop_assert_eq!(world.committed[partition], 200);
        }
        prop_assert_eq!(world.paused, [false; 3]);
        prop_assert_eq!(world.desk.held_bytes(), 0);
    }
}
