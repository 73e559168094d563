//! What the runs came to: figures, the table, and how far the engine is ahead.
//!
//! A ratio is taken within a round, between runs that were made one after the other, and its median
//! over the rounds is told.

use crate::peers::Contestant;
use bench::record::{Figure, Recorder};

use crate::load::{Case, DIRECT, KAFKA, Run};

#[derive(Default)]
pub struct Figures(Vec<(&'static str, Contestant, Vec<Run>)>);

impl Figures {
    pub fn add(&mut self, case: &Case, contestant: Contestant, run: Run) {
        let is_it = |known: &&mut (&str, Contestant, Vec<Run>)| {
            known.0 == case.name && known.1 == contestant
        };
        match self.0.iter_mut().find(is_it) {
            Some((_, _, runs)) => runs.push(run),
            None => self.0.push((case.name, contestant, vec![run])),
        }
    }

    fn runs(&self, case: &str, contestant: Contestant) -> &[Run] {
        let found = self.0.iter().find(|known| known.0 == case && known.1 == contestant);
        found.map_or(&[], |(_, _, runs)| runs)
    }

    /// Every figure under its own name, then the table for people.
    pub fn tell(&self, recorder: &mut Recorder) {
        let cases = || DIRECT.iter().chain(&KAFKA);
        for case in cases() {
            for contestant in Contestant::ALL {
                self.record(recorder, case, contestant);
            }
        }
        for case in cases() {
            self.table(case);
        }
        println!();
    }

    fn record(&self, recorder: &mut Recorder, case: &Case, contestant: Contestant) {
        let runs = self.runs(case.name, contestant);
        if runs.is_empty() {
            return;
        }
        let suffix = format!("{}_{}", case.name, contestant.name());
        let all = |of: fn(&Run) -> f64| runs.iter().map(of).collect::<Vec<f64>>();
        let requests_per_s = all(|run| run.requests_per_s);
        if case.is_batch() {
            let per_request = f64::from(case.events_per_request);
            let events: Vec<f64> = requests_per_s.iter().map(|rate| rate * per_request).collect();
            recorder.figure(&format!("events_per_s_{suffix}"), "events/s", &events);
        } else {
            recorder.figure(&format!("requests_per_s_{suffix}"), "requests/s", &requests_per_s);
        }
        recorder.figure(
            &format!("cpu_us_per_request_{suffix}"),
            "us",
            &all(|run| run.cpu_us_per_request),
        );
        recorder.figure(&format!("p99_ms_{suffix}"), "ms", &all(|run| run.p99_ms));
        if contestant != Contestant::Engine {
            let (rates, cpu) = self.ratios(case.name, contestant);
            let name = format!("{}_engine_to_{}", case.name, contestant.name());
            recorder.figure(&format!("rate_ratio_{name}"), "ratio", &rates);
            recorder.figure(&format!("cpu_ratio_{name}"), "ratio", &cpu);
        }
    }

    /// Round by round: the engine's rate by the peer's, and the peer's CPU time by the engine's.
    /// Both are above 1 where the engine is better.
    fn ratios(&self, case: &str, peer: Contestant) -> (Vec<f64>, Vec<f64>) {
        let pairs = self.runs(case, Contestant::Engine).iter().zip(self.runs(case, peer));
        pairs
            .map(|(ours, theirs)| {
                let rate = ours.requests_per_s / theirs.requests_per_s;
                (rate, theirs.cpu_us_per_request / ours.cpu_us_per_request)
            })
            .unzip()
    }

    fn table(&self, case: &Case) {
        if self.runs(case.name, Contestant::Engine).is_empty() {
            return;
        }
        let unit = if case.is_batch() { "events/s" } else { "requests/s" };
        println!("\n{}", case.title);
        println!(
            "  {:<7} {:>32} {:>24} {:>16} {:>14} {:>13}",
            "", unit, "CPU µs a request", "p99 ms", "engine's rate", "its CPU"
        );
        for contestant in Contestant::ALL {
            let runs = self.runs(case.name, contestant);
            if runs.is_empty() {
                continue;
            }
            let events = f64::from(case.events_per_request);
            let rate = spread(unit, runs.iter().map(|run| run.requests_per_s * events), 0);
            let cpu = spread("us", runs.iter().map(|run| run.cpu_us_per_request), 2);
            let p99 = spread("ms", runs.iter().map(|run| run.p99_ms), 1);
            let (rates, cpus) = self.ratios(case.name, contestant);
            let (rate_ratio, cpu_ratio) = match contestant {
                Contestant::Engine => (String::new(), String::new()),
                _ => (format!("{:.2} ×", median(&rates)), format!("1 / {:.2}", median(&cpus))),
            };
            println!(
                "  {:<7} {rate:>32} {cpu:>24} {p99:>16} {rate_ratio:>14} {cpu_ratio:>13}",
                contestant.name()
            );
        }
    }
}

fn median(ratios: &[f64]) -> f64 {
    Figure::of("ratio", ratios).median
}

/// `median (least–most)`.
fn spread(unit: &str, runs: impl Iterator<Item = f64>, decimals: usize) -> String {
    let Figure { median, min, max, .. } = Figure::of(unit, &runs.collect::<Vec<f64>>());
    format!("{median:.decimals$} ({min:.decimals$}–{max:.decimals$})")
}
