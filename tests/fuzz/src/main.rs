//! `./dev fuzz`: runs targets for a while, shows how fast, and on a failure says how to repeat it.
//!
//! The target runs on a thread of its own, so that one that never comes back is seen: past
//! [`CASE_MAX`] its input is written out like that of a broken law.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use fuzz::campaign::{Campaign, Failure, Origin, run_corpus};
use fuzz::capture::attempt;
use fuzz::{TARGETS, Target, corpus};

/// One input takes well under a millisecond, a slow machine included far below this.
const CASE_MAX: Duration = Duration::from_secs(20);

/// Runs fuzz targets: each feeds changed inputs of its corpus to the real parsers and asserts laws.
#[derive(Debug, Parser)]
#[command(name = "./dev fuzz", bin_name = "./dev fuzz", args_override_self = true)]
struct Flags {
    /// head, chunked, json, block, journal, embedded, or all of them, one after the other
    target: String,
    /// For each target
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    seconds: u64,
    /// The same seed gives the same inputs in the same order; without it one is drawn and printed
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Runs this input alone, once
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Where inputs that fail are written
    #[arg(long, value_name = "DIR", default_value = "target/fuzz")]
    failures: PathBuf,
}

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("./dev fuzz: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// False if a law was broken.
fn run(flags: &Flags) -> anyhow::Result<bool> {
    let chosen: Vec<Target> = TARGETS
        .into_iter()
        .filter(|target| flags.target == "all" || flags.target == target.name)
        .collect();
    if let Some(path) = &flags.replay {
        let [target] = chosen[..] else { bail!("--replay needs the name of one target") };
        return replay(&target, path);
    }
    if chosen.is_empty() {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        bail!("no target is called {:?}; there are: {}, all", flags.target, names.join(", "));
    }
    let seed = match flags.seed {
        Some(seed) => seed,
        None => getrandom::u64().context("a seed")?,
    };
    println!("seed {seed}");
    let mut all_held = true;
    for target in chosen {
        all_held &= fuzz(target, seed, Duration::from_secs(flags.seconds), &flags.failures)?;
    }
    Ok(all_held)
}

fn replay(target: &Target, path: &Path) -> anyhow::Result<bool> {
    let input = std::fs::read(path).with_context(|| format!("{}", path.display()))?;
    let outcome = attempt(target, &input);
    match &outcome {
        Ok(()) => println!("{}: {} bytes, every law holds", target.name, input.len()),
        Err(broken) => println!("{}: {}\n{}", target.name, broken.place, broken.message),
    }
    Ok(outcome.is_ok())
}

/// What the running thread is at.
#[derive(Default)]
struct Current {
    cases: u64,
    input: Vec<u8>,
    began: Option<Instant>,
}

fn fuzz(target: Target, seed: u64, time: Duration, failures: &Path) -> anyhow::Result<bool> {
    let inputs = corpus::load(target.name)?;
    let current = Arc::new(Mutex::new(Current::default()));
    let (sender, ended) = mpsc::channel();
    let (shared, began) = (Arc::clone(&current), Instant::now());
    std::thread::spawn(move || {
        let mut campaign = Campaign::new(&target, &inputs, seed);
        let mut outcome = run_corpus(&target, &inputs);
        while outcome.is_ok() && began.elapsed() < time {
            let input = campaign.next_input();
            let mut current = shared.lock().unwrap_or_else(PoisonError::into_inner);
            current.input.clear();
            current.input.extend_from_slice(input);
            current.began = Some(Instant::now());
            current.cases += 1;
            drop(current);
            outcome = campaign.run();
        }
        // While the least input is looked for, nothing here is late.
        shared.lock().unwrap_or_else(PoisonError::into_inner).began = None;
        sender.send(outcome).ok();
    });
    let mut cases_before = 0;
    loop {
        let outcome = ended.recv_timeout(Duration::from_secs(1));
        let now = current.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, cases, elapsed) = (target.name, now.cases, began.elapsed().as_secs_f64());
        match outcome {
            Ok(outcome) => {
                let rate = cases as f64 / elapsed;
                println!("{name:9} {cases:>10} cases in {elapsed:.1} s, {rate:.0}/s");
                return match outcome {
                    Ok(()) => Ok(true),
                    Err(failure) => report(&target, &failure, failures).map(|()| false),
                };
            }
            Err(RecvTimeoutError::Timeout) => {
                println!("{name:9} {cases:>10} cases, {}/s", cases - cases_before);
                cases_before = cases;
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the thread of {name} ended"),
        }
        if now.began.is_some_and(|began| began.elapsed() > CASE_MAX) {
            let path = write(&target, &now.input, failures)?;
            println!(
                "{name}: FAILED: no end within {} s, seed {seed}, case {}",
                CASE_MAX.as_secs(),
                cases - 1
            );
            println!("  to repeat: ./dev fuzz {name} --replay {}", path.display());
            return Ok(false);
        }
    }
}

fn write(target: &Target, input: &[u8], failures: &Path) -> anyhow::Result<PathBuf> {
    let path = failures.join(format!("{}-{:08x}", target.name, crc32c::crc32c(input)));
    std::fs::create_dir_all(failures)
        .and_then(|()| std::fs::write(&path, input))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn report(target: &Target, failure: &Failure, failures: &Path) -> anyhow::Result<()> {
    let path = write(target, &failure.input, failures)?;
    let name = target.name;
    println!("{name}: FAILED at {}", failure.broken.place);
    println!("  {}", failure.broken.message);
    match &failure.origin {
        Origin::File(file) => println!("  input: corpus/{name}/{file}"),
        Origin::Case { seed, case } => println!("  input: seed {seed}, case {case}"),
    }
    println!("  made smaller: from {} to {} bytes", failure.found_bytes, failure.input.len());
    println!("  to repeat: ./dev fuzz {name} --replay {}", path.display());
    Ok(())
}
