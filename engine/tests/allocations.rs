//! What the hot path takes from the allocator, request by request, once it is warm: nothing, but for
//! bodies in pieces and compressed ones, whose few are counted.
//!
//! The shard is driven as a driver does it, but for the kernel: bytes in, journal writes carried out,
//! answers taken and given back. What is counted happens on this thread inside the shard and its
//! journal; the writing itself and the forwarder are elsewhere.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod counting_allocator;
mod shard_bench;

use counting_allocator::{Counting, Counts, counts};
use engine::connection::ConnectionId;
use engine::shard::Action;
use shard_bench::{Bench, KEY, batch, event, gzipped, post};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const WARM_UP_TURNS: usize = 40;
const TURNS: usize = 100;

/// What one receive of a driver holds.
const RECEIVE_BYTES: usize = 64 * 1024;

struct Driven {
    bench: Bench,
    clients: Vec<ConnectionId>,
    actions: Vec<Action>,
    writes: Vec<engine::journal::Write>,
    under_way: Vec<(ConnectionId, Vec<u8>)>,
    answered: usize,
    counted: Counts,
}

impl Driven {
    fn new(dir: &std::path::Path, clients: usize) -> Driven {
        // Nobody reads the feed here: without a tail every block is left to the disk, as when the
        // forwarder is behind. What the tail costs is counted by itself below.
        let mut bench = Bench::with_segments(dir, 4, |config| {
            config.limits.connections_max = clients.max(64);
        });
        let clients = (0..clients).map(|_| bench.shard.on_accept().unwrap()).collect();
        Driven {
            bench,
            clients,
            actions: Vec::with_capacity(4096),
            writes: Vec::with_capacity(16),
            under_way: Vec::with_capacity(4096),
            answered: 0,
            counted: Counts::default(),
        }
    }

    /// Runs a part of the shard's work and adds what it took.
    fn count<R>(&mut self, work: impl FnOnce(&mut Driven) -> R) -> R {
        let before = counts();
        let result = work(self);
        let after = counts();
        self.counted.allocations += after.allocations - before.allocations;
        self.counted.frees += after.frees - before.frees;
        result
    }

    /// Every client sends `input`; then all that follows from it is carried out.
    fn turn(&mut self, input: &[u8]) {
        self.bench.advance(50);
        self.count(|driven| {
            for at in 0..driven.clients.len() {
                for piece in input.chunks(RECEIVE_BYTES) {
                    driven.bench.shard.on_bytes(driven.clients[at], piece);
                }
            }
        });
        loop {
            // The keeper is a thread of its own in the engine.
            self.bench.journal.keep();
            self.count(|driven| {
                driven.bench.shard.turn();
                driven.writes.extend(std::iter::from_fn(|| driven.bench.shard.next_write()));
            });
            let has_moved = !self.writes.is_empty() || self.bench.shard.has_work();
            while let Some(write) = self.writes.pop() {
                let result = write.write_blocking();
                self.count(|driven| driven.bench.shard.on_write_done(write, result).unwrap());
            }
            // While the feed is not read the tail fills up; what was in it is let go here.
            while let Some(block) = self.bench.feed.next_block().unwrap() {
                drop(block);
            }
            self.count(Driven::send);
            if !has_moved {
                return;
            }
        }
    }

    fn send(&mut self) {
        loop {
            self.bench.shard.take_actions(&mut self.actions);
            if self.actions.is_empty() {
                break;
            }
            for action in self.actions.drain(..) {
                if let Action::Send(id) = action
                    && let Some(output) = self.bench.shard.take_output(id)
                {
                    self.under_way.push((id, output));
                }
            }
            // As with a ring: all answers of a turn are on their way before the first is out.
            while let Some((id, output)) = self.under_way.pop() {
                self.answered += output.windows(9).filter(|w| w == b"HTTP/1.1 ").count();
                self.bench.shard.on_sent(id, output);
            }
        }
    }
}

/// `clients` send `input`, which holds `requests` requests, again and again.
#[track_caller]
fn check(what: &str, clients: usize, input: &[u8], requests: usize, each_max: Counts) {
    let dir = tempfile::tempdir().unwrap();
    let mut driven = Driven::new(dir.path(), clients);
    for _ in 0..WARM_UP_TURNS {
        driven.turn(input);
    }
    driven.counted = Counts::default();
    driven.answered = 0;
    let blocks_before = driven.bench.journal_end();
    for _ in 0..TURNS {
        driven.turn(input);
    }
    let blocks = driven.bench.journal_end() - blocks_before;
    let all = TURNS * clients * requests;
    assert_eq!(driven.answered, all, "{what}: every request is answered");
    let Counts { allocations, frees } = driven.counted;
    println!("{what}: {allocations} allocations, {frees} frees, {all} requests, {blocks} blocks");
    // A block of up to 64 KiB is copied for the forwarder, which frees it on its own thread; one that
    // ends a segment (of 1 MiB here) makes the next one's entry.
    let most = |each: u64| each * all as u64;
    let (allocations_max, frees_max) =
        (most(each_max.allocations) + blocks + blocks / 8, most(each_max.frees) + blocks);
    assert!(allocations <= allocations_max, "{what}: {allocations} allocations in {all}");
    assert!(frees <= frees_max, "{what}: {frees} frees in {all}");
}

fn body(events: usize) -> Vec<u8> {
    let events: Vec<String> = (0..events).map(|n| event(&format!("e{n}"), 120)).collect();
    batch(&events).into_bytes()
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: h\r\nX-API-Key: {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    .into_bytes();
    for piece in body.chunks(8 * 1024) {
        request.extend(format!("{:x}\r\n", piece.len()).bytes());
        request.extend_from_slice(piece);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    request
}

const NONE: Counts = Counts { allocations: 0, frees: 0 };

#[test]
fn one_event_takes_nothing() {
    check("one event", 1, &post("", &body(1)), 1, NONE);
}
#[test]
fn one_event_of_many_clients_takes_nothing() {
    check("one event, 512 clients", 512, &post("", &body(1)), 1, NONE);
}
#[test]
fn a_pipeline_takes_nothing() {
    check("16 deep", 8, &post("", &body(1)).repeat(16), 16, NONE);
}
#[test]
fn a_batch_of_100_takes_nothing() {
    check("100 events", 4, &post("", &body(100)), 1, NONE);
}

/// A body that is not whole in one receive is put together in memory of its own, which doubles as it
/// arrives and is given back when it is stored: not nothing yet, and never more than this.
#[test]
fn a_body_in_pieces_takes_its_own_buffer() {
    let growing = Counts { allocations: 4, frees: 5 };
    check("1,000 events", 2, &post("", &body(1000)), 1, growing);
    check("chunked", 4, &chunked(&body(100)), 1, Counts { allocations: 1, frees: 1 });
}

#[test]
fn a_refused_request_takes_nothing() {
    check("refused body", 4, &post("", b"{\"app_id\":nonsense}"), 1, NONE);
    let unknown = b"POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabcde";
    check("refused path", 4, unknown, 1, NONE);
}
#[test]
fn a_compressed_body_takes_what_its_inflation_needs() {
    check("gzip", 2, &gzipped(), 1, Counts { allocations: 6, frees: 4 });
}
