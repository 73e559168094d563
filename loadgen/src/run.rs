//! One run from the first connection to the merged tally: starts the workers together, shows how it
//! goes once a second, and measures what generator and server used meanwhile.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;

use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::server_process::{ServerProbe, ServerUse};
use crate::tally::Tally;
use crate::worker::{Progress, Share, StartLine, Worker};

#[derive(Debug, Error)]
pub enum RunError {
    #[error("no connection to {target}: {reason}")]
    NoConnection { target: String, reason: String },
    #[error(transparent)]
    Io(#[from] io::Error),
}

pub struct Outcome {
    pub tally: Tally,
    /// (connection index, its ledger), when the plan verifies.
    pub ledgers: Vec<(u64, Ledger)>,
    /// From the start to the last answer.
    pub elapsed: Duration,
    pub generator_cpu: Duration,
    pub server: ServerUse,
    pub started_at: time::OffsetDateTime,
    pub ended_at: time::OffsetDateTime,
}

pub fn run(plan: &Plan) -> Result<Outcome, RunError> {
    let no_connection =
        |reason| RunError::NoConnection { target: plan.target.authority.clone(), reason };
    let address = plan.target.resolve().map_err(|error| no_connection(error.to_string()))?;
    raise_open_file_limit();
    let progress: Vec<Progress> = (0..plan.threads).map(|_| Progress::default()).collect();
    std::thread::scope(|scope| {
        let (ready_in, ready) = mpsc::channel();
        let (done_in, done) = mpsc::channel();
        let mut starts = Vec::new();
        for (thread, progress) in (0..).zip(&progress) {
            let (start_in, start) = mpsc::channel();
            starts.push(start_in);
            let line = StartLine { ready: ready_in.clone(), start };
            let done = done_in.clone();
            scope.spawn(move || {
                let worked = Worker::new(plan, address, thread, progress)
                    .and_then(|worker| worker.run(line));
                // If nobody listens any more, the run has failed already.
                let _ = done.send(worked);
            });
        }
        drop((ready_in, done_in));

        // Ends when every worker has reported or failed; an error of the latter is in `done`.
        let (mut open, mut reason) = (0, None);
        for (count, error) in ready {
            open += count;
            reason = error.or(reason);
        }
        if open == 0 {
            drop(starts);
            for worked in done {
                worked?;
            }
            return Err(no_connection(reason.unwrap_or_else(|| "no answer within 5 s".into())));
        }
        measure(plan, address, &progress, &starts, &done).map_err(RunError::Io)
    })
}

/// Starts the load on connected workers and follows it to its end.
fn measure(
    plan: &Plan,
    address: SocketAddr,
    progress: &[Progress],
    starts: &[mpsc::Sender<Instant>],
    done: &mpsc::Receiver<io::Result<Option<Share>>>,
) -> io::Result<Outcome> {
    let mut probe = ServerProbe::start(&plan.server, address);
    let cpu_before = process_cpu();
    let started_at = time::OffsetDateTime::now_utc();
    let start = Instant::now();
    for worker in starts {
        // A worker that has failed does not listen; its error is waiting in `done`.
        let _ = worker.send(start);
    }

    let mut tally = Tally::default();
    let mut ledgers = Vec::new();
    let mut line = ProgressLine::new(plan, start);
    let mut left = starts.len();
    while left > 0 {
        match done.recv_timeout(line.until_next()) {
            Ok(worked) => {
                if let Some(share) = worked? {
                    tally.merge(&share.tally);
                    ledgers.extend(share.ledgers);
                }
                left -= 1;
            }
            Err(RecvTimeoutError::Timeout) => {
                line.print(progress);
                probe.sample();
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("a worker stopped without a word"));
            }
        }
    }
    let generator_cpu = process_cpu().saturating_sub(cpu_before);
    let server = probe.finish();
    // Nothing answered: the whole time counts.
    let elapsed = match tally.last_answer_ns {
        0 => start.elapsed(),
        last => Duration::from_nanos(last),
    };
    ledgers.sort_unstable_by_key(|&(connection, _)| connection);
    let ended_at = time::OffsetDateTime::now_utc();
    Ok(Outcome { tally, ledgers, elapsed, generator_cpu, server, started_at, ended_at })
}

/// Connections need a file each and many systems allow 1,024 at first. Where it can not be raised,
/// the connections past the limit count as connect errors.
fn raise_open_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn process_cpu() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

/// One line a second on standard error.
struct ProgressLine {
    batch: u64,
    total: Duration,
    start: Instant,
    seconds: u64,
    before: [u64; 3],
}

impl ProgressLine {
    fn new(plan: &Plan, start: Instant) -> Self {
        ProgressLine { batch: plan.batch, total: plan.duration, start, seconds: 0, before: [0; 3] }
    }

    fn until_next(&self) -> Duration {
        let next = self.start + Duration::from_secs(self.seconds + 1);
        next.saturating_duration_since(Instant::now())
    }

    fn print(&mut self, progress: &[Progress]) {
        self.seconds += 1;
        let sum = |counter: fn(&Progress) -> u64| progress.iter().map(counter).sum::<u64>();
        let now = [
            sum(|p| p.acknowledged.load(Ordering::Relaxed)),
            sum(|p| p.sent_bytes.load(Ordering::Relaxed)),
            sum(|p| p.errors.load(Ordering::Relaxed)),
        ];
        let [requests, bytes, errors] = [0, 1, 2].map(|k: usize| now[k] - self.before[k]);
        self.before = now;
        let draining =
            if self.seconds > self.total.as_secs() { ", waiting for answers" } else { "" };
        eprintln!(
            "{:>4} s of {}  {:>11} events/s  {:>9} requests/s  {:>8.1} MB/s  {errors} errors{draining}",
            self.seconds,
            self.total.as_secs(),
            requests * self.batch,
            requests,
            bytes as f64 / 1e6,
        );
    }
}
