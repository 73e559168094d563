//! What a run will do: the options, completed from endpoints.json and checked against each other.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use crate::event_id::RunId;
use crate::options::Options;
use crate::schedule::Schedule;
use crate::stages::Stages;
use crate::target::Target;
use crate::template::{RequestTemplate, TemplateError, Traffic, Users};

const USERS_DEFAULT: u64 = 100_000;
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
    pub users_max: u64,
    pub wait: Duration,
}

#[derive(Debug)]
pub struct Plan {
    pub url: String,
    pub target: Target,
    pub app_id: String,
    pub api_key: String,
    pub batch: u64,
    pub connections: u64,
    pub pipeline: u64,
    /// None in a closed loop, in which answers set the pace.
    pub stages: Option<Stages>,
    schedule: Option<Schedule>,
    pub duration: Duration,
    pub threads: u64,
    pub event_bytes: usize,
    pub users: Option<u64>,
    pub seed: u64,
    pub run: RunId,
    pub traffic: Traffic,
    pub template: RequestTemplate,
    pub verify: Option<VerifyPlan>,
    pub server: ServerFigures,
}

#[derive(Default, Deserialize)]
struct Endpoints {
    ingest: Option<String>,
    api: Option<String>,
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
            .or(endpoints.ingest)
            .unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
        let target = parse_target("--url", &url)?;
        let missing = |flag| PlanError::Missing { flag };
        let app_id =
            options.app_id.clone().or(endpoints.app_id).ok_or_else(|| missing("--app-id"))?;
        let api_key =
            options.api_key.clone().or(endpoints.api_key).ok_or_else(|| missing("--api-key"))?;
        check_field("--app-id", &app_id, |c| c.is_ascii_hexdigit() || c == '-')?;
        check_field("--api-key", &api_key, |c| c.is_ascii_graphic())?;

        let verify = match &options.verify {
            None => None,
            Some(given) => {
                let api = given.clone().or(endpoints.api).ok_or_else(|| missing("--verify"))?;
                Some(VerifyPlan {
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
            Some(count) => Traffic::ordinary(Users::Shared { count }),
            None => Traffic::traceable(run),
        };
        let template = RequestTemplate::new(
            &target,
            &app_id,
            &api_key,
            run,
            &traffic,
            options.batch,
            options.event_bytes,
        )
        .map_err(|error| {
            let TemplateError::EventBytes { .. } = error;
            PlanError::Invalid { flag: "--event-bytes", reason: error.to_string() }
        })?;
        let (stages, duration) = stages_of(options)?;
        let threads = options.threads.unwrap_or_else(default_threads).min(options.connections);
        Ok(Plan {
            url,
            target,
            app_id,
            api_key,
            batch: options.batch,
            connections: options.connections,
            pipeline: options.pipeline,
            schedule: stages.as_ref().map(|stages| Schedule::new(stages, options.connections)),
            stages,
            duration,
            threads,
            event_bytes: options.event_bytes,
            users,
            seed,
            run,
            traffic,
            template,
            verify,
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
            assert_eq!((plan.url.as_str(), plan.app_id.as_str()), ("http://h:1", "ab"));
            assert_eq!(plan.api_key, "mine");
            assert_eq!(plan.verify.unwrap().api, Target::parse("http://h:2").unwrap());
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
        check("--app-id ab --api-key k --stages 5s@10 --rate 5", "--stages");
        check("--app-id ab --api-key k --stages 5s@10 --duration 5", "--stages");
    }
}
