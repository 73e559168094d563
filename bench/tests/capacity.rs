//! `./dev bench capacity` as a command: the page from recorded figures, the same each time, checked, refused.

use std::path::Path;
use std::process::{Command, Output};

use bench::machine::checkout;

/// As `./dev bench --record` writes them, two machines' worth; the older line must not count.
const HISTORY: &str = r#"{"at":"2026-01-01T00:00:00Z","commit":"0000000000000000000000000000000000000000","dirty":false,"kernel":"6.18","cpu":"Old CPU","cores":2,"memory_gib":8,"bench":"kafka","config":"c","figures":{"engine_cpu_us_per_event_single":{"unit":"us","median":900.0,"min":900.0,"max":900.0,"runs":[900.0]}}}
{"at":"2026-02-01T00:00:00Z","commit":"1111111111111111111111111111111111111111","dirty":false,"kernel":"6.18","cpu":"Some CPU","cores":2,"memory_gib":8,"bench":"ingest","config":"c","figures":{"cpu_us_per_request_single_64_connections":{"unit":"us","median":5.5,"min":5.0,"max":6.0,"runs":[5.0,5.5,6.0]},"cpu_us_per_request_single_512_connections":{"unit":"us","median":5.0,"min":5.0,"max":5.0,"runs":[5.0]},"cpu_us_per_request_single_16_deep":{"unit":"us","median":1.0,"min":1.0,"max":1.0,"runs":[1.0]},"cpu_us_per_event_batch_100":{"unit":"us","median":0.2,"min":0.2,"max":0.2,"runs":[0.2]}}}
{"at":"2026-02-01T00:00:00Z","commit":"1111111111111111111111111111111111111111","dirty":true,"kernel":"6.18","cpu":"Some CPU","cores":2,"memory_gib":8,"bench":"kafka","config":"c","figures":{"engine_cpu_us_per_event_single":{"unit":"us","median":7.0,"min":7.0,"max":7.0,"runs":[7.0]},"engine_cpu_us_per_event_batch_100":{"unit":"us","median":0.3,"min":0.3,"max":0.3,"runs":[0.3]},"cpu_us_per_event_consumer":{"unit":"us","median":0.9,"min":0.9,"max":0.9,"runs":[0.9]},"events_per_s_raw_insert":{"unit":"events/s","median":600000.0,"min":600000.0,"max":600000.0,"runs":[600000.0]}}}
"#;

/// So many that a core's load is its share of them and not the luck of a few heavy ones.
const MANY: [&str; 8] = [
    "--set",
    "imbalance_moments=50",
    "--set",
    "connections_single=40000",
    "--set",
    "connections_pooled=40000",
    "--set",
    "connections_batched=40000",
];

/// Small enough for a test, large enough to be a percentile.
const FEW: [&str; 8] = [
    "--set",
    "imbalance_moments=1000",
    "--set",
    "connections_single=4000",
    "--set",
    "connections_pooled=1000",
    "--set",
    "connections_batched=1000",
];

fn capacity(folder: &Path, flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_capacity"))
        .args(flags)
        .current_dir(folder)
        .output()
        .expect("the command starts")
}

fn said(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr];
    streams.map(|stream| String::from_utf8_lossy(stream).into_owned()).concat()
}

/// The page with these flags more.
fn page(folder: &Path, flags: &[&str]) -> String {
    std::fs::write(folder.join("history.jsonl"), HISTORY).expect("a file");
    let files = ["--history", "history.jsonl", "--out", "page.md"];
    let output = capacity(folder, &[&files[..], &FEW, flags].concat());
    assert!(output.status.success(), "{}", said(&output));
    std::fs::read_to_string(folder.join("page.md")).expect("the page")
}

/// Cells of the first row below the heading that begins with `name`.
fn row(page: &str, heading: &str, name: &str) -> Vec<String> {
    let section = page.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("no {heading} in {page}"));
    let start = format!("| {name}");
    let row = section.lines().find(|line| line.starts_with(&start));
    let row = row.unwrap_or_else(|| panic!("no {name} in {section}"));
    row.split('|').map(|cell| cell.replace("**", "").trim().to_owned()).collect()
}

fn value(cell: &str) -> f64 {
    let digits: String = cell.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect();
    digits.parse().unwrap_or_else(|_| panic!("{cell} is no number"))
}

#[test]
fn one_history_gives_one_page_and_check_knows_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = page(folder.path(), &[]);
    let other = tempfile::tempdir().expect("a folder");
    assert!(first == page(other.path(), &[]), "two runs differ");
    assert!(first.contains("| 7.00 (7.00–7.00) us | 111111111111 with changes, 2026-02-01"));
    assert!(first.contains("p99.9 of 1000 moments") && !first.contains("NaN"));
    let check = |flags: &[&str]| {
        let files = ["--history", "history.jsonl", "--out", "page.md", "--check"];
        capacity(folder.path(), &[&files[..], &FEW, flags].concat())
    };
    let output = check(&[]);
    assert!(output.status.success(), "{}", said(&output));
    let output = check(&["--set", "retention_days=7"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("makes it again"), "{}", said(&output));
    std::fs::write(folder.path().join("page.md"), first.replacen('7', "8", 1)).expect("a file");
    assert_eq!(check(&[]).status.code(), Some(1));
}

#[test]
fn more_events_take_more_and_a_lost_zone_never_loads_less() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut last: Option<Vec<f64>> = None;
    for events in ["events_per_s=2e6", "events_per_s=10e6", "events_per_s=20e6"] {
        let page = page(folder.path(), &[&MANY[..], &["--set", events]].concat());
        let mut now: Vec<f64> =
            ["Kafka: brokers", "Kafka: partitions", "consumers", "ClickHouse: shards"]
                .map(|name| {
                    value(row(&page, "Behind it", name)[2].split('×').next().expect("a cell"))
                })
                .to_vec();
        for traffic in ["un-pipelined", "16 deep", "batches of 100"] {
            let cells = row(&page, "Engine", traffic);
            now.push(value(&cells[5]));
            let used: Vec<f64> = cells[7..=9].iter().map(|cell| value(cell)).collect();
            assert!(used.is_sorted(), "{used:?}");
            let lost = ["a machine", "a zone"]
                .map(|lost| row(&page, "A machine lost", &format!("{traffic}, {lost}")));
            let after = lost.each_ref().map(|cells| value(&cells[4]));
            assert!(after[0] <= after[1], "{traffic}: {after:?}");
            assert!(lost.iter().all(|cells| value(&cells[3]) >= value(&cells[4])), "{lost:?}");
        }
        if let Some(last) = last {
            assert!(last.iter().zip(&now).all(|(less, more)| less <= more), "{last:?} {now:?}");
        }
        last = Some(now);
    }
}

#[test]
fn what_is_missing_or_wrong_is_said_with_the_way_out() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("history.jsonl"), HISTORY.lines().next().expect("a line"))
        .expect("a file");
    let check = |flags: &[&str], code: i32, part: &str| {
        let output = capacity(folder.path(), flags);
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {}", said(&output));
        assert!(said(&output).contains(part), "{flags:?}: {}", said(&output));
    };
    let files = ["--history", "history.jsonl", "--out", "page.md"];
    check(&files, 1, "cpu_us_per_event_batch_100: ./dev bench ingest --record");
    check(&["--history", "none.jsonl"], 1, "--record");
    check(&["--set", "busy_max=2"], 1, "at most 1");
    check(&["--assume", "cpu=2"], 1, "no such figure");
    check(&["--chek"], 2, "--check");
    check(&["--help"], 0, "balancer_detect_s");
    assert!(!folder.path().join("page.md").exists());
}

/// Where it is committed it is what the recorded figures give: `./dev bench capacity` makes it again.
#[test]
fn the_committed_page_is_what_history_gives() {
    if !checkout().join("docs/capacity.md").exists() {
        return;
    }
    let output = capacity(&checkout(), &["--check"]);
    assert!(output.status.success(), "{}", said(&output));
}
