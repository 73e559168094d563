//! What a bench found: printed at once, and with `--record` kept as one line of
//! `bench/history.jsonl`.
//!
//! Owns the figure (its runs, median, least, most) and the line. Must not know what is measured.
//! Invariants: a name is snake_case and stands once in a line; a unit is one of [`UNITS`]; every run
//! is a finite number.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::goals::GOALS;
use crate::machine::{Machine, checkout};
use crate::table::number;

/// `us` is CPU time, or time in a micro bench; `ms` is latency; `requests` and `events` count.
pub const UNITS: [&str; 10] = [
    "events/s",
    "requests/s",
    "bytes/s",
    "rows/s",
    "us",
    "ms",
    "MiB",
    "ratio",
    "requests",
    "events",
];

/// Benches are run so often, one after the other, each case in turn within a round.
pub const ROUNDS_DEFAULT: usize = 5;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub unit: String,
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// In the order in which they were made.
    pub runs: Vec<f64>,
}

impl Figure {
    pub fn of(unit: &str, runs: &[f64]) -> Figure {
        assert!(UNITS.contains(&unit), "{unit:?} is none of the units {UNITS:?}");
        assert!(!runs.is_empty(), "a figure needs a run");
        assert!(runs.iter().all(|run| run.is_finite()), "a run is no number: {runs:?}");
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Figure {
            unit: unit.to_owned(),
            median: (low + high) / 2.0,
            min: sorted[0],
            max: sorted[sorted.len() - 1],
            runs: runs.to_vec(),
        }
    }

    /// Whether a run of each could have come from the other.
    pub fn overlaps(&self, other: &Figure) -> bool {
        self.min <= other.max && other.min <= self.max
    }
}

/// A line of `bench/history.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub at: String,
    pub commit: String,
    pub dirty: bool,
    pub kernel: String,
    pub cpu: String,
    pub cores: usize,
    pub memory_gib: u64,
    pub bench: String,
    pub config: String,
    pub figures: BTreeMap<String, Figure>,
}

pub fn history_file() -> PathBuf {
    checkout().join("bench/history.jsonl")
}

pub struct Recorder {
    bench: String,
    machine: Machine,
    config: String,
    figures: BTreeMap<String, Figure>,
    kept_in: Option<PathBuf>,
}

impl Recorder {
    /// Keeps the figures if the process's arguments have `--record`. The machine is looked at now: a
    /// commit made while the bench runs is not the one that is measured.
    pub fn from_args(bench: &str) -> Recorder {
        let record = std::env::args().any(|argument| argument == "--record");
        Recorder::new(bench, record.then(history_file))
    }

    pub fn new(bench: &str, kept_in: Option<PathBuf>) -> Recorder {
        Recorder {
            bench: bench.to_owned(),
            machine: Machine::this(),
            config: String::new(),
            figures: BTreeMap::new(),
            kept_in,
        }
    }

    /// What was run, in one line.
    pub fn config(&mut self, text: &str) {
        assert!(!text.contains('\n'), "one line: {text:?}");
        self.config = text.to_owned();
    }

    /// What the processes under load say that they were built from. Where it is not the checkout's commit
    /// the line says that something differs: figures of other binaries are not this commit's.
    pub fn measured(&mut self, commit: &str) {
        if !is_commit(&self.machine.commit, commit) && !self.machine.dirty {
            eprintln!("the binaries are of commit {commit}: the line will say that it is dirty");
            self.machine.dirty = true;
        }
    }

    /// Prints the figure, and keeps it for [`Recorder::finish`].
    pub fn figure(&mut self, name: &str, unit: &str, runs: &[f64]) {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(!name.is_empty() && name.chars().all(plain), "{name:?} is not snake_case");
        let figure = Figure::of(unit, runs);
        let (median, min, max) = (number(figure.median), number(figure.min), number(figure.max));
        println!("{name}  {median} ({min}–{max}) {unit}");
        let known = self.figures.insert(name.to_owned(), figure);
        assert!(known.is_none(), "{name} was measured twice");
    }

    /// Tells what is asked of the figures, and appends the line where they are to be kept.
    pub fn finish(self) {
        for goal in GOALS.iter().filter(|goal| goal.bench == self.bench) {
            let Some(figure) = self.figures.get(goal.figure) else { continue };
            let verdict = if goal.bound.holds(figure.median) { "reached" } else { "NOT REACHED" };
            let (median, asked) = (number(figure.median), goal.bound.text());
            println!("asked: {} {asked}; it is {median}: {verdict}", goal.figure);
        }
        let Some(path) = self.kept_in.clone() else { return };
        let bench = self.bench.clone();
        if let Err(error) = append(&path, &self.into_line()) {
            panic!(
                "the figures of {bench} are lost: {} can not be written: {error}",
                path.display()
            );
        }
        println!("recorded in {}", path.display());
    }

    fn into_line(self) -> Line {
        let now = OffsetDateTime::now_utc().replace_nanosecond(0).expect("0 is a nanosecond");
        let Machine { commit, dirty, kernel, cpu, cores, memory_gib } = self.machine;
        Line {
            at: now.format(&Rfc3339).expect("this century's times can be written"),
            commit,
            dirty,
            kernel,
            cpu,
            cores,
            memory_gib,
            bench: self.bench,
            config: self.config,
            figures: self.figures,
        }
    }
}

/// Whether `short`, as `/version` has it, is this commit. Of fewer digits nothing is known.
fn is_commit(commit: &str, short: &str) -> bool {
    short.len() >= 12 && commit.starts_with(short)
}

/// In one write, so that two benches never mix their lines.
fn append(path: &Path, line: &Line) -> std::io::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    let mut file = std::fs::File::options().create(true).append(true).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spreads() {
        let check = |runs: &[f64], expected: (f64, f64, f64)| {
            let figure = Figure::of("ms", runs);
            assert_eq!((figure.median, figure.min, figure.max), expected, "{runs:?}");
            assert_eq!(figure.runs, runs);
        };
        check(&[3.0], (3.0, 3.0, 3.0));
        check(&[3.0, 1.0], (2.0, 1.0, 3.0));
        check(&[5.0, 1.0, 3.0], (3.0, 1.0, 5.0));
        check(&[4.0, 1.0, 2.0, 10.0], (3.0, 1.0, 10.0));
    }

    #[test]
    fn spreads_overlap_when_they_touch() {
        let check = |a: &[f64], b: &[f64], expected| {
            let (a, b) = (Figure::of("ms", a), Figure::of("ms", b));
            assert_eq!((a.overlaps(&b), b.overlaps(&a)), (expected, expected), "{a:?} {b:?}");
        };
        check(&[1.0, 2.0], &[2.0, 3.0], true);
        check(&[1.0, 9.0], &[2.0, 3.0], true);
        check(&[1.0, 2.0], &[2.1, 3.0], false);
    }

    #[test]
    fn lines_are_appended_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        for runs in [[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]] {
            let mut recorder = Recorder::new("ingest", Some(path.clone()));
            recorder.config("as it is");
            recorder.figure("events_per_s_batch_100", "events/s", &runs);
            recorder.finish();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Line> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].bench.as_str(), lines[0].config.as_str()), ("ingest", "as it is"));
        assert_eq!(lines[1].figures["events_per_s_batch_100"].median, 3.0);
        assert!(lines[0].at.ends_with('Z') && lines[0].at.len() == 20, "{}", lines[0].at);
        assert!(text.contains(r#""unit":"events/s","median":2.0,"min":1.0,"max":3.0,"runs":["#));
    }

    #[test]
    fn nothing_is_kept_unless_asked() {
        let mut recorder = Recorder::new("ingest", None);
        recorder.figure("latency_p99_ms", "ms", &[1.0]);
        recorder.finish();
    }

    #[test]
    fn figures_of_other_binaries_are_not_the_commits() {
        let check = |measured: &str, expected| {
            let mut recorder = Recorder::new("ingest", None);
            recorder.machine.commit = "0123456789abcdef0123456789abcdef01234567".to_owned();
            recorder.machine.dirty = false;
            recorder.measured(measured);
            assert_eq!(recorder.into_line().dirty, expected, "{measured}");
        };
        check("0123456789ab", false);
        check("0123456789ac", true);
        check("unknown", true);
        check("", true);
    }

    #[test]
    #[should_panic(expected = "measured twice")]
    fn a_name_stands_once() {
        let mut recorder = Recorder::new("ingest", None);
        recorder.figure("a", "ms", &[1.0]);
        recorder.figure("a", "ms", &[1.0]);
    }
}
