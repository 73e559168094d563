//! `replay`: reads a part of the topic again and INSERTs it again, with a run of its own in the tokens,
//! so that ClickHouse does not take it for what it had. Event ids make it one event.

use crate::cli::Replay;
use crate::dead::DeadTopic;
use crate::desk::Intake;
use crate::errands::Errands;
use crate::health::Health;
use crate::kafka::{Kafka, names};
use crate::metrics::Metrics;
use crate::pace;
use crate::reader::{Scan, Scanned};
use crate::serve::{deliverer, desk_limits};
use crate::worker::{Action, Totals, Worker, WorkerLimits};
use anyhow::Context as _;
use rdkafka::consumer::Consumer;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

const PROGRESS_EVERY: Duration = Duration::from_secs(2);
const POLL_MAX: Duration = Duration::from_millis(50);
/// While rows that ClickHouse refuses are being looked for.
const POLL_SEARCHING_MAX: Duration = Duration::from_millis(1);

pub async fn run(options: Replay) -> anyhow::Result<()> {
    let kafka = Kafka::new(&options.kafka.brokers, &options.kafka.property)?;
    let (health, metrics) = (Arc::new(Health::starting()), Arc::new(Metrics::new()));
    let dead_topic = DeadTopic::new(&kafka, &options.dead_topic)?;
    let deliverer = deliverer(&options.warehouse, dead_topic, &metrics)?;
    let mut run = [0; 16];
    getrandom::fill(&mut run).context("no random number for the run")?;
    let runtime = Handle::current();
    let replaying = tokio::task::spawn_blocking(move || {
        let (from, to) = (&options.from, options.to.as_ref());
        let scan = Scan::start(&kafka, &options.kafka.topic, Some(from), to, false)?;
        // A replay that waits for ClickHouse says so with its progress: nobody else asks it.
        let limits =
            WorkerLimits { probe_every: None, ..WorkerLimits::of(desk_limits(&options.range)) };
        let (now, status) = (Instant::now(), Arc::clone(&health));
        let worker = Worker::new(limits, Some(run), pace::seed(), now, status, metrics);
        let mut replay = Running::new(scan, worker, Errands::new(deliverer, runtime), run);
        replay.work(&health)
    });
    replaying.await.context("the replay ended by a panic")?
}

struct Running {
    scan: Scan,
    worker: Worker,
    errands: Errands,
    run: [u8; 16],
    records: u64,
    bytes: u64,
    started: Instant,
}

impl Running {
    fn new(scan: Scan, mut worker: Worker, errands: Errands, run: [u8; 16]) -> Running {
        let started = Instant::now();
        for (partition, span) in &scan.spans {
            worker.assign(started, *partition, span.from);
        }
        Running { scan, worker, errands, run, records: 0, bytes: 0, started }
    }

    fn work(&mut self, health: &Health) -> anyhow::Result<()> {
        let spans: Vec<_> = self.scan.spans.iter().collect();
        let _ = writeln!(std::io::stderr(), "replay {}: {spans:?}", hex(&self.run));
        let mut next_line = Instant::now() + PROGRESS_EVERY;
        let mut at_end = false;
        while !at_end || self.worker.held_bytes() > 0 {
            self.errands.tell(&mut self.worker);
            self.act();
            if Instant::now() >= next_line {
                next_line += PROGRESS_EVERY;
                self.show_progress(health);
            }
            let held = matches!(self.worker.intake(Instant::now()), Intake::Held(_));
            if at_end || held {
                let until = self.wake_at();
                self.errands.wait(&mut self.worker, until);
                continue;
            }
            let patience = self.wake_at().saturating_duration_since(Instant::now());
            match self.scan.next(patience)? {
                Scanned::Record { partition, offset, value } => {
                    self.records += 1;
                    self.bytes += value.len() as u64;
                    self.worker.push(Instant::now(), partition, offset, value);
                }
                Scanned::Idle => {}
                Scanned::End => at_end = true,
            }
        }
        let (records, Totals { rows, dead_rows, dead_records }) =
            (self.records, self.worker.totals());
        let (run, seconds) = (hex(&self.run), self.started.elapsed().as_secs_f64());
        let line = format!(
            "replayed {records} records, {rows} rows, in {seconds:.1} s; dead: {dead_rows} rows, \
             {dead_records} records; run {run}"
        );
        writeln!(std::io::stdout(), "{line}").context("cannot print")
    }

    /// When to look again although nothing has come.
    fn wake_at(&self) -> Instant {
        let most = if self.worker.is_searching() { POLL_SEARCHING_MAX } else { POLL_MAX };
        let latest = Instant::now() + most;
        self.worker.next_deadline().map_or(latest, |at| at.min(latest))
    }

    fn act(&mut self) {
        while let Some(action) = self.worker.next_action(Instant::now()) {
            match action {
                Action::Insert(insert) => self.errands.insert(insert),
                Action::Letters(parcel) => self.errands.write(parcel),
                Action::Probe => self.errands.probe(),
                Action::Abandon(range) => self.errands.abandon(range),
                // There is no group to commit to.
                Action::Commit(offsets) => {
                    for (partition, offset) in offsets {
                        self.worker.on_commit(Instant::now(), partition, offset, true);
                    }
                }
                Action::Pause(partition) => self.pause(partition, true),
                Action::Resume(partition) => self.pause(partition, false),
                Action::ForgetCommits | Action::GiveBack(_) => {}
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
        let (records, bytes, rows) = (self.records, self.bytes, self.worker.totals().rows);
        let left: i64 = self
            .worker
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
