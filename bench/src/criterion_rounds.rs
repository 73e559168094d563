//! Criterion's benches as recorded figures: several rounds, the benches in turn within each, and of
//! every benchmark the medians of the rounds.
//!
//! A criterion run has a spread of its own, of samples that follow each other within seconds; what a
//! machine does from minute to minute is only seen between rounds.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::machine::checkout;
use crate::record::{ROUNDS_DEFAULT, Recorder};

/// Shorter than criterion's own times where a bench does not set them: there are several rounds.
const WARM_UP_S: &str = "0.5";

/// What is asked of all of them alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounds {
    pub count: usize,
    /// Of each benchmark, but where a bench sets it itself.
    pub measured_s: u64,
}

impl Default for Rounds {
    fn default() -> Rounds {
        Rounds { count: ROUNDS_DEFAULT, measured_s: 2 }
    }
}

type Series = BTreeMap<String, (&'static str, Vec<f64>)>;

/// Whether the figures are kept is in the process's arguments.
pub fn record(benches: &[&str], rounds: Rounds) -> anyhow::Result<()> {
    let mut found: Vec<Series> = benches.iter().map(|_| Series::new()).collect();
    let recorders: Vec<Recorder> = benches.iter().map(|name| Recorder::from_args(name)).collect();
    for round in 1..=rounds.count {
        for (name, series) in benches.iter().zip(&mut found) {
            eprintln!("{name}, round {round} of {}", rounds.count);
            let folder = tempfile::tempdir()?;
            run(name, rounds, folder.path())?;
            for (figure, unit, value) in figures_below(folder.path())? {
                series.entry(figure).or_insert((unit, Vec::new())).1.push(value);
            }
        }
    }
    for (mut recorder, series) in recorders.into_iter().zip(found) {
        recorder.config(&format!(
            "criterion, the medians of {} interleaved rounds, {} s for each benchmark where the bench \
             sets no time",
            rounds.count, rounds.measured_s
        ));
        for (figure, (unit, values)) in &series {
            recorder.figure(figure, unit, values);
        }
        recorder.finish();
    }
    Ok(())
}

fn run(bench: &str, rounds: Rounds, folder: &Path) -> anyhow::Result<()> {
    let status = Command::new("cargo")
        .args(["bench", "--quiet", "--locked", "-p", "bench", "--bench", bench, "--", "--noplot"])
        .args(["--warm-up-time", WARM_UP_S, "--measurement-time", &rounds.measured_s.to_string()])
        .env("CRITERION_HOME", folder)
        .current_dir(checkout())
        .stdout(std::process::Stdio::null())
        .status()
        .context("cargo can not be started")?;
    if !status.success() {
        bail!("cargo bench --bench {bench}: {status}");
    }
    Ok(())
}

/// Name, unit and value of each benchmark whose results are there.
fn figures_below(folder: &Path) -> anyhow::Result<Vec<(String, &'static str, f64)>> {
    let mut figures = Vec::new();
    for entry in std::fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        if entry.file_name() == "new" && path.join("benchmark.json").exists() {
            let read = |name: &str| -> anyhow::Result<Value> {
                let file = path.join(name);
                let text = std::fs::read(&file).with_context(|| file.display().to_string())?;
                Ok(serde_json::from_slice(&text)?)
            };
            figures.extend(figures_of(&read("benchmark.json")?, &read("estimates.json")?)?);
        } else if path.is_dir() {
            figures.extend(figures_below(&path)?);
        }
    }
    Ok(figures)
}

/// The time of one iteration always; the rates where the bench says of how much.
fn figures_of(
    benchmark: &Value,
    estimates: &Value,
) -> anyhow::Result<Vec<(String, &'static str, f64)>> {
    let id = benchmark["full_id"].as_str().context("full_id in benchmark.json")?;
    let median = estimates["median"]["point_estimate"].as_f64();
    let ns = median.context("median.point_estimate in estimates.json")?;
    let name = figure_name(id);
    let throughput = &benchmark["throughput"];
    let both = &throughput["ElementsAndBytes"];
    let mut figures = vec![(format!("us_{name}"), "us", ns / 1e3)];
    if let Some(bytes) = throughput["Bytes"].as_f64().or(both["bytes"].as_f64()) {
        figures.push((format!("bytes_per_s_{name}"), "bytes/s", bytes / ns * 1e9));
    }
    if let Some(events) = both["elements"].as_f64() {
        figures.push((format!("events_per_s_{name}"), "events/s", events / ns * 1e9));
    }
    Ok(figures)
}

/// `json/sonic-rs/100` is `json_sonic_rs_100`.
fn figure_name(id: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    id.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_criterion_become_figures() {
        let check = |throughput: &str, expected: &[(&str, &str, f64)]| {
            let folder = tempfile::tempdir().unwrap();
            let new = folder.path().join("json/sonic-rs/100/new");
            std::fs::create_dir_all(&new).unwrap();
            let benchmark =
                format!(r#"{{"full_id":"json/sonic-rs/100","throughput":{throughput}}}"#);
            std::fs::write(new.join("benchmark.json"), benchmark).unwrap();
            let estimates = r#"{"mean":{"point_estimate":9.0},"median":{"point_estimate":2000.0}}"#;
            std::fs::write(new.join("estimates.json"), estimates).unwrap();
            let seen = figures_below(folder.path()).unwrap();
            let seen: Vec<_> = seen.iter().map(|(n, unit, v)| (n.as_str(), *unit, *v)).collect();
            assert_eq!(seen, expected, "{throughput}");
        };
        let time = ("us_json_sonic_rs_100", "us", 2.0);
        let bytes = ("bytes_per_s_json_sonic_rs_100", "bytes/s", 1e9);
        check("null", &[time]);
        check(r#"{"Elements":1}"#, &[time]);
        check(r#"{"Bytes":2000}"#, &[time, bytes]);
        let events = ("events_per_s_json_sonic_rs_100", "events/s", 5e6);
        check(r#"{"ElementsAndBytes":{"elements":10,"bytes":2000}}"#, &[time, bytes, events]);
    }
}
