//! ClickHouse away: at the start, in between, and at the stop.

// In a test, a panic is the report.
#![allow(clippy::unwrap_used)]

mod rig;

use rig::{ClickHouse, Rig, demo, http, spawn_api, wait_for};
use tests::servers::ReservedPort;

#[test]
fn questions_get_503_while_clickhouse_is_away_and_answers_after() {
    let mut rig = Rig::start();
    rig.clickhouse.insert(&[rig.event("ann", "2026-02-10T10:00:00Z")]);
    assert_eq!(rig.count("2026-02-10", "2026-02-10", None), 1);
    rig.clickhouse.stop();
    let app_id = rig.app_id;
    let days = "start_date=2026-02-10&end_date=2026-02-10";
    for target in [
        format!("/api/v1/analytics/dau?app_id={app_id}&{days}"),
        format!("/api/v1/analytics/events/count?app_id={app_id}&{days}"),
        format!("/api/v1/users/ann/events?app_id={app_id}"),
    ] {
        let reply = rig.get(&target);
        assert_eq!((reply.status, &reply.json()["code"]), (503, &"UNAVAILABLE".into()));
        assert!(reply.headers["retry-after"].parse::<u32>().unwrap() >= 1);
    }
    wait_for("/readyz to notice", || (rig.get("/readyz").status == 503).then_some(()));
    assert_eq!(rig.get("/readyz").json()["dependencies"]["clickhouse"]["ok"], false);
    assert_eq!(rig.get("/healthz").status, 200, "the process itself is well");
    // Refusals that need no ClickHouse are the same as ever.
    assert_eq!(rig.get("/api/v1/analytics/dau").status, 400);

    rig.clickhouse.start_again();
    wait_for("/readyz to notice", || (rig.get("/readyz").status == 200).then_some(()));
    assert_eq!(rig.count("2026-02-10", "2026-02-10", None), 1);
}

#[test]
fn a_start_before_clickhouse_waits_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let key = demo(directory.path())["api_key"].as_str().unwrap().to_owned();
    let app_id = demo(directory.path())["app_id"].as_str().unwrap().to_owned();
    // A port of a ClickHouse that was there, for one that will be.
    let data = directory.path().join("clickhouse");
    let mut clickhouse = ClickHouse::start(&data);
    clickhouse.stop();
    let reserved = ReservedPort::take();
    let address = reserved.address().to_string();
    let (api, ready_file) = spawn_api(directory.path(), &clickhouse.url(), &address);
    let target =
        format!("/api/v1/analytics/dau?app_id={app_id}&start_date=2026-02-10&end_date=2026-02-10");
    let get = |target: &str| http(&address, "GET", target, &[("X-API-Key", &key)], b"").ok();
    let refused = wait_for("the API to listen", || get(&target));
    assert_eq!((refused.status, &refused.json()["code"]), (503, &"UNAVAILABLE".into()));
    let readiness = get("/readyz").unwrap();
    assert_eq!(readiness.status, 503);
    assert!(readiness.json()["dependencies"]["clickhouse"]["reason"].is_string());
    assert!(!ready_file.exists(), "it is not ready");

    clickhouse.start_again();
    wait_for("the ready file", || ready_file.exists().then_some(()));
    assert_eq!(get(&target).unwrap().status, 200);
    assert_eq!(api.terminate(), Some(0));
    assert!(!ready_file.exists(), "it is not ready any more");
}
