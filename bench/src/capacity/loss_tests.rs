//! Losses small enough to be checked by hand.

use super::*;

fn scene(lost_machines: usize) -> Scene {
    Scene {
        fleet: Fleet {
            machines: 6,
            cores_per_machine: 4,
            connections: 6_000,
            heavy_share: 0.0,
            heavy_ratio: 1.0,
        },
        policy: Policy::TwoChoices,
        lost_machines,
        // 10 µs each: 9.6 of 24 cores before, of 16 with two machines lost.
        requests_per_s: 960e3,
        request_us: 10.0,
        request_bytes: 270.0,
        depth: 1.0,
        horizon_s: 120.0,
        clients: Clients {
            notice_s: 1.0,
            detect_s: 6.0,
            backoff_min_s: 0.5,
            backoff_max_s: 30.0,
            answer_s: 0.005,
        },
        shard: Shard {
            connect_us: 50.0,
            refusal_us: 10.0,
            connections_max: 8192.0,
            accept_backlog: 4096.0,
            body_budget_bytes: 64e6,
            retry_after_s: 1.0,
        },
        seed: 3,
    }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * a.abs().max(b.abs())
}

#[test]
fn every_request_is_served_in_the_end_and_the_load_is_where_it_was() {
    for lost in [1, 2] {
        let scene = scene(lost);
        let outcome = simulate(&scene);
        let steady_s = outcome.steady_s.expect("there is room for all");
        assert!(steady_s > scene.clients.detect_s / 2.0 && steady_s < 60.0, "{steady_s}");
        // What clients held comes later, and what had no answer a second time.
        let served: f64 = outcome.goodput.iter().sum::<f64>() * WINDOW_S * scene.requests_per_s;
        let came = scene.requests_per_s * scene.horizon_s + outcome.sent_again;
        assert!(close(served, came), "{served} {came}");
        let [before, after]: [f64; 2] =
            [&outcome.loads_before, &outcome.loads_after].map(|loads| loads.iter().sum());
        assert!(close(before, 9.6) && close(after, 9.6), "{before} {after}");
        assert_eq!(outcome.loads_after.len(), 24 - lost * 4);
    }
}

#[test]
fn a_lost_zone_never_loads_less_than_a_lost_machine_and_that_never_less_than_none() {
    for seed in 0..5 {
        let of = |lost| simulate(&Scene { seed, ..scene(lost) });
        let (machine, zone) = (of(1), of(2));
        assert!(zone.busiest_after() >= machine.busiest_after());
        assert!(machine.busiest_after() >= machine.busiest_before() * 0.99);
        assert!(zone.peak_load >= zone.busiest_after());
        assert!(zone.goodput_least() <= machine.goodput_least());
        assert!(zone.connections_lost > machine.connections_lost);
        assert!(zone.refused_by_balancer > machine.refused_by_balancer);
        // Two of six machines carried a third of the load until the first clients came back.
        assert!((0.6..0.75).contains(&zone.goodput_least()), "{}", zone.goodput_least());
    }
}

#[test]
fn a_seed_says_all() {
    assert_eq!(simulate(&scene(2)), simulate(&scene(2)));
    assert_ne!(simulate(&scene(2)), simulate(&Scene { seed: 4, ..scene(2) }));
}

#[test]
fn nobody_is_refused_once_the_balancer_knows() {
    let mut knows_at_once = scene(2);
    knows_at_once.clients.detect_s = 0.0;
    let outcome = simulate(&knows_at_once);
    assert_eq!((outcome.refused_by_balancer, outcome.refused_by_shards), (0.0, 0.0));
    let later = simulate(&scene(2));
    assert!(later.refused_by_balancer > 0.0);
    assert!(later.refused_by_balancer_until_s < 6.0, "{}", later.refused_by_balancer_until_s);
    assert!(later.steady_s > outcome.steady_s);
}

#[test]
fn a_longer_backoff_spreads_the_return() {
    let of = |backoff_min_s| {
        let mut scene = scene(2);
        scene.clients = Clients { detect_s: 0.0, backoff_min_s, ..scene.clients };
        simulate(&scene)
    };
    let (short, long) = (of(0.1), of(8.0));
    // Everybody is back with the first attempt: noticed within 1 s, then within the backoff.
    assert!(short.steady_s > Some(0.9) && short.steady_s < Some(1.5), "{:?}", short.steady_s);
    assert!(long.steady_s > Some(7.5) && long.steady_s < Some(9.5), "{:?}", long.steady_s);
    assert!(long.held_s > short.held_s && long.goodput_back_s(0.99) > short.goodput_back_s(0.99));
}

#[test]
fn too_few_cores_never_come_to_rest() {
    // 9.6 busy cores on 8.
    let outcome = simulate(&scene(4));
    assert_eq!(outcome.steady_s, None);
    assert_eq!(outcome.goodput_back_s(0.99), None);
    assert!(outcome.busiest_after() > 1.0 && outcome.full_s > 60.0);
    assert!(outcome.goodput.last().expect("seconds") < &0.9);
}

#[test]
fn bodies_past_the_budget_are_refused_and_come_again() {
    let mut tight = scene(2);
    tight.shard.body_budget_bytes = 100.0 * tight.request_bytes;
    let outcome = simulate(&tight);
    assert!(outcome.refused_by_shards > 0.0);
    assert!(outcome.refused_by_shards_until_s > 0.0);
    assert!(outcome.steady_s.is_some(), "refused ones come back and are served");
    let served: f64 = outcome.goodput.iter().sum::<f64>() * WINDOW_S * tight.requests_per_s;
    assert!(close(served, tight.requests_per_s * tight.horizon_s + outcome.sent_again));
    // 100 requests of 10 µs.
    assert!(outcome.wait_ms <= 1.0 + 1e-9, "{}", outcome.wait_ms);
}

#[test]
fn a_shard_takes_no_more_connections_than_its_limit() {
    let mut full = scene(2);
    // 250 each before, 375 after.
    full.shard.connections_max = 300.0;
    let outcome = simulate(&full);
    assert!(outcome.not_accepted > 0);
    assert_eq!(outcome.steady_s, None);
}
