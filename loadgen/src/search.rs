//! `search`: the highest rate that holds a latency bound. Asks [`knee`] for rates, runs each as an
//! ordinary run of its own, and lets [`judge`] say how it ended.

pub mod findings;
pub mod judge;
pub mod knee;
mod settling;

use crate::options::{Options, SearchOptions};
use crate::plan::{DURATION_DEFAULT, Plan, PlanError};
use crate::report::Report;
use crate::run::{self, RunError};
use crate::search::findings::{Findings, Step};
pub use crate::search::judge::Bound;
use crate::search::judge::Criteria;
use crate::search::knee::{KneeSearch, Limits, Next};
use crate::search::settling::Settling;

const STEPS_MAX: u32 = 64;

/// What a search asks of the flags it shares with a run.
pub fn check_options(options: &Options) -> Result<(), PlanError> {
    let refused = [
        ("--rate", options.rate.is_some(), "search chooses the rates: see --start and --max"),
        ("--stages", options.stages.is_some(), "search chooses the rates: see --start and --max"),
        ("--verify", options.verify.is_some(), "search does not verify: run the rate it finds"),
        ("--fail-if", !options.fail_if.is_empty(), "search has --bound and --error-bound instead"),
    ];
    match refused.into_iter().find(|&(_, given, _)| given) {
        Some((flag, _, reason)) => Err(PlanError::Invalid { flag, reason: reason.to_owned() }),
        None => Ok(()),
    }
}

/// The plan of one step: every step sends ids of its own.
fn step_plan(options: &Options, seed: u64, rate: u64, long: bool) -> Result<Plan, PlanError> {
    let duration = options.duration.unwrap_or(DURATION_DEFAULT);
    let duration = if long { duration * 2 } else { duration };
    let (rate, duration, seed) = (Some(rate), Some(duration), Some(seed));
    Plan::from_options(&Options { rate, duration, seed, ..options.clone() })
}

/// Runs the search; every step is handed to `on_step` as soon as it is over.
pub fn search(
    options: &Options,
    asked: &SearchOptions,
    seed: u64,
    mut on_step: impl FnMut(&Step),
) -> Result<Findings, RunError> {
    let criteria = Criteria { bounds: asked.bound.clone(), error_bound: asked.error_bound };
    let mut search = KneeSearch::new(Limits {
        start: asked.start,
        max: asked.max,
        precision: asked.precision.0,
        tries: asked.tries,
        steps_max: STEPS_MAX,
    });
    let mut findings = Findings {
        bounds: asked.bound.clone(),
        error_bound: asked.error_bound.0,
        precision: asked.precision.0,
        knee: None,
        steps: Vec::new(),
    };
    let mut number = 0;
    loop {
        let (rate, phase, long) = match search.next() {
            Next::Step { rate, phase, long } => (rate, phase, long),
            Next::Done(finding) => {
                findings.conclude(finding);
                return Ok(findings);
            }
        };
        number += 1;
        let plan = step_plan(options, seed.wrapping_add(number.into()), rate, long)?;
        let (rest, settle, admin) = (asked.rest, asked.settle, plan.admin.as_ref());
        let backlog_bytes = if number > 1 { Settling { rest, settle, admin }.wait() } else { None };
        let title = format!("step {number}, {}: {rate} requests/s", phase.as_str());
        let report = Report::new(&plan, &run::run(&plan, &title)?);
        let (verdict, why) = criteria.judge(&report);
        search.tell(verdict);
        let phase = phase.as_str();
        let step = Step { number, phase, rate, backlog_bytes, verdict, why, report };
        on_step(&step);
        findings.steps.push(step);
    }
}
