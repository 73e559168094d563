//! One run from the first connection to the merged tally: starts the workers together, shows how it
//! goes, and measures what generator and server used meanwhile.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;

use crate::cpu_time::CpuTime;
use crate::generator_limit::GeneratorUse;
use crate::ledger::Ledger;
use crate::live::{Caption, LiveView};
use crate::plan::{Plan, PlanError};
use crate::progress::Progress;
use crate::server_process::{ServerProbe, ServerUse};
use crate::slow_clients::{self, SlowUse};
use crate::tally::Tally;
use crate::worker::{Share, StartLine, Worker};

/// How often the server's memory is looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Error)]
pub enum RunError {
    #[error("no connection to {target}: {reason}")]
    NoConnection { target: String, reason: String },
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

pub struct Outcome {
    pub tally: Tally,
    /// (connection index, its ledger), when the plan verifies.
    pub ledgers: Vec<(u64, Ledger)>,
    /// What rates are made from, see [`counted_time`].
    pub elapsed: Duration,
    pub generator_cpu: Duration,
    pub generator: GeneratorUse,
    pub server: ServerUse,
    /// When the plan has slow clients.
    pub slow: Option<SlowUse>,
    pub started_at: time::OffsetDateTime,
    pub ended_at: time::OffsetDateTime,
}

/// `title` stands above the live view.
pub fn run(plan: &Plan, title: &str) -> Result<Outcome, RunError> {
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
        let (stop, stopped) = mpsc::channel();
        let slow = (plan.slow_connections > 0).then(|| {
            let template = &plan.slow_template;
            let count = plan.slow_connections;
            scope.spawn(move || slow_clients::trickle(address, count, template, &stopped))
        });
        let outcome = measure(plan, title, address, &progress, &starts, &done);
        drop(stop);
        let slow = slow.map(|thread| thread.join().unwrap_or_default());
        Ok(Outcome { slow, ..outcome? })
    })
}

/// Starts the load on connected workers and follows it to its end.
fn measure(
    plan: &Plan,
    title: &str,
    address: SocketAddr,
    progress: &[Progress],
    starts: &[mpsc::Sender<Instant>],
    done: &mpsc::Receiver<io::Result<Option<Share>>>,
) -> io::Result<Outcome> {
    let mut probe = ServerProbe::start(&plan.server, address);
    let (cpu_before, parts_before) = (process_cpu(), CpuTime::of_this_process());
    let started_at = time::OffsetDateTime::now_utc();
    let start = Instant::now();
    for worker in starts {
        // A worker that has failed does not listen; its error is waiting in `done`.
        let _ = worker.send(start);
    }

    let mut merged: Option<Tally> = None;
    let mut ledgers = Vec::new();
    let mut generator = GeneratorUse::default();
    let caption = Caption { title, duration: plan.duration, schedule: plan.schedule() };
    let mut view = LiveView::new(caption, start);
    let mut sample_at = start + SAMPLE_INTERVAL;
    let mut left = starts.len();
    while left > 0 {
        let until_sample = sample_at.saturating_duration_since(Instant::now());
        match done.recv_timeout(view.until_next().min(until_sample)) {
            Ok(worked) => {
                if let Some(share) = worked? {
                    generator.busy_share = generator.busy_share.max(share.busy_share);
                    ledgers.extend(share.ledgers);
                    match &mut merged {
                        Some(merged) => merged.merge(&share.tally),
                        None => merged = Some(share.tally),
                    }
                }
                left -= 1;
            }
            Err(RecvTimeoutError::Timeout) => {
                if view.until_next().is_zero() {
                    view.show(progress);
                }
                if sample_at <= Instant::now() {
                    probe.sample();
                    sample_at += SAMPLE_INTERVAL;
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("a worker stopped without a word"));
            }
        }
    }
    view.finish();
    let tally = merged.ok_or_else(|| io::Error::other("no worker was told to start"))?;
    let late_us = |ns: u64| ns as f64 / 1e3;
    generator.late_p99_us = late_us(tally.lateness_ns.value_at_quantile(0.99));
    generator.late_max_us = late_us(tally.lateness_ns.max());
    let generator_cpu = process_cpu().saturating_sub(cpu_before);
    let parts = CpuTime::of_this_process() - parts_before;
    (generator.cpu_user_s, generator.cpu_system_s) = (parts.user_s, parts.system_s);
    let server = probe.finish();
    let elapsed = counted_time(plan.duration, tally.last_answer_ns, start.elapsed());
    ledgers.sort_unstable_by_key(|&(connection, _)| connection);
    let ended_at = time::OffsetDateTime::now_utc();
    Ok(Outcome {
        tally,
        ledgers,
        elapsed,
        generator_cpu,
        generator,
        server,
        slow: None,
        started_at,
        ended_at,
    })
}

/// The time that rates are by: all of the sending, however early the last answer came, for nothing
/// was answered in the rest of it; and beyond it up to the last answer. Where no answer came at all
/// (0), up to the end of the waiting for one.
fn counted_time(sending: Duration, last_answer_ns: u64, waited: Duration) -> Duration {
    match last_answer_ns {
        0 => waited.max(sending),
        last_ns => Duration::from_nanos(last_ns).max(sending),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_by_the_sending_time_or_longer() {
        let check = |last_answer_ms: u64, expected_ms| {
            let (sending, waited) = (Duration::from_secs(2), Duration::from_secs(12));
            let counted = counted_time(sending, last_answer_ms * 1_000_000, waited);
            assert_eq!(counted, Duration::from_millis(expected_ms), "{last_answer_ms}");
        };
        check(1, 2_000);
        check(1_999, 2_000);
        check(2_300, 2_300);
        check(0, 12_000);
    }
}
