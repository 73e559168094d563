//! What a run will do: the options, completed from endpoints.json and checked against each other.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use crate::compression::Compression;
use crate::distribution::{Distribution, RankTable};
use crate::event_id::RunId;
use crate::mix::{Ingredients, Mix};
use crate::options::Options;
use crate::quantity::Share;
use crate::schedule::Schedule;
use crate::stages::Stages;
use crate::target::Target;
use crate::template::{App, RequestTemplate, TemplateError, Traffic, Users};

const USERS_DEFAULT: u64 = 100_000;
const SLOW_EVENT_BYTES: usize = 400;
pub const BATCH_RANGE: RangeInclusive<u64> = 1..=proto::limits::EVENTS_PER_BATCH_MAX as u64;
/// What the smallest event has is found out when it is made.
pub const EVENT_BYTES_RANGE: RangeInclusive<u64> = 1..=proto::limits::EVENT_BYTES_MAX as u64;
pub const DURATION_DEFAULT: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
pub enum PlanError {
    #[error("{flag} is needed (or --endpoints with a file that has it)")]
    Missing { flag: &'static str },
    #[error("{flag}: {reason}")]
    Invalid { flag: &'static str, reason: String },
}

/// Where the server's own figures come from.
#[derive(Debug)]
pub enum ServerFigures {
    Pid(u32),
    Metrics(Target),
    WhoListens,
}

#[derive(Debug)]
pub struct VerifyPlan {
    pub api: Target,
    /// Events in every request: without ledgers of events, all have to be alike.
    pub batch: u64,
    pub users_max: u64,
    pub wait: Duration,
}

#[derive(Debug)]
pub struct Plan {
    pub url: String,
    pub target: Target,
    /// At least one, with their weights.
    pub apps: Vec<(App, u64)>,
    pub batch: Distribution,
    pub event_bytes: Distribution,
    pub compression: Compression,
    pub invalid_share: Share,
    pub requests_per_connection: Option<u64>,
    pub slow_connections: u64,
    pub users_skew: f64,
    pub connections: u64,
    pub pipeline: u64,
    /// None in a closed loop, in which answers set the pace.
    pub stages: Option<Stages>,
    schedule: Option<Schedule>,
    pub duration: Duration,
    pub threads: u64,
    pub users: Option<u64>,
    pub seed: u64,
    pub run: RunId,
    pub traffic: Traffic,
    pub mix: Mix,
    /// What slow clients send.
    pub slow_template: RequestTemplate,
    pub verify: Option<VerifyPlan>,
    pub server: ServerFigures,
    /// The server's admin port, where endpoints.json names it and events go to its server.
    pub admin: Option<Target>,
}

#[derive(Default, Deserialize)]
struct Endpoints {
    ingest: Option<String>,
    api: Option<String>,
    admin: Option<String>,
    app_id: Option<String>,
    api_key: Option<String>,
}

impl Plan {
    pub fn from_options(options: &Options) -> Result<Self, PlanError> {
        let endpoints = match &options.endpoints {
            Some(path) => read_endpoints(path)?,
            None => Endpoints::default(),
        };
        let url = options
            .url
            .clone()
            .or_else(|| endpoints.ingest.clone())
            .unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
        let target = parse_target("--url", &url)?;
        // With an address of its own, --url may be another server.
        let admin = match (&options.url, &endpoints.admin) {
            (None, Some(admin)) => Some(parse_target("--endpoints", admin)?),
            _ => None,
        };
        let apps = apps_of(options, &endpoints)?;
        check_distribution("--batch", &options.batch, &BATCH_RANGE)?;
        check_distribution("--event-bytes", &options.event_bytes, &EVENT_BYTES_RANGE)?;

        let verify = match &options.verify {
            None => None,
            Some(given) => {
                let api = given.clone().or(endpoints.api);
                let api = api.ok_or(PlanError::Missing { flag: "--verify" })?;
                Some(VerifyPlan {
                    batch: verifiable_batch(options)?,
                    api: parse_target("--verify", &api)?,
                    users_max: options.verify_users_max,
                    wait: Duration::from_secs(options.verify_wait),
                })
            }
        };
        let seed = match options.seed {
            Some(seed) => seed,
            None => getrandom::u64().map_err(|error| PlanError::Invalid {
                flag: "--seed",
                reason: format!("this machine gives no random numbers ({error}); give a seed"),
            })?,
        };
        let run = RunId::from_seed(seed);
        let users = verify.is_none().then(|| options.users.unwrap_or(USERS_DEFAULT));
        let traffic = match users {
            Some(count) if options.users_skew > 0.0 => {
                let table = RankTable::zipf(count, options.users_skew);
                Traffic::ordinary(Users::Skewed(Arc::new(table)))
            }
            Some(count) => Traffic::ordinary(Users::Shared { count }),
            None => Traffic::traceable(run),
        };
        let too_small = |error: TemplateError| PlanError::Invalid {
            flag: "--event-bytes",
            reason: error.to_string(),
        };
        let mix = Mix::new(&Ingredients {
            target: &target,
            apps: &apps,
            run,
            traffic: &traffic,
            batch: &options.batch,
            event_bytes: &options.event_bytes,
            compression: options.compression,
            invalid_share: options.invalid_share.0,
            seed,
        })
        .map_err(too_small)?;
        let slow = [SLOW_EVENT_BYTES];
        let slow_template = RequestTemplate::new(&target, &apps[0].0, run, &traffic, &slow, 1);
        let (stages, duration) = stages_of(options)?;
        let threads = options.threads.unwrap_or_else(default_threads).min(options.connections);
        Ok(Plan {
            url,
            target,
            apps,
            batch: options.batch.clone(),
            event_bytes: options.event_bytes.clone(),
            compression: options.compression,
            invalid_share: options.invalid_share,
            requests_per_connection: options.requests_per_connection,
            slow_connections: options.slow_connections,
            users_skew: options.users_skew,
            connections: options.connections,
            pipeline: options.pipeline,
            schedule: stages.as_ref().map(|stages| Schedule::new(stages, options.connections)),
            stages,
            duration,
            threads,
            users,
            seed,
            run,
            traffic,
            mix,
            slow_template: slow_template.map_err(too_small)?,
            verify,
            admin,
            server: match (&options.server_metrics, options.server_pid) {
                (Some(url), _) => ServerFigures::Metrics(parse_target("--server-metrics", url)?),
                (None, Some(pid)) => ServerFigures::Pid(pid),
                (None, None) => ServerFigures::WhoListens,
            },
        })
    }

    pub fn schedule(&self) -> Option<&Schedule> {
        self.schedule.as_ref()
    }

    pub fn duration_ns(&self) -> u64 {
        self.duration.as_nanos() as u64
    }
}

/// Those of `--app`, or the one of `--app-id` and `--api-key`.
fn apps_of(options: &Options, endpoints: &Endpoints) -> Result<Vec<(App, u64)>, PlanError> {
    let given = options.app.iter();
    let mut apps: Vec<_> =
        given.map(|app| (App { id: app.id.clone(), key: app.key.clone() }, app.weight)).collect();
    let mut flags = ("--app", "--app");
    if apps.is_empty() {
        let missing = |flag| PlanError::Missing { flag };
        let id = options.app_id.as_ref().or(endpoints.app_id.as_ref());
        let key = options.api_key.as_ref().or(endpoints.api_key.as_ref());
        let id = id.ok_or_else(|| missing("--app-id"))?.clone();
        let key = key.ok_or_else(|| missing("--api-key"))?.clone();
        apps.push((App { id, key }, 1));
        flags = ("--app-id", "--api-key");
    }
    for (app, _) in &apps {
        check_field(flags.0, &app.id, |c| c.is_ascii_hexdigit() || c == '-')?;
        check_field(flags.1, &app.key, |c| c.is_ascii_graphic())?;
    }
    Ok(apps)
}

fn check_distribution(
    flag: &'static str,
    distribution: &Distribution,
    range: &RangeInclusive<u64>,
) -> Result<(), PlanError> {
    distribution.check_range(range).map_err(|reason| PlanError::Invalid { flag, reason })
}

/// The size of all batches, where every acknowledged event can be told from the requests' numbers.
fn verifiable_batch(options: &Options) -> Result<u64, PlanError> {
    let Distribution::Fixed(batch) = options.batch else {
        let reason = "--verify needs batches of one size, such as 100".to_owned();
        return Err(PlanError::Invalid { flag: "--batch", reason });
    };
    let refused = [
        ("--app", options.app.len() > 1, "spreads the events over apps"),
        ("--compression", options.compression != Compression::None, "sends the same ids again"),
        ("--invalid-share", options.invalid_share.0 > 0.0, "sends what is not stored"),
        ("--slow-connections", options.slow_connections > 0, "sends what is not counted"),
        ("--users-skew", options.users_skew > 0.0, "chooses users, and so does --verify"),
        // Sizes would make requests of different kinds, which are chosen at random.
        ("--event-bytes", !options.event_bytes.is_fixed(), "has to be one number"),
    ];
    match refused.into_iter().find(|refused| refused.1) {
        Some((flag, _, why)) => {
            let reason = format!("it {why}: leave out --verify, or this");
            Err(PlanError::Invalid { flag, reason })
        }
        None => Ok(batch),
    }
}

/// `--rate` with `--duration` is the form of one constant stage.
fn stages_of(options: &Options) -> Result<(Option<Stages>, Duration), PlanError> {
    let duration = options.duration.unwrap_or(DURATION_DEFAULT);
    let Some(stages) = &options.stages else {
        let rate = options.rate.filter(|&rate| rate > 0);
        return Ok((rate.map(|rate| Stages::constant(rate, duration)), duration));
    };
    if options.rate.is_some() || options.duration.is_some() {
        let reason = "it says rates and times itself: leave out --rate and --duration".to_owned();
        return Err(PlanError::Invalid { flag: "--stages", reason });
    }
    Ok((Some(stages.clone()), stages.duration()))
}

/// Half the cores, so that a server on the same machine has the other half.
fn default_threads() -> u64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores as u64 / 2).max(1)
}

fn parse_target(flag: &'static str, url: &str) -> Result<Target, PlanError> {
    Target::parse(url).map_err(|reason| PlanError::Invalid { flag, reason })
}

/// These texts go into a request as they are: nothing that could end a line or a JSON string.
fn check_field(
    flag: &'static str,
    text: &str,
    legal: impl Fn(char) -> bool,
) -> Result<(), PlanError> {
    if !text.is_empty() && text.chars().all(legal) {
        return Ok(());
    }
    Err(PlanError::Invalid { flag, reason: "it is empty or holds an impossible character".into() })
}

fn read_endpoints(path: &Path) -> Result<Endpoints, PlanError> {
    let invalid = |reason| PlanError::Invalid { flag: "--endpoints", reason };
    let file = if path.is_dir() { path.join("endpoints.json") } else { path.to_owned() };
    let text = std::fs::read(&file)
        .map_err(|error| invalid(format!("cannot read {}: {error}", file.display())))?;
    serde_json::from_slice(&text)
        .map_err(|error| invalid(format!("{} is not as expected: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn plan(line: &str) -> Result<Plan, PlanError> {
        let words = std::iter::once("unmogrowp-loadgen").chain(line.split_whitespace());
        Plan::from_options(&Options::try_parse_from(words).unwrap())
    }

    #[test]
    fn endpoints_fill_what_is_not_given() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("endpoints.json"),
            r#"{"ingest":"http://h:1","api":"http://h:2","admin":"http://h:3","app_id":"ab","api_key":"k"}"#,
        )
        .unwrap();
        let folder = dir.path().display();
        for path in [format!("{folder}"), format!("{folder}/endpoints.json")] {
            let plan = plan(&format!("--verify --endpoints {path} --api-key mine")).unwrap();
            assert_eq!(plan.url, "http://h:1");
            assert_eq!(plan.apps, [(App { id: "ab".into(), key: "mine".into() }, 1)]);
            assert_eq!(plan.verify.unwrap().api, Target::parse("http://h:2").unwrap());
            assert_eq!(plan.admin, Some(Target::parse("http://h:3").unwrap()));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |line: &str, named: &str| {
            let error = plan(line).unwrap_err().to_string();
            assert!(error.contains(named), "{line}: {error}");
        };
        check("", "--app-id");
        check("--app-id ab", "--api-key");
        check("--app-id a\"b --api-key k", "--app-id");
        check("--app-id ab --api-key k --url ftp://x", "--url");
        check("--app-id ab --api-key k --verify", "--verify");
        check("--app-id ab --api-key k --event-bytes 10", "--event-bytes");
        check("--endpoints /nonexistent", "--endpoints");
        check("--app-id ab --api-key k --batch 0", "--batch: 0 is outside 1 to 1000");
        check("--app-id ab --api-key k --batch uniform:1..1001", "1001 is outside 1 to 1000");
        check("--app-id ab --api-key k --event-bytes 270:50%,20:50%", "--event-bytes");
        check("--app a\"b:key", "--app");
        let verified = "--app-id ab --api-key k --verify http://a:1";
        for (flag, value) in [
            ("--batch", "uniform:1..9"),
            ("--compression", "gzip"),
            ("--invalid-share", "1%"),
            ("--slow-connections", "1"),
            ("--users-skew", "1"),
            ("--event-bytes", "uniform:200..300"),
        ] {
            check(&format!("{verified} {flag} {value}"), flag);
        }
        check("--app-id ab --api-key k --stages 5s@10 --rate 5", "--stages");
        check("--app-id ab --api-key k --stages 5s@10 --duration 5", "--stages");
    }
}
