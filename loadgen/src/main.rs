//! Puts load on an ingestion endpoint and says honestly how it did.
//!
//! The way of a run: [`options`] become a [`plan`]; [`run`] starts one [`worker`] a core, each with
//! its own poller and [`connection`]s; a connection sends what the [`mix`] made ahead and a
//! [`template`] patched in its [`send_buffer`] when the [`schedule`] says so and counts answers in a [`tally`]; the merged tally
//! becomes a [`report`], is judged by [`threshold`]s and, when asked, [`verify`] looks for every
//! acknowledged event in the analytics answers. [`search`] makes many runs, each at another rate.
//!
//! Knows the ingestion contract and nothing of the engine's inside. No `unsafe`, no async runtime.

mod api_client;
mod compression;
mod connection;
mod cpu_time;
mod distribution;
mod event_id;
mod generator_limit;
mod html;
mod invalid;
mod ledger;
mod live;
mod mix;
mod options;
mod plan;
mod progress;
mod quantity;
mod report;
mod response;
mod run;
mod schedule;
mod search;
mod send_buffer;
mod server_process;
mod slow_clients;
mod stages;
mod tally;
mod target;
mod template;
mod thread_load;
mod threshold;
mod timeline;
mod verify;
mod wake_timer;
mod worker;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use serde::Serialize;

use crate::options::{Command, Options, SearchOptions};
use crate::plan::Plan;
use crate::report::Report;
use crate::run::{Outcome, RunError};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the exit code says; 0 is a run that met everything asked of it. `--help` lists the same.
const EXIT_FAILED: u8 = 1;
const EXIT_USAGE: u8 = 2;
const EXIT_NO_CONNECTION: u8 = 3;
const EXIT_THRESHOLD: u8 = 4;
const EXIT_VERIFY: u8 = 5;
const EXIT_NO_KNEE: u8 = 6;

fn main() -> ExitCode {
    let options = Options::parse();
    let checked = match options.command {
        Some(Command::Search(_)) => search::check_options(&options),
        None => Ok(()),
    };
    let plan = match checked.and_then(|()| Plan::from_options(&options)) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("error: {error}\n\nTry --help for examples.");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let done = match &options.command {
        None => load(&options, &plan),
        Some(Command::Search(asked)) => search(&options, &plan, asked),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => match error.downcast_ref() {
            Some(RunError::NoConnection { target, reason }) => {
                eprintln!("error: no connection to {target} could be made: {reason}");
                ExitCode::from(EXIT_NO_CONNECTION)
            }
            _ => {
                eprintln!("error: {error:#}");
                ExitCode::from(EXIT_FAILED)
            }
        },
    }
}

fn load(options: &Options, plan: &Plan) -> anyhow::Result<u8> {
    let outcome = run::run(plan, "").context("running the load")?;
    let mut report = Report::new(plan, &outcome);
    let (mut code, verify_error) = verify_run(plan, &outcome, &mut report);
    for threshold in &options.fail_if {
        if let Some(value) = threshold.value_if_it_holds(&report) {
            report.failed_thresholds.push(format!("{threshold} (was {})", threshold.show(value)));
        }
    }
    if code == 0 && !report.failed_thresholds.is_empty() {
        code = EXIT_THRESHOLD;
    }
    print!("{}", report.summary());
    if let Some(error) = verify_error {
        eprintln!("error: --verify could not be completed: {error}");
    }
    write_json(options, &report)?;
    write_html(options, || html::run_page(plan, &outcome, &report))?;
    Ok(code)
}

/// The exit code that follows from it, and why it could not be completed.
fn verify_run(
    plan: &Plan,
    outcome: &Outcome,
    report: &mut Report,
) -> (u8, Option<verify::VerifyError>) {
    let Some(api) = &plan.verify else { return (0, None) };
    match verify::verify(plan, api, outcome) {
        Ok(found) => {
            let code = if found.holds() { 0 } else { EXIT_VERIFY };
            report.verify = Some(found);
            (code, None)
        }
        Err(error) => (EXIT_VERIFY, Some(error)),
    }
}

fn search(options: &Options, plan: &Plan, asked: &SearchOptions) -> anyhow::Result<u8> {
    let findings = search::search(options, asked, plan.seed, |step| println!("{}", step.line()))
        .context("running the search")?;
    println!("{}", findings.conclusion());
    write_json(options, &findings)?;
    write_html(options, || html::search_page(plan, &findings))?;
    Ok(if findings.is_conclusive() { 0 } else { EXIT_NO_KNEE })
}

fn write_json(options: &Options, report: &impl Serialize) -> anyhow::Result<()> {
    let Some(path) = &options.json else { return Ok(()) };
    let text = serde_json::to_string_pretty(report).context("writing the report as JSON")?;
    write_file(path, text + "\n")
}

fn write_html(options: &Options, page: impl FnOnce() -> String) -> anyhow::Result<()> {
    options.html.as_ref().map_or(Ok(()), |path| write_file(path, page()))
}

fn write_file(path: &Path, text: String) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing the report to {}", path.display()))
}
