//! Redis dies and comes back: ingestion does not notice, and the live answer comes from ClickHouse
//! meanwhile.

use tests::wait::{seconds, wait_for};
use tests::{Path, Production};

fn live_source(production: &Production) -> String {
    let stack = &production.stack;
    let answer = stack.ask(&format!("/api/v1/analytics/live?app_id={}", stack.app_id));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["meta"]["source"].as_str().expect("meta.source").to_owned()
}

fn wait_source(production: &Production, source: &str) {
    wait_for(&format!("the live answer comes from {source}"), seconds(20), || {
        (live_source(production) == source).then_some(())
    });
}

#[test]
fn without_redis_the_live_answer_comes_from_clickhouse() {
    let path = Path { redis: true, ..Path::default() };
    let mut production = Production::start(path);
    let load = production.load("live");
    production.wait_flowing(&load);
    wait_source(&production, "redis");
    production.redis.as_mut().expect("the path has Redis").kill();
    wait_source(&production, "clickhouse");
    load.wait_batches(50);
    let redis = production.redis.as_mut().expect("the path has Redis");
    redis.start_again();
    redis.pause();
    wait_source(&production, "clickhouse");
    production.redis.as_mut().expect("the path has Redis").resume();
    wait_source(&production, "redis");
    production.assert_conserved(load);
}
