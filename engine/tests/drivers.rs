//! One suite for every driver, over real sockets and a real journal: what a driver must do for the
//! shard, whatever it is built on.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::admin::Health;
use engine::config::Config;
use engine::driver::{self, Choice, Control, Exit, Seat};
use engine::journal::{Feed, Journal, JournalConfig, OpenedJournal};
use engine::keys::{KeyCache, KeySnapshot, Keys};
use engine::metrics::ShardCounters;
use engine::shard::{DeliveryWatch, Shard, ShardLimits};
use proto::row::Rows;
use sha2::{Digest, Sha256};

const APP: &str = "0190f0e0-7b1c-7c3e-8f00-000000000001";
const KEY: &str = "umg_test";
const DEADLINE: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    control: Arc<Control>,
    feed: Feed,
    /// Of the shard's thread, below /proc.
    task: PathBuf,
    thread: Option<JoinHandle<std::io::Result<Exit>>>,
    _journal: Journal,
    _dir: tempfile::TempDir,
}

fn start(choice: Choice, change: impl FnOnce(&mut Config)) -> Running {
    start_with(choice, change, |shard| shard)
}

fn start_with(
    choice: Choice,
    change: impl FnOnce(&mut Config),
    finish: impl FnOnce(Shard) -> Shard,
) -> Running {
    // As the engine does it: a table of registered files may be as long as the limit of open ones.
    driver::raise_file_limit().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    change(&mut config);
    let control = Control::new().unwrap();
    let wake = Arc::clone(&control);
    let journal_config = JournalConfig {
        segment_bytes: 8 << 20,
        segments_ahead: 4,
        waker: Some(Arc::new(move |_| wake.wake())),
        ..JournalConfig::default()
    };
    let journal = Journal::open(dir.path(), journal_config).unwrap();
    let OpenedJournal { appender, feed, .. } = journal.open_shard(0).unwrap();
    let keys = Keys::new();
    let hex: String = Sha256::digest(KEY).iter().map(|byte| format!("{byte:02x}")).collect();
    let snapshot = format!(
        r#"{{"version":1,"keys":[{{"sha256":"{hex}","app_id":"{APP}","scopes":["ingest"]}}]}}"#
    );
    keys.swap(KeySnapshot::parse(snapshot.as_bytes()).unwrap());
    let shard = Shard::new(
        0,
        ShardLimits::from(&config),
        config.cors.origins.clone().into(),
        appender,
        KeyCache::new(keys),
        Health::new(1),
        Arc::new(ShardCounters::default()),
    );
    let shard = finish(shard);
    let mut listeners = driver::bind_listeners("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let listener = listeners.pop().unwrap();
    let address = listener.local_addr().unwrap();
    let seat = Seat {
        shard,
        listener: Some(listener),
        control: Arc::clone(&control),
        writes_in_flight_max: 2,
        gather_us: config.server.gather_us,
        spin_us: config.server.spin_us,
        drain_deadline: Duration::from_secs(5),
        on_journal_failed: None,
    };
    let (started, has_started) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let task = std::fs::read_link("/proc/thread-self").unwrap();
        driver::run(choice, seat, |name| started.send((name, task)).unwrap())
    });
    let (name, task) = has_started.recv_timeout(DEADLINE).expect("the driver starts");
    assert_eq!(name, choice.name());
    Running { address, control, feed, task, thread: Some(thread), _journal: journal, _dir: dir }
}

impl Running {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    fn stop(&mut self) -> Exit {
        self.control.stop();
        self.thread.take().unwrap().join().unwrap().unwrap()
    }

    /// Of the shard's thread, since it began.
    fn cpu_time(&self) -> Duration {
        let text = std::fs::read_to_string(Path::new("/proc").join(&self.task).join("schedstat"));
        let text = text.expect("the kernel counts time on CPU");
        Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
    }

    fn stored_rows(&mut self) -> usize {
        let mut rows = 0;
        while let Some(block) = self.feed.next_block().unwrap() {
            rows += Rows::new(block.payload()).map(Result::unwrap).count();
        }
        rows
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.control.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn now() -> String {
    time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339).unwrap()
}

fn batch(count: usize, padding: usize) -> Vec<u8> {
    let now = now();
    let events: Vec<String> = (0..count)
        .map(|n| {
            format!(
                r#"{{"event_id":"0190f0e0-7b1c-7c3e-8f00-{:012x}","event_name":"e","user_id":"u","timestamp":"{now}","properties":{{"p":"{}"}}}}"#,
                n + 1,
                "x".repeat(padding)
            )
        })
        .collect();
    format!(r#"{{"app_id":"{APP}","events":[{}]}}"#, events.join(",")).into_bytes()
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

/// Reads one answer: its status and its body.
fn answer(stream: &mut TcpStream) -> (u16, String) {
    let mut bytes = Vec::new();
    let mut byte = [0; 1];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer's head");
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("an answer's body");
    (head[9..12].parse().unwrap(), String::from_utf8(body).unwrap())
}

/// Of a lone client that asks one after the other: how long each answer took, the shortest first.
fn waits(running: &Running) -> Vec<Duration> {
    let mut stream = running.connect();
    let mut waits: Vec<Duration> = (0..15)
        .map(|_| {
            let asked = Instant::now();
            stream.write_all(&post("", &batch(1, 1))).unwrap();
            assert_eq!(answer(&mut stream).0, 200);
            asked.elapsed()
        })
        .collect();
    waits.sort_unstable();
    waits
}

fn ends(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("a clean end");
    assert_eq!(rest, b"");
}

fn one_batch(choice: Choice) {
    let mut running = start(choice, |_| {});
    let mut stream = running.connect();
    stream.write_all(&post("", &batch(100, 100))).unwrap();
    let (status, body) = answer(&mut stream);
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(r#""events_received":100"#), "{body}");
    assert!(matches!(running.stop(), Exit::Drained));
    assert_eq!(running.stored_rows(), 100);
}

/// Whether the kernel can wait for several completions at once (Linux 6.12).
fn can_gather() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.trim().parse::<u32>());
    let mut number = || numbers.next().and_then(Result::ok).unwrap_or(0);
    (number(), number()) >= (6, 12)
}

/// A lone client waits for the company that does not come, but not until the next tick, 50 ms after the last.
fn waits_for_company_and_not_for_long(choice: Choice) {
    const GATHER_US: u64 = 8_000;
    let running = start(choice, |config| config.server.gather_us = GATHER_US as u32);
    let waits = waits(&running);
    let median = waits[waits.len() / 2];
    assert!(median < Duration::from_millis(45), "{waits:?}");
    if choice == Choice::Uring && can_gather() {
        assert!(median >= Duration::from_micros(GATHER_US), "{waits:?}");
    }
}

/// It is there at once for a while after an answer, and costs nothing later.
fn polls_for_a_while_and_then_sleeps(choice: Choice) {
    const SPIN: Duration = Duration::from_millis(400);
    let running = start(choice, |config| config.server.spin_us = SPIN.as_micros() as u32);
    let mut stream = running.connect();
    stream.write_all(&post("", &batch(1, 1))).unwrap();
    assert_eq!(answer(&mut stream).0, 200);
    let (answered, cpu) = (Instant::now(), running.cpu_time());
    if choice != Choice::Glommio {
        while running.cpu_time() - cpu < Duration::from_millis(20) {
            assert!(answered.elapsed() < SPIN, "it sleeps at once");
            std::thread::yield_now();
        }
    }
    let until = answered + DEADLINE;
    loop {
        let cpu = running.cpu_time();
        std::thread::sleep(Duration::from_millis(200));
        if running.cpu_time() - cpu < Duration::from_millis(20) {
            break;
        }
        assert!(Instant::now() < until, "it polls for ever");
    }
    stream.write_all(&post("", &batch(1, 1))).unwrap();
    assert_eq!(answer(&mut stream).0, 200);
}

/// A loop that sleeps past the deadline would answer with its next tick, 50 ms after the last. The
/// deadline is longer than a sync on a busy disk, whose end would wake the loop as well.
fn wakes_at_the_deadline_of_a_delivery(choice: Choice) {
    const DEADLINE_US: u64 = 25_000;
    let watch = Arc::new(DeliveryWatch::default());
    watch.set_acks(true);
    let running = start_with(choice, |_| {}, |shard| shard.wait_for_delivery(watch, DEADLINE_US));
    let waits = waits(&running);
    assert!(waits[0] >= Duration::from_micros(DEADLINE_US), "nobody has it yet: {waits:?}");
    // Without the wake every one of them takes the 50 ms to the next tick.
    assert!(waits[1] < Duration::from_millis(45), "{waits:?}");
}

fn a_delivery_wakes_it(choice: Choice) {
    let watch = Arc::new(DeliveryWatch::default());
    watch.set_acks(true);
    let other_end = Arc::clone(&watch);
    let mut running =
        start_with(choice, |_| {}, |shard| shard.wait_for_delivery(other_end, 5_000_000));
    let mut stream = running.connect();
    let mut waits = Vec::new();
    for _ in 0..20 {
        let asked = Instant::now();
        stream.write_all(&post("", &batch(1, 1))).unwrap();
        while !watch.is_awaited(u64::MAX) {
            assert!(asked.elapsed() < DEADLINE, "the shard never says that it waits");
            std::thread::yield_now();
        }
        let sequence = loop {
            if let Some(block) = running.feed.next_block().unwrap() {
                break block.header.id.sequence;
            }
            assert!(asked.elapsed() < DEADLINE, "the block never becomes durable");
        };
        running.feed.mark_forwarded(sequence).unwrap();
        // As a lane does. A shard that is just in its turn sees by itself that the block has arrived.
        let marked = Instant::now();
        let awaited = watch.is_awaited(sequence);
        if awaited {
            running.control.wake();
        }
        assert_eq!(answer(&mut stream).0, 200);
        waits.extend(awaited.then(|| marked.elapsed()));
    }
    waits.sort_unstable();
    // Without the wake almost all of them take the 50 ms to the next tick.
    let median = waits.get(waits.len() / 2).expect("some had to be woken");
    assert!(*median < Duration::from_millis(20), "{waits:?}");
}

fn every_byte_by_itself(choice: Choice) {
    let running = start(choice, |_| {});
    let mut stream = running.connect();
    stream.set_nodelay(true).unwrap();
    for byte in post("", &batch(1, 1)) {
        stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(answer(&mut stream).0, 200);
}

fn pipelined(choice: Choice) {
    let mut running = start(choice, |_| {});
    let mut stream = running.connect();
    let request = post("", &batch(10, 200));
    let mut reader = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        for _ in 0..200 {
            stream.write_all(&request).unwrap();
        }
        stream
    });
    for _ in 0..200 {
        assert_eq!(answer(&mut reader).0, 200);
    }
    drop(writer.join().unwrap());
    running.stop();
    assert_eq!(running.stored_rows(), 2_000);
}

fn the_longest_body(choice: Choice) {
    let mut running = start(choice, |_| {});
    let mut stream = running.connect();
    let body = batch(250, 64_000);
    assert!(body.len() > 15 << 20 && body.len() < 16 << 20, "{}", body.len());
    stream.write_all(&post("", &body)).unwrap();
    let (status, text) = answer(&mut stream);
    assert_eq!(status, 200, "{text}");
    running.stop();
    assert_eq!(running.stored_rows(), 250);
}

fn a_half_closed_client_gets_its_answer(choice: Choice) {
    let running = start(choice, |_| {});
    let mut stream = running.connect();
    stream.write_all(&post("", &batch(5, 5))).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answer(&mut stream).0, 200);
    ends(&mut stream);
}

fn an_early_answer_is_not_eaten_by_a_reset(choice: Choice) {
    let running = start(choice, |_| {});
    let mut stream = running.connect();
    let head = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: h\r\nX-API-Key: {KEY}\r\nContent-Length: 999999999\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // Much of the body is on its way when the answer is given.
    stream.write_all(&vec![b'x'; 4 << 20]).unwrap();
    assert_eq!(answer(&mut stream).0, 413);
    ends(&mut stream);
}

fn a_client_that_reads_nothing_harms_nobody(choice: Choice) {
    let running = start(choice, |_| {});
    let mut deaf = running.connect();
    deaf.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let request = post("", b"{").repeat(500);
    // Until the server stops reading, because its answers are not taken.
    let until = Instant::now() + DEADLINE;
    while deaf.write_all(&request).is_ok() {
        assert!(Instant::now() < until, "the server reads without end");
    }
    let mut other = running.connect();
    other.write_all(&post("", &batch(1, 1))).unwrap();
    assert_eq!(answer(&mut other).0, 200);
}

fn many_connections_come_and_go(choice: Choice) {
    let mut running = start(choice, |_| {});
    for _ in 0..20 {
        let mut streams: Vec<TcpStream> = (0..50).map(|_| running.connect()).collect();
        for stream in &mut streams {
            stream.write_all(&post("Connection: close\r\n", &batch(1, 1))).unwrap();
        }
        for stream in &mut streams {
            assert_eq!(answer(stream).0, 200);
            ends(stream);
        }
    }
    running.stop();
    assert_eq!(running.stored_rows(), 1_000);
}

fn a_stop_answers_what_was_asked(choice: Choice) {
    let mut running = start(choice, |_| {});
    let mut asked = running.connect();
    let request = post("", &batch(500, 300));
    asked.write_all(&request[..request.len() - 1]).unwrap();
    let idle = running.connect();
    let mut answered = running.connect();
    answered.write_all(&post("", &batch(1, 1))).unwrap();
    assert_eq!(answer(&mut answered).0, 200);
    running.control.stop();
    // The open body may still be finished; the others are closed.
    let mut idle = idle;
    ends(&mut idle);
    asked.write_all(&request[request.len() - 1..]).unwrap();
    assert_eq!(answer(&mut asked).0, 200);
    ends(&mut asked);
    assert!(matches!(running.stop(), Exit::Drained));
    assert_eq!(running.stored_rows(), 501);
    assert!(TcpStream::connect(running.address).is_err(), "the listener is closed");
}

fn a_full_shard_refuses_and_recovers(choice: Choice) {
    let running = start(choice, |config| config.limits.connections_max = 3);
    let mut streams: Vec<TcpStream> = (0..3).map(|_| running.connect()).collect();
    for stream in &mut streams {
        stream.write_all(&post("", &batch(1, 1))).unwrap();
        assert_eq!(answer(stream).0, 200);
    }
    let mut refused = running.connect();
    let mut rest = Vec::new();
    let _ = refused.read_to_end(&mut rest);
    assert_eq!(rest, b"", "a connection too many is closed");
    streams.pop();
    let until = Instant::now() + DEADLINE;
    loop {
        let mut next = running.connect();
        if next.write_all(&post("", &batch(1, 1))).is_ok() && {
            let mut first = [0; 12];
            next.read_exact(&mut first).is_ok() && &first == b"HTTP/1.1 200"
        } {
            return;
        }
        assert!(Instant::now() < until, "a place that was freed is given away again");
    }
}

macro_rules! for_every_driver {
    ($($property:ident),* $(,)?) => {
        mod epoll {
            $(#[test] fn $property() { super::$property(super::Choice::Epoll) })*
        }
        mod uring {
            $(#[test] fn $property() { super::$property(super::Choice::Uring) })*
        }
        #[cfg(feature = "glommio")]
        mod glommio {
            $(#[test] fn $property() { super::$property(super::Choice::Glommio) })*
        }
    };
}

for_every_driver!(
    one_batch,
    every_byte_by_itself,
    pipelined,
    the_longest_body,
    a_half_closed_client_gets_its_answer,
    an_early_answer_is_not_eaten_by_a_reset,
    a_client_that_reads_nothing_harms_nobody,
    many_connections_come_and_go,
    a_stop_answers_what_was_asked,
    a_full_shard_refuses_and_recovers,
    waits_for_company_and_not_for_long,
    polls_for_a_while_and_then_sleeps,
    wakes_at_the_deadline_of_a_delivery,
    a_delivery_wakes_it,
);
