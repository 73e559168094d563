//! The page of one run.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::plot::{Plot, Scale, Series, section};
use super::{config_table, ms, page, table, tile, tiles, warnings};
use crate::live::grouped;
use crate::plan::Plan;
use crate::report::{Latencies, Report};
use crate::run::Outcome;
use crate::timeline::Interval;

pub fn run_page(plan: &Plan, outcome: &Outcome, report: &Report) -> String {
    let second = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    let started = outcome.started_at.to_offset(time::UtcOffset::UTC).format(&second);
    let started = started.unwrap_or_default();
    let mut notes = report.warnings.clone();
    notes.extend(report.failed_thresholds.iter().map(|failed| format!("failed: {failed}")));
    page(
        "Load test",
        &format!("{} · {started} UTC · {:.1} s", plan.url, report.elapsed_s),
        &[
            warnings(&notes),
            tiles(&run_tiles(report)),
            rate_plot(plan, outcome),
            latency_plot(outcome),
            distribution_plot(outcome),
            latency_table(report),
            status_table(&report.status, report),
            config_table(&report.config),
        ],
    )
}

fn run_tiles(report: &Report) -> Vec<super::Tile> {
    let corrected = &report.corrected_latency_us;
    let cores = |cpu_s: f64| format!("{:.2} cores", cpu_s / report.elapsed_s.max(1e-9));
    let (errors, unsent) = (grouped(report.errors as f64), grouped(report.unsent as f64));
    let mut errors = match (report.errors, report.unsent) {
        // A red 0 would say nothing.
        (0, 1..) => tile("unsent", unsent, "due and never sent; 0 errors"),
        _ => tile("errors", errors, format!("{unsent} unsent")),
    };
    errors.bad = report.errors + report.unsent > 0;
    let mut generator = tile(
        "generator",
        cores(report.generator_cpu_s),
        format!("{:.0} % running or waiting", report.generator.busy_share * 100.0),
    );
    generator.bad = !report.warnings.is_empty();
    let server = match (report.server.cpu_s, report.server.rss_bytes) {
        (Some(cpu_s), Some(rss)) => {
            tile("server", cores(cpu_s), format!("{:.0} MiB", rss as f64 / f64::from(1 << 20)))
        }
        _ => tile("server", "unknown", "see --server-pid"),
    };
    let mut all = vec![
        tile(
            "events",
            format!("{}/s", grouped(report.events_per_s)),
            format!("{} acknowledged", grouped(report.events as f64)),
        ),
        tile(
            "requests",
            format!("{}/s", grouped(report.requests_per_s)),
            format!("{:.1} MB/s", report.bytes_per_s / 1e6),
        ),
        tile("p50", ms(corrected.p50), "corrected"),
        tile("p99", ms(corrected.p99), "corrected"),
        tile("p99.9", ms(corrected.p999), "corrected"),
        errors,
        generator,
        server,
    ];
    if let Some(verified) = &report.verify {
        let wrong = verified.missing + verified.doubled;
        let mut verify = tile(
            "verified",
            format!("{} found", grouped(verified.found as f64)),
            format!("{} missing, {} doubled", verified.missing, verified.doubled),
        );
        verify.bad = wrong > 0 || !verified.holds();
        all.push(verify);
    }
    all
}

/// Of every interval that has begun: its middle in seconds, and a value of it.
fn over_time(outcome: &Outcome, value: impl Fn(&Interval) -> Option<f64>) -> Vec<(f64, f64)> {
    let timeline = &outcome.tally.timeline;
    let seconds = timeline.interval_s();
    let last = timeline.index_of((outcome.elapsed.as_nanos() as u64).saturating_sub(1));
    let intervals = timeline.intervals()[..=last].iter().enumerate();
    let values = intervals
        .filter_map(|(index, interval)| Some(((index as f64 + 0.5) * seconds, value(interval)?)));
    values.collect()
}

fn rate_plot(plan: &Plan, outcome: &Outcome) -> String {
    let seconds = outcome.tally.timeline.interval_s();
    // The last interval is cut off by the end: its rate would look like a fall.
    let end_s = outcome.elapsed.as_secs_f64();
    let rates = |count: fn(&Interval) -> u64| {
        let mut points = over_time(outcome, |interval| Some(count(interval) as f64 / seconds));
        if points.len() > 1
            && points.last().is_some_and(|last| last.0 + seconds / 2.0 > end_s + 1e-3)
        {
            points.pop();
        }
        points
    };
    let errors = rates(|interval| interval.errors);
    let any_error = errors.iter().any(|point| point.1 > 0.0);
    let mut series = vec![Series {
        name: "answers",
        colour: "a",
        points: rates(|interval| interval.answers),
        dots: false,
    }];
    if let Some(schedule) = plan.schedule() {
        let steps = 400;
        let points = (0..=steps).map(|step| {
            let at_ns = plan.duration_ns() / steps * step;
            (at_ns as f64 / 1e9, schedule.rate_at(at_ns.min(plan.duration_ns() - 1)))
        });
        series.push(Series { name: "due", colour: "dim", points: points.collect(), dots: false });
    }
    if any_error {
        series.push(Series { name: "errors", colour: "bad", points: errors, dots: false });
    }
    section(&Plot {
        title: "Requests over time",
        x_name: "seconds since the start",
        y_name: "req/s",
        x_scale: Scale::Linear,
        y_scale: Scale::Linear,
        series,
        x_ticks: None,
        bound: None,
    })
}

fn latency_plot(outcome: &Outcome) -> String {
    let at = |quantile: f64| {
        over_time(outcome, |interval| Some(interval.latency.quantile_ns(quantile)? as f64 / 1e6))
    };
    let line = |name, colour, quantile| Series { name, colour, points: at(quantile), dots: false };
    section(&Plot {
        title: "Corrected latency over time",
        x_name: "seconds since the start",
        y_name: "ms",
        x_scale: Scale::Linear,
        y_scale: Scale::Log,
        series: vec![line("p50", "a", 0.5), line("p99", "b", 0.99), line("p99.9", "c", 0.999)],
        x_ticks: None,
        bound: None,
    })
}

/// The latency that each share of the answers stayed below; every nine has the same width.
fn distribution_plot(outcome: &Outcome) -> String {
    let tally = &outcome.tally;
    let most = tally.latency_ns.len().max(tally.corrected_latency_ns.len()).max(10) as f64;
    let nines = most.log10().clamp(1.0, 7.0);
    let points = |histogram: &Histogram<u64>| -> Vec<(f64, f64)> {
        if histogram.is_empty() {
            return Vec::new();
        }
        let steps = (0..=200).map(|step| nines * f64::from(step) / 200.0);
        let at = |nine: f64| histogram.value_at_quantile(1.0 - 10f64.powf(-nine)) as f64 / 1e6;
        steps.map(|nine| (nine, at(nine))).collect()
    };
    let ticks = [
        (0.0, "0 %"),
        (std::f64::consts::LOG10_2, "50 %"),
        (1.0, "90 %"),
        (2.0, "99 %"),
        (3.0, "99.9 %"),
        (4.0, "99.99 %"),
        (5.0, "99.999 %"),
        (6.0, "99.9999 %"),
        (7.0, "99.99999 %"),
    ];
    let ticks = ticks.iter().filter(|tick| tick.0 <= nines);
    section(&Plot {
        title: "Latency distribution",
        x_name: "share of answers that came within",
        y_name: "ms",
        x_scale: Scale::Linear,
        y_scale: Scale::Log,
        series: vec![
            Series {
                name: "raw: from the first byte sent",
                colour: "a",
                points: points(&tally.latency_ns),
                dots: false,
            },
            Series {
                name: "corrected: from when it was due",
                colour: "b",
                points: points(&tally.corrected_latency_ns),
                dots: false,
            },
        ],
        x_ticks: Some(ticks.map(|&(at, name)| (at, name.to_owned())).collect()),
        bound: None,
    })
}

fn latency_table(report: &Report) -> String {
    let row = |name: &str, l: &Latencies| {
        let values = [l.p50, l.p90, l.p99, l.p999, l.p9999, l.max].map(ms);
        std::iter::once(name.to_owned()).chain(values).collect::<Vec<_>>()
    };
    table(
        "Latency",
        &["", "p50", "p90", "p99", "p99.9", "p99.99", "max"],
        &[
            row("raw: from the first byte sent", &report.latency_us),
            row("corrected: from when it was due", &report.corrected_latency_us),
        ],
    )
}

fn status_table(status: &BTreeMap<String, u64>, report: &Report) -> String {
    let total = (report.requests + report.unsent).max(1) as f64;
    let row = |name: String, count: u64| {
        let share = count as f64 / total * 100.0;
        vec![name, grouped(count as f64), format!("{share:.3} %")]
    };
    let mut rows: Vec<_> =
        status.iter().map(|(status, &count)| row(format!("answered {status}"), count)).collect();
    for (name, count) in [("lost with a connection", report.lost), ("due, not sent", report.unsent)]
    {
        if count > 0 {
            rows.push(row(name.to_owned(), count));
        }
    }
    if let Some(error) = &report.last_connection_error {
        let count = grouped(report.connection_errors as f64);
        rows.push(vec![format!("connection errors, the last: {error}"), count, String::new()]);
    }
    table("Answers", &["", "requests", "share of those due"], &rows)
}
