//! `unmogrowp-engine journal verify` and `journal drain`.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::admin::{Component, Health};
use crate::config::{self, RunArgs};
use crate::forward::Forwarder;
use crate::http::Reject;
use crate::journal::{self, Journal};
use crate::metrics::Metrics;
use crate::run::{journal_config, open_orphans, start_log};

/// Progress is told this often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

pub fn verify(dir: &Path) -> anyhow::Result<ExitCode> {
    let report = journal::verify(dir)?;
    print!("{report}");
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What keeps the forwarder from going on, if anything does.
fn obstacle(health: &Health) -> String {
    let of_ours = |component| matches!(component, Component::Clickhouse | Component::Forwarder);
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
    let journal = Journal::open(dir, journal_config(&config, &[]))?;
    let sources = open_orphans(&journal, 0).context("reading the journal")?;
    let health = Health::new(0);
    let metrics = Metrics::new(0, &Reject::LABELS, health.clone());
    let counters = metrics.forward();
    let forwarder = Forwarder::start(&config, sources, counters.clone(), health.clone())?;
    let mut told = Instant::now();
    while !forwarder.is_idle() {
        std::thread::sleep(POLL_INTERVAL);
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            let rows = counters.rows.load(std::sync::atomic::Ordering::Relaxed);
            eprintln!("{rows} rows forwarded so far{}", obstacle(&health));
        }
    }
    let rows = counters.rows.load(std::sync::atomic::Ordering::Relaxed);
    let empty = forwarder.stop(Instant::now() + PROGRESS_INTERVAL);
    anyhow::ensure!(empty, "the journal could not be emptied");
    println!("{rows} rows forwarded; nothing is left in {}", dir.display());
    Ok(ExitCode::SUCCESS)
}
