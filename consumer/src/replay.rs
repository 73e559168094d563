//! `replay`: reads a part of the topic again and INSERTs it again, with a run of its own in the tokens,
//! so that ClickHouse does not take it for what it had. Event ids make it one event.

use crate::cli::Replay;
use crate::dead::DeadTopic;
use crate::deliver::{Delivered, Deliverer};
use crate::desk::{Action, Desk, Intake};
use crate::health::Health;
use crate::kafka::{Kafka, names};
use crate::metrics::Metrics;
use crate::partition::RangeId;
use crate::reader::{Scan, Scanned};
use crate::record::Record;
use crate::serve::{deliverer, desk_limits};
use anyhow::Context as _;
use crossbeam_channel::{Receiver, Sender};
use rdkafka::consumer::Consumer;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

const PROGRESS_EVERY: Duration = Duration::from_secs(2);
const POLL_MAX: Duration = Duration::from_millis(50);

pub async fn run(options: Replay) -> anyhow::Result<()> {
    let kafka = Kafka::new(&options.kafka.brokers, &options.kafka.property)?;
    let (health, metrics) = (Arc::new(Health::starting()), Arc::new(Metrics::new()));
    let dead_topic = DeadTopic::new(&kafka, &options.dead_topic)?;
    let deliverer = deliverer(&options.warehouse, dead_topic, &health, &metrics)?;
    let mut run = [0; 16];
    getrandom::fill(&mut run).context("no random number for the run")?;
    let runtime = Handle::current();
    let replaying = tokio::task::spawn_blocking(move || {
        let (from, to) = (&options.from, options.to.as_ref());
        let scan = Scan::start(&kafka, &options.kafka.topic, Some(from), to, false)?;
        let (report, done) = crossbeam_channel::unbounded();
        let desk = Desk::new(desk_limits(&options.range));
        let mut replay = Running::new(scan, desk, deliverer, run, runtime, report, done);
        replay.work(&health)
    });
    replaying.await.context("the replay ended by a panic")?
}

#[derive(Default)]
struct Totals {
    records: u64,
    bytes: u64,
    rows: u64,
    dead_rows: u64,
    dead_records: u64,
}

struct Running {
    scan: Scan,
    desk: Desk,
    deliverer: Arc<Deliverer>,
    run: [u8; 16],
    runtime: Handle,
    report: Sender<(RangeId, Delivered)>,
    done: Receiver<(RangeId, Delivered)>,
    totals: Totals,
    started: Instant,
}

impl Running {
    fn new(
        scan: Scan,
        mut desk: Desk,
        deliverer: Arc<Deliverer>,
        run: [u8; 16],
        runtime: Handle,
        report: Sender<(RangeId, Delivered)>,
        done: Receiver<(RangeId, Delivered)>,
    ) -> Running {
        scan.spans.iter().for_each(|(partition, span)| desk.assign(*partition, span.from));
        let (totals, started) = (Totals::default(), Instant::now());
        Running { scan, desk, deliverer, run, runtime, report, done, totals, started }
    }

    fn work(&mut self, health: &Health) -> anyhow::Result<()> {
        let spans: Vec<_> = self.scan.spans.iter().collect();
        let _ = writeln!(std::io::stderr(), "replay {}: {spans:?}", hex(&self.run));
        let mut next_line = Instant::now() + PROGRESS_EVERY;
        let mut at_end = false;
        while !at_end || self.desk.held_bytes() > 0 {
            while let Ok((id, outcome)) = self.done.try_recv() {
                self.on_done(id, outcome);
            }
            self.act();
            if Instant::now() >= next_line {
                next_line += PROGRESS_EVERY;
                self.show_progress(health);
            }
            let held = matches!(self.desk.intake(Instant::now()), Intake::Held(_));
            if at_end || held {
                if let Ok((id, outcome)) = self.done.recv_timeout(POLL_MAX) {
                    self.on_done(id, outcome);
                }
                continue;
            }
            match self.scan.next(POLL_MAX)? {
                Scanned::Record { partition, offset, value } => {
                    self.totals.records += 1;
                    self.totals.bytes += value.len() as u64;
                    let bytes = value.len();
                    let record = Record::read(value);
                    self.desk.push(Instant::now(), partition, offset, record, bytes);
                }
                Scanned::Idle => {}
                Scanned::End => at_end = true,
            }
        }
        let Totals { records, rows, dead_rows, dead_records, .. } = self.totals;
        let (run, seconds) = (hex(&self.run), self.started.elapsed().as_secs_f64());
        let line = format!(
            "replayed {records} records, {rows} rows, in {seconds:.1} s; dead: {dead_rows} rows, \
             {dead_records} records; run {run}"
        );
        writeln!(std::io::stdout(), "{line}").context("cannot print")
    }

    fn on_done(&mut self, id: RangeId, outcome: Delivered) {
        let outcome = match outcome {
            Delivered::Done(outcome) => outcome,
            Delivered::Refused { pause, moment } => {
                return self.desk.on_refused(id, Instant::now() + pause, moment);
            }
        };
        self.totals.rows += outcome.rows as u64;
        self.totals.dead_rows += outcome.dead_rows as u64;
        self.totals.dead_records += outcome.dead_records as u64;
        self.desk.on_done(id);
    }

    fn act(&mut self) {
        while let Some(action) = self.desk.next_action(Instant::now()) {
            match action {
                Action::Insert(range) => {
                    let (deliverer, report) = (Arc::clone(&self.deliverer), self.report.clone());
                    let (id, run) = (range.id, self.run);
                    self.runtime.spawn(async move {
                        let outcome = deliverer.deliver(range, Some(run)).await;
                        // Nobody listens any more only when the process is on its way down.
                        let _ = report.send((id, outcome));
                    });
                }
                // There is no group to commit to.
                Action::Commit(offsets) => {
                    for (partition, offset) in offsets {
                        self.desk.on_commit(Instant::now(), partition, offset, true);
                    }
                }
                Action::Pause(partition) => self.pause(partition, true),
                Action::Resume(partition) => self.pause(partition, false),
                Action::Release { .. } => {}
            }
        }
    }

    fn pause(&self, partition: i32, pause: bool) {
        // Paused for good where its span ended: resumed, it would be fetched to the topic's end.
        if !pause && !self.scan.is_open(partition) {
            return;
        }
        let (reader, list) = (self.scan.reader, names(&self.scan.topic, &[partition]));
        let outcome = if pause { reader.pause(&list) } else { reader.resume(&list) };
        if let Err(error) = outcome {
            tracing::warn!(%error, partition, pause, "cannot pause or resume");
        }
    }

    fn show_progress(&self, health: &Health) {
        let Totals { records, rows, bytes, .. } = self.totals;
        let left: i64 = self
            .desk
            .positions()
            .filter_map(|(partition, next, _)| {
                Some((self.scan.spans.get(&partition)?.to? - next).max(0))
            })
            .sum();
        let (ready, state) = health.report();
        let state =
            if ready { String::new() } else { String::from_utf8_lossy(&state).into_owned() };
        let seconds = self.started.elapsed().as_secs_f64();
        let mib = bytes / (1024 * 1024);
        let _ = writeln!(
            std::io::stderr(),
            "{seconds:.0} s: {records} records read ({mib} MiB), {rows} rows inserted, about {left} \
             records left {state}"
        );
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
