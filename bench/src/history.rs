//! The lines of `bench/history.jsonl`: reading them, choosing some, setting two choices side by side.
//!
//! Knows no bench and no figure by name.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, bail};

use crate::record::{Figure, Line};
use crate::table::{aligned, number};

/// A commit is named by this many digits at least.
const COMMIT_DIGITS_MIN: usize = 6;
const CHOICES: &str = "a commit (6 digits or more), HEAD, `last` (the commit of the last line), or the number \
                       of a line, from 1";

pub fn read(path: &Path) -> anyhow::Result<Vec<Line>> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!(
            "{} can not be read: record something first, with ./dev bench --record",
            path.display()
        )
    })?;
    let numbered = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parsed = numbered.map(|(index, line)| {
        serde_json::from_str(line).with_context(|| format!("{}:{}", path.display(), index + 1))
    });
    parsed.collect()
}

/// Of each bench the newest line.
pub fn newest(lines: &[Line]) -> BTreeMap<&str, &Line> {
    lines.iter().map(|line| (line.bench.as_str(), line)).collect()
}

/// Of each bench the newest line among those that `which` names; `head` is the commit of HEAD.
pub fn select<'a>(
    lines: &'a [Line],
    which: &str,
    head: &str,
) -> anyhow::Result<BTreeMap<&'a str, &'a Line>> {
    if lines.is_empty() {
        bail!("nothing is recorded yet: ./dev bench --record");
    }
    if which.len() < COMMIT_DIGITS_MIN
        && let Ok(at) = which.parse::<usize>()
    {
        let Some(line) = at.checked_sub(1).and_then(|index| lines.get(index)) else {
            bail!("there is no line {at}: bench/history.jsonl has lines 1 to {}", lines.len());
        };
        return Ok(BTreeMap::from([(line.bench.as_str(), line)]));
    }
    let commit = match which {
        "HEAD" => head,
        "last" => &lines[lines.len() - 1].commit,
        other => other,
    };
    if commit.len() < COMMIT_DIGITS_MIN || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        bail!("'{which}' names no recorded figures; name {CHOICES}");
    }
    let of_commit = lines.iter().filter(|line| line.commit.starts_with(commit));
    let chosen: BTreeMap<_, _> = of_commit.map(|line| (line.bench.as_str(), line)).collect();
    if chosen.is_empty() {
        bail!("nothing is recorded of '{which}'; recorded are {}", commits(lines).join(", "));
    }
    Ok(chosen)
}

/// The first digits of each commit, in order, once.
fn commits(lines: &[Line]) -> Vec<&str> {
    let mut commits: Vec<&str> = lines.iter().map(short_commit).collect();
    commits.dedup();
    commits
}

pub fn short_commit(line: &Line) -> &str {
    line.commit.get(..12).unwrap_or(&line.commit)
}

/// Both sides of every figure that both have, with what speaks against comparing them.
pub fn compare(a: &BTreeMap<&str, &Line>, b: &BTreeMap<&str, &Line>) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut compared = 0;
    for (bench, a_line) in a {
        let Some(b_line) = b.get(bench) else { continue };
        let mut rows = vec![["figure", "A", "B", "B / A", "spreads"].map(str::to_owned)];
        for (name, a_figure) in &a_line.figures {
            let Some(b_figure) = b_line.figures.get(name) else { continue };
            rows.push(row(name, a_figure, b_figure));
        }
        if rows.len() == 1 {
            continue;
        }
        compared += rows.len() - 1;
        let (a_of, b_of) = (describe(a_line), describe(b_line));
        let _ = writeln!(text, "{bench}\n  A {a_of}\n  B {b_of}");
        for difference in differences(a_line, b_line) {
            let _ = writeln!(text, "  NOTE {difference}");
        }
        let _ = writeln!(text, "{}", aligned(&rows));
    }
    if compared == 0 {
        let names =
            |side: &BTreeMap<&str, &Line>| side.keys().copied().collect::<Vec<_>>().join(", ");
        bail!("no figure is on both sides: A has {}, B has {}", names(a), names(b));
    }
    Ok(text)
}

fn row(name: &str, a: &Figure, b: &Figure) -> [String; 5] {
    let ratio = if a.median == 0.0 { "–".to_owned() } else { number(b.median / a.median) };
    let spreads = match a.overlaps(b) {
        _ if a.unit != b.unit => "other units",
        true => "overlap",
        false => "apart",
    };
    [name.to_owned(), spread(a), spread(b), ratio, spreads.to_owned()]
}

/// `median (min–max) unit`
pub fn spread(figure: &Figure) -> String {
    let [median, min, max] = [figure.median, figure.min, figure.max].map(number);
    format!("{median} ({min}–{max}) {}", figure.unit)
}

pub fn describe(line: &Line) -> String {
    let dirty = if line.dirty { " with changes" } else { "" };
    format!("{}{dirty}, {}, {} × {}", short_commit(line), line.at, line.cores, line.cpu)
}

fn differences(a: &Line, b: &Line) -> Vec<String> {
    let machine = |line: &Line| (line.cpu.clone(), line.cores, line.memory_gib);
    let mut found = Vec::new();
    if machine(a) != machine(b) {
        found.push("these are different machines: compare figures of one".to_owned());
    }
    if a.kernel != b.kernel {
        found.push(format!("kernel {} and {}", a.kernel, b.kernel));
    }
    if a.config != b.config {
        found.push(format!("A ran: {}", a.config));
        found.push(format!("B ran: {}", b.config));
    }
    found
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
