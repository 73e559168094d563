//! The production path's figures: events into Kafka, single-event requests, and the consumer against a
//! raw INSERT of the same bytes. Not a micro bench: real processes, the load generator beside them.
//!
//! Five rounds, the cases in turn within each, medians and spreads at the end. Ended by itself after
//! about five minutes; nothing else should run on the machine.

use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use consumer::warehouse::{Address, Inserter};
use proto::insert::{Delivery, Failure};
use proto::{Block, BlockHeader};
use serde_json::Value;
use tests::consumer::ConsumerOptions;
use tests::process::binary;
use tests::{Broker, Consumer, Stack, StackOptions};

const ROUNDS: usize = 5;
const LOAD_S: u32 = 6;
/// Events for the consumer, sent before it starts.
const BACKLOG_EVENTS: u64 = 4_000_000;
const BLOCK_ROWS_OF_AN_INSERT: usize = 100_000;
const INSERTS_IN_FLIGHT: usize = 4;

fn main() {
    // `cargo test --benches` runs benches with this flag to see that they start.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let mut table = Table::default();
    into_kafka(&mut table);
    out_of_kafka(&mut table);
    table.print();
}

/// Broker, engine and generator share the machine; nobody consumes.
fn into_kafka(table: &mut Table) {
    let broker = Broker::start();
    broker.create_topic("events", 4, &[("max.message.bytes", "1048576")]);
    let mut options = StackOptions::engine_alone()
        .set(&format!("kafka.brokers={}", broker.address()))
        .set("kafka.partitions=4")
        .set("kafka.replication=1");
    options.cores = 0;
    let stack = Stack::start(options);
    load(&stack, &["--batch", "100", "--connections", "64", "--duration", "2"]);
    for round in 1..=ROUNDS {
        eprintln!("into Kafka, round {round} of {ROUNDS}");
        let seconds = LOAD_S.to_string();
        let batches = ["--batch", "100", "--connections", "64", "--duration", &seconds];
        let (report, delivered_per_s) = delivered(&stack, &batches);
        table.add("batch 100: events/s acknowledged by Kafka", delivered_per_s);
        table.add("batch 100: p99, ms", p99_ms(&report, "latency_us"));
        table.add("batch 100: errors", number(&report, &["errors"]));
        let single = ["--batch", "1", "--connections", "160", "--duration", &seconds];
        let (report, _) = delivered(&stack, &single);
        table.add(
            "single: requests/s, as fast as answers come",
            number(&report, &["requests_per_s"]),
        );
        table.add("single: p99, ms", p99_ms(&report, "latency_us"));
        let paced =
            ["--batch", "1", "--connections", "160", "--duration", &seconds, "--rate", "40000"];
        let (report, _) = delivered(&stack, &paced);
        table.add("single at 40 k/s: requests/s", number(&report, &["requests_per_s"]));
        table.add(
            "single at 40 k/s: p99 from the intended time, ms",
            p99_ms(&report, "corrected_latency_us"),
        );
    }
}

/// Runs the load generator; gives its report, and events a second until Kafka had the last of them.
fn delivered(stack: &Stack, flags: &[&str]) -> (Value, f64) {
    let began = Instant::now();
    let report = load(stack, flags);
    let events = number(&report, &["events_per_s"]) * f64::from(LOAD_S);
    while stack.metric("unmogrowp_journal_backlog_blocks") != Some(0.0) {
        assert!(began.elapsed() < Duration::from_secs(120), "Kafka does not take the backlog");
        std::thread::sleep(Duration::from_millis(20));
    }
    (report, events / began.elapsed().as_secs_f64())
}

fn load(stack: &Stack, flags: &[&str]) -> Value {
    let json = stack.path("load.json");
    let output = Command::new(binary("unmogrowp-loadgen"))
        .args(["--url", &stack.ingest, "--app-id", &stack.app_id, "--api-key", &stack.api_key])
        .args(flags)
        .arg("--json")
        .arg(&json)
        .output()
        .expect("the load generator starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&std::fs::read(json).expect("a report")).expect("a report is JSON")
}

fn number(report: &Value, path: &[&str]) -> f64 {
    let found = path.iter().fold(report, |value, key| &value[*key]);
    found.as_f64().expect("a number in the report")
}

fn p99_ms(report: &Value, which: &str) -> f64 {
    number(report, &[which, "p99"]) / 1000.0
}

/// The same rows, by the consumer and by raw INSERTs, into the same empty table in turn.
fn out_of_kafka(table: &mut Table) {
    let broker = Broker::start();
    broker.create_topic("events", 4, &[("max.message.bytes", "1048576")]);
    let mut options = StackOptions::default().set(&format!("kafka.brokers={}", broker.address()));
    options.cores = 0;
    let mut stack = Stack::start(options);
    let seconds = (BACKLOG_EVENTS / 250_000).to_string();
    let paced = ["--batch", "500", "--connections", "16", "--rate", "500", "--duration", &seconds];
    let sent = delivered(&stack, &paced);
    assert_eq!(number(&sent.0, &["errors"]), 0.0);
    stack.engine_process = None;
    let records = broker.records("events");
    let mut blocks: Vec<Block> = Vec::with_capacity(records.len());
    for record in records {
        let value = Bytes::from(record.value);
        let (header, _) = BlockHeader::decode_block(&value).expect("the engine's own block");
        blocks.push(Block { header, payload: value.slice(proto::block::HEADER_BYTES..) });
    }
    let rows: u64 = blocks.iter().map(|block| u64::from(block.header.row_count)).sum();
    eprintln!("{rows} rows in {} records", blocks.len());
    for round in 1..=ROUNDS {
        eprintln!("out of Kafka, round {round} of {ROUNDS}");
        empty_table(&stack);
        let raw = raw_inserts(&stack, &blocks, rows);
        assert_eq!(stored_rows(&stack), rows);
        empty_table(&stack);
        let (consumed, rss_mib) = consume(&stack, &broker, round, rows);
        table.add("raw INSERT: rows/s", raw);
        table.add("consumer: rows/s", consumed);
        table.add("consumer: share of the raw rate, %", consumed / raw * 100.0);
        table.add("consumer: highest RSS, MiB", rss_mib);
    }
}

fn empty_table(stack: &Stack) {
    let answer = stack.clickhouse("", "TRUNCATE TABLE events");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn stored_rows(stack: &Stack) -> u64 {
    stack.clickhouse("", "SELECT count() FROM events").text().trim().parse().expect("a count")
}

fn raw_inserts(stack: &Stack, blocks: &[Block], rows: u64) -> f64 {
    let address = Address::parse(&stack.with_password(&stack.clickhouse)).expect("an address");
    let inserter = Inserter::new(&address, "unmogrowp", Duration::from_secs(60));
    let mut inserts: Vec<Vec<Block>> = vec![Vec::new()];
    let mut open_rows = 0;
    for block in blocks {
        let block_rows = block.header.row_count as usize;
        if open_rows + block_rows > BLOCK_ROWS_OF_AN_INSERT {
            inserts.push(Vec::new());
            open_rows = 0;
        }
        open_rows += block_rows;
        inserts.last_mut().expect("never empty").push(block.clone());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("tokio");
    let mut flow = Flow::new(rows);
    runtime.block_on(async {
        let mut running: tokio::task::JoinSet<Result<usize, Failure>> = tokio::task::JoinSet::new();
        let mut inserts = inserts.into_iter().enumerate();
        let mut done = 0;
        loop {
            while running.len() < INSERTS_IN_FLIGHT
                && let Some((index, insert)) = inserts.next()
            {
                let inserter = inserter.clone();
                running.spawn(async move {
                    let delivery = Delivery::new(insert);
                    let rows = delivery.row_count();
                    // The table was emptied, ClickHouse's memory of tokens was not.
                    let token = format!("raw-{index}-{:?}", Instant::now());
                    inserter.insert(delivery.payloads(), rows, &token).await.map(|()| rows)
                });
            }
            let Some(ended) = running.join_next().await else { break };
            done += ended.expect("no panic").expect("taken");
            flow.note(done as u64);
        }
    });
    flow.rows_per_s()
}

/// Rows in the table over time. The rate is taken between the first INSERT that ended and the one with
/// which nine tenths were there: what began before the first and what is still under way at the last
/// count for neither side, nor do the start of the group and the linger of the last ranges.
struct Flow {
    until: u64,
    first: Option<(u64, Instant)>,
    last: Option<(u64, Instant)>,
}

impl Flow {
    fn new(rows: u64) -> Flow {
        Flow { until: rows * 9 / 10, first: None, last: None }
    }

    fn note(&mut self, done: u64) {
        if done == 0 || self.is_over() || self.last.is_some_and(|(known, _)| known == done) {
            return;
        }
        self.last = Some((done, Instant::now()));
        self.first = self.first.or(self.last);
    }

    fn is_over(&self) -> bool {
        self.last.is_some_and(|(done, _)| done >= self.until)
    }

    fn rows_per_s(&self) -> f64 {
        let (first, last) = (self.first.expect("it began"), self.last.expect("it ended"));
        (last.0 - first.0) as f64 / (last.1 - first.1).as_secs_f64()
    }
}

/// Rows a second, and the process's highest memory.
fn consume(stack: &Stack, broker: &Broker, round: usize, rows: u64) -> (f64, f64) {
    let mut options = ConsumerOptions::of(&broker.address());
    options.group = format!("bench-{round}-{}", std::process::id());
    let mut consumer = Consumer::start(stack, &options.group.clone(), &options);
    let inserted =
        |consumer: &Consumer| consumer.metric("unmogrowp_consumer_rows_total").unwrap_or(0.0);
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut flow = Flow::new(rows);
    while !flow.is_over() {
        assert!(Instant::now() < deadline, "the consumer does not end: {:?} of {rows}", flow.last);
        std::thread::sleep(Duration::from_millis(10));
        flow.note(inserted(&consumer) as u64);
    }
    let rate = flow.rows_per_s();
    while inserted(&consumer) < rows as f64 {
        assert!(Instant::now() < deadline, "the consumer does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", consumer.process.pid()));
    let status = status.expect("the consumer runs");
    let highest = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    let kib: f64 = highest.trim().trim_end_matches(" kB").parse().expect("KiB");
    consumer.stop();
    (rate, kib / 1024.0)
}

/// Figures by name, in the order of their first appearance.
#[derive(Default)]
struct Table(Vec<(&'static str, Vec<f64>)>);

impl Table {
    fn add(&mut self, name: &'static str, value: f64) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => self.0.push((name, vec![value])),
        }
    }

    fn print(&mut self) {
        println!("{:<52} {:>12} {:>12} {:>12}", "", "median", "lowest", "highest");
        for (name, values) in &mut self.0 {
            values.sort_by(f64::total_cmp);
            let (lowest, highest) = (values[0], values[values.len() - 1]);
            let median = values[values.len() / 2];
            println!("{name:<52} {median:>12.1} {lowest:>12.1} {highest:>12.1}");
        }
    }
}
