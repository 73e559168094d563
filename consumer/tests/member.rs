//! A member of the group between stand-ins: what is inserted, committed, put aside, and what stops it.

// In a test, a panic is the report.
#![allow(clippy::unwrap_used)]

mod member_stand_in;

use member_stand_in::{Reply, World, record, wait_until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

fn records(blocks: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    blocks.map(|block| record(block + 1, block * 10..block * 10 + 10)).collect()
}

#[test]
fn what_was_committed_is_not_read_again() {
    let world = World::start("events", 2, |_| Reply::Take);
    world.produce(0, &records(0..10));
    world.produce(1, &records(10..20));
    let member = world.member();
    wait_until("all is stored", || world.stored() == ((0..200).collect(), 1));
    // The stand-in has stored them a moment before the member hears of it.
    wait_until("it is well", || member.health.report().0);
    member.stop().unwrap();
    world.produce(0, &records(20..30));
    let member = world.member();
    wait_until("the rest is stored", || world.stored().0.len() == 300);
    // The stand-in has stored them a moment before its answer is counted.
    wait_until("it is counted", || member.metrics.rows.get() >= 100);
    assert_eq!(member.metrics.rows.get(), 100, "only what came since");
    assert_eq!(world.stored(), ((0..300).collect(), 1));
    member.stop().unwrap();
    let targets = &world.seen.lock().unwrap().targets;
    for part in ["async_insert=0", "max_insert_threads=1", "max_insert_block_size="] {
        assert!(targets.iter().all(|target| target.contains(part)), "{part} in every INSERT");
    }
}

#[test]
fn a_refused_row_and_a_strange_record_are_put_aside_and_the_others_inserted() {
    let refuse = |users: &[u64]| if users.contains(&57) { Reply::Refuse(469) } else { Reply::Take };
    let world = World::start("events", 1, refuse);
    let mut values = records(0..10);
    values.insert(5, b"no block".to_vec());
    world.produce(0, &values);
    let member = world.member();
    let others: Vec<u64> = (0..100).filter(|user| *user != 57).collect();
    wait_until("the others are stored", || world.stored() == (others.clone(), 1));
    wait_until("it is told", || {
        member.metrics.dead_rows.get() == 1 && member.metrics.dead_records.get() == 1
    });
    assert!(world.seen.lock().unwrap().dead_inserts >= 1, "in the table");
    wait_until("it is committed", || member.metrics.commits.get() > 0);
    member.stop().unwrap();
}

#[test]
fn nothing_is_committed_while_everything_is_refused() {
    let refusing = Arc::new(AtomicBool::new(true));
    let script = Arc::clone(&refusing);
    let world = World::start("events", 1, move |_| {
        if script.load(Ordering::Acquire) { Reply::Refuse(60) } else { Reply::Take }
    });
    world.produce(0, &records(0..5));
    let member = world.member();
    wait_until("it is stalled", || member.metrics.stalled.get() == 1);
    wait_until("it is told", || !member.health.report().0);
    assert_eq!((member.metrics.commits.get(), world.stored().1), (0, 0));
    refusing.store(false, Ordering::Release);
    wait_until("all is stored", || world.stored() == ((0..50).collect(), 1));
    wait_until("it is well again", || member.health.report().0);
    member.stop().unwrap();
}

#[test]
fn an_insert_without_an_answer_is_repeated_with_its_token() {
    let hangs = AtomicU32::new(1);
    let world = World::start("events", 1, move |_| {
        let hang =
            hangs.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        if hang.is_ok() { Reply::Hang } else { Reply::Take }
    });
    world.produce(0, &records(0..5));
    let member = world.member();
    wait_until("all is stored", || world.stored() == ((0..50).collect(), 1));
    member.stop().unwrap();
}

#[test]
fn a_stop_does_not_wait_for_a_clickhouse_that_hangs() {
    let world = World::start("events", 1, |_| Reply::Hang);
    world.produce(0, &records(0..5));
    let member = world.member();
    wait_until("an INSERT is under way", || member.metrics.inserts_in_flight.get() == 1);
    let started = std::time::Instant::now();
    member.stop().unwrap();
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
    assert_eq!(world.stored().1, 0);
}

#[test]
fn a_partition_that_was_paused_and_moved_is_read_when_it_comes_back() {
    let hanging = Arc::new(AtomicBool::new(true));
    let script = Arc::clone(&hanging);
    let world = World::start("events", 2, move |_| {
        if script.load(Ordering::Acquire) { Reply::Hang } else { Reply::Take }
    });
    world.produce(0, &records(0..40));
    world.produce(1, &records(40..80));
    let first = world.member_holding(16 * 1024);
    wait_until("both are paused", || first.metrics.paused_partitions.get() == 2);
    let second = world.member_holding(16 * 1024);
    wait_until("one moves while its INSERT hangs", || first.metrics.paused_partitions.get() == 1);
    wait_until("the other member has it", || second.metrics.inserts_in_flight.get() == 1);
    hanging.store(false, Ordering::Release);
    second.stop().unwrap();
    world.produce(0, &records(80..90));
    world.produce(1, &records(90..100));
    wait_until("all is stored", || world.stored() == ((0..1_000).collect(), 1));
    first.stop().unwrap();
}

#[test]
fn a_stop_answers_an_assignment_whose_positions_are_not_known() {
    // The best of three, as this machine may be busy.
    let took = (0..3).map(|_| {
        let world = World::start("events", 1, |_| Reply::Take);
        world.refuse_positions(1_000);
        let member = world.member();
        wait_until("it is assigned", || member.metrics.rebalances.get() == 1);
        let report = || String::from_utf8(member.health.report().1).unwrap();
        wait_until("its positions are refused", || report().contains("authorization"));
        let started = std::time::Instant::now();
        member.stop().unwrap();
        started.elapsed()
    });
    let took = took.min().unwrap();
    // Unanswered, the group is not left within 1.5 s.
    assert!(took < std::time::Duration::from_millis(1_400), "{took:?}");
}

#[test]
fn a_bad_row_that_came_alone_is_put_aside_once_good_ones_are_behind_it() {
    let refuse = |users: &[u64]| if users.contains(&0) { Reply::Refuse(469) } else { Reply::Take };
    let world = World::start("events", 1, refuse);
    world.produce(0, &[record(1, 0..1)]);
    let member = world.member();
    wait_until("it is stalled", || member.metrics.stalled.get() == 1);
    assert_eq!((member.metrics.commits.get(), member.metrics.dead_rows.get()), (0, 0));
    world.produce(0, &[record(2, 1..51)]);
    wait_until("the others are stored", || world.stored() == ((1..51).collect(), 1));
    wait_until("it is put aside", || member.metrics.dead_rows.get() == 1);
    wait_until("it is well again", || member.health.report().0);
    wait_until("it is committed", || member.metrics.commits.get() > 0);
    member.stop().unwrap();
}
