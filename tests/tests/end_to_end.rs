//! From a client's POST to the three answers, on both drivers.

use proto::limits::EVENTS_PER_BATCH_MAX;
use tests::batch::{day_plus, wait_out_midnight};
use tests::wait::{seconds, wait_equal};
use tests::{Batch, Driver, Event, Stack, StackOptions};

fn an_event_is_in_every_answer(driver: Driver) {
    let stack = Stack::start(StackOptions::default().driver(driver));
    wait_out_midnight();

    let properties = r#"{ "plan":"free", "n":1.50, "nested":{"b":[1, 2],"a":"\u00e9"} }"#;
    let user = "user/ä 1";
    let event = Event::new("signed_up", user).with(properties);
    stack.post_ok(&Batch::one(event.clone()));
    wait_equal("the event is counted", seconds(10), 1, || stack.count("signed_up"));
    assert_eq!(stack.dau(0, 0), [(day_plus(0), 1)]);
    assert_eq!(stack.dau(-2, -1), [(day_plus(-2), 0), (day_plus(-1), 0)]);

    let timeline = stack.timeline(&tests::answers::percent_encode(user));
    assert_eq!(timeline.len(), 1);
    assert_eq!(timeline[0]["event_id"], event.event_id.to_string());
    assert_eq!(timeline[0]["event_name"], "signed_up");
    let sent: serde_json::Value = serde_json::from_str(properties).expect("JSON");
    assert_eq!(timeline[0]["properties"], sent);

    // What is stored is the text that was sent, to the byte.
    let query = "SELECT properties FROM events FINAL WHERE event_name = 'signed_up' FORMAT TSVRaw";
    assert_eq!(stack.clickhouse(query, "").text().trim_end(), properties);

    let batch = Batch::of(EVENTS_PER_BATCH_MAX, "opened", 37);
    stack.post_ok(&batch);
    stack.post_ok(&batch);
    wait_equal("the batch is counted once", seconds(10), EVENTS_PER_BATCH_MAX as u64, || {
        stack.count("opened")
    });
    stack.post_ok(&Batch::one(Event::new("after", "user-0")));
    wait_equal("a later event is there, so the second copy was too", seconds(10), 1, || {
        stack.count("after")
    });
    assert_eq!(stack.count("opened"), EVENTS_PER_BATCH_MAX as u64);
    assert_eq!(stack.dau(0, 0), [(day_plus(0), 38)]);
}

#[test]
fn an_event_is_in_every_answer_with_epoll() {
    an_event_is_in_every_answer(Driver::Epoll);
}

#[test]
fn an_event_is_in_every_answer_with_uring() {
    an_event_is_in_every_answer(Driver::Uring);
}

#[test]
fn an_event_is_in_every_answer_with_glommio() {
    an_event_is_in_every_answer(Driver::Glommio);
}
