//! One event, once, whenever and however often its copies come.

use tests::batch::{day_plus, wait_out_midnight};
use tests::wait::{seconds, wait_equal};
use tests::{Batch, Event, Stack, StackOptions};

/// A marker sent after the copies and seen in the answers means that the copies were inserted too:
/// one shard forwards in order.
fn settle(stack: &Stack, marker: &str) {
    stack.post_ok(&Batch::one(Event::new(marker, "marker")));
    wait_equal("the marker is counted", seconds(10), 1, || stack.count(marker));
}

#[test]
fn a_resent_batch_counts_once() {
    let stack = Stack::start(StackOptions::default());
    wait_out_midnight();
    let yesterday = format!("{}T23:59:59.999Z", day_plus(-1));
    let today = format!("{}T00:00:00.000Z", day_plus(0));
    let batch = Batch {
        events: vec![
            Event::new("visit", "night-owl").at(&yesterday),
            Event::new("visit", "night-owl").at(&today),
            Event::new("visit", "early-bird").at(&today),
        ],
    };
    for _ in 0..3 {
        stack.post_ok(&batch);
    }
    settle(&stack, "first");
    assert_eq!(stack.count("visit"), 3);
    // The marker's user is the third of today.
    assert_eq!(stack.dau(-1, 0), [(day_plus(-1), 1), (day_plus(0), 3)]);
    assert_eq!(stack.timeline("night-owl").len(), 2);
}

/// The first copy was received before midnight, the second after it: the clock can not be turned
/// back here, so the first copy is inserted as the forwarder would have done a day ago.
#[test]
fn a_copy_received_a_day_later_counts_once_and_the_first_one_wins() {
    let stack = Stack::start(StackOptions::default());
    wait_out_midnight();
    let sent_at = format!("{}T23:59:59.500Z", day_plus(-1));
    let event = Event::new("visit", "owl").at(&sent_at).with(r#"{"copy":"second"}"#);
    let row = format!(
        r#"{{"app_id":"{}","event_id":"{}","timestamp":"{} 23:59:59.500","received_at":"{} 23:59:59.900","event_name":"visit","user_id":"owl","properties":"{{\"copy\":\"first\"}}"}}"#,
        stack.app_id,
        event.event_id,
        day_plus(-1),
        day_plus(-1)
    );
    let insert =
        format!("INSERT INTO events ({}) FORMAT JSONEachRow", proto::names::EVENTS_COLUMNS);
    let answer = stack.clickhouse(&insert, &row);
    assert_eq!(answer.status, 200, "{}", answer.text());

    stack.post_ok(&Batch::one(event));
    settle(&stack, "second");
    assert_eq!(stack.count("visit"), 1);
    assert_eq!(stack.dau(-1, -1), [(day_plus(-1), 1)]);
    let timeline = stack.timeline("owl");
    assert_eq!(timeline.len(), 1, "{timeline:?}");
    assert_eq!(timeline[0]["properties"]["copy"], "first");
}

/// All copies are received within one turn of the engine's loop.
#[test]
fn of_copies_in_one_batch_and_in_one_breath_the_first_wins() {
    let stack = Stack::start(StackOptions::default());
    let event = Event::new("visit", "twin");
    let copy = |n: usize| event.clone().with(&format!(r#"{{"copy":{n}}}"#));
    let batch = |range: std::ops::Range<usize>| Batch { events: range.map(copy).collect() };
    let request = |range| {
        let body = batch(range).json(&stack.app_id);
        let (key, length) = (&stack.api_key, body.len());
        format!(
            "POST /api/v1/events HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let mut client = stack.client();
    client.send((request(1..4) + &request(4..7)).as_bytes());
    for _ in 0..2 {
        assert_eq!(client.receive().status, 200);
    }
    settle(&stack, "fourth");
    assert_eq!(stack.count("visit"), 1);
    let timeline = stack.timeline("twin");
    assert_eq!(timeline.len(), 1, "{timeline:?}");
    assert_eq!(timeline[0]["properties"]["copy"], 1);
    let answer = stack.clickhouse("SELECT properties FROM events FINAL WHERE user_id = 'twin'", "");
    assert_eq!(answer.text().trim(), r#"{"copy":1}"#);
}

#[test]
fn one_moment_written_in_two_offsets_is_one_event() {
    let stack = Stack::start(StackOptions::default());
    wait_out_midnight();
    let event = Event::new("visit", "traveller").at(&format!("{}T12:00:00.000Z", day_plus(-1)));
    let same = Event { timestamp: format!("{}T14:00:00+02:00", day_plus(-1)), ..event.clone() };
    stack.post_ok(&Batch::one(event));
    stack.post_ok(&Batch::one(same));
    settle(&stack, "third");
    assert_eq!(stack.count("visit"), 1);
}
