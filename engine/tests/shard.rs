//! The shard driven by hand: no socket, no thread, the journal's writes carried out when the test
//! says so. Answers must not depend on how the bytes were split, and no 200 may leave before the
//! sync of its block.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use engine::admin::{Component, Health, Level};
use engine::config::Config;
use engine::connection::ConnectionId;
use engine::journal::{Feed, Journal, JournalConfig, OpenedJournal, ShardStatus};
use engine::keys::{KeyCache, KeySnapshot, Keys};
use engine::metrics::ShardCounters;
use engine::shard::{Action, Now, Shard, ShardLimits};
use proptest::prelude::*;
use proto::row::Rows;

const APP: &str = "0190f0e0-7b1c-7c3e-8f00-000000000001";
const KEY: &str = "umg_test";
const NOW_MS: i64 = 1_763_800_000_000;

fn keys() -> Arc<Keys> {
    use sha2::{Digest, Sha256};
    let hex: String = Sha256::digest(KEY).iter().map(|byte| format!("{byte:02x}")).collect();
    let snapshot = format!(
        r#"{{"version":1,"keys":[{{"sha256":"{hex}","app_id":"{APP}","scopes":["ingest"]}}]}}"#
    );
    let keys = Keys::new();
    keys.swap(KeySnapshot::parse(snapshot.as_bytes()).unwrap());
    keys
}

struct Bench {
    journal: Journal,
    health: Arc<Health>,
    status: ShardStatus,
    shard: Shard,
    feed: Feed,
    now_us: u64,
    closed: Vec<ConnectionId>,
    half_closed: Vec<ConnectionId>,
    sent: Vec<(ConnectionId, Vec<u8>)>,
}

impl Bench {
    fn new(dir: &Path, change: impl FnOnce(&mut Config)) -> Bench {
        Bench::with_segments(dir, 1, change)
    }

    /// A chain needs segments for all of it before its first block is written.
    fn with_segments(dir: &Path, segments_ahead: usize, change: impl FnOnce(&mut Config)) -> Bench {
        Bench::with_backlog(dir, segments_ahead, 1 << 30, change)
    }

    fn with_backlog(
        dir: &Path,
        segments_ahead: usize,
        backlog_bytes_max: u64,
        change: impl FnOnce(&mut Config),
    ) -> Bench {
        let mut config = Config::default();
        change(&mut config);
        let journal_config = JournalConfig {
            segment_bytes: 1 << 20,
            segments_ahead,
            keeper_thread: false,
            backlog_bytes_max: Some(backlog_bytes_max),
            ..JournalConfig::default()
        };
        let journal = Journal::open(dir, journal_config).unwrap();
        let OpenedJournal { appender, feed, status, .. } = journal.open_shard(0).unwrap();
        journal.keep();
        let health = Health::new(1);
        health.set(Component::Shard(0), Level::Ok, "");
        let shard = Shard::new(
            0,
            ShardLimits::from(&config),
            config.cors.origins.clone().into(),
            appender,
            KeyCache::new(keys()),
            Arc::clone(&health),
            Arc::new(ShardCounters::default()),
        );
        let mut bench = Bench {
            journal,
            health,
            status,
            shard,
            feed,
            now_us: 1,
            closed: Vec::new(),
            half_closed: Vec::new(),
            sent: Vec::new(),
        };
        bench.advance(0);
        bench
    }

    fn advance(&mut self, us: u64) {
        self.now_us += us;
        let unix_ms = NOW_MS + (self.now_us / 1_000) as i64;
        self.shard.set_now(Now { monotonic_us: self.now_us, unix_ms });
    }

    /// Sends whatever the shard wants sent, without touching the journal.
    fn perform(&mut self) {
        let mut actions = Vec::new();
        loop {
            self.shard.take_actions(&mut actions);
            if actions.is_empty() {
                return;
            }
            for action in actions.drain(..) {
                match action {
                    Action::Send(id) => {
                        if let Some(output) = self.shard.take_output(id) {
                            self.sent.push((id, output.clone()));
                            self.shard.on_sent(id, output);
                        }
                    }
                    Action::Close(id) => self.closed.push(id),
                    Action::HalfClose(id) => self.half_closed.push(id),
                    Action::Read(..) => {}
                }
            }
        }
    }

    /// Carries out journal writes and slices of work until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.journal.keep();
            self.shard.turn();
            let mut moved = self.shard.has_work();
            while let Some(write) = self.shard.next_write() {
                let result = write.write_blocking();
                self.shard.on_write_done(write, result).unwrap();
                moved = true;
            }
            self.perform();
            if !moved {
                return;
            }
        }
        panic!("the shard never came to rest");
    }

    fn answers(&self, id: ConnectionId) -> String {
        let bytes: Vec<u8> =
            self.sent.iter().filter(|(to, _)| *to == id).flat_map(|(_, b)| b.clone()).collect();
        String::from_utf8(bytes).unwrap()
    }

    fn journal_end(&self) -> u64 {
        self.status.synced_through()
    }

    /// Event names of all that is durable, in order.
    fn stored(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(block) = self.feed.next_block().unwrap() {
            for row in Rows::new(block.payload()) {
                names.push(String::from_utf8(row.unwrap().event_name.to_vec()).unwrap());
            }
        }
        names
    }
}

fn event(name: &str, padding: usize) -> String {
    format!(
        r#"{{"event_id":"0190f0e0-7b1c-7c3e-8f00-00000000abcd","event_name":"{name}","user_id":"u","timestamp":"2025-11-22T08:00:00Z","properties":{{"p":"{}"}}}}"#,
        "x".repeat(padding)
    )
}

fn batch(events: &[String]) -> String {
    format!(r#"{{"app_id":"{APP}","events":[{}]}}"#, events.join(","))
}

fn post(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: h\r\nX-API-Key: {KEY}\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

fn statuses(answers: &str) -> Vec<u16> {
    answers
        .match_indices("HTTP/1.1 ")
        .map(|(at, _)| answers[at + 9..at + 12].parse().unwrap())
        .collect()
}

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

fn gzipped() -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(batch(&[event("zipped", 9)]).as_bytes()).unwrap();
    post("Content-Encoding: gzip\r\n", &encoder.finish().unwrap())
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

/// Lets time pass as a driver does: a tick every 50 ms.
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
