//! `unmogrowp-engine journal verify` and `journal drain`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::admin::{Component, Health};
use crate::config::{self, RunArgs};
use crate::forward::Forwarding;
use crate::forward::kafka::Bell;
use crate::http::Reject;
use crate::journal::{self, Journal};
use crate::metrics::Metrics;
use crate::run::{journal_config, open_orphans, start_log};

/// Progress is told this often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

pub fn verify(dir: &Path) -> anyhow::Result<ExitCode> {
    let report = journal::verify(dir)?;
    write!(std::io::stdout(), "{report}")?;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What keeps the forwarder from going on, if anything does.
fn obstacle(health: &Health) -> String {
    use Component::{Clickhouse, Forwarder, Kafka};
    let of_ours = |component| matches!(component, Kafka | Clickhouse | Forwarder);
    let ailments = health.report().ailments;
    let first = ailments.iter().find(|ailment| of_ours(ailment.component));
    first.map_or_else(String::new, |ailment| format!("; {}: {}", ailment.component, ailment.reason))
}

/// Forwards the whole journal and ends; ends early, with the rest in the journal, only by a signal.
pub fn drain(dir: &Path, arguments: RunArgs) -> anyhow::Result<ExitCode> {
    let arguments = RunArgs { journal_dir: Some(dir.to_path_buf()), ..arguments };
    let config = config::load(&arguments)?;
    start_log();
    anyhow::ensure!(dir.is_dir(), "{} is not a journal's directory", dir.display());
    let journal = Journal::open(dir, journal_config(&config, &[], &[]))?;
    let health = Health::new(0);
    let mut damaged_blocks = 0;
    let sources =
        open_orphans(&journal, 0, &health, &mut damaged_blocks).context("reading the journal")?;
    let bells: Vec<Arc<Bell>> =
        (0..config.kafka.lanes(sources.len())).map(|_| Arc::default()).collect();
    let metrics = Metrics::with_lanes(0, bells.len(), &Reject::LABELS, health.clone());
    let forwarding = Forwarding::start(&config, sources, &bells, &metrics, &health)?;
    let progress = || {
        let direct = metrics.forward().rows.load(Ordering::Relaxed);
        let records = |lane| metrics.lane(lane).records.load(Ordering::Relaxed);
        match (0..bells.len()).map(records).sum::<u64>() {
            _ if bells.is_empty() => format!("{direct} rows forwarded"),
            blocks => format!("{blocks} blocks sent to Kafka, {direct} rows inserted directly"),
        }
    };
    let mut told = Instant::now();
    while !forwarding.is_idle() {
        std::thread::sleep(POLL_INTERVAL);
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            let _ = writeln!(std::io::stderr(), "{} so far{}", progress(), obstacle(&health));
        }
    }
    let empty = forwarding.stop(Instant::now() + PROGRESS_INTERVAL);
    anyhow::ensure!(empty, "the journal could not be emptied");
    writeln!(std::io::stdout(), "{}; nothing is left in {}", progress(), dir.display())?;
    if damaged_blocks > 0 {
        writeln!(
            std::io::stdout(),
            "{damaged_blocks} acknowledged blocks are damaged and were not"
        )?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
