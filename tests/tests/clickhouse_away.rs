//! ClickHouse away: ingestion goes on, `/readyz` and a metric say so, and it drains later.

use tests::wait::{seconds, wait_equal, wait_for};
use tests::{Batch, Stack, StackOptions};

/// Fast enough to see failures, retries and the breaker within a test.
fn options() -> StackOptions {
    StackOptions::default()
        .set("clickhouse.timeout_ms=1000")
        .set("clickhouse.connect_timeout_ms=500")
        .set("clickhouse.retry_max_ms=500")
}

/// The components that `/readyz` names, and its status.
fn ailments(stack: &Stack) -> (u16, String) {
    let answer = stack.admin_get("/readyz");
    (answer.status, answer.text())
}

fn assert_known(stack: &Stack) {
    wait_for("/readyz names ClickHouse and stays 200", seconds(15), || {
        let (status, text) = ailments(stack);
        assert_eq!(status, 200, "{text}");
        (text.contains("clickhouse") || text.contains("forwarder")).then_some(())
    });
    wait_for("the failures are counted", seconds(15), || {
        (stack.metric("unmogrowp_forward_failures_total")? > 0.0).then_some(())
    });
}

fn assert_well_again(stack: &Stack) {
    wait_for("/readyz names nothing any more", seconds(15), || {
        let (status, text) = ailments(stack);
        (status == 200 && text.contains(r#""degraded":[]"#)).then_some(())
    });
}

#[test]
fn ingestion_goes_on_while_clickhouse_hangs() {
    let stack = Stack::start(options());
    let clickhouse = stack.clickhouse_process.as_ref().expect("ClickHouse runs");
    clickhouse.signal("STOP");
    stack.post_ok(&Batch::of(100, "hung", 10));
    assert_known(&stack);
    for _ in 0..9 {
        stack.post_ok(&Batch::of(100, "hung", 10));
    }
    clickhouse.signal("CONT");
    wait_equal("all of it is counted", seconds(30), 1_000, || stack.count("hung"));
    assert_well_again(&stack);
}

#[test]
fn ingestion_goes_on_while_clickhouse_is_dead() {
    let mut stack = Stack::start(options());
    stack.clickhouse_process.as_mut().expect("ClickHouse runs").kill_9();
    stack.post_ok(&Batch::of(100, "dead", 10));
    assert_known(&stack);
    for _ in 0..9 {
        stack.post_ok(&Batch::of(100, "dead", 10));
    }
    // A dashboard that asks meanwhile is told so, and not kept waiting for ever.
    let answer = stack.ask(&format!(
        "/api/v1/analytics/events/count?app_id={}&start_date={}&end_date={}",
        stack.app_id,
        tests::batch::day_plus(0),
        tests::batch::day_plus(0)
    ));
    assert!((500..600).contains(&answer.status), "{}: {}", answer.status, answer.text());
    stack.restart_clickhouse();
    wait_equal("all of it is counted", seconds(30), 1_000, || stack.count("dead"));
    assert_well_again(&stack);
}
