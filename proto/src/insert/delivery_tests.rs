use super::*;
use crate::backoff::Pace;
use crate::insert::InsertFailure;
use crate::samples;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};

/// Blocks with this many rows each; row `n` of all has user `n`.
fn blocks(rows_per_block: &[usize]) -> Vec<Block> {
    let mut first = 0;
    let block = |(index, rows): (usize, &usize)| {
        let users = first..first + *rows as u64;
        first = users.end;
        samples::block(9, index as u64 + 1, users, false)
    };
    rows_per_block.iter().enumerate().map(block).collect()
}

fn refusal() -> Failure {
    Failure::new(InsertFailure::Refused, Pace::Slow, 33, "bad row")
}

fn users(payloads: &[Bytes]) -> Vec<usize> {
    let users = payloads.iter().flat_map(|payload| samples::users(payload));
    users.map(|user| user as usize).collect()
}

/// Runs a delivery against a ClickHouse that refuses any INSERT with a row of `bad`; gives the users
/// taken, the dead ones, and how it ended.
fn deliver(
    rows_per_block: &[usize],
    bad: &BTreeSet<usize>,
    witness: bool,
) -> (Vec<usize>, Vec<usize>, Step) {
    deliver_over_stalls(rows_per_block, bad, witness, 0)
}

/// The same, over so many rests.
fn deliver_over_stalls(
    rows_per_block: &[usize],
    bad: &BTreeSet<usize>,
    witness: bool,
    mut stalls: usize,
) -> (Vec<usize>, Vec<usize>, Step) {
    let mut delivery = Delivery::new(blocks(rows_per_block));
    let mut taken = Vec::new();
    let mut tokens: HashMap<String, Vec<usize>> = HashMap::new();
    loop {
        let piece = users(&delivery.payloads());
        assert_eq!(piece.len(), delivery.row_count());
        let known = tokens.entry(delivery.token()).or_insert_with(|| piece.clone());
        assert_eq!(*known, piece, "one token, one content");
        let step = if piece.iter().any(|user| bad.contains(user)) {
            delivery.on_refused(&refusal(), witness)
        } else {
            taken.extend(piece);
            delivery.on_taken()
        };
        if step == Step::Stalled && stalls > 0 {
            stalls -= 1;
            assert_eq!(delivery.row_count(), rows_per_block.iter().sum::<usize>(), "as it was");
        } else if step != Step::Send {
            let dead = delivery.into_dead_rows();
            let dead_bytes: Vec<Bytes> = dead.into_iter().map(|row| row.bytes).collect();
            return (taken, users(&dead_bytes), step);
        }
    }
}

#[test]
fn a_good_batch_goes_whole() {
    let (taken, dead, step) = deliver(&[3, 4], &BTreeSet::new(), false);
    assert_eq!((taken, dead, step), ((0..7).collect(), vec![], Step::Finished));
}

#[test]
fn one_bad_row_is_put_aside_and_the_others_are_taken() {
    let (mut taken, dead, step) = deliver(&[3, 4, 5], &BTreeSet::from([5]), false);
    taken.sort();
    let others: Vec<usize> = (0..12).filter(|user| *user != 5).collect();
    assert_eq!((taken, dead, step), (others, vec![5], Step::Finished));
}

#[test]
fn a_dead_row_names_its_block_and_its_place_in_it() {
    let mut delivery = Delivery::new(blocks(&[3, 4]));
    loop {
        let bad = users(&delivery.payloads()).contains(&5);
        let step = if bad { delivery.on_refused(&refusal(), false) } else { delivery.on_taken() };
        if step == Step::Finished {
            break;
        }
    }
    let dead = delivery.into_dead_rows();
    assert_eq!((dead[0].block.sequence, dead[0].row_index, dead[0].code), (2, 2, 33));
    assert_eq!(dead[0].reason, "bad row");
}

#[test]
fn a_batch_that_is_refused_whole_stalls_and_loses_nothing() {
    for rows in [&[1][..], &[2], &[3, 4], &[1000, 1000]] {
        let all = (0..rows.iter().sum()).collect();
        let (taken, dead, step) = deliver(rows, &all, false);
        assert_eq!((taken, dead, step), (vec![], vec![], Step::Stalled), "{rows:?}");
    }
}

#[test]
fn after_a_stall_the_same_batch_is_sent_with_the_same_token() {
    let mut delivery = Delivery::new(blocks(&[1, 1]));
    let (token, payloads) = (delivery.token(), delivery.payloads());
    let mut steps = 0;
    while delivery.on_refused(&refusal(), false) == Step::Send {
        steps += 1;
        assert!(steps < 10);
    }
    assert_eq!((delivery.token(), delivery.payloads()), (token, payloads));
    assert_eq!(delivery.on_taken(), Step::Finished);
}

#[test]
fn a_single_row_is_dead_only_with_a_witness() {
    let bad = BTreeSet::from([0]);
    assert_eq!(deliver(&[1], &bad, false), (vec![], vec![], Step::Stalled));
    assert_eq!(deliver(&[1], &bad, true), (vec![], vec![0], Step::Finished));
}

#[test]
fn a_row_that_is_taken_at_the_second_try_is_not_dead() {
    let mut delivery = Delivery::new(blocks(&[1, 1]));
    assert_eq!(delivery.on_refused(&refusal(), false), Step::Send);
    assert_eq!(delivery.on_refused(&refusal(), false), Step::Send, "the first row");
    assert_eq!(delivery.on_taken(), Step::Send, "the second row");
    assert_eq!(delivery.on_taken(), Step::Finished, "the first row again");
    assert_eq!(delivery.into_dead_rows(), []);
}

#[test]
fn a_block_that_is_not_rows_is_put_aside_whole() {
    let mut whole = blocks(&[1, 2]);
    let broken = Bytes::from_static(b"no rows");
    whole[1].payload = broken.clone();
    let mut delivery = Delivery::new(whole);
    loop {
        let bad = delivery.payloads().contains(&broken);
        let step = if bad { delivery.on_refused(&refusal(), false) } else { delivery.on_taken() };
        if step == Step::Finished {
            break;
        }
    }
    let dead = delivery.into_dead_rows();
    assert_eq!((dead.len(), &dead[0].bytes), (1, &broken));
}

#[track_caller]
fn check_bad(rows_per_block: &[usize], bad: impl Fn(usize) -> bool, stalls: usize) {
    let (bad, good): (Vec<usize>, Vec<usize>) =
        (0..rows_per_block.iter().sum()).partition(|user| bad(*user));
    let refused = bad.iter().copied().collect();
    let (mut taken, mut dead, step) = deliver_over_stalls(rows_per_block, &refused, false, stalls);
    taken.sort();
    dead.sort();
    let expected = if good.is_empty() { Step::Stalled } else { Step::Finished };
    let bad = if good.is_empty() { vec![] } else { bad };
    assert_eq!((step, taken, dead), (expected, good, bad), "{rows_per_block:?}");
}

#[test]
fn many_bad_rows_hold_no_good_one_back() {
    for blocks in [&[1_000][..], &[400, 600], &[7; 143]] {
        check_bad(blocks, |user| user < 60, 0);
        check_bad(blocks, |user| user % 2 == 1, 0);
        check_bad(blocks, |user| user % 2 == 0, 0);
        check_bad(blocks, |_| true, 3);
    }
}

#[test]
fn the_one_good_row_is_found_wherever_it_is() {
    for good in 0..200 {
        check_bad(&[90, 1, 109], |user| user != good, 5);
    }
}

#[test]
fn a_witness_from_outside_ends_the_scouting() {
    let mut delivery = Delivery::new(blocks(&[100, 100]));
    for _ in 0..10 {
        assert_eq!(delivery.on_refused(&refusal(), false), Step::Send);
    }
    assert_eq!(delivery.row_count(), 1, "a scout");
    assert_eq!(delivery.on_refused(&refusal(), true), Step::Send);
    assert_eq!(users(&delivery.payloads()), (0..100).collect::<Vec<_>>(), "the first half");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Every row ends in ClickHouse or among the dead, once, and only bad ones among the dead. Five
    /// rests are enough for each of 200 rows to have been a scout.
    #[test]
    fn every_row_ends_in_one_place(
        blocks in prop::collection::vec(1..26usize, 1..8),
        marks in prop::collection::vec(any::<bool>(), 200),
        all_but in prop::option::of(0..200usize),
    ) {
        check_bad(&blocks, |user| all_but.map_or(marks[user], |good| user != good), 5);
    }
}
