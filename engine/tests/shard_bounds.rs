//! Bounds of a shard: time, memory, pipelining, a journal that is full or silent. Each has its answer,
//! and costs nobody else anything.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod shard_bench;

use engine::connection::ConnectionId;
use shard_bench::{Bench, KEY, batch, event, gzipped, post, statuses};

#[test]
fn an_inflated_bomb_is_cut_off_in_slices() {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![b' '; 40 << 20]).unwrap();
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 100 << 10);

    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), |_| {});
    let id = bench.shard.on_accept().unwrap();
    bench.shard.on_bytes(id, &post("Content-Encoding: gzip\r\n", &bomb));
    assert!(bench.shard.has_work(), "inflation waits for its slices");
    bench.settle();
    assert_eq!(statuses(&bench.answers(id)), [413]);
    assert!(bench.half_closed.contains(&id));
}

/// Clients that announce much and send little cost nobody else the budget.
#[test]
fn announced_bodies_leave_room_for_short_ones() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), |config| {
        config.limits.body_budget_bytes = 64 << 20;
    });
    let head = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: h\r\nX-API-Key: {KEY}\r\nContent-Length: 16777216\r\n\r\n"
    );
    for _ in 0..100 {
        let greedy = bench.shard.on_accept().unwrap();
        bench.shard.on_bytes(greedy, head.as_bytes());
        bench.shard.on_bytes(greedy, b"{\"app_id\":");
    }
    let id = bench.shard.on_accept().unwrap();
    let plain = post("", batch(&[event("two_pieces", 1)]).as_bytes());
    let (first, second) = plain.split_at(plain.len() - 7);
    bench.shard.on_bytes(id, first);
    bench.shard.on_bytes(id, second);
    bench.shard.on_bytes(id, &gzipped());
    bench.settle();
    assert_eq!(statuses(&bench.answers(id)), [200, 200], "{}", bench.answers(id));

    // Now they do send: half of the long bodies' share each, so that the next long one finds none.
    let eager: Vec<ConnectionId> = (0..4).map(|_| bench.shard.on_accept().unwrap()).collect();
    for &id in &eager {
        bench.shard.on_bytes(id, head.as_bytes());
        bench.shard.on_bytes(id, &vec![b' '; 12 << 20]);
    }
    bench.perform();
    let refused = eager.iter().filter(|id| bench.answers(**id).contains("503")).count();
    assert!(refused > 0, "the budget is bounded");
    bench.shard.on_bytes(id, first);
    bench.shard.on_bytes(id, second);
    bench.shard.on_bytes(id, &gzipped());
    bench.settle();
    assert_eq!(statuses(&bench.answers(id)), [200; 4], "{}", bench.answers(id));
}

#[test]
fn slow_clients_are_told_and_idle_ones_are_closed() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), |_| {});
    let half_head = bench.shard.on_accept().unwrap();
    let half_body = bench.shard.on_accept().unwrap();
    let idle = bench.shard.on_accept().unwrap();
    bench.shard.on_bytes(half_head, b"POST /api/v1/events HT");
    let request = post("", batch(&[event("a", 100)]).as_bytes());
    bench.shard.on_bytes(half_body, &request[..request.len() - 10]);
    for _ in 0..2_000 {
        bench.advance(50_000);
        bench.shard.tick();
        bench.perform();
    }
    for (id, expected) in [(half_head, &[408][..]), (half_body, &[408]), (idle, &[])] {
        assert_eq!(statuses(&bench.answers(id)), expected);
        assert!(bench.closed.contains(&id), "{id:?} is closed");
    }
}

#[test]
fn a_journal_that_does_not_answer_ends_in_503() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), |_| {});
    let id = bench.shard.on_accept().unwrap();
    bench.shard.on_bytes(id, &post("", batch(&[event("a", 1)]).as_bytes()));
    let _never_done = bench.shard.next_write().unwrap();
    for _ in 0..400 {
        bench.advance(50_000);
        bench.shard.tick();
        bench.perform();
    }
    assert_eq!(statuses(&bench.answers(id)), [503]);
    assert!(bench.answers(id).contains("outcome is unknown"));
}

#[test]
fn a_full_journal_is_down_until_there_is_room_for_what_it_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::with_backlog(dir.path(), 1, 2 << 20, |_| {});
    let id = bench.shard.on_accept().unwrap();
    let events: Vec<String> = (0..10).map(|n| event(&format!("f{n}"), 40_000)).collect();
    let large = post("", batch(&events).as_bytes());
    let mut asked = 0;
    while !bench.answers(id).contains("503 Service Unavailable") {
        assert!(asked < 100, "two segments hold few such batches");
        asked += 1;
        bench.shard.on_bytes(id, &large);
        bench.settle();
    }
    assert!(bench.answers(id).contains("Retry-After: "), "{}", bench.answers(id));
    assert!(!bench.health.report().ready);

    // A small batch still fits; that does not make the shard ready for a large one.
    bench.shard.on_bytes(id, &post("", batch(&[event("small", 1)]).as_bytes()));
    bench.settle();
    bench.shard.tick();
    assert!(!bench.health.report().ready, "ready, and the next large batch would be refused");

    let stored = bench.stored();
    assert_eq!(stored.len(), (asked - 1) * 10 + 1);
    bench.feed.mark_forwarded(bench.journal_end()).unwrap();
    bench.feed.save_checkpoint().unwrap();
    bench.settle();
    bench.shard.tick();
    bench.settle();
    assert!(bench.health.report().ready, "{:?}", bench.health.report());
    bench.shard.on_bytes(id, &large);
    bench.settle();
    assert_eq!(statuses(&bench.answers(id)).last(), Some(&200));
}

#[test]
fn pipelining_is_bounded_until_answers_leave() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), |config| config.limits.pipeline_max = 4);
    let id = bench.shard.on_accept().unwrap();
    let one = post("", batch(&[event("p", 1)]).as_bytes());
    bench.shard.on_bytes(id, &one.repeat(20));
    assert_eq!(bench.shard.is_reading(id), Some(false), "a full connection is not read");
    bench.settle();
    assert_eq!(statuses(&bench.answers(id)), [200; 20]);
    assert_eq!(bench.stored().len(), 20);
    assert_eq!(bench.shard.is_reading(id), Some(true));
}

fn pass(bench: &mut Bench, us: u64) {
    for _ in 0..us / 50_000 {
        bench.advance(50_000);
        bench.shard.tick();
        bench.perform();
    }
}

#[test]
fn a_chunk_size_near_2_64_is_too_large_wherever_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), |_| {});
    let id = bench.shard.on_accept().unwrap();
    let request = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: h\r\nX-API-Key: {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\nffffffffffffffff\r\nx"
    );
    bench.shard.on_bytes(id, request.as_bytes());
    bench.settle();
    assert_eq!(statuses(&bench.answers(id)), [413]);
}

#[test]
fn behind_input_that_had_no_room_nothing_is_read_as_a_request() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), |config| config.limits.body_budget_bytes = 8 << 10);
    let id = bench.shard.on_accept().unwrap();
    let body = zstd::bulk::compress(batch(&[event("a", 1)]).as_bytes(), 3).unwrap();
    bench.shard.on_bytes(id, &post("Content-Encoding: zstd\r\n", &body));
    assert!(bench.shard.has_work());
    // What follows is longer than the budget; a driver may have more of it on its way.
    bench.shard.on_bytes(id, &[b'x'; 20 << 10]);
    bench.shard.on_bytes(id, b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    pass(&mut bench, 100_000);
    assert_eq!(bench.shard.is_reading(id), Some(false));
    bench.settle();
    assert!(statuses(&bench.answers(id)).len() <= 1, "{}", bench.answers(id));
    assert!(bench.closed.contains(&id));
}

#[test]
fn what_follows_a_closing_request_costs_neither_room_nor_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), |config| config.limits.body_budget_bytes = 8 << 10);
    let id = bench.shard.on_accept().unwrap();
    let request = post("Connection: close\r\n", batch(&[event("a", 1)]).as_bytes());
    bench.shard.on_bytes(id, &[request, vec![b'x'; 20 << 10]].concat());
    bench.settle();
    assert_eq!(statuses(&bench.answers(id)), [200]);
    assert!(bench.half_closed.contains(&id) && !bench.closed.contains(&id), "it lingers");
}

#[test]
fn a_slow_sync_outlives_the_draining_of_a_half_closed_client() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), |_| {});
    let (ended, broken) = (bench.shard.on_accept().unwrap(), bench.shard.on_accept().unwrap());
    let request = post("", batch(&[event("a", 1)]).as_bytes());
    bench.shard.on_bytes(ended, &request);
    bench.shard.on_input_end(ended);
    bench.shard.on_bytes(broken, &[request, b"\0 HTTP/1.1\r\n\r\n".to_vec()].concat());
    let write = bench.shard.next_write().unwrap();
    pass(&mut bench, 5_000_000);
    let result = write.write_blocking();
    bench.shard.on_write_done(write, result).unwrap();
    bench.settle();
    assert_eq!(statuses(&bench.answers(ended)), [200]);
    assert_eq!(statuses(&bench.answers(broken)), [200, 400]);
}

#[test]
fn the_time_of_an_upload_is_not_the_journals() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), |_| {});
    let long = (0..40).map(|n| event(&format!("l{n}"), 20_000)).collect::<Vec<_>>();
    for body in [batch(&[event("a", 60_000)]), batch(&long)] {
        let id = bench.shard.on_accept().unwrap();
        let request = post("", body.as_bytes());
        for piece in request.chunks(request.len().div_ceil(20)) {
            pass(&mut bench, 1_000_000);
            bench.shard.on_bytes(id, piece);
        }
        let write = bench.shard.next_write();
        pass(&mut bench, 2_000_000);
        assert_eq!(bench.answers(id), "", "the body has just arrived");
        if let Some(write) = write {
            let result = write.write_blocking();
            bench.shard.on_write_done(write, result).unwrap();
        }
        bench.settle();
        assert_eq!(statuses(&bench.answers(id)), [200]);
    }
}

#[test]
fn the_body_of_a_refused_request_may_take_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), |_| {});
    let id = bench.shard.on_accept().unwrap();
    bench
        .shard
        .on_bytes(id, b"POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n");
    for _ in 0..20 {
        bench.shard.on_bytes(id, &[b'x'; 5_000]);
        pass(&mut bench, 1_000_000);
    }
    bench.shard.on_bytes(id, b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    bench.settle();
    assert_eq!(statuses(&bench.answers(id)), [404, 200]);
}

#[test]
fn a_long_body_that_waits_for_the_journal_holds_no_other_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), |_| {});
    let (long, zipped) = (bench.shard.on_accept().unwrap(), bench.shard.on_accept().unwrap());
    let events: Vec<String> = (0..60).map(|n| event(&format!("l{n}"), 50_000)).collect();
    bench.shard.on_bytes(long, &post("", batch(&events).as_bytes()));
    let work = |bench: &mut Bench| {
        let mut turns = 0;
        while bench.shard.has_work() {
            bench.shard.turn();
            turns += 1;
            assert!(turns < 1_000, "work that cannot move is not tried for ever");
        }
    };
    work(&mut bench);
    // Nothing is written and no time passes: the long body cannot move.
    let names: Vec<String> = (0..900).map(|n| event(&format!("z{n}"), 0)).collect();
    let body = zstd::bulk::compress(batch(&names).as_bytes(), 1).unwrap();
    bench.shard.on_bytes(zipped, &post("Content-Encoding: zstd\r\n", &body));
    work(&mut bench);
    let write = bench.shard.next_write().expect("the inflated body is in the journal");
    let result = write.write_blocking();
    bench.shard.on_write_done(write, result).unwrap();
    bench.perform();
    assert_eq!(statuses(&bench.answers(zipped)), [200]);
    assert_eq!(bench.answers(long), "");
}

/// Found by the simulation: with three long bodies or more that all wait for the journal, the driver
/// never slept.
#[test]
fn long_bodies_that_all_wait_let_the_driver_sleep() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::with_segments(dir.path(), 3, |_| {});
    let events: Vec<String> = (0..60).map(|_| event("long", 30_000)).collect();
    let long = post("", batch(&events).as_bytes());
    let ids: Vec<ConnectionId> = (0..5).map(|_| bench.shard.on_accept().unwrap()).collect();
    for &id in &ids {
        bench.shard.on_bytes(id, &long);
    }
    // The keeper makes no segment for them meanwhile.
    let turns = (0..200).take_while(|_| {
        bench.shard.turn();
        bench.shard.has_work()
    });
    assert!(turns.count() < 200, "it turns for ever");
    bench.settle();
    assert!(ids.iter().all(|&id| statuses(&bench.answers(id)) == [200]));
}
