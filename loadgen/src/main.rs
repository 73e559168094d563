//! Puts load on an ingestion endpoint and says honestly how it did.
//!
//! The way of a run: [`options`] become a [`plan`]; [`run`] starts one [`worker`] a core, each with
//! its own poller and [`connection`]s; a connection sends what [`template`] wrote into its
//! [`send_buffer`] when the [`schedule`] says so and counts answers in a [`tally`]; the merged tally
//! becomes a [`report`], is judged by [`threshold`]s and, when asked, [`verify`] looks for every
//! acknowledged event in the analytics answers.
//!
//! Knows the ingestion contract and nothing of the engine's inside. No `unsafe`, no async runtime.

mod api_client;
mod connection;
mod event_id;
mod ledger;
mod options;
mod plan;
mod report;
mod response;
mod run;
mod schedule;
mod send_buffer;
mod server_process;
mod tally;
mod target;
mod template;
mod threshold;
mod verify;
mod wake_timer;
mod worker;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::options::Options;
use crate::plan::Plan;
use crate::report::Report;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the exit code says; 0 is a run that met everything asked of it. `--help` lists the same.
const EXIT_FAILED: u8 = 1;
const EXIT_USAGE: u8 = 2;
const EXIT_NO_CONNECTION: u8 = 3;
const EXIT_THRESHOLD: u8 = 4;
const EXIT_VERIFY: u8 = 5;

fn main() -> ExitCode {
    let options = Options::parse();
    let plan = match Plan::from_options(&options) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("error: {error}\n\nTry --help for examples.");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match load(&options, &plan) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn load(options: &Options, plan: &Plan) -> anyhow::Result<u8> {
    let outcome = match run::run(plan) {
        Ok(outcome) => outcome,
        Err(run::RunError::NoConnection { target, reason }) => {
            eprintln!("error: no connection to {target} could be made: {reason}");
            return Ok(EXIT_NO_CONNECTION);
        }
        Err(run::RunError::Io(error)) => return Err(error).context("running the load"),
    };
    let mut report = Report::new(plan, &outcome);
    let mut code = 0;
    let mut verify_error = None;
    if let Some(api) = &plan.verify {
        match verify::verify(plan, api, &outcome) {
            Ok(found) => {
                if !found.holds() {
                    code = EXIT_VERIFY;
                }
                report.verify = Some(found);
            }
            Err(error) => {
                code = EXIT_VERIFY;
                verify_error = Some(error);
            }
        }
    }
    for threshold in &options.fail_if {
        if let Some(value) = threshold.violated_by(&report) {
            report.failed_thresholds.push(format!("{threshold} (was {})", threshold.show(value)));
        }
    }
    if code == 0 && !report.failed_thresholds.is_empty() {
        code = EXIT_THRESHOLD;
    }
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report).context("writing the report as JSON")?;
        std::fs::write(path, text + "\n")
            .with_context(|| format!("writing the report to {}", path.display()))?;
    }
    print!("{}", report.summary());
    if let Some(error) = verify_error {
        eprintln!("error: --verify could not be completed: {error}");
    }
    Ok(code)
}
