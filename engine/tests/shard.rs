//! Answers of a shard: they must not depend on how the bytes were split, and no 200 may leave before
//! the sync of its block.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod shard_bench;

use std::sync::LazyLock;

use proptest::prelude::*;
use shard_bench::{Bench, KEY, batch, event, gzipped, post, statuses};

#[test]
fn no_200_leaves_before_the_sync_of_its_block() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), |_| {});
    let id = bench.shard.on_accept().unwrap();
    bench.shard.on_bytes(id, &post("", batch(&[event("a", 1)]).as_bytes()));
    bench.perform();
    let write = bench.shard.next_write().expect("a batch is written at once");
    bench.perform();
    assert_eq!(bench.answers(id), "");
    let result = write.write_blocking();
    bench.shard.on_write_done(write, result).unwrap();
    bench.perform();
    assert_eq!(statuses(&bench.answers(id)), [200]);
    assert!(bench.answers(id).contains(r#""events_received":1"#), "{}", bench.answers(id));
    assert_eq!(bench.stored(), ["a"]);
}

#[test]
fn a_failed_sync_acknowledges_nothing_and_ends_every_connection() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), |_| {});
    let waiting = bench.shard.on_accept().unwrap();
    let idle = bench.shard.on_accept().unwrap();
    bench.shard.on_bytes(waiting, &post("", batch(&[event("a", 1)]).as_bytes()));
    let write = bench.shard.next_write().unwrap();
    let failed = bench.shard.on_write_done(write, Err(std::io::Error::from_raw_os_error(5)));
    assert!(failed.is_err());
    bench.perform();
    assert_eq!(statuses(&bench.answers(waiting)), [503]);
    assert!(bench.answers(waiting).contains("Connection: close"));
    assert!(bench.half_closed.contains(&waiting) && bench.half_closed.contains(&idle));
    assert!(bench.shard.on_accept().is_none(), "a failed shard takes nobody");
    assert!(bench.shard.next_write().is_none(), "and writes nothing");
}

#[test]
fn a_refused_batch_leaves_no_row_and_its_neighbours_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), |_| {});
    let id = bench.shard.on_accept().unwrap();
    let good = |name: &str| post("", batch(&[event(name, 3)]).as_bytes());
    let bad = post("", batch(&[event("lost", 1), event("", 1)]).as_bytes());
    bench.shard.on_bytes(id, &[good("one"), bad, good("two")].concat());
    bench.settle();
    let answers = bench.answers(id);
    assert_eq!(statuses(&answers), [200, 400, 200], "{answers}");
    assert!(answers.contains("events[1].event_name"), "{answers}");
    assert_eq!(bench.stored(), ["one", "two"]);
}

#[test]
fn a_batch_longer_than_a_block_is_stored_whole_while_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::with_segments(dir.path(), 8, |_| {});
    let (long, short) = (bench.shard.on_accept().unwrap(), bench.shard.on_accept().unwrap());
    let events: Vec<String> = (0..100).map(|n| event(&format!("l{n}"), 50_000)).collect();
    bench.shard.on_bytes(long, &post("", batch(&events).as_bytes()));
    bench.shard.on_bytes(short, &post("", batch(&[event("s", 1)]).as_bytes()));
    bench.settle();
    assert_eq!(statuses(&bench.answers(long)), [200], "{}", bench.answers(long));
    assert_eq!(statuses(&bench.answers(short)), [200]);
    let stored = bench.stored();
    assert_eq!(stored.len(), 101);
    let of_long: Vec<&String> = stored.iter().filter(|name| name.starts_with('l')).collect();
    assert_eq!(of_long.len(), 100);
    assert!(of_long.iter().enumerate().all(|(n, name)| **name == format!("l{n}")));
}

#[test]
fn a_long_refused_batch_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::with_segments(dir.path(), 8, |_| {});
    let id = bench.shard.on_accept().unwrap();
    let mut events: Vec<String> = (0..40).map(|n| event(&format!("l{n}"), 50_000)).collect();
    events.push(event(&"n".repeat(101), 1));
    let request = post("", batch(&events).as_bytes());
    bench.shard.on_bytes(id, &[request, post("", batch(&[event("after", 1)]).as_bytes())].concat());
    bench.settle();
    let answers = bench.answers(id);
    assert_eq!(statuses(&answers), [400, 200], "{answers}");
    assert!(answers.contains("events[40].event_name: longer than 100 characters"), "{answers}");
    assert_eq!(bench.stored(), ["after"]);
}

/// Requests of every kind that keeps the connection, and one that ends it.
fn conversation() -> Vec<u8> {
    let chunked = {
        let body = batch(&[event("chunked", 20)]);
        let (first, second) = body.split_at(37);
        format!(
            "POST /api/v1/events HTTP/1.1\r\nHost: h\r\nX-API-Key: {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n\
             {:x};name=\"value\"\r\n{first}\r\n{:X}\r\n{second}\r\n0\r\nTrailer: t\r\n\r\n",
            first.len(),
            second.len()
        )
    };
    let partial = String::from_utf8(post("", batch(&[event("kept", 1), event("", 1)]).as_bytes()))
        .unwrap()
        .replace("/events HTTP", "/events?partial=1 HTTP");
    [
        post("", batch(&[event("plain", 1)]).as_bytes()),
        chunked.into_bytes(),
        b"\r\nGET /healthz HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        gzipped(),
        b"POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabcde".to_vec(),
        partial.into_bytes(),
        post("", b"{\"app_id\":nonsense}"),
        post("Connection: close\r\n", batch(&[event("last", 1)]).as_bytes()),
        post("", batch(&[event("ignored", 1)]).as_bytes()),
    ]
    .concat()
}

fn converse(pieces: &[&[u8]]) -> (String, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), |_| {});
    let id = bench.shard.on_accept().unwrap();
    for piece in pieces {
        bench.shard.on_bytes(id, piece);
        bench.settle();
    }
    bench.shard.on_input_end(id);
    bench.settle();
    assert!(bench.closed.contains(&id));
    (bench.answers(id), bench.stored())
}

#[test]
fn a_conversation_in_one_piece() {
    let (answers, stored) = converse(&[&conversation()]);
    assert_eq!(statuses(&answers), [200, 200, 200, 200, 404, 200, 400, 200], "{answers}");
    assert_eq!(stored, ["plain", "chunked", "zipped", "kept", "last"]);
    assert!(answers.contains(r#""events_rejected":1"#), "{answers}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_the_bytes_gives_the_same_answers(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40)) {
        let whole = conversation();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len() + 1)).collect();
        cuts.extend([0, whole.len()]);
        cuts.sort();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &whole[pair[0]..pair[1]]).collect();
        static WHOLE: LazyLock<(String, Vec<String>)> = LazyLock::new(|| converse(&[&conversation()]));
        let expected = &*WHOLE;
        prop_assert_eq!(converse(&pieces), expected.clone());
    }
}

#[test]
fn no_answer_to_head_has_a_body() {
    for path in ["/nowhere", "/api/v1/events", "/healthz"] {
        let dir = tempfile::tempdir().unwrap();
        let mut bench = Bench::new(dir.path(), |_| {});
        let id = bench.shard.on_accept().unwrap();
        bench.shard.on_bytes(id, format!("HEAD {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        bench.settle();
        let answer = bench.answers(id);
        assert!(answer.ends_with("\r\n\r\n") && !answer.contains("{"), "{path}: {answer}");
        assert!(!answer.contains("Content-Length: 0"), "{path}: {answer}");
    }
}

#[test]
fn a_head_cut_short_behind_a_full_pipeline_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), |config| config.limits.pipeline_max = 1);
    let id = bench.shard.on_accept().unwrap();
    let request = post("", batch(&[event("a", 1)]).as_bytes());
    bench.shard.on_bytes(id, &[&request[..], &request[..20]].concat());
    bench.shard.on_input_end(id);
    bench.settle();
    assert_eq!(statuses(&bench.answers(id)), [200, 400], "{}", bench.answers(id));
    assert!(bench.closed.contains(&id));
}

#[test]
fn a_stop_does_not_reset_those_who_were_just_answered() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), |_| {});
    let (idle, asked) = (bench.shard.on_accept().unwrap(), bench.shard.on_accept().unwrap());
    let request = post("", batch(&[event("a", 1)]).as_bytes());
    bench.shard.on_bytes(asked, &request);
    bench.shard.begin_drain();
    bench.shard.on_bytes(asked, &request);
    bench.settle();
    assert!(bench.closed.contains(&idle));
    assert_eq!(statuses(&bench.answers(asked)), [200]);
    assert!(bench.half_closed.contains(&asked) && !bench.closed.contains(&asked), "it lingers");
    bench.shard.on_input_end(asked);
    bench.settle();
    assert!(bench.closed.contains(&asked) && bench.shard.is_drained());
}
