//! The forwarder on virtual time, between scripted journals, a scripted file of dead letters and a
//! ClickHouse that is part of the test.

mod model;
mod stage;

use super::*;
use crate::forward::SourceError;
use stage::{Answer, Stage, limits};

/// Rows are numbered: ten times their block's sequence, and their place in it. Source 0 has the
/// sequences from 1 on, source 1 those from 101 on.
#[derive(Debug)]
enum Step {
    /// A source comes to have blocks of two rows each.
    Give(usize, &'static [u64]),
    /// The same, continued in the next block.
    GivePart(usize, u64),
    /// So many of the next attempts fail.
    FailMarks(usize, usize),
    FailFile(usize),
    FailRead(usize),
    Damage(usize),
    Turn,
    /// A turn while stopping.
    Stop,
    /// The INSERTs that go now, by their rows.
    Sends(&'static [&'static [u64]]),
    /// The one under way that begins with this row.
    Answer(u64, Answer),
    /// So many blocks were not taken from a source.
    Waiting(usize, usize),
    /// Whether ClickHouse shall be asked whether it is there.
    Pings(bool),
    /// All marks of a source so far.
    Marked(usize, &'static [u64]),
    /// All rows in the file so far.
    Dead(&'static [u64]),
    Idle(bool),
    /// What `/readyz` says of the forwarder, and of ClickHouse.
    Says(&'static str),
    SaysOfClickhouse(&'static str),
    /// When the next turn is due, in ms.
    Due(u64),
}

/// Batches of at most four rows that wait 100 ms, two INSERTs at a time, rests of 1 s without
/// jitter's half, a breaker that opens after three failures. Each step: at this ms do this.
#[track_caller]
fn check(steps: &[(u64, Step)]) {
    let mut stage = Stage::new(limits(), 2, 1);
    for (index, (at_ms, step)) in steps.iter().enumerate() {
        stage.at(*at_ms);
        let told = format!("step {index} at {at_ms} ms: {step:?}");
        match step {
            Step::Give(source, sequences) => {
                sequences.iter().for_each(|sequence| stage.give(*source, *sequence, 2, false));
            }
            Step::GivePart(source, sequence) => stage.give(*source, *sequence, 2, true),
            Step::FailMarks(source, times) => stage.world().sources[*source].failing_marks = *times,
            Step::FailFile(times) => stage.world().failing_appends = *times,
            Step::FailRead(source) => stage.fail_read(*source, false),
            Step::Damage(source) => stage.fail_read(*source, true),
            Step::Turn => while stage.turn(false) {},
            Step::Stop => while stage.turn(true) {},
            Step::Sends(expected) => assert_eq!(stage.send(), *expected, "{told}"),
            Step::Answer(row, answer) => stage.answer(*row, *answer),
            Step::Waiting(source, expected) => {
                assert_eq!(stage.world().sources[*source].waiting.len(), *expected, "{told}");
            }
            Step::Pings(expected) => assert_eq!(stage.forwarder.take_ping(), *expected, "{told}"),
            Step::Marked(source, expected) => {
                assert_eq!(stage.world().sources[*source].marked, *expected, "{told}");
            }
            Step::Dead(expected) => assert_eq!(stage.world().dead_rows(), *expected, "{told}"),
            Step::Idle(expected) => assert_eq!(stage.forwarder.is_idle(), *expected, "{told}"),
            Step::Says(text) => check_says(&stage, Component::Forwarder, text, &told),
            Step::SaysOfClickhouse(text) => check_says(&stage, Component::Clickhouse, text, &told),
            Step::Due(ms) => {
                let due = stage.forwarder.due() - stage.start;
                assert_eq!(due.as_millis() as u64, *ms, "{told}");
            }
        }
    }
}

/// An empty text: nothing is said.
#[track_caller]
fn check_says(stage: &Stage, component: Component, text: &str, told: &str) {
    let said = stage.says(component);
    assert!(said.contains(text) && said.is_empty() == text.is_empty(), "{told}: {said:?}");
}

use crate::admin::Component;
use Answer::{Away, NoTable, Refuse, Take};
use Step::{
    Damage, Dead, Due, FailFile, FailMarks, FailRead, Give, GivePart, Idle, Marked, Pings, Says,
    SaysOfClickhouse, Sends, Stop, Turn, Waiting,
};

#[test]
fn blocks_are_marked_once_all_before_them_have_landed() {
    check(&[
        (0, Give(0, &[1, 2, 3, 4])),
        (0, Turn),
        (0, Sends(&[&[10, 11, 20, 21], &[30, 31, 40, 41]])),
        (0, Idle(false)),
        (5, Step::Answer(30, Take)),
        (5, Turn),
        (5, Marked(0, &[])),
        (9, Step::Answer(10, Take)),
        (9, Turn),
        (9, Marked(0, &[4])),
        (9, Idle(true)),
        (9, SaysOfClickhouse("")),
    ]);
}

#[test]
fn nothing_is_known_before_the_first_turn_and_at_rest_clickhouse_is_asked() {
    check(&[(0, Idle(false)), (0, Pings(false)), (0, Turn), (0, Idle(true)), (0, Pings(true))]);
    check(&[
        (0, Give(0, &[1])),
        (0, Stop),
        (0, Pings(false)),
        (1_000, Turn),
        (1_000, Pings(false)),
    ]);
}

#[test]
fn a_batch_that_is_not_full_lingers_and_a_stop_does_not() {
    check(&[(0, Give(0, &[1])), (0, Turn), (99, Turn), (99, Sends(&[])), (99, Due(100))]);
    check(&[(0, Give(0, &[1])), (0, Turn), (100, Turn), (100, Sends(&[&[10, 11]]))]);
    check(&[(0, Give(0, &[1])), (0, Turn), (1, Stop), (1, Sends(&[&[10, 11]]))]);
}

#[test]
fn what_waits_for_room_goes_as_soon_as_there_is_some() {
    check(&[
        (0, Give(0, &[1, 2, 3, 4, 5, 6, 7, 8, 9])),
        (0, Turn),
        (0, Sends(&[&[10, 11, 20, 21], &[30, 31, 40, 41]])),
        (0, Waiting(0, 3)),
        (1, Step::Answer(30, Take)),
        (1, Turn),
        (1, Sends(&[&[50, 51, 60, 61]])),
        (1, Waiting(0, 1)),
    ]);
}

#[test]
fn a_turn_is_short_and_says_that_there_is_more() {
    let roomy = BatchLimits { rows_max: 1_000, ..limits().batch };
    let mut stage = Stage::new(DirectLimits { batch: roomy, ..limits() }, 1, 1);
    (1..=40).for_each(|sequence| stage.give(0, sequence, 2, false));
    for left in [24, 8, 0] {
        assert_eq!(stage.turn(false), left > 0);
        assert_eq!(stage.world().sources[0].waiting.len(), left);
    }
}

#[test]
fn a_chain_whose_end_does_not_come_goes_alone_when_it_is_due() {
    check(&[
        (0, GivePart(0, 1)),
        (0, Turn),
        (1, Stop),
        (1, Sends(&[])),
        (1_001, Turn),
        (2_000, Stop),
        (2_000, Sends(&[&[10, 11]])),
    ]);
}

#[test]
fn the_same_goes_again_after_an_outage_and_its_rest() {
    check(&[
        (0, Give(0, &[1, 2])),
        (0, Turn),
        (0, Sends(&[&[10, 11, 20, 21]])),
        (7, Step::Answer(10, Away)),
        (7, SaysOfClickhouse("scripted")),
        (7, Turn),
        (400, Turn),
        (400, Sends(&[])),
        (1_007, Turn),
        (1_007, Sends(&[&[10, 11, 20, 21]])),
        (1_007, Marked(0, &[])),
        (1_008, Step::Answer(10, Take)),
        (1_008, Turn),
        (1_008, Marked(0, &[2])),
        (1_008, SaysOfClickhouse("")),
    ]);
}

/// Not only by the next INSERT, whose turn may come in half a minute.
#[test]
fn that_clickhouse_is_back_is_noticed_while_everything_rests() {
    let mut stage = Stage::new(limits(), 1, 1);
    stage.give(0, 1, 2, false);
    for ms in [0, 2_000, 5_000] {
        stage.at(ms);
        while stage.turn(true) {}
        stage.send();
        stage.answer(10, Away);
    }
    for ms in [5_950, 6_000] {
        stage.at(ms);
        stage.turn(false);
        assert_eq!((stage.send().len(), stage.says(Component::Clickhouse)), (0, "scripted".into()));
    }
    assert!(stage.forwarder.take_ping(), "it rests, and nobody knows");
    stage.forwarder.on_ping(Ok(()), stage.now);
    assert_eq!(stage.says(Component::Clickhouse), "");
}

#[test]
fn a_refused_row_is_in_the_file_before_its_block_is_marked() {
    check(&[
        (0, Give(0, &[1, 2])),
        (0, Turn),
        (0, Sends(&[&[10, 11, 20, 21]])),
        (0, Step::Answer(10, Refuse)),
        (0, Sends(&[&[10]])),
        (0, Step::Answer(10, Take)),
        (0, Sends(&[&[11]])),
        (0, Step::Answer(11, Refuse)),
        (0, Sends(&[&[20, 21]])),
        (0, Step::Answer(20, Take)),
        (0, Sends(&[&[11]])),
        (0, Step::Answer(11, Refuse)),
        (0, Dead(&[])),
        (0, Marked(0, &[])),
        (0, Turn),
        (0, Dead(&[11])),
        (0, Marked(0, &[2])),
        (0, Says("")),
    ]);
}

#[test]
fn a_file_that_cannot_be_written_holds_the_mark_and_is_tried_again() {
    check(&[
        (0, Give(0, &[1])),
        (0, FailFile(1)),
        (0, Stop),
        (0, Sends(&[&[10, 11]])),
        (0, Step::Answer(10, Refuse)),
        (0, Sends(&[&[10]])),
        (0, Step::Answer(10, Take)),
        (0, Sends(&[&[11]])),
        (0, Step::Answer(11, Refuse)),
        (0, Sends(&[&[11]])),
        (0, Step::Answer(11, Refuse)),
        (3, Turn),
        (3, Says("dead letters cannot be written")),
        (3, Marked(0, &[])),
        (3, Idle(false)),
        (900, Turn),
        (900, Marked(0, &[])),
        (1_003, Turn),
        (1_003, Dead(&[11])),
        (1_003, Marked(0, &[1])),
        (1_003, Says("")),
        (1_003, Idle(true)),
    ]);
}

#[test]
fn batches_that_wait_for_the_file_count_as_in_flight() {
    let refused = |row, next| [(0, Step::Answer(row, Refuse)), (0, Sends(next))];
    let mut steps = vec![(0, Give(0, &[1])), (0, Give(1, &[101])), (0, FailFile(9))];
    steps.extend([(0, Stop), (0, Sends(&[&[10, 11, 1_010, 1_011]]))]);
    steps.extend(refused(10, &[&[10]]));
    steps.extend([(0, Step::Answer(10, Take)), (0, Sends(&[&[11]]))]);
    steps.extend(refused(11, &[&[1_010, 1_011]]));
    steps.extend([(0, Step::Answer(1_010, Take)), (0, Sends(&[&[11]]))]);
    steps.extend([(0, Step::Answer(11, Refuse)), (0, Give(0, &[2, 3, 4, 5]))]);
    steps.extend([(0, Turn), (0, Sends(&[&[20, 21, 30, 31]])), (0, Marked(1, &[]))]);
    check(&steps);
}

#[test]
fn a_source_that_fails_rests_and_the_others_go_on() {
    check(&[
        (0, Give(0, &[1])),
        (0, Give(1, &[101])),
        (0, FailRead(0)),
        (5, Stop),
        (5, Sends(&[&[1_010, 1_011]])),
        (5, Idle(false)),
        (5, Step::Answer(1_010, Take)),
        (1_004, Stop),
        (1_004, Sends(&[])),
        (1_004, Idle(false)),
        (1_005, Stop),
        (1_005, Sends(&[&[10, 11]])),
    ]);
}

#[test]
fn a_source_that_is_out_is_told_of_and_never_idle() {
    check(&[
        (0, Damage(0)),
        (0, Give(1, &[101])),
        (0, Stop),
        (0, Sends(&[&[1_010, 1_011]])),
        (0, Step::Answer(1_010, Take)),
        (0, Turn),
        (0, Marked(1, &[101])),
        (0, Says("shard 0: scripted damage")),
        (90_000, Turn),
        (90_000, Idle(false)),
    ]);
}

#[test]
fn a_mark_that_failed_is_repeated() {
    check(&[
        (0, Give(0, &[1])),
        (0, FailMarks(0, 1)),
        (0, Stop),
        (0, Sends(&[&[10, 11]])),
        (4, Step::Answer(10, Take)),
        (4, Turn),
        (4, Marked(0, &[])),
        (4, Idle(false)),
        (1_003, Turn),
        (1_003, Marked(0, &[])),
        (1_004, Turn),
        (1_004, Marked(0, &[1])),
        (1_004, Idle(true)),
    ]);
}

#[test]
fn what_needs_a_hand_is_told_and_goes_when_it_was_given() {
    check(&[
        (0, Give(0, &[1])),
        (0, Stop),
        (0, Sends(&[&[10, 11]])),
        (0, Step::Answer(10, NoTable)),
        (0, Says("ClickHouse refuses events: scripted")),
        (0, SaysOfClickhouse("")),
        (1_000, Turn),
        (1_000, Sends(&[&[10, 11]])),
        (1_000, Step::Answer(10, Take)),
        (1_000, Says("")),
        (1_000, Turn),
        (1_000, Marked(0, &[1])),
    ]);
}

#[test]
fn a_stop_need_not_wait_for_a_clickhouse_that_is_away() {
    let mut stage = Stage::new(limits(), 1, 1);
    let deadline = stage.start + Duration::from_secs(60);
    stage.give(0, 1, 2, false);
    while stage.turn(true) {}
    for attempt in 1..=3 {
        assert!(!stage.forwarder.may_end(stage.now, deadline), "attempt {attempt}");
        assert_eq!(stage.send(), [[10, 11]], "attempt {attempt}");
        stage.answer(10, Away);
        stage.at(attempt * 10_000);
        stage.turn(true);
    }
    assert!(stage.forwarder.may_end(stage.now, deadline), "the breaker is open");
    let mut stage = Stage::new(limits(), 1, 1);
    stage.give(0, 1, 2, false);
    while stage.turn(true) {}
    assert!(stage.forwarder.may_end(deadline, deadline), "it is time");
    stage.send();
    stage.answer(10, Take);
    stage.turn(true);
    assert!(stage.forwarder.may_end(stage.now, deadline), "nothing is left");
}

#[test]
fn a_stop_need_not_wait_for_what_is_refused() {
    let mut stage = Stage::new(limits(), 1, 1);
    let deadline = stage.start + Duration::from_secs(60);
    let ends = |stage: &mut Stage| {
        while stage.turn(true) {}
        let sent = stage.send();
        (sent, stage.forwarder.may_end(stage.now, deadline))
    };
    (1..=2).for_each(|sequence| stage.give(0, sequence, 2, false));
    refuse_all(&mut stage);
    assert_eq!(ends(&mut stage), (vec![], true), "it rests, and nothing else is here");
    stage.at(10_000);
    assert_eq!(ends(&mut stage), (vec![vec![10, 11, 20, 21]], false), "it has another try");
    stage.answer(10, Away);
    assert_eq!(ends(&mut stage), (vec![], true), "refused before, and now nobody is there");
    stage.give(0, 3, 2, false);
    assert_eq!(ends(&mut stage), (vec![vec![30, 31]], false), "this one nobody has refused");
    stage.answer(30, Away);
    assert_eq!(ends(&mut stage), (vec![], false), "nor then");
    stage.at(20_000);
    assert_eq!(ends(&mut stage).0.len(), 2);
    stage.answer(30, Take);
    stage.answer(10, Refuse);
    while !stage.forwarder.is_idle() {
        assert!(!ends(&mut stage).1, "there is a witness: it finds its place");
        refuse_all(&mut stage);
        while stage.turn(true) {}
    }
    assert_eq!(stage.world().sources[0].marked, [3]);
}

#[test]
fn lost_blocks_at_the_end_of_a_journal_hold_nothing_up() {
    let mut stage = Stage::new(limits(), 1, 1);
    stage.give(0, 1, 2, false);
    while stage.turn(true) {}
    assert_eq!(stage.send(), [[10, 11]]);
    let lost = SourceError::Lost { first_sequence: 2, last_sequence: 5 };
    stage.world().sources[0].failing_read = Some(lost);
    while stage.turn(true) {}
    assert_eq!(stage.world().sources[0].marked, [0; 0], "1 is under way");
    stage.answer(10, Take);
    while stage.turn(true) {}
    assert_eq!(stage.world().sources[0].marked, [5]);
    assert!(stage.forwarder.is_idle());
}

#[test]
fn a_stop_need_not_wait_for_a_hand_or_for_a_journal_that_is_out() {
    let mut stage = Stage::new(limits(), 2, 1);
    let deadline = stage.start + Duration::from_secs(60);
    stage.fail_read(0, true);
    stage.give(1, 101, 2, false);
    while stage.turn(true) {}
    assert_eq!(stage.send(), [[1_010, 1_011]]);
    assert!(!stage.forwarder.may_end(stage.now, deadline), "it is under way");
    stage.answer(1_010, NoTable);
    while stage.turn(true) {}
    assert!(stage.forwarder.may_end(stage.now, deadline), "somebody must make the table first");
    stage.at(10_000);
    while stage.turn(true) {}
    stage.send();
    stage.answer(1_010, Take);
    stage.world().sources[1].failing_marks = 1;
    while stage.turn(true) {}
    assert!(!stage.forwarder.may_end(stage.now, deadline), "its journal is to be told");
    stage.at(11_000);
    while stage.turn(true) {}
    assert!(stage.forwarder.may_end(stage.now, deadline), "what is left cannot be read");
    assert!(!stage.forwarder.is_idle());
}

#[test]
fn a_stop_waits_for_the_file_of_dead_letters() {
    let mut stage = Stage::new(limits(), 1, 1);
    let deadline = stage.start + Duration::from_secs(60);
    stage.give(0, 1, 2, false);
    stage.world().failing_appends = 1;
    while stage.turn(true) {}
    for answer in [Refuse, Take, Refuse, Refuse] {
        stage.send();
        stage.answer_at(0, answer);
    }
    while stage.turn(true) {}
    assert!(!stage.forwarder.may_end(stage.now, deadline), "it may be written in a moment");
    stage.at(1_000);
    while stage.turn(true) {}
    assert!(stage.forwarder.may_end(stage.now, deadline));
    assert_eq!(stage.world().dead_rows(), [11]);
}

#[test]
fn an_outcome_that_comes_twice_counts_once() {
    let mut stage = Stage::new(limits(), 1, 1);
    stage.give(0, 1, 2, false);
    while stage.turn(true) {}
    let id = stage.send_one().expect("one goes").id;
    for _ in 0..2 {
        stage.forwarder.on_outcome(id, Ok(()), stage.now);
    }
    assert_eq!(stage.counters.rows.load(std::sync::atomic::Ordering::Relaxed), 2);
}

/// Refuses everything until nothing goes any more.
fn refuse_all(stage: &mut Stage) {
    loop {
        while stage.turn(false) {}
        stage.send();
        if stage.under_way.is_empty() {
            return;
        }
        while !stage.under_way.is_empty() {
            stage.answer_at(0, Refuse);
        }
    }
}

/// Found by the simulation: at little traffic two batches of bad rows alone held every slot, and the
/// good ones behind them, which would have been the witness, never went.
#[test]
fn batches_of_bad_rows_alone_hold_nothing_up() {
    let mut stage = Stage::new(limits(), 1, 1);
    (1..=4).for_each(|sequence| stage.give(0, sequence, 2, false));
    refuse_all(&mut stage);
    stage.give(0, 5, 2, false);
    stage.at(150);
    while stage.turn(false) {}
    stage.at(300);
    while stage.turn(false) {}
    assert_eq!(stage.send(), [[50, 51]], "one of its own kind may be the witness");
    stage.answer(50, Take);
    let deadline = stage.start + Duration::from_secs(60);
    while !stage.forwarder.is_idle() {
        refuse_all(&mut stage);
        let due = stage.forwarder.due();
        assert!(due < deadline, "it never ends");
        stage.now = stage.now.max(due);
    }
    let mut dead = stage.world().dead_rows();
    dead.sort_unstable();
    assert_eq!(dead, [10, 11, 20, 21, 30, 31, 40, 41]);
    assert_eq!(stage.world().sources[0].marked.last(), Some(&5));
    assert_eq!(stage.says(Component::Forwarder), "");
}

/// What is set aside is bounded: beyond that the sources wait, as nothing is taken at all.
#[test]
fn what_is_refused_whole_is_set_aside_up_to_a_bound() {
    let mut stage = Stage::new(limits(), 1, 1);
    (1..=400).for_each(|sequence| stage.give(0, sequence, 2, false));
    refuse_all(&mut stage);
    let taken = 400 - stage.world().sources[0].waiting.len();
    // Two blocks a batch: those aside, two on their way, one or two full ones behind them.
    assert!(taken <= 2 * (PARKED_BATCHES_MAX + 4), "{taken} blocks are held");
    assert!(stage.says(Component::Forwarder).contains("refuses"));
}
