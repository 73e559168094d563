use super::*;
use crate::samples;

const MIN: Duration = Duration::from_millis(100);
const OPEN_FOR: Duration = Duration::from_secs(1);

/// A delivery of one block of two rows.
fn delivery(sequence: u64) -> Delivery {
    Delivery::new(vec![samples::block(9, sequence, 0..2, false)])
}

/// Opens after three failures in a row.
fn dispatcher(deliveries: u64) -> Dispatcher {
    let backoff = Backoff { min: MIN, max: Duration::from_secs(10) };
    let mut dispatcher = Dispatcher::new(Breaker::new(3, OPEN_FOR), backoff, 1);
    for id in 1..=deliveries {
        dispatcher.add(id, delivery(id), Refusals::default());
    }
    dispatcher
}

fn failure(kind: InsertFailure) -> Result<(), Failure> {
    Err(Failure::new(kind, Pace::Busy, 1, "so it is"))
}

fn ids(dispatcher: &mut Dispatcher, now: Instant) -> Vec<u64> {
    std::iter::from_fn(|| dispatcher.next_insert(now)).map(|insert| insert.id).collect()
}

#[test]
fn of_one_delivery_one_insert_is_under_way() {
    let now = Instant::now();
    let mut dispatcher = dispatcher(3);
    assert_eq!(ids(&mut dispatcher, now), [1, 2, 3]);
    assert_eq!((dispatcher.in_flight(), dispatcher.rests(now)), (3, false));
    assert_eq!(dispatcher.due(), None, "only an outcome can help");
    assert_eq!(dispatcher.on_outcome(2, &Ok(()), now), Some(Progress::Finished(vec![])));
    assert_eq!((dispatcher.len(), dispatcher.in_flight()), (2, 2));
    assert_eq!(dispatcher.on_outcome(2, &Ok(()), now), None, "it is gone");
    dispatcher.add(4, delivery(4), Refusals::default());
    assert_eq!(ids(&mut dispatcher, now), [4]);
}

#[test]
fn the_same_is_sent_after_an_outage_and_its_rest() {
    let start = Instant::now();
    let mut dispatcher = dispatcher(1);
    let first = dispatcher.next_insert(start).unwrap();
    let progress = dispatcher.on_outcome(1, &failure(InsertFailure::Unknown), start);
    assert_eq!(progress, Some(Progress::Outage { times: 1 }));
    assert_eq!(dispatcher.next_insert(start), None);
    let due = dispatcher.due().unwrap();
    assert!(due >= start + MIN / 2 && due <= start + MIN);
    assert_eq!([start, due].map(|at| dispatcher.rests(at)), [true, false]);
    assert_eq!(dispatcher.next_insert(due), Some(first), "token and rows alike");
    let progress = dispatcher.on_outcome(1, &failure(InsertFailure::Retry), due);
    assert_eq!(progress, Some(Progress::Outage { times: 2 }));
    assert!(dispatcher.due().unwrap() >= due + MIN, "it doubles");
}

#[test]
fn an_open_breaker_lets_one_through_and_its_outcome_decides_for_all() {
    let start = Instant::now();
    let mut dispatcher = dispatcher(3);
    for id in ids(&mut dispatcher, start) {
        dispatcher.on_outcome(id, &failure(InsertFailure::Retry), start);
    }
    assert_eq!(dispatcher.breaker_state(), BreakerState::Open);
    assert_eq!(ids(&mut dispatcher, start + MIN), []);
    assert_eq!(dispatcher.due(), Some(start + OPEN_FOR));
    assert_eq!([start + MIN, start + OPEN_FOR].map(|at| dispatcher.rests(at)), [true, false]);
    let probe = ids(&mut dispatcher, start + OPEN_FOR);
    assert_eq!(probe.len(), 1);
    assert_eq!(ids(&mut dispatcher, start + OPEN_FOR), [], "one probe");
    assert!(dispatcher.due().unwrap() > start + OPEN_FOR);
    dispatcher.on_outcome(probe[0], &Ok(()), start + OPEN_FOR);
    assert_eq!(ids(&mut dispatcher, start + OPEN_FOR).len(), 2);
}

#[test]
fn a_probe_that_is_taken_back_has_failed() {
    let start = Instant::now();
    let mut dispatcher = dispatcher(3);
    for id in ids(&mut dispatcher, start) {
        dispatcher.on_outcome(id, &failure(InsertFailure::Retry), start);
    }
    let now = start + OPEN_FOR;
    let probe = ids(&mut dispatcher, now)[0];
    dispatcher.remove(probe, now);
    assert_eq!(dispatcher.breaker_state(), BreakerState::Open, "not half open for ever");
    assert_eq!(ids(&mut dispatcher, now + OPEN_FOR).len(), 1);
}

/// Refuses whatever is sent until a delivery has its outcome.
fn refuse(dispatcher: &mut Dispatcher, now: Instant) -> Progress {
    loop {
        let insert = dispatcher.next_insert(now).unwrap();
        let refusal = failure(InsertFailure::Refused);
        match dispatcher.on_outcome(insert.id, &refusal, now).unwrap() {
            Progress::Goes => {}
            progress => return progress,
        }
    }
}

#[test]
fn what_is_refused_whole_rests_until_something_is_taken() {
    let mut now = Instant::now();
    let mut dispatcher = dispatcher(1);
    assert_eq!(refuse(&mut dispatcher, now), Progress::Refused { times: 1 });
    assert_eq!(dispatcher.breaker_state(), BreakerState::Closed, "it answers");
    now = dispatcher.due().unwrap();
    // The same rows, come back; another's success since makes it their own matter.
    let back = dispatcher.take_back(1);
    assert_eq!(back.until, now);
    dispatcher.add(1, Delivery::new(back.blocks), back.refusals);
    dispatcher.add(2, delivery(2), Refusals::default());
    assert_eq!(dispatcher.next_insert(now).map(|insert| insert.id), Some(2));
    dispatcher.on_outcome(2, &Ok(()), now);
    let Progress::Finished(dead) = refuse(&mut dispatcher, now) else {
        panic!("there is a witness");
    };
    assert_eq!(dead.len(), 2);
}

#[test]
fn what_comes_back_is_counted_on_and_rests_longer() {
    let mut now = Instant::now();
    let mut dispatcher = dispatcher(1);
    for times in 1..=6 {
        assert_eq!(refuse(&mut dispatcher, now), Progress::Refused { times });
        let back = dispatcher.take_back(1);
        let rest = back.until - now;
        let full = MIN * (1 << (times - 1));
        assert!(rest >= full / 2 && rest <= full, "{rest:?} after {times}");
        now = back.until;
        dispatcher.add(1, Delivery::new(back.blocks), back.refusals);
    }
}

#[test]
fn it_is_stuck_while_all_rests_that_was_refused() {
    let now = Instant::now();
    let mut dispatcher = dispatcher(1);
    assert!(!dispatcher.is_stuck(now), "it may go");
    refuse(&mut dispatcher, now);
    let due = dispatcher.due().unwrap();
    assert_eq!([now, due].map(|at| dispatcher.is_stuck(at)), [true, false]);
    dispatcher.next_insert(due).unwrap();
    assert!(!dispatcher.is_stuck(due), "it is under way");
    dispatcher.on_outcome(1, &failure(InsertFailure::Retry), due);
    assert!(dispatcher.is_stuck(due), "away, and refused before");
    dispatcher.add(2, delivery(2), Refusals::default());
    dispatcher.next_insert(due).unwrap();
    dispatcher.on_outcome(2, &failure(InsertFailure::Retry), due);
    assert!(!dispatcher.is_stuck(due), "nobody has refused the other");
}

#[test]
fn it_is_not_stuck_once_there_is_a_witness() {
    let now = Instant::now();
    let mut dispatcher = dispatcher(1);
    refuse(&mut dispatcher, now);
    dispatcher.add(2, delivery(2), Refusals::default());
    assert_eq!(ids(&mut dispatcher, now), [2]);
    assert_eq!(dispatcher.on_outcome(2, &Ok(()), now), Some(Progress::Finished(vec![])));
    assert!(!dispatcher.is_stuck(now), "its rows are to blame, and find their place");
}

#[test]
fn what_needs_a_hand_is_told_and_tried_again() {
    let now = Instant::now();
    let mut dispatcher = dispatcher(1);
    dispatcher.next_insert(now).unwrap();
    let progress = dispatcher.on_outcome(1, &failure(InsertFailure::Schema), now);
    assert_eq!(progress, Some(Progress::NeedsHand { times: 1 }));
    assert!(dispatcher.is_stuck(now));
    assert_eq!(dispatcher.breaker_state(), BreakerState::Closed);
    assert!(dispatcher.next_insert(dispatcher.due().unwrap()).is_some());
}
