//! The production path's figures: events into Kafka, single-event requests, and the consumer against a
//! raw INSERT of the same bytes. Not a micro bench: real processes, the load generator beside them.
//!
//! Five rounds, the cases in turn within each, medians and spreads at the end. Ended by itself after
//! about five minutes; nothing else should run on the machine.

use std::time::{Duration, Instant};

use bench::cpu::{process_cpu_s, rss_peak_mib};
use bench::effort::{Effort, Runs};
use bench::load::{self, Report, Target};
use bench::record::Recorder;
use bench::servers::commit_of_engine;
use bytes::Bytes;
use consumer::warehouse::{Address, Inserter};
use proto::insert::{Delivery, Failure};
use proto::{Block, BlockHeader};
use tests::consumer::ConsumerOptions;
use tests::{Broker, Consumer, Stack, StackOptions};

/// Events for the consumer, sent before it starts.
const BACKLOG_EVENTS: u64 = 4_000_000;
const BLOCK_ROWS_OF_AN_INSERT: usize = 100_000;
const INSERTS_IN_FLIGHT: usize = 4;

fn main() {
    let Some(effort) = Effort::from_args() else { return };
    let mut recorder = Recorder::from_args("kafka");
    recorder.config(&format!(
        "one broker, 4 partitions, one replica, acks from the journal; engine on all cores; single \
         events over 160 connections, batches over 64; consumer against raw INSERTs of {BACKLOG_EVENTS} \
         events; events of 270 B; {}",
        effort.text()
    ));
    let mut runs = Runs::default();
    into_kafka(&mut recorder, &mut runs, effort);
    out_of_kafka(&mut runs, effort);
    runs.record(&mut recorder);
    recorder.finish();
}

/// Broker, engine and generator share the machine; nobody consumes.
fn into_kafka(recorder: &mut Recorder, runs: &mut Runs, effort: Effort) {
    let broker = Broker::start();
    broker.create_topic("events", 4, &[("max.message.bytes", "1048576")]);
    let mut options = StackOptions::engine_alone()
        .set(&format!("kafka.brokers={}", broker.address()))
        .set("kafka.partitions=4")
        .set("kafka.replication=1");
    options.cores = 0;
    let stack = Stack::start(options);
    recorder.measured(&commit_of_engine(&stack.admin));
    load::send(
        &Target::from(&stack),
        &["--batch", "100", "--connections", "64", "--duration", "2"],
    );
    for round in 1..=effort.rounds {
        eprintln!("into Kafka, round {round} of {}", effort.rounds);
        let seconds = effort.load_s.to_string();
        let batches = ["--batch", "100", "--connections", "64", "--duration", &seconds];
        let sent = delivered(&stack, &batches);
        runs.add("events_per_s_batch_100", "events/s", sent.events_per_s);
        runs.add("p99_ms_batch_100", "ms", sent.report.accepted_p99_ms_at_most());
        runs.add("error_share_batch_100", "ratio", sent.report.error_share());
        runs.add("engine_cpu_us_per_event_batch_100", "us", sent.cpu_us_per_event);
        let single = ["--batch", "1", "--connections", "160", "--duration", &seconds];
        let sent = delivered(&stack, &single);
        sent.report.expect_no_errors("single events");
        runs.add("requests_per_s_single", "requests/s", sent.report.requests_per_s());
        runs.add("p99_ms_single", "ms", sent.report.raw_ms("p99"));
        runs.add("engine_cpu_us_per_event_single", "us", sent.cpu_us_per_event);
        let paced =
            ["--batch", "1", "--connections", "160", "--duration", &seconds, "--rate", "40000"];
        let sent = delivered(&stack, &paced);
        sent.report.expect_no_errors("single events at 40 k/s");
        runs.add("requests_per_s_single_at_40k", "requests/s", sent.report.requests_per_s());
        runs.add("p99_ms_single_at_40k", "ms", sent.report.corrected_ms("p99"));
    }
}

struct Delivered {
    report: Report,
    /// Until Kafka had the last of them.
    events_per_s: f64,
    cpu_us_per_event: f64,
}

fn delivered(stack: &Stack, flags: &[&str]) -> Delivered {
    let target = Target::from(stack);
    let began = Instant::now();
    let pid = target.server_pid.expect("the engine runs");
    let cpu_before_s = process_cpu_s(pid);
    let report = load::send(&target, flags);
    let events = report.events();
    while stack.metric("unmogrowp_journal_backlog_blocks") != Some(0.0) {
        assert!(began.elapsed() < Duration::from_secs(120), "Kafka does not take the backlog");
        std::thread::sleep(Duration::from_millis(20));
    }
    Delivered {
        events_per_s: events / began.elapsed().as_secs_f64(),
        cpu_us_per_event: (process_cpu_s(pid) - cpu_before_s) * 1e6 / events,
        report,
    }
}

/// The same rows, by the consumer and by raw INSERTs, into the same empty table in turn.
fn out_of_kafka(runs: &mut Runs, effort: Effort) {
    let broker = Broker::start();
    broker.create_topic("events", 4, &[("max.message.bytes", "1048576")]);
    let mut options = StackOptions::default().set(&format!("kafka.brokers={}", broker.address()));
    options.cores = 0;
    let mut stack = Stack::start(options);
    let seconds = (BACKLOG_EVENTS / 250_000).to_string();
    let paced = ["--batch", "500", "--connections", "16", "--rate", "500", "--duration", &seconds];
    let sent = delivered(&stack, &paced);
    sent.report.expect_no_errors("the consumer's backlog");
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
    for round in 1..=effort.rounds {
        eprintln!("out of Kafka, round {round} of {}", effort.rounds);
        empty_table(&stack);
        let raw = raw_inserts(&stack, &blocks, rows);
        assert_eq!(stored_rows(&stack), rows);
        empty_table(&stack);
        let consumed = consume(&stack, &broker, round, rows);
        runs.add("events_per_s_raw_insert", "events/s", raw);
        runs.add("events_per_s_consumer", "events/s", consumed.rows_per_s);
        runs.add("consumer_share_of_raw_insert", "ratio", consumed.rows_per_s / raw);
        runs.add("cpu_us_per_event_consumer", "us", consumed.cpu_us_per_row);
        runs.add("rss_mib_consumer", "MiB", consumed.rss_mib);
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

struct Consumed {
    rows_per_s: f64,
    cpu_us_per_row: f64,
    /// At most.
    rss_mib: f64,
}

fn consume(stack: &Stack, broker: &Broker, round: usize, rows: u64) -> Consumed {
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
    while inserted(&consumer) < rows as f64 {
        assert!(Instant::now() < deadline, "the consumer does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    let pid = consumer.process.pid();
    let consumed = Consumed {
        rows_per_s: flow.rows_per_s(),
        cpu_us_per_row: process_cpu_s(pid) * 1e6 / rows as f64,
        rss_mib: rss_peak_mib(pid),
    };
    consumer.stop();
    consumed
}
