//! What a run found, as JSON and in words. docs/load-testing.md explains every field.

use std::collections::BTreeMap;
use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::Value;

use crate::distribution::Distribution;
use crate::generator_limit::{GeneratorLimit, GeneratorUse};
use crate::plan::Plan;
use crate::run::Outcome;
use crate::server_process::ServerUse;
use crate::slow_clients::SlowUse;
use crate::stages::Stages;
use crate::verify::Verified;

/// Microseconds.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Latencies {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub p9999: f64,
    pub max: f64,
}

#[derive(Debug, Default, Serialize)]
pub struct Config {
    url: String,
    /// Separated by commas.
    app_id: String,
    /// A number, or the text of a distribution.
    batch: Value,
    connections: u64,
    pipeline: u64,
    /// 0 in a closed loop; null when it changes, then see `stages`.
    rate: Option<u64>,
    stages: Option<String>,
    duration_s: f64,
    threads: u64,
    event_bytes: Value,
    /// The mean of those that are answered 200.
    request_bytes: u64,
    users: Option<u64>,
    users_skew: f64,
    compression: &'static str,
    /// 0 to 1.
    invalid_share: f64,
    requests_per_connection: Option<u64>,
    seed: u64,
    run: String,
}

#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub events_per_s: f64,
    pub requests_per_s: f64,
    pub bytes_per_s: f64,
    pub errors: u64,
    /// Requests that have to be refused and were, rightly.
    pub refused: u64,
    pub status: BTreeMap<String, u64>,
    pub latency_us: Latencies,
    pub corrected_latency_us: Latencies,
    pub generator_cpu_s: f64,
    pub generator: GeneratorUse,
    pub server: ServerUse,
    pub elapsed_s: f64,
    pub events: u64,
    pub requests: u64,
    pub bytes: u64,
    pub lost: u64,
    pub unsent: u64,
    pub connections_opened: u64,
    pub connections_lost: u64,
    pub connections_retired: u64,
    pub connection_errors: u64,
    pub last_connection_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<SlowUse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verified>,
    pub failed_thresholds: Vec<String>,
    /// What speaks against taking the figures as the server's.
    pub warnings: Vec<String>,
    pub config: Config,
}

impl Latencies {
    /// By the names that thresholds have for latencies.
    pub fn named(&self, name: &str) -> Option<f64> {
        Some(match name {
            "p50" => self.p50,
            "p90" => self.p90,
            "p99" => self.p99,
            "p999" => self.p999,
            "p9999" => self.p9999,
            "max" => self.max,
            _ => return None,
        })
    }
}

impl Report {
    pub fn new(plan: &Plan, outcome: &Outcome) -> Self {
        let tally = &outcome.tally;
        let elapsed_s = outcome.elapsed.as_secs_f64().max(1e-9);
        let events = tally.events;
        Report {
            events_per_s: rounded(events as f64 / elapsed_s),
            requests_per_s: rounded(tally.answers() as f64 / elapsed_s),
            bytes_per_s: rounded(tally.sent_bytes as f64 / elapsed_s),
            errors: tally.errors(),
            refused: tally.refused,
            status: tally.status_counts().map(|(s, n)| (s.to_string(), n)).collect(),
            latency_us: latencies(&tally.latency_ns),
            corrected_latency_us: latencies(&tally.corrected_latency_ns),
            generator_cpu_s: outcome.generator_cpu.as_secs_f64(),
            generator: outcome.generator,
            server: outcome.server,
            elapsed_s,
            events,
            requests: tally.answers() + tally.lost,
            bytes: tally.sent_bytes,
            lost: tally.lost,
            unsent: tally.unsent,
            connections_opened: tally.connections_opened,
            connections_lost: tally.connections_lost,
            connections_retired: tally.connections_retired,
            connection_errors: tally.connections_lost + tally.connect_errors,
            last_connection_error: tally.last_connection_error.clone(),
            slow: outcome.slow.clone(),
            verify: None,
            failed_thresholds: Vec::new(),
            warnings: outcome.generator.limit().iter().map(GeneratorLimit::to_string).collect(),
            config: Config {
                url: plan.url.clone(),
                app_id: plan.apps.iter().map(|app| app.0.id.as_str()).collect::<Vec<_>>().join(","),
                batch: number_or_text(&plan.batch),
                connections: plan.connections,
                pipeline: plan.pipeline,
                rate: constant_rate(plan.stages.as_ref()),
                stages: plan.stages.as_ref().map(Stages::to_string),
                duration_s: plan.duration.as_secs_f64(),
                threads: plan.threads,
                event_bytes: number_or_text(&plan.event_bytes),
                request_bytes: plan.mix.request_bytes_mean(),
                users: plan.users,
                users_skew: plan.users_skew,
                compression: plan.compression.as_str(),
                invalid_share: plan.invalid_share.0,
                requests_per_connection: plan.requests_per_connection,
                seed: plan.seed,
                run: format!("{:016x}", plan.run.as_u64()),
            },
        }
    }

    /// The part of the requests due that were not answered as they must be, or never sent.
    pub fn failed_share(&self) -> f64 {
        (self.errors + self.unsent) as f64 / ((self.requests + self.unsent) as f64).max(1.0)
    }

    /// The value that a threshold names; latencies are the corrected ones.
    pub fn metric(&self, name: &str) -> f64 {
        if let Some(value) = self.corrected_latency_us.named(name) {
            return if self.requests > self.lost { value } else { f64::INFINITY };
        }
        match name {
            "errors" => self.errors as f64,
            "unsent" => self.unsent as f64,
            "connection_errors" => self.connection_errors as f64,
            "events_per_s" => self.events_per_s,
            "requests_per_s" => self.requests_per_s,
            "bytes_per_s" => self.bytes_per_s,
            _ => unreachable!("thresholds are parsed to these names only"),
        }
    }

    pub fn summary(&self) -> String {
        let mut text = String::new();
        self.write_summary(&mut text).expect("writing to a String can not fail");
        text
    }

    fn write_summary(&self, out: &mut String) -> std::fmt::Result {
        let config = &self.config;
        writeln!(
            out,
            "{} events in requests of {} over {} connections, {} deep, {:.1} s",
            self.events,
            plain(&config.batch),
            config.connections,
            config.pipeline,
            self.elapsed_s
        )?;
        writeln!(
            out,
            "  {:.0} events/s   {:.0} requests/s   {:.1} MB/s",
            self.events_per_s,
            self.requests_per_s,
            self.bytes_per_s / 1e6
        )?;
        let answers: Vec<_> =
            self.status.iter().map(|(status, count)| format!("{status}: {count}")).collect();
        writeln!(
            out,
            "  errors {}   unsent {}   connection errors {}",
            self.errors, self.unsent, self.connection_errors
        )?;
        writeln!(
            out,
            "  answers {}; lost with a connection {}",
            if answers.is_empty() { "none".to_owned() } else { answers.join(", ") },
            self.lost
        )?;
        if config.invalid_share > 0.0 {
            writeln!(out, "  rightly refused {}", self.refused)?;
        }
        if config.requests_per_connection.is_some() {
            let (retired, opened) = (self.connections_retired, self.connections_opened);
            writeln!(out, "  connections closed after their requests {retired}, opened {opened}")?;
        }
        if let Some(slow) = &self.slow {
            let answers: Vec<_> = slow.answers.iter().map(|(s, n)| format!("{s}: {n}")).collect();
            writeln!(
                out,
                "  slow connections {}: {} bytes, answers {}, closed {}, connection errors {}",
                slow.connections,
                slow.bytes,
                if answers.is_empty() { "none".to_owned() } else { answers.join(", ") },
                slow.closed,
                slow.connection_errors
            )?;
        }
        if let Some(error) = &self.last_connection_error {
            writeln!(out, "  last connection error: {error}")?;
        }
        let row = |name: &str, cells: [String; 6]| {
            let cells = cells.map(|cell| format!("{cell:>11}"));
            format!("  {name:<11}{}", cells.concat())
        };
        let heads = ["p50", "p90", "p99", "p99.9", "p99.99", "max"].map(str::to_owned);
        writeln!(out, "{}", row("latency ms", heads))?;
        for (name, l) in [("  raw", &self.latency_us), ("  corrected", &self.corrected_latency_us)]
        {
            let values = [l.p50, l.p90, l.p99, l.p999, l.p9999, l.max];
            writeln!(out, "{}", row(name, values.map(|us| format!("{:.3}", us / 1e3))))?;
        }
        let cores = |cpu_s: f64| cpu_s / self.elapsed_s;
        write!(
            out,
            "  CPU: generator {:.2} s ({:.2} cores)",
            self.generator_cpu_s,
            cores(self.generator_cpu_s)
        )?;
        match (self.server.cpu_s, self.server.rss_bytes) {
            (Some(cpu_s), Some(rss)) => writeln!(
                out,
                "   server {cpu_s:.2} s ({:.2} cores), {:.1} MiB",
                cores(cpu_s),
                rss as f64 / f64::from(1 << 20)
            )?,
            _ => writeln!(out, "   server unknown")?,
        }
        if let Some(verified) = &self.verify {
            writeln!(out, "  {verified}")?;
        }
        for warning in &self.warnings {
            writeln!(out, "  WARNING {warning}")?;
        }
        for failed in &self.failed_thresholds {
            writeln!(out, "  FAILED {failed}")?;
        }
        Ok(())
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn number_or_text(distribution: &Distribution) -> Value {
    match distribution {
        Distribution::Fixed(value) => (*value).into(),
        other => other.to_string().into(),
    }
}

fn constant_rate(stages: Option<&Stages>) -> Option<u64> {
    let Some(stages) = stages else { return Some(0) };
    let rate = stages.iter().next()?.from_per_s;
    stages.iter().all(|s| s.from_per_s == rate && s.to_per_s == rate).then_some(rate)
}

fn latencies(histogram_ns: &Histogram<u64>) -> Latencies {
    let at = |quantile| rounded(histogram_ns.value_at_quantile(quantile) as f64 / 1e3);
    Latencies {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        p9999: at(0.9999),
        max: rounded(histogram_ns.max() as f64 / 1e3),
    }
}

/// One digit after the point: what is behind it is noise.
fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_microseconds() {
        let mut histogram = Histogram::new(3).unwrap();
        for ms in 1..=1_000 {
            histogram.record(ms * 1_000_000).unwrap();
        }
        let json = serde_json::to_value(latencies(&histogram)).unwrap();
        for (name, ms) in
            [("p50", 500.0), ("p90", 900.0), ("p99", 990.0), ("p999", 999.0), ("max", 1_000.0)]
        {
            let seen = json[name].as_f64().unwrap() / 1e3;
            assert!((seen / ms - 1.0).abs() < 0.002, "{name}: {seen} ms, not {ms}");
        }
        assert_eq!(json.as_object().unwrap().len(), 6);
    }

    /// But for addresses and texts from outside, which have any length.
    #[test]
    fn a_summary_fits_into_80_columns() {
        let latencies =
            || Latencies { p50: 1_234_567.8, max: 99_999_999.9, ..Latencies::default() };
        let report = Report {
            events_per_s: 12_345_678.9,
            requests_per_s: 1_234_567.8,
            bytes_per_s: 2.5e9,
            errors: 1_000_000,
            unsent: 1_000_000,
            status: [("200".to_owned(), 123_456_789), ("503".to_owned(), 1_000_000)].into(),
            latency_us: latencies(),
            corrected_latency_us: latencies(),
            elapsed_s: 600.0,
            ..Report::default()
        };
        let summary = report.summary();
        assert!(summary.contains("    corrected   1234.568"), "{summary}");
        assert!(summary.lines().all(|line| line.chars().count() < 80), "{summary}");
    }

    #[test]
    fn no_answers_are_zeros() {
        assert_eq!(latencies(&Histogram::new(3).unwrap()), Latencies::default());
    }
}
