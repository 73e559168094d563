//! `./dev sim`: the simulation by hand.

use clap::Parser;
use proto::planted::Planted;
use sim::faults::Fault;
use sim::runner::{Extent, Failure, Outcome, command, run_seeds, shrink};
use sim::world::Plan;
use std::io::Write as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Runs the real state machines (shard, journal, forwarder, Kafka lane, consumer) on virtual time
/// against simulated clients, disks, Kafka and ClickHouse, with faults drawn from a seed, and checks
/// that no acknowledged event is lost or invented.
///
/// One seed always gives the same run. A failure prints its seed, the shortest schedule that still
/// fails, and the command that shows it.
#[derive(Parser)]
#[command(name = "sim", version, max_term_width = 100)]
struct Options {
    /// The first seed; drawn at random where it is not given.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// How many seeds; 1 where --seed is given and no time.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// Go on for so long.
    #[arg(long, value_name = "H", conflicts_with = "seconds")]
    hours: Option<f64>,
    /// Go on for so long; 60 where nothing is given.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Print everything that happens, with its virtual time; for one seed.
    #[arg(long)]
    trace: bool,
    /// Leave these faults out, separated by commas; --help-faults lists them.
    #[arg(long, value_name = "FAULTS", value_delimiter = ',', value_parser = Fault::parse)]
    without: Vec<Fault>,
    /// Print the names of all faults.
    #[arg(long)]
    help_faults: bool,
    /// How long load and faults go on in each run, in virtual microseconds.
    #[arg(long, value_name = "N")]
    chaos_us: Option<u64>,
    /// How many clients each run has.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    clients: Option<u64>,
    /// Plant this bug and see it found; `all` for one after the other.
    #[arg(long, value_name = "BUG")]
    planted: Option<String>,
    /// Threads; one for each core where it is not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,
}

/// A reader that went away, as `head` does, ends nothing.
macro_rules! say {
    ($($text:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.help_faults {
        Fault::ALL.iter().for_each(|fault| say!("{}", fault.name()));
        return ExitCode::SUCCESS;
    }
    match options.planted.as_deref() {
        None => hunt(&options, None),
        Some("all") => {
            let missed = Planted::ALL.iter().filter(|bug| !is_found(&options, **bug)).count();
            ExitCode::from(u8::from(missed > 0))
        }
        Some(name) => match Planted::ALL.into_iter().find(|bug| bug.as_str() == name) {
            Some(bug) => hunt(&options, Some(bug)),
            None => {
                let names: Vec<&str> = Planted::ALL.iter().map(|bug| bug.as_str()).collect();
                eprintln!("sim: unknown bug '{name}': one of {}, all", names.join(", "));
                ExitCode::from(2)
            }
        },
    }
}

fn plan_of(options: &Options) -> Plan {
    let mut plan = Plan::new(0);
    plan.without.clone_from(&options.without);
    plan.chaos_us = options.chaos_us.unwrap_or(plan.chaos_us);
    plan.clients = options.clients.map_or(plan.clients, |clients| clients as usize);
    plan
}

fn threads_of(options: &Options) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    options.threads.map_or_else(cores, |threads| threads as usize)
}

/// Seeds from the clock: any will do, and the first one is printed.
fn any_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |since| since.as_micros() as u64)
}

fn hunt(options: &Options, planted: Option<Planted>) -> ExitCode {
    let timed = options.hours.is_some() || options.seconds.is_some();
    let seeds_max = match (options.seeds, options.seed) {
        (Some(seeds), _) => seeds,
        (None, Some(_)) if !timed => 1,
        (None, _) => u64::MAX,
    };
    let hours = options.hours.map(|hours| Duration::from_secs_f64(hours.max(0.0) * 3600.0));
    let seconds = options.seconds.map(Duration::from_secs);
    let open = options.seeds.is_none() && options.seed.is_none();
    let usual = Duration::from_secs(if open { 60 } else { 365 * 24 * 3600 });
    let time_max = hours.or(seconds).unwrap_or(usual);
    let first_seed = options.seed.unwrap_or_else(any_seed);
    let mut plan = plan_of(options);
    plan.printed = options.trace && seeds_max == 1;
    say!("seeds from {first_seed}, {} threads, commit {}", threads_of(options), commit());
    let extent = Extent { first_seed, seeds_max, time_max };
    let outcome = run_seeds(&plan, planted, threads_of(options), extent, &|now| tell(now));
    tell(&outcome);
    match &outcome.failure {
        None => {
            say!("no failure");
            ExitCode::SUCCESS
        }
        Some(failure) => {
            tell_failure(failure, planted);
            ExitCode::FAILURE
        }
    }
}

fn is_found(options: &Options, bug: Planted) -> bool {
    let first_seed = options.seed.unwrap_or(1);
    let time_max = Duration::from_secs(options.seconds.unwrap_or(60));
    let seeds_max = options.seeds.unwrap_or(u64::MAX);
    let extent = Extent { first_seed, seeds_max, time_max };
    let outcome = run_seeds(&plan_of(options), Some(bug), threads_of(options), extent, &|_| {});
    let (seeds, took) = (outcome.seeds, outcome.took.as_secs_f64());
    let name = bug.as_str();
    match outcome.failure {
        Some(failure) => {
            let text = failure.text.lines().nth(1).unwrap_or(&failure.text);
            say!(
                "{name:<24} found with seed {} ({seeds} seeds, {took:.1} s): {text}",
                failure.plan.seed
            );
            true
        }
        None => {
            say!("{name:<24} NOT FOUND in {seeds} seeds, {took:.1} s");
            false
        }
    }
}

fn tell(now: &Outcome) {
    let (stats, seconds) = (&now.stats, now.took.as_secs_f64());
    say!(
        "{seconds:>7.1} s  {} seeds  {} crashes ({:.0}/s)  {} events, {} acknowledged  {:.0} s of virtual time",
        now.seeds,
        stats.crashes,
        stats.crashes as f64 / seconds,
        stats.events,
        stats.acknowledged,
        stats.virtual_us as f64 / 1e6,
    );
}

fn tell_failure(failure: &Failure, planted: Option<Planted>) {
    say!("\nFAILED with seed {}, commit {}\n{}", failure.plan.seed, commit(), failure.text);
    say!("again: {}", command(&failure.plan, planted));
    say!("shrinking ...");
    let least = shrink(failure, planted);
    say!("the shortest that fails:\n{}\nagain: {}", least.text, command(&least.plan, planted));
}

fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    text.map_or("unknown".to_owned(), |text| String::from_utf8_lossy(&text).trim().to_owned())
}
