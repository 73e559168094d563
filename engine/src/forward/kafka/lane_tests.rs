use super::*;
use crate::forward::SourceError;
use crate::forward::kafka::Sign;
use proptest::prelude::*;
use stage::{
    BREAKER_FAILURES, DIRECT_AFTER_MS, IN_FLIGHT_MAX, LINGER, Mode, OPEN_FOR_MS, STALL_MS, Stage,
    failure, value,
};

#[path = "tests/lane_stage.rs"]
mod stage;

fn passing() -> Failure {
    failure(SendFailure::Retry, Sign::Failing)
}

fn refused() -> Failure {
    failure(SendFailure::Reject, Sign::Alive)
}

fn fatal() -> Failure {
    failure(SendFailure::Fatal, Sign::Failing)
}

/// A lane whose Kafka has long been silent: `blocks` blocks are handed on.
fn gone_direct(blocks: u64) -> Stage {
    let mut stage = Stage::new(&[blocks]);
    stage.set(Mode::Silent);
    stage.pass(STALL_MS + DIRECT_AFTER_MS);
    assert!(stage.is_direct());
    stage
}

#[test]
fn delivered_blocks_are_marked() {
    let mut stage = Stage::new(&[5, 3]);
    let turn = stage.pass(0);
    assert_eq!(stage.marks(), [5, 3]);
    assert!(turn.idle && !turn.more && !turn.ended);
    assert_eq!((stage.sent().len(), value(&stage.counters.records)), (8, 8));
    assert_eq!(stage.reason(), "");
    assert!(stage.watches.iter().all(|watch| watch.acks()), "a 200 may wait for Kafka");
}

#[test]
fn the_mark_waits_for_the_first_that_is_not_delivered() {
    let mut stage = Stage::new(&[3]);
    stage.set(Mode::Silent);
    assert!(!stage.pass(0).idle);
    stage.land((0, 2), Ok(()));
    stage.pass(0);
    assert_eq!(stage.marks(), [0]);
    stage.land((0, 1), Ok(()));
    stage.pass(0);
    assert_eq!(stage.marks(), [2]);
}

#[test]
fn what_failed_is_read_again_from_the_journal() {
    let mut stage = Stage::new(&[3]);
    stage.set(Mode::Silent);
    stage.pass(0);
    stage.land((0, 2), Err(failure(SendFailure::Config, Sign::Failing)));
    stage.pass(0);
    assert!(stage.reason().contains("topic events_of_test: scripted"), "{}", stage.reason());
    stage.land((0, 3), Err(failure(SendFailure::Unknown, Sign::Failing)));
    stage.pass(0);
    assert_eq!(stage.sent(), [1, 2, 3, 2, 3]);
    stage.land_all(Ok(()));
    assert!(stage.pass(0).idle);
    assert_eq!((stage.marks(), stage.reason()), (vec![3], String::new()));
    assert_eq!(stage.seeks(), 4, "there and back, twice");
}

#[test]
fn what_kafka_refuses_alone_too_goes_directly() {
    let mut stage = Stage::new(&[3]);
    stage.set(Mode::Silent);
    stage.world().unfit.insert((0, 2));
    stage.pass(0);
    stage.land_all(Err(refused()));
    stage.pass(0);
    assert_eq!(stage.sent(), [1, 2, 3, 1], "one that was refused in company goes alone");
    stage.set(Mode::Delivers);
    stage.land_all(Ok(()));
    stage.pass(0);
    assert_eq!(stage.sent(), [1, 2, 3, 1, 2, 3]);
    assert_eq!(stage.marks(), [1]);
    assert!(!stage.is_direct() && stage.watches[0].acks(), "Kafka is well");
    assert_eq!(stage.insert(), [(0, 2)]);
    assert!(stage.pass(0).idle);
    assert_eq!(stage.marks(), [3]);
}

#[test]
fn what_goes_alone_is_not_joined_by_what_comes_later() {
    let mut stage = Stage::new(&[1, 0]);
    stage.set(Mode::Silent);
    stage.pass(0);
    stage.land_all(Err(refused()));
    stage.pass(0);
    stage.add(1, 5);
    stage.pass(100);
    assert_eq!(stage.names_sent(), [(0, 1), (0, 1)]);
    stage.land_all(Ok(()));
    stage.pass(0);
    assert_eq!(stage.sent().len(), 7);
}

/// Kafka and the journal behind it go on; that nobody takes it is told.
#[test]
fn what_neither_takes_is_told_of() {
    let mut stage = Stage::new(&[3]);
    stage.world().unfit.insert((0, 1));
    stage.direct_takes(false);
    stage.pass(60_000);
    assert_eq!(stage.marks(), [0]);
    assert!(stage.reason().contains("Kafka refuses 1 blocks"), "{}", stage.reason());
    stage.direct_takes(true);
    stage.insert();
    assert!(stage.pass(100).idle);
    assert_eq!((stage.marks(), stage.reason()), (vec![3], String::new()));
}

#[test]
fn silence_opens_the_breaker_and_what_is_in_flight_closes_it() {
    let mut stage = Stage::new(&[1]);
    stage.set(Mode::Silent);
    stage.pass(STALL_MS - 1);
    assert_eq!((value(&stage.counters.breaker_state), stage.watches[0].acks()), (0, true));
    stage.pass(1);
    assert_eq!((value(&stage.counters.breaker_state), stage.watches[0].acks()), (2, false));
    assert!(stage.reason().contains("no acknowledgement within 2000 ms"), "{}", stage.reason());
    stage.add(0, 2);
    stage.pass(5 * OPEN_FOR_MS);
    assert_eq!(stage.sent(), [1], "nothing new goes");
    stage.set(Mode::Delivers);
    stage.land_all(Ok(()));
    assert!(stage.pass(0).idle);
    assert_eq!((stage.sent(), stage.marks()), (vec![1, 2, 3], vec![3]));
}

#[test]
fn failures_open_the_breaker_and_one_block_probes() {
    let mut stage = Stage::new(&[9]);
    stage.set(Mode::Silent);
    stage.pass(0);
    for sequence in 1..=u64::from(BREAKER_FAILURES) {
        stage.land((0, sequence), Err(passing()));
    }
    stage.pass(0);
    assert_eq!(value(&stage.counters.breaker_state), 2);
    stage.land_all(Err(passing()));
    stage.pass(OPEN_FOR_MS - 1);
    assert_eq!(stage.sent().len(), 9, "all once");
    stage.pass(1);
    assert_eq!(stage.sent().len(), 10, "and one more as the probe");
    assert_eq!(value(&stage.counters.breaker_state), 1);
    stage.set(Mode::Delivers);
    stage.land_all(Ok(()));
    assert!(stage.pass(0).idle);
    assert_eq!((stage.marks(), value(&stage.counters.breaker_state)), (vec![9], 0));
}

#[test]
fn kafka_long_away_is_gone_round_and_come_back_to() {
    let mut stage = Stage::new(&[3]);
    stage.set(Mode::Silent);
    stage.pass(STALL_MS + DIRECT_AFTER_MS - 1);
    assert!(!stage.is_direct());
    stage.pass(1);
    assert!(stage.is_direct());
    assert_eq!(stage.insert(), [(0, 1), (0, 2), (0, 3)]);
    stage.add(0, 1);
    stage.pass(60_000);
    assert_eq!(stage.sent(), [1, 2, 3], "no try before Kafka answers anything");
    assert_eq!(stage.insert(), [(0, 4)]);
    stage.pass(100);
    stage.status.on_answer();
    stage.add(0, 2);
    stage.pass(0);
    assert_eq!(stage.sent(), [1, 2, 3, 5], "one block tries");
    stage.pass(STALL_MS);
    assert_eq!(stage.insert(), [(0, 6), (0, 5)], "and is taken back");
    stage.pass(100);
    assert_eq!(stage.marks(), [6]);
    stage.set(Mode::Delivers);
    stage.status.on_answer();
    stage.pass(OPEN_FOR_MS);
    stage.add(0, 2);
    stage.pass(0);
    assert_eq!(stage.insert(), [(0, 8)], "not the one that tried");
    assert!(stage.pass(100).idle);
    assert_eq!((stage.is_direct(), stage.reason()), (false, String::new()));
    stage.add(0, 1);
    stage.pass(0);
    assert_eq!(stage.marks(), [9]);
    assert_eq!(stage.sent().last(), Some(&9));
}

/// Not only by the next block, which may come in an hour. Where Kafka answers and takes nothing, the
/// word of a block counts for longer than an answer's.
#[test]
fn that_kafka_is_back_is_noticed_without_a_block() {
    let mut stage = gone_direct(3);
    stage.insert();
    assert!(stage.pass(60_000).idle);
    assert!(stage.reason().contains("inserted directly"), "{}", stage.reason());
    stage.status.on_answer();
    stage.pass(100);
    assert_eq!((stage.reason().as_str(), stage.is_direct()), ("", true), "a block decides");
    stage.add(0, 1);
    stage.pass(STALL_MS - 1);
    assert_eq!((stage.sent(), stage.reason().as_str()), (vec![1, 2, 3, 4], ""), "it tries");
    stage.pass(1);
    assert!(stage.reason().contains("inserted directly"), "{}", stage.reason());
    stage.insert();
    stage.status.on_answer();
    stage.pass(DIRECT_AFTER_MS - 100);
    assert!(stage.reason().contains("inserted directly"), "{}", stage.reason());
    stage.pass(200);
    assert_eq!(stage.reason(), "");
    stage.set(Mode::Delivers);
    stage.add(0, 1);
    assert!(stage.pass(100).idle);
    assert_eq!((stage.marks(), stage.is_direct()), (vec![5], false));
}

#[test]
fn a_dead_sink_is_made_anew_and_what_it_had_is_sent_again() {
    let mut stage = Stage::new(&[3]);
    stage.set(Mode::Silent);
    stage.pass(0);
    stage.land((0, 2), Err(fatal()));
    stage.land((0, 1), Ok(()));
    stage.pass(999);
    assert_eq!((stage.made(), stage.sent()), (1, vec![1, 2, 3]));
    assert_eq!(stage.marks(), [1], "what the dead one delivered is delivered");
    assert!(!stage.watches[0].acks(), "nobody waits for what is not there");
    stage.set(Mode::Delivers);
    stage.pass(1);
    assert_eq!((stage.made(), stage.sent()), (2, vec![1, 2, 3, 2, 3]));
    assert!(stage.pass(100).idle);
    assert_eq!((stage.marks(), value(&stage.counters.producers_remade)), (vec![3], 1));
}

#[test]
fn a_sink_gathers_only_while_no_200_waits_for_it() {
    let mut stage = Stage::new(&[2]);
    stage.set(Mode::Silent);
    stage.pass(0);
    assert_eq!((stage.made(), stage.world().linger), (1, Duration::ZERO));
    stage.status.allow_acks(false);
    stage.add(0, 1);
    stage.pass(100);
    assert_eq!((stage.made(), stage.sent()), (1, vec![1, 2]), "what it has comes first");
    stage.land_all(Ok(()));
    stage.set(Mode::Delivers);
    assert!(stage.pass(200).idle);
    assert_eq!((stage.made(), stage.sent(), stage.marks()), (2, vec![1, 2, 3], vec![3]));
    assert_eq!(stage.world().linger, LINGER);
    stage.status.allow_acks(true);
    stage.pass(200);
    assert_eq!((stage.made(), stage.world().linger), (3, Duration::ZERO));
    assert_eq!(value(&stage.counters.producers_remade), 0, "none of them was dead");
}

#[test]
fn nothing_is_gathered_for_a_while_after_a_refusal() {
    let mut stage = Stage::new(&[0]);
    stage.status.allow_acks(false);
    stage.world().unfit.insert((0, 2));
    stage.add(0, 3);
    stage.pass(0);
    assert_eq!((stage.made(), stage.world().linger), (2, Duration::ZERO));
    stage.add(0, 1);
    stage.pass(59_000);
    assert_eq!((stage.made(), stage.marks()), (2, vec![1]), "the refused one waits for its INSERT");
    stage.pass(2_000);
    assert_eq!((stage.made(), stage.world().linger), (3, LINGER));
}

#[test]
fn a_sink_that_cannot_be_made_is_a_kafka_that_is_away() {
    let mut stage = Stage::new(&[3]);
    stage.world().unmakeable = Some("no such file");
    stage.pass(DIRECT_AFTER_MS - 1);
    assert!(stage.reason().contains("no such file"), "{}", stage.reason());
    assert!(!stage.is_direct());
    stage.pass(1);
    assert_eq!(stage.insert().len(), 3);
    stage.world().unmakeable = None;
    stage.status.on_answer();
    stage.add(0, 1);
    stage.pass(2 * OPEN_FOR_MS);
    stage.insert();
    stage.pass(100);
    assert_eq!((stage.marks(), stage.is_direct()), (vec![4], false));
}

#[test]
fn what_the_direct_route_stops_inserting_goes_through_kafka() {
    let mut stage = gone_direct(3);
    assert_eq!(stage.take_handed().len(), 3);
    stage.direct_takes(false);
    stage.set(Mode::Delivers);
    assert!(stage.pass(3 * OPEN_FOR_MS).idle);
    assert_eq!((stage.marks(), stage.is_direct()), (vec![3], false));
    stage.direct_takes(true);
    assert_eq!(stage.insert().len(), 3, "inserted late, which changes nothing");
    assert!(stage.pass(100).idle);
    assert_eq!(stage.marks(), [3]);
}

#[test]
fn what_is_with_both_is_done_with_the_first() {
    let mut stage = gone_direct(3);
    stage.take_handed();
    stage.direct_takes(false);
    stage.pass(OPEN_FOR_MS);
    assert_eq!(stage.sent(), [1, 2, 3, 1], "one of them tries");
    stage.direct_takes(true);
    stage.insert();
    stage.pass(0);
    assert_eq!(stage.marks(), [3]);
    stage.land_all(Err(passing()));
    assert!(stage.pass(60_000).idle);
    assert_eq!(stage.sent(), [1, 2, 3, 1]);
}

#[test]
fn a_full_queue_waits_for_a_report() {
    let mut stage = Stage::new(&[100]);
    stage.set(Mode::Silent);
    stage.pass(0);
    assert_eq!(stage.sent().len(), IN_FLIGHT_MAX, "the lane's own bound");
    stage.land((0, 1), Ok(()));
    stage.set(Mode::Refuses(Refusal::Full));
    stage.pass(500);
    stage.set(Mode::Delivers);
    stage.pass(500);
    assert_eq!(stage.sent().len(), IN_FLIGHT_MAX, "no report, no room");
    stage.land_all(Ok(()));
    assert!(stage.pass(0).idle);
    assert_eq!(stage.marks(), [100]);
}

/// What a dead one still held is no probe.
#[test]
fn a_sink_that_dies_while_the_breaker_is_open_leaves_the_probe_to_the_next() {
    let mut stage = Stage::new(&[3]);
    stage.direct_takes(false);
    stage.set(Mode::Silent);
    stage.pass(STALL_MS);
    stage.land((0, 2), Err(fatal()));
    stage.set(Mode::Delivers);
    assert!(stage.pass(OPEN_FOR_MS).idle);
    assert_eq!(stage.sent(), [1, 2, 3, 1, 2, 3]);
}

#[test]
fn a_sink_that_dies_without_a_report_is_made_anew() {
    let mut stage = Stage::new(&[3]);
    stage.set(Mode::Refuses(Refusal::Full));
    stage.pass(500);
    stage.set(Mode::Refuses(Refusal::Failed(fatal())));
    stage.pass(500);
    stage.set(Mode::Delivers);
    stage.pass(1_000);
    assert_eq!((stage.made(), stage.marks()), (2, vec![3]));
}

#[test]
fn a_journal_that_cannot_be_read_rests() {
    let mut stage = Stage::new(&[2, 2]);
    stage.fail_read(0, SourceError::Retry("scripted".to_owned()));
    stage.pass(999);
    assert_eq!(stage.marks(), [0, 2]);
    stage.pass(1);
    assert_eq!(stage.marks(), [2, 2]);
}

#[test]
fn lost_blocks_are_not_waited_for() {
    let mut stage = Stage::new(&[4]);
    stage.set(Mode::Silent);
    stage.pass(0);
    stage.land_all(Err(failure(SendFailure::Unknown, Sign::Nothing)));
    stage.fail_read(0, SourceError::Lost { first_sequence: 1, last_sequence: 2 });
    stage.set(Mode::Delivers);
    assert!(stage.pass(100).idle);
    assert_eq!((stage.sent(), stage.marks()), (vec![1, 2, 3, 4, 3, 4], vec![4]));
}

#[test]
fn a_stop_ends_when_all_has_arrived() {
    let mut stage = Stage::new(&[50]);
    stage.stop_within(5_000);
    let turn = stage.pass(0);
    assert!(turn.ended && turn.idle);
    assert_eq!(stage.marks(), [50]);
    assert!(!stage.watches[0].acks(), "nobody waits for a lane that has ended");
}

#[test]
fn a_stop_waits_for_a_slow_kafka_until_its_deadline() {
    let mut stage = Stage::new(&[1]);
    stage.set(Mode::Silent);
    stage.pass(0);
    stage.stop_within(STALL_MS - 1);
    assert!(!stage.pass(STALL_MS - 2).ended);
    let turn = stage.pass(1);
    assert!(turn.ended && !turn.idle);
}

#[test]
fn a_stop_does_not_wait_for_a_kafka_that_is_away() {
    let mut stage = Stage::new(&[1]);
    stage.set(Mode::Silent);
    stage.pass(0);
    stage.stop_within(60_000);
    assert!(!stage.pass(STALL_MS - 1).ended);
    let turn = stage.pass(1);
    assert!(turn.ended && !turn.idle);
}

#[test]
fn a_stop_waits_for_the_direct_route_while_that_takes() {
    let mut stage = gone_direct(3);
    stage.take_handed();
    stage.stop_within(60_000);
    assert!(!stage.pass(5_000).ended);
    stage.direct_takes(false);
    let turn = stage.pass(100);
    assert!(turn.ended && !turn.idle);
    let mut stage = gone_direct(3);
    stage.stop_within(60_000);
    stage.insert();
    assert!(stage.pass(100).idle);
}

#[test]
fn a_stop_does_not_wait_for_what_neither_takes() {
    let mut stage = Stage::new(&[3]);
    stage.world().unfit.insert((0, 2));
    stage.pass(0);
    assert_eq!(stage.marks(), [1]);
    stage.stop_within(60_000);
    assert!(!stage.pass(5_000).ended, "the direct route may take it");
    stage.direct_takes(false);
    stage.set(Mode::Silent);
    stage.add(0, 1);
    assert!(!stage.pass(100).ended, "Kafka may take the other");
    stage.land_all(Ok(()));
    let turn = stage.pass(100);
    assert!(turn.ended && !turn.idle, "nobody takes what is left");
}

#[test]
fn a_lane_that_is_abandoned_says_so() {
    let mut stage = Stage::new(&[1]);
    stage.pass(0);
    stage.lane.abandon("it ended");
    assert_eq!((stage.reason().as_str(), stage.watches[0].acks()), ("it ended", false));
}

/// What a world may do to a lane.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Pass(u16),
    Add(u8),
    Delivers,
    Silent,
    Fails(u8),
    Refuses(u8),
    LandAll(u8),
    Unfit(u8),
    DirectTakes(bool),
    Insert,
    Answer,
    Unmakeable(bool),
    Unreadable,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        6 => (0u16..3_000).prop_map(Deed::Pass),
        1 => Just(Deed::Pass(12_000)),
        4 => (1u8..60).prop_map(Deed::Add),
        3 => Just(Deed::Delivers),
        3 => Just(Deed::Silent),
        2 => any::<u8>().prop_map(Deed::Fails),
        1 => any::<u8>().prop_map(Deed::Refuses),
        4 => any::<u8>().prop_map(Deed::LandAll),
        1 => any::<u8>().prop_map(Deed::Unfit),
        3 => any::<bool>().prop_map(Deed::DirectTakes),
        3 => Just(Deed::Insert),
        2 => Just(Deed::Answer),
        1 => any::<bool>().prop_map(Deed::Unmakeable),
        1 => Just(Deed::Unreadable),
    ];
    proptest::collection::vec(deed, 1..80)
}

/// A failure of each sort that Kafka may tell of, or none. What a purge gave back comes of itself.
fn word(choice: u8) -> Result<(), Failure> {
    let misfit = failure(SendFailure::Reject, Sign::Nothing);
    let config = failure(SendFailure::Config, Sign::Failing);
    let unknown = failure(SendFailure::Unknown, Sign::Failing);
    let failures = [passing(), refused(), fatal(), misfit, config, unknown];
    failures.get(usize::from(choice) % 9).cloned().map_or(Ok(()), Err)
}

fn act(stage: &mut Stage, deed: Deed) {
    match deed {
        Deed::Pass(ms) => drop(stage.pass(u64::from(ms))),
        Deed::Add(count) => stage.add(usize::from(count) % 2, u64::from(count)),
        Deed::Delivers => stage.set(Mode::Delivers),
        Deed::Silent => stage.set(Mode::Silent),
        Deed::Fails(choice) => stage.set(word(choice).err().map_or(Mode::Silent, Mode::Fails)),
        Deed::Refuses(choice) => {
            let refusal = word(choice).err().map_or(Refusal::Full, Refusal::Failed);
            stage.set(Mode::Refuses(refusal));
        }
        Deed::LandAll(choice) => stage.land_all(word(choice)),
        Deed::Unfit(choice) => {
            let name = (usize::from(choice) % 2, u64::from(choice));
            stage.world().unfit.insert(name);
        }
        Deed::DirectTakes(takes) => stage.direct_takes(takes),
        Deed::Insert => drop(stage.insert()),
        Deed::Answer => stage.status.on_answer(),
        Deed::Unmakeable(unmakeable) => {
            stage.world().unmakeable = unmakeable.then_some("scripted");
        }
        Deed::Unreadable => stage.fail_read(0, SourceError::Retry("scripted".to_owned())),
    }
}

/// Everything is well again: a while later all has arrived.
fn recovers(stage: &mut Stage) {
    stage.set(Mode::Delivers);
    stage.land_all(Ok(()));
    stage.direct_takes(true);
    stage.world().unmakeable = None;
    for _ in 0..100 {
        stage.status.on_answer();
        let turn = stage.pass(500);
        stage.insert();
        if turn.idle && stage.marks() == stage.lasts() {
            return;
        }
    }
    panic!("of {:?} only {:?} arrived", stage.lasts(), stage.marks());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// The stage checks every mark: only what has arrived is marked.
    #[test]
    fn whatever_happens_nothing_is_lost_and_nothing_waits_for_ever(deeds in deeds()) {
        let mut stage = Stage::new(&[3, 1]);
        for deed in &deeds {
            act(&mut stage, *deed);
        }
        recovers(&mut stage);
        let run = (stage.names_sent(), stage.marks());
        let mut again = Stage::new(&[3, 1]);
        for deed in &deeds {
            act(&mut again, *deed);
        }
        recovers(&mut again);
        prop_assert_eq!(run, (again.names_sent(), again.marks()), "the same, twice");
    }
}
