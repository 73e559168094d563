//! Whatever happens in whatever order: every block is marked once, in order, after each of its rows
//! is in ClickHouse or in the file, and nothing is forgotten.

use super::super::*;
use super::stage::{Answer, START_UNIX_MS, Stage, limits, rows_in};
use proptest::prelude::*;
use proto::backoff::Pace;
use proto::insert::{Insert, InsertFailure};
use std::sync::atomic::{AtomicU64, Ordering};

const SOURCES: usize = 3;
/// ClickHouse refuses a row whose number ends so.
const BAD: u64 = 3;

#[derive(Clone, Debug)]
enum Action {
    Give { source: usize, rows: u64, continues: bool },
    FailMarks { source: usize },
    FailFile { times: usize },
    FailRead { source: usize },
    Wait { ms: u64 },
    Turn { stopping: bool },
    Send,
    Answer { which: usize, how: How },
    Ping { well: bool },
}

#[derive(Clone, Copy, Debug)]
enum How {
    /// By the rows.
    Honestly,
    /// The same, but the answer is lost.
    Silently,
    Away,
    NoTable,
}

fn action() -> impl Strategy<Value = Action> {
    let how = prop_oneof![
        4 => Just(How::Honestly),
        1 => Just(How::Silently),
        1 => Just(How::Away),
        1 => Just(How::NoTable),
    ];
    prop_oneof![
        6 => (0..SOURCES, 1..8u64, prop::bool::weighted(0.2))
            .prop_map(|(source, rows, continues)| Action::Give { source, rows, continues }),
        1 => (0..SOURCES).prop_map(|source| Action::FailMarks { source }),
        1 => (1..3usize).prop_map(|times| Action::FailFile { times }),
        1 => (0..SOURCES).prop_map(|source| Action::FailRead { source }),
        4 => (0..3_000u64).prop_map(|ms| Action::Wait { ms }),
        6 => any::<bool>().prop_map(|stopping| Action::Turn { stopping }),
        6 => Just(Action::Send),
        6 => (0..8usize, how).prop_map(|(which, how)| Action::Answer { which, how }),
        1 => any::<bool>().prop_map(|well| Action::Ping { well }),
    ]
}

struct Model {
    stage: Stage,
    /// Rows and sequences given to each source.
    given: [Vec<(u64, u64)>; SOURCES],
    /// What was sent and told, for the comparison of two runs.
    trace: Vec<String>,
}

impl Model {
    fn give(&mut self, source: usize, rows: u64, continues: bool) {
        let sequence = source as u64 * 100_000 + self.given[source].len() as u64 + 1;
        self.given[source].push((sequence, rows));
        self.stage.give(source, sequence, rows, continues);
    }

    fn send(&mut self) {
        while let Some(insert) = self.stage.send_one() {
            self.note(&format!("sends {:?}", rows_in(&insert)));
        }
    }

    fn answer(&mut self, which: usize, how: How) {
        let count = self.stage.under_way.len();
        if count == 0 {
            return;
        }
        let at = which % count;
        let answer = match how {
            How::Away => Answer::Away,
            How::NoTable => Answer::NoTable,
            How::Silently if !is_bad(&self.stage.under_way[at]) => Answer::TakeSilently,
            How::Honestly if !is_bad(&self.stage.under_way[at]) => Answer::Take,
            How::Honestly | How::Silently => Answer::Refuse,
        };
        self.stage.answer_at(at, answer);
    }

    fn turn(&mut self, stopping: bool) -> bool {
        let more = self.stage.turn(stopping);
        let marks: Vec<_> =
            self.stage.world().sources.iter().map(|source| source.marked.clone()).collect();
        self.note(&format!("marked {marks:?}"));
        let held = count_in(&self.stage.counters.inserts_in_flight);
        assert!(held as usize <= limits().inserts_in_flight_max);
        more
    }

    fn note(&mut self, what: &str) {
        let at = self.stage.now - self.stage.start;
        self.trace.push(format!("{at:?} {what}"));
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Give { source, rows, continues } => self.give(source, rows, continues),
            Action::FailMarks { source } => {
                self.stage.world().sources[source].failing_marks = 1;
            }
            Action::FailFile { times } => self.stage.world().failing_appends = times,
            Action::FailRead { source } => self.stage.fail_read(source, false),
            Action::Wait { ms } => self.stage.now += Duration::from_millis(ms),
            Action::Turn { stopping } => {
                self.turn(stopping);
            }
            Action::Send => self.send(),
            Action::Answer { which, how } => self.answer(which, how),
            Action::Ping { well } => {
                if self.stage.forwarder.take_ping() {
                    let failure = Failure::new(InsertFailure::Retry, Pace::Away, 0, "away");
                    let outcome = if well { Ok(()) } else { Err(failure) };
                    self.stage.forwarder.on_ping(outcome, self.stage.now);
                }
            }
        }
    }

    /// From now on all goes well; time moves only to when something is due.
    fn drain(&mut self) {
        for _ in 0..10_000 {
            while self.turn(false) {}
            self.send();
            if self.stage.forwarder.is_idle() {
                return;
            }
            if self.stage.under_way.is_empty() {
                let due = self.stage.forwarder.due();
                assert!(due > self.stage.now, "what is due was done");
                self.stage.now = due;
            }
            self.answer(0, How::Honestly);
        }
        panic!("it does not come to an end");
    }
}

fn count_in(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn is_bad(insert: &Insert) -> bool {
    rows_in(insert).iter().any(|row| row % 10 == BAD)
}

fn run(actions: &[Action]) -> Model {
    let stage = Stage::new(limits(), SOURCES, 7);
    let mut model = Model { stage, given: Default::default(), trace: Vec::new() };
    actions.iter().for_each(|action| model.act(action));
    // The end of every chain, so that nothing waits for it.
    (0..SOURCES).for_each(|source| model.give(source, 1, false));
    let since = model.stage.now;
    model.drain();
    assert!(model.stage.now - since < Duration::from_secs(600), "{:?}", model.stage.now - since);
    model
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nothing_is_forgotten_doubled_or_marked_early(
        actions in prop::collection::vec(action(), 0..150)
    ) {
        // That a mark comes after its rows, once and in order, the scripted source asserts.
        let model = run(&actions);
        let world = model.stage.world();
        for (source, given) in model.given.iter().enumerate() {
            prop_assert!(world.sources[source].given.is_empty(), "all is marked");
            prop_assert_eq!(world.sources[source].marked.last(), given.last().map(|(last, _)| last));
            for (sequence, rows) in given {
                for row in (0..*rows).map(|row| sequence * 10 + row) {
                    let stored = world.stored.get(&row).copied().unwrap_or(0);
                    let dead = world.dead.iter().filter(|(dead, _)| *dead == row).count();
                    let expected = if row % 10 == BAD { (0, 1) } else { (1, 0) };
                    prop_assert_eq!((stored, dead), expected, "row {}", row);
                }
            }
        }
        prop_assert!(world.dead.iter().all(|(_, at_ms)| *at_ms >= START_UNIX_MS));
        let counters = &model.stage.counters;
        let counted = [&counters.blocks, &counters.rows, &counters.dead_rows].map(count_in);
        let blocks: usize = model.given.iter().map(Vec::len).sum();
        let expected = [blocks, world.stored.len(), world.dead.len()].map(|count| count as u64);
        prop_assert_eq!(counted, expected);
    }

    #[test]
    fn the_same_seed_and_calls_do_the_same(
        actions in prop::collection::vec(action(), 0..100)
    ) {
        prop_assert_eq!(run(&actions).trace, run(&actions).trace);
    }
}
