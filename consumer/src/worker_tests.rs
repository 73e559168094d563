use super::model_tests::LIMITS;
use super::*;
use crate::dead::Place;
use crate::samples::record;
use proto::backoff::Pace;
use proto::insert::{Insert, InsertFailure};
use std::time::Duration;

const LINGER: Duration = LIMITS.desk.range.linger;

/// A worker and what it is told, on a clock of its own.
struct Stage {
    now: Instant,
    worker: Worker,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

fn stage(run: Option<[u8; 16]>) -> Stage {
    let now = Instant::now();
    let (health, metrics) = (Arc::new(Health::starting()), Arc::new(Metrics::new()));
    let limits = WorkerLimits { probe_every: None, ..LIMITS };
    let mut worker = Worker::new(limits, run, 1, now, Arc::clone(&health), Arc::clone(&metrics));
    (0..2).for_each(|partition| worker.assign(now, partition, 0));
    Stage { now, worker, health, metrics }
}

fn failure(kind: InsertFailure) -> Result<(), Failure> {
    Err(Failure::new(kind, Pace::Slow, 7, "so it is"))
}

impl Stage {
    /// A block of so many rows, or no block.
    fn push(&mut self, partition: i32, offset: i64, rows: u64) {
        let first = offset as u64 * 10;
        let value = match rows {
            0 => b"no block".to_vec(),
            _ => record(offset as u64 + 1, first..first + rows),
        };
        assert!(self.worker.push(self.now, partition, offset, value.into()));
    }

    /// What is to be done now, in short.
    fn act(&mut self) -> (Vec<String>, Vec<Insert>, Vec<Parcel>) {
        let (mut told, mut inserts, mut parcels) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(action) = self.worker.next_action(self.now) {
            told.push(match action {
                Action::Insert(insert) => {
                    let line = format!("insert {}", insert.rows);
                    inserts.push(insert);
                    line
                }
                Action::Letters(parcel) => {
                    let line = format!("{:?} {}", parcel.place, parcel.letters.len());
                    parcels.push(parcel);
                    line
                }
                Action::Commit(offsets) => format!("commit {offsets:?}"),
                Action::GiveBack(partitions) => format!("give back {partitions:?}"),
                Action::Abandon(_) => "abandon".to_owned(),
                other => format!("{other:?}"),
            });
        }
        (told, inserts, parcels)
    }

    #[track_caller]
    fn check(&mut self, expected: &[&str]) -> (Vec<Insert>, Vec<Parcel>) {
        let (told, inserts, parcels) = self.act();
        assert_eq!(told, expected);
        (inserts, parcels)
    }

    fn insert_ends(&mut self, insert: &Insert, outcome: &Result<(), Failure>) {
        self.worker.on_insert(self.now, RangeId(insert.id), outcome);
    }

    /// Until the rest is over.
    fn rest(&mut self) {
        self.now = self.worker.next_deadline().expect("something is awaited").max(self.now);
    }
}

#[test]
fn rows_are_inserted_and_then_their_offset_is_committed() {
    let mut stage = stage(None);
    stage.push(0, 0, 4);
    stage.push(0, 1, 3);
    stage.check(&[]);
    stage.now += LINGER;
    let (inserts, _) = stage.check(&["insert 7"]);
    stage.insert_ends(&inserts[0], &Ok(()));
    stage.check(&["commit [(0, 2)]"]);
    assert_eq!(stage.worker.totals(), Totals { rows: 7, ..Totals::default() });
    assert!(stage.health.is_up(Component::Clickhouse));
}

#[test]
fn a_replay_has_tokens_of_its_own() {
    let token = |run| {
        let mut stage = stage(run);
        stage.push(0, 0, 10);
        stage.check(&["insert 10"]).0.remove(0).token
    };
    assert_eq!(token(None), token(None));
    assert_ne!(token(None), token(Some([1; 16])));
}

#[test]
fn letters_are_in_both_places_before_the_commit() {
    let mut stage = stage(None);
    stage.worker.tell_date(1_771_000_000_000);
    stage.push(0, 0, 0);
    stage.push(0, 1, 0);
    stage.now += LINGER;
    let (_, parcels) = stage.check(&["Topic 2"]);
    assert!(parcels[0].letters.iter().all(|letter| letter.died_at_ms == 1_771_000_000_000));
    let range = parcels[0].range;
    let left = parcels[0].letters[1..].to_vec();
    let failure = NotWritten { left, pace: Pace::Slow, text: "away".to_owned() };
    stage.worker.on_letters(stage.now, range, Err(failure));
    assert!(!stage.health.is_up(Component::DeadLetters));
    stage.check(&[]);
    stage.rest();
    stage.check(&["Topic 1"]);
    stage.worker.on_letters(stage.now, range, Ok(()));
    let (_, parcels) = stage.check(&["Table 2"]);
    assert_eq!(parcels[0].place, Place::Table);
    assert_eq!(stage.metrics.dead_records.get(), 0, "not yet");
    stage.worker.on_letters(stage.now, range, Ok(()));
    stage.check(&["commit [(0, 2)]"]);
    assert!(stage.health.is_up(Component::DeadLetters));
    assert_eq!(stage.worker.totals().dead_records, 2);
}

#[test]
fn the_same_insert_goes_again_after_an_outage() {
    let mut stage = stage(None);
    stage.push(0, 0, 10);
    let (inserts, _) = stage.check(&["insert 10"]);
    stage.insert_ends(&inserts[0], &failure(InsertFailure::Unknown));
    assert!(!stage.health.is_up(Component::Clickhouse));
    stage.check(&[]);
    stage.rest();
    let (again, _) = stage.check(&["insert 10"]);
    assert_eq!(again, inserts, "token and rows alike");
    stage.insert_ends(&again[0], &Ok(()));
    stage.check(&["commit [(0, 1)]"]);
    assert!(stage.health.is_up(Component::Clickhouse));
}

#[test]
fn what_needs_a_hand_is_told_until_something_is_taken() {
    let mut stage = stage(None);
    stage.push(0, 0, 10);
    for _ in 0..3 {
        let (inserts, _) = stage.check(&["insert 10"]);
        stage.insert_ends(&inserts[0], &failure(InsertFailure::Schema));
        assert_eq!(stage.metrics.stalled.get(), 1);
        assert!(!stage.health.is_up(Component::Inserts));
        stage.check(&[]);
        stage.rest();
    }
    let (inserts, _) = stage.check(&["insert 10"]);
    stage.insert_ends(&inserts[0], &Ok(()));
    assert_eq!(stage.metrics.stalled.get(), 0);
    assert!(stage.health.is_up(Component::Inserts));
}

/// Refuses every piece until the range is given back or done.
fn refuse_all(stage: &mut Stage, first: Insert) {
    let mut next = Some(first);
    while let Some(insert) = next {
        stage.insert_ends(&insert, &failure(InsertFailure::Refused));
        let (_, inserts, parcels) = stage.act();
        assert!(parcels.is_empty(), "nothing of the kind was taken");
        next = inserts.into_iter().next();
    }
}

#[test]
fn a_range_that_is_refused_whole_comes_again_with_what_is_behind_it() {
    let mut stage = stage(None);
    stage.push(0, 0, 1);
    stage.now += LINGER;
    let (mut inserts, _) = stage.check(&["insert 1"]);
    refuse_all(&mut stage, inserts.remove(0));
    assert_eq!((stage.metrics.stalled.get(), stage.worker.dispatcher.len()), (1, 0));
    stage.push(0, 1, 2);
    stage.rest();
    let (inserts, _) = stage.check(&["insert 3"]);
    stage.insert_ends(&inserts[0], &failure(InsertFailure::Refused));
    // A scout is the bad row; the next one is taken, and what is around it tells the rest.
    let (mut letters, mut taken) = (Vec::new(), false);
    for _ in 0..20 {
        let (_, inserts, parcels) = stage.act();
        letters.extend(parcels);
        let Some(insert) = inserts.first() else { break };
        let bad = record(1, 0..1)[proto::block::HEADER_BYTES..].to_vec();
        let has_bad = insert.payloads.iter().any(|rows| rows.starts_with(&bad));
        let outcome = if has_bad { failure(InsertFailure::Refused) } else { Ok(()) };
        stage.insert_ends(insert, &outcome);
        let stalled = stage.metrics.stalled.get() > 0;
        taken |= outcome.is_ok();
        assert_eq!(stalled, !taken, "until something is taken");
    }
    assert_eq!(letters.len(), 1, "the first parcel");
    let letter = &letters[0].letters[0];
    assert_eq!((letter.partition, letter.offset, letter.row_index, letter.code), (0, 0, 0, 7));
    assert_eq!(stage.metrics.stalled.get(), 0);
}

#[test]
fn rows_of_one_moment_are_dead_once_another_partition_was_taken() {
    let mut stage = stage(None);
    stage.push(0, 0, 1);
    stage.now += LINGER;
    let (mut inserts, _) = stage.check(&["insert 1"]);
    refuse_all(&mut stage, inserts.remove(0));
    stage.push(1, 0, 10);
    let (inserts, _) = stage.check(&["insert 10"]);
    stage.insert_ends(&inserts[0], &Ok(()));
    stage.check(&["commit [(1, 1)]"]);
    stage.rest();
    for _ in 0..2 {
        let (inserts, _) = stage.check(&["insert 1"]);
        stage.insert_ends(&inserts[0], &failure(InsertFailure::Refused));
    }
    stage.check(&["Topic 1"]);
}

#[test]
fn a_revocation_is_answered_when_the_commit_is_done() {
    let mut stage = stage(None);
    stage.push(0, 0, 10);
    let (inserts, _) = stage.check(&["insert 10"]);
    stage.push(0, 1, 10);
    stage.worker.revoke(stage.now, vec![0, 1]);
    stage.check(&[]);
    stage.insert_ends(&inserts[0], &Ok(()));
    stage.check(&["commit [(0, 1)]"]);
    stage.worker.on_commit(stage.now, 0, 1, true);
    stage.check(&["give back [0, 1]"]);
    assert!(stage.worker.is_empty());
}

#[test]
fn a_revocation_is_answered_at_its_deadline_and_the_insert_given_up() {
    let mut stage = stage(None);
    stage.push(0, 0, 10);
    let (inserts, _) = stage.check(&["insert 10"]);
    stage.worker.revoke(stage.now, vec![0]);
    stage.check(&[]);
    assert_eq!(stage.worker.next_deadline(), Some(stage.now + LIMITS.revoke_patience));
    stage.rest();
    stage.check(&["abandon", "give back [0]"]);
    stage.insert_ends(&inserts[0], &Ok(()));
    stage.check(&[]);
    assert!(stage.worker.has(1) && !stage.worker.has(0));
}

/// Found by the model: sent once the partition has come back from another member, it would set the group
/// back behind what that one committed.
#[test]
fn a_commit_without_an_answer_is_forgotten_with_its_partition() {
    let mut stage = stage(None);
    stage.push(0, 0, 10);
    let (inserts, _) = stage.check(&["insert 10"]);
    stage.insert_ends(&inserts[0], &Ok(()));
    stage.check(&["commit [(0, 1)]"]);
    stage.worker.revoke(stage.now, vec![0]);
    stage.check(&[]);
    stage.rest();
    stage.check(&["ForgetCommits", "give back [0]"]);
}

#[test]
fn records_that_are_left_to_the_next_member_are_not_missing() {
    let mut stage = stage(None);
    stage.push(0, 0, 1);
    stage.push(0, 3, 1);
    assert_eq!(stage.metrics.offset_gaps.get(), 1, "a gap");
    stage.push(0, 4, 10);
    let (inserts, _) = stage.check(&["insert 2"]);
    stage.worker.revoke(stage.now, vec![0]);
    assert!(!stage.worker.push(stage.now, 0, 5, record(6, 0..1).into()));
    assert_eq!((inserts.len(), stage.metrics.offset_gaps.get()), (1, 1));
}

#[test]
fn of_a_lost_partition_nothing_is_committed() {
    let mut stage = stage(None);
    stage.push(0, 0, 10);
    let (inserts, _) = stage.check(&["insert 10"]);
    stage.worker.lose(stage.now, vec![0]);
    stage.check(&["ForgetCommits", "abandon", "give back [0]"]);
    stage.insert_ends(&inserts[0], &Ok(()));
    stage.check(&[]);
    assert!(stage.worker.lose_all(stage.now));
    stage.check(&["ForgetCommits"]);
    assert!(!stage.worker.lose_all(stage.now), "nothing is ours");
}

#[test]
fn a_stop_lets_what_is_under_way_end() {
    let mut stage = stage(None);
    stage.push(0, 0, 10);
    let (inserts, _) = stage.check(&["insert 10"]);
    stage.push(0, 1, 10);
    stage.worker.stop(stage.now);
    stage.check(&[]);
    assert!(!stage.worker.is_empty());
    stage.insert_ends(&inserts[0], &Ok(()));
    stage.check(&["commit [(0, 1)]"]);
    stage.worker.on_commit(stage.now, 0, 1, true);
    stage.check(&[]);
    assert!(stage.worker.is_empty());
}

#[test]
fn clickhouse_is_asked_while_nothing_else_tells_how_it_is() {
    let every = Duration::from_secs(1);
    let now = Instant::now();
    let (health, metrics) = (Arc::new(Health::starting()), Arc::new(Metrics::new()));
    let limits = WorkerLimits { probe_every: Some(every), ..LIMITS };
    let mut worker = Worker::new(limits, None, 1, now, Arc::clone(&health), metrics);
    worker.assign(now, 0, 0);
    let probes = |worker: &mut Worker, at| {
        let actions = std::iter::from_fn(|| worker.next_action(at));
        actions.filter(|action| matches!(action, Action::Probe)).count()
    };
    assert_eq!(probes(&mut worker, now), 1, "at once");
    assert_eq!(probes(&mut worker, now + 9 * every), 0, "one at a time");
    worker.on_probe(now, &Ok(()));
    assert!(health.is_up(Component::Clickhouse));
    assert_eq!(worker.next_deadline(), Some(now + every));
    assert!(worker.push(now, 0, 0, record(1, 0..10).into()));
    assert_eq!(probes(&mut worker, now + every), 0, "an INSERT will tell");
    worker.on_insert(now, RangeId(1), &failure(InsertFailure::Retry));
    assert_eq!(probes(&mut worker, now + 2 * every), 1, "it is away");
    worker.on_probe(now, &failure(InsertFailure::Retry));
    assert!(!health.is_up(Component::Clickhouse));
    worker.stop(now);
    assert_eq!(probes(&mut worker, now + 9 * every), 0, "at a stop nobody asks");
}
