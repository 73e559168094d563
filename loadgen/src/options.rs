//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::compression::Compression;
use crate::distribution::{Distribution, parse_exponent};
use crate::event_id::CONNECTIONS_MAX;
use crate::quantity::{Share, parse_duration};
use crate::search::Bound;
use crate::stages::{RATE_MAX, Stages};
use crate::threshold::Threshold;

const EXAMPLES: &str = "\
EXAMPLES
  As fast as possible for ten seconds, against what `./dev up` started:
      unmogrowp-loadgen --endpoints ./data/endpoints.json

  2,000 requests a second of 100 events each; fails when the slowest 1 % of the answers took longer
  than 10 ms, counted from when each request was meant to be sent:
      unmogrowp-loadgen --endpoints ./data/endpoints.json --rate 2000 --fail-if 'p99>10ms'

  Up from 1,000 to 5,000 requests a second, and a page with plots of it:
      unmogrowp-loadgen --endpoints ./data/endpoints.json \\
          --stages '30s@1000,60s@1000..5000,30s@5000' --html out.html

  The highest rate at which 99 % of the answers come within 10 ms:
      unmogrowp-loadgen search --bound 'p99<10ms' --endpoints ./data/endpoints.json

  Small requests, 16 at a time on each connection, the report as JSON:
      unmogrowp-loadgen --url http://127.0.0.1:8080 --app-id UUID --api-key KEY \\
          --batch 1 --pipeline 16 --json out.json

  Send for five seconds, then look for every acknowledged event in the analytics answers:
      unmogrowp-loadgen --endpoints ./data/endpoints.json --rate 200 --duration 5 --verify

  Batches of all sizes, few users who send much, compressed, 1 % of the requests wrong:
      unmogrowp-loadgen --endpoints ./data/endpoints.json --batch '1:50%,100:40%,1000:10%' \\
          --users 100000 --users-skew 1.1 --compression zstd --invalid-share 1%

DISTRIBUTIONS
  100                     always 100
  uniform:1..1000         each from 1 to 1000 equally often
  zipf:1..1000,1.1        1 most often, the k-th value 1 / k^1.1 as often
  normal:200,50           mean and standard deviation; what lies outside the range becomes its end
  1:50%,100:40%,1000:10%  these values, these shares

EXIT CODES
  0  the run was made (requests may have failed: see `errors`, or use --fail-if 'errors>0')
  1  something else went wrong, such as a report that could not be written
  2  the command line is wrong
  3  no connection could be made
  4  a --fail-if threshold was crossed
  5  --verify found events missing or doubled, or could not be completed
  6  `search` could not say where the server's limit is

The report's fields are explained in docs/load-testing.md.";

const SEARCH_HELP: &str = "\
Looks for the highest rate of requests at which the bound still holds.

The rate is doubled until the bound breaks, then the gap between the last rate that held and the
first that broke is halved until it is narrower than --precision. The rate found is run once more,
twice as long, and counts only if it holds again. If not, the search steps down, wider each time, and
all further steps are twice as long. A rate counts as broken when it failed --tries times in a row,
and as the generator's limit when the generator was late or busy every one of those times; that is
never taken for the server's. Where the server refuses, it is its limit however the generator fared.

What a server may put aside (a journal) lets short steps hold rates that it can not keep up, and then
breaks later ones at rates that it could: the backlog is still there. So a step waits up to --settle
until the backlog is gone, if --endpoints names the admin port that tells of it; elsewhere give a
longer --rest. Each step lasts --duration: the longer it is, the nearer is what is found to the rate
that lasts.";

const SEARCH_EXAMPLES: &str = "\
EXAMPLES
  unmogrowp-loadgen search --bound 'p99<10ms' --endpoints ./data/endpoints.json
  unmogrowp-loadgen search --bound 'p50<1ms' --bound 'p99.9<10ms' --error-bound 0% --duration 20s \\
      --endpoints ./data/endpoints.json --json search.json --html search.html";

/// Puts load on an UnMoGrowP ingestion endpoint and reports rates, latencies and costs.
#[derive(Clone, Debug, Parser)]
#[command(name = "unmogrowp-loadgen", version, after_help = EXAMPLES)]
pub struct Options {
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Where events are sent, http only [default: http://127.0.0.1:8080, or from --endpoints]
    #[arg(long, global = true, value_name = "URL")]
    pub url: Option<String>,

    /// The app that the events belong to
    #[arg(long, global = true, value_name = "UUID")]
    pub app_id: Option<String>,

    /// The app's key; --verify needs its read scope too
    #[arg(
        long,
        global = true,
        value_name = "KEY",
        env = "UNMOGROWP_API_KEY",
        hide_env_values = true
    )]
    pub api_key: Option<String>,

    /// The endpoints.json that `./dev up` writes: gives --url, --app-id, --api-key and the API's
    /// address wherever they are not given themselves; a folder stands for the one in it
    #[arg(long, global = true, value_name = "FILE")]
    pub endpoints: Option<PathBuf>,

    /// Another app, with the weight of its share of the requests (1 when left out); instead of
    /// --app-id and --api-key, and may be repeated
    #[arg(long, global = true, value_name = "ID:KEY:WEIGHT", conflicts_with = "app_id")]
    pub app: Vec<WeightedApp>,

    /// Events in each request, 1 to 1000: a number N, or a distribution (see below)
    #[arg(long, global = true, value_name = "DISTRIBUTION", default_value = "100")]
    pub batch: Distribution,

    /// Connections, kept open and shared out over the threads
    #[arg(long, global = true, value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u64).range(1..=CONNECTIONS_MAX))]
    pub connections: u64,

    /// Requests that may be unanswered on one connection at a time
    #[arg(long, global = true, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub pipeline: u64,

    /// REQUESTS (not events) a second over all connections together; 0 is as fast as the answers
    /// come. A constant rate keeps its schedule whatever the server does: requests that could not
    /// be sent in time are sent late, and corrected_latency_us counts from when they were due
    /// [default: 0]
    #[arg(long, global = true, value_name = "N",
          value_parser = clap::value_parser!(u64).range(0..=RATE_MAX))]
    pub rate: Option<u64>,

    /// How long to send, such as 10, 90s, 5m; answers still open then are waited for, up to 10 s.
    /// With `search`, of each step [default: 10s]
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// Instead of --rate and --duration: stages that follow each other, each TIME@RATE or, rising or
    /// falling evenly, TIME@FROM..TO, such as '30s@1000,60s@1000..5000,10s@0,30s@5000'
    #[arg(long, global = true, value_name = "STAGES")]
    pub stages: Option<Stages>,

    /// Writes the report there
    #[arg(long, global = true, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Writes the report there as a page with plots, for any browser; it loads nothing from elsewhere
    #[arg(long, global = true, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Fails (exit code 4) when this holds, such as 'p99>10ms', 'errors>0', 'events_per_s<500000';
    /// may be repeated. p50, p90, p99, p999, p9999 and max are the corrected latencies
    #[arg(long, value_name = "CONDITION")]
    pub fail_if: Vec<Threshold>,

    /// Looks for every acknowledged event in the answers of the API at this address, and counts
    /// missing and doubled ones; without an address, the one of --endpoints
    #[arg(long, value_name = "API_URL", num_args = 0..=1, conflicts_with = "users")]
    pub verify: Option<Option<String>>,

    /// With --verify: users whose events are looked up one by one; when the run had more, this many
    /// of them evenly spread (the counts by event name always cover all events)
    #[arg(long, value_name = "N", default_value_t = 20_000, requires = "verify",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub verify_users_max: u64,

    /// With --verify: seconds without any new event in the answers after which waiting ends
    #[arg(long, value_name = "SECONDS", default_value_t = 30, requires = "verify",
          value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub verify_wait: u64,

    /// Threads that send [default: half the cores, at least 1]
    #[arg(long, global = true, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=1_024))]
    pub threads: Option<u64>,

    /// Size of one event's JSON, drawn for each event: a number N, or a distribution (see below)
    #[arg(long, global = true, value_name = "DISTRIBUTION", default_value = "270")]
    pub event_bytes: Distribution,

    /// Users that the events are spread over [default: 100000; --verify chooses its own]
    #[arg(long, global = true, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    pub users: Option<u64>,

    /// Some users send more than others: the k-th has 1 / k^S of the first one's events (Zipf); 0 is
    /// even, 1 is usual, 10 the most
    #[arg(long, global = true, value_name = "S", default_value = "0",
          value_parser = parse_exponent)]
    pub users_skew: f64,

    /// Compresses the bodies, before the run: the same ids are then sent again and again, so that a
    /// store counts them once
    #[arg(long, global = true, value_name = "CODING", value_enum, default_value = "none")]
    pub compression: Compression,

    /// Part of the requests, such as 1%, that the server has to refuse (bad JSON, broken rules, a
    /// wrong key, app, path, method or type); any other answer than the right refusal is an error
    #[arg(long, global = true, value_name = "SHARE", default_value = "0%")]
    pub invalid_share: Share,

    /// Closes a connection after so many requests and makes a new one [default: never]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub requests_per_connection: Option<u64>,

    /// Connections besides that send their requests a byte every 200 ms
    #[arg(long, global = true, value_name = "N", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub slow_connections: u64,

    /// Makes ids and users reproducible: the same seed sends the same event ids again (so use a
    /// seed only once per database together with --verify) [default: random]
    #[arg(long, global = true, value_name = "N")]
    pub seed: Option<u64>,

    /// Process whose CPU time and memory are reported as the server's [default: whoever listens at
    /// the URL's port, when that is this machine]
    #[arg(long, global = true, value_name = "PID")]
    pub server_pid: Option<u32>,

    /// A Prometheus page to read the server's CPU time and memory from instead
    /// (process_cpu_seconds_total, process_resident_memory_bytes)
    #[arg(long, global = true, value_name = "URL", conflicts_with = "server_pid")]
    pub server_metrics: Option<String>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Looks for the highest rate at which a latency bound still holds
    #[command(long_about = SEARCH_HELP, after_help = SEARCH_EXAMPLES)]
    Search(SearchOptions),
}

#[derive(Args, Clone, Debug)]
pub struct SearchOptions {
    /// What must hold at the rate: one of p50, p90, p99, p99.9, p99.99 or max (corrected latencies),
    /// less than a time, such as 'p99<10ms'; may be repeated, then all must hold
    #[arg(long, value_name = "BOUND", required = true)]
    pub bound: Vec<Bound>,

    /// The part of the requests due that may go wrong: be answered otherwise than 200, lost, or not
    /// sent by the end
    #[arg(long, value_name = "SHARE", default_value = "0.1%")]
    pub error_bound: Share,

    /// Requests a second of the first step
    #[arg(long, value_name = "N", default_value_t = 1_000,
          value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    pub start: u64,

    /// Requests a second that are never exceeded
    #[arg(long, value_name = "N", default_value_t = 10_000_000,
          value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    pub max: u64,

    /// The search ends when the rates that held and broke are this near each other, 0.1% to 50%
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = parse_precision)]
    pub precision: Share,

    /// A rate counts as broken, or as beyond the generator, when it failed this many times in a row
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..=10))]
    pub tries: u32,

    /// Between two steps, for the server to come to rest
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub rest: Duration,

    /// After --rest, how long at most to wait for the journal to pass on what earlier steps left in
    /// it; not waited where --endpoints names no admin port, or --url is given
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub settle: Duration,
}

/// `ID:KEY`, or `ID:KEY:WEIGHT`.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedApp {
    pub id: String,
    pub key: String,
    pub weight: u64,
}

impl FromStr for WeightedApp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WEIGHT_MAX: u64 = 1_000_000;
        let mut parts = text.splitn(3, ':');
        let (Some(id), Some(key)) = (parts.next(), parts.next()) else {
            return Err("an app is ID:KEY or ID:KEY:WEIGHT".to_owned());
        };
        let weight = parts.next().unwrap_or("1");
        let parsed = weight.parse().ok().filter(|weight| (1..=WEIGHT_MAX).contains(weight));
        let weight =
            parsed.ok_or_else(|| format!("the weight {weight:?} is not 1 to {WEIGHT_MAX}"))?;
        Ok(WeightedApp { id: id.to_owned(), key: key.to_owned(), weight })
    }
}

fn parse_precision(text: &str) -> Result<Share, String> {
    let share: Share = text.parse()?;
    if (0.001..=0.5).contains(&share.0) {
        return Ok(share);
    }
    Err(format!("{text:?} is outside 0.1% to 50%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(std::iter::once("unmogrowp-loadgen").chain(line.split_whitespace()))
    }

    #[test]
    fn defaults() {
        let options = parse("").unwrap();
        assert_eq!((options.connections, options.pipeline, options.rate), (64, 1, None));
        assert_eq!((options.batch, options.duration), (Distribution::Fixed(100), None));
        assert_eq!(options.event_bytes, Distribution::Fixed(270));
    }

    #[test]
    fn flags_come_in_any_order() {
        let flags =
            ["--batch 7", "--verify http://a:1", "--rate 5", "--fail-if p99>1ms", "--seed 3"];
        for first in 0..flags.len() {
            let mut turned = flags;
            turned.rotate_left(first);
            let options = parse(&turned.join(" ")).unwrap();
            let seen = (options.batch, options.rate, options.seed);
            assert_eq!(seen, (Distribution::Fixed(7), Some(5), Some(3)), "{turned:?}");
            assert_eq!(options.verify, Some(Some("http://a:1".to_owned())), "{turned:?}");
            assert_eq!(options.fail_if.len(), 1, "{turned:?}");
        }
    }

    /// `./dev load` puts its flags first.
    #[test]
    fn flags_may_stand_before_and_behind_search() {
        let bound = "--bound p99<10ms";
        for line in [
            format!("--batch 7 --seed 3 search {bound} --error-bound 1%"),
            format!("search {bound} --error-bound 1% --batch 7 --seed 3"),
            format!("--batch 7 search --error-bound 1% {bound} --seed 3"),
        ] {
            let options = parse(&line).unwrap();
            let seen = (options.batch, options.seed);
            assert_eq!(seen, (Distribution::Fixed(7), Some(3)), "{line}");
            let Some(Command::Search(search)) = options.command else { panic!("{line}") };
            assert_eq!((search.bound.len(), search.error_bound), (1, Share(0.01)), "{line}");
        }
    }

    #[test]
    fn verify_may_stand_alone() {
        assert_eq!(parse("--verify --rate 5").unwrap().verify, Some(None));
        assert_eq!(parse("--rate 5").unwrap().verify, None);
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "--batch x",
            "--event-bytes uniform:9..1",
            "--users-skew 11",
            "--compression br",
            "--invalid-share 5",
            "--requests-per-connection 0",
            "--slow-connections 10001",
            "--app ab",
            "--app ab:key:0",
            "--app ab:key:1 --app-id cd",
            "--connections 0",
            "--pipeline 0",
            "--duration 0",
            "--rate -1",
            "--bogus",
            "--fail-if p99",
            "--verify http://a:1 --users 5",
            "--server-pid 1 --server-metrics http://a:1",
            "--duration 1d",
            "--stages 10s",
            "search",
            "search --bound p99>10ms",
            "search --bound errors<1",
            "search --bound p99<1ms --precision 0%",
            "search --bound p99<1ms --tries 0",
            "search --bound p99<1ms --start 0",
            "search --bound p99<1ms --verify http://a:1",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
