//! The page of a search.

use super::plot::{Plot, Scale, Series, section};
use super::{config_table, ms, page, table, tile, tiles, warnings};
use crate::live::grouped;
use crate::plan::Plan;
use crate::search::findings::{Findings, Step, verdict_word};
use crate::search::judge::Bound;
use crate::search::knee::Verdict;

pub fn search_page(plan: &Plan, findings: &Findings) -> String {
    let mut notes = Vec::new();
    if !findings.is_conclusive() {
        notes.push(findings.conclusion());
    }
    let mut parts = vec![warnings(&notes), tiles(&search_tiles(findings))];
    parts.extend(findings.bounds.iter().map(|bound| bound_plot(findings, bound)));
    parts.push(steps_table(&findings.steps));
    if let Some(step) = findings.steps.last() {
        parts.push(config_table(&step.report.config));
    }
    page("Search for the knee", &format!("{} · {}", plan.url, findings.bounds_text()), &parts)
}

fn search_tiles(findings: &Findings) -> Vec<super::Tile> {
    let Some(knee) = &findings.knee else { return Vec::new() };
    let rate =
        |value: Option<f64>| value.map_or("none".to_owned(), |v| format!("{}/s", grouped(v)));
    let note = match knee.found {
        "knee" => "the knee: higher rates break the bound",
        "maximum" => "all that --max allows",
        "generator" => "above it the generator is the limit",
        "nothing" => "not even 1 a second holds",
        _ => "not settled",
    };
    let mut found = tile("requests", rate(knee.requests_per_s.map(|r| r as f64)), note);
    found.bad = !findings.is_conclusive();
    let mut all = vec![found, tile("events", rate(knee.events_per_s), "at that rate")];
    let confirmed = findings.steps.iter().rfind(|step| Some(step.rate) == knee.requests_per_s);
    if let Some(Step { report, .. }) = confirmed {
        let l = &report.corrected_latency_us;
        all.extend([
            tile("p50", ms(l.p50), "at that rate"),
            tile("p99", ms(l.p99), "at that rate"),
            tile("p99.9", ms(l.p999), "at that rate"),
            tile(
                "generator",
                format!("{:.0} %", report.generator.busy_share * 100.0),
                "of the time running or waiting",
            ),
        ]);
    }
    all
}

fn bound_plot(findings: &Findings, bound: &Bound) -> String {
    let dots = |name, colour, verdict: Verdict| Series {
        name,
        colour,
        points: findings
            .steps
            .iter()
            .filter(|step| step.verdict == verdict)
            .filter_map(|step| {
                let us = step.report.corrected_latency_us.named(bound.metric())?;
                Some((step.rate as f64, us / 1e3))
            })
            .collect(),
        dots: true,
    };
    section(&Plot {
        title: &format!("{} at each rate", bound.metric()),
        x_name: "requests a second",
        y_name: "ms",
        // Growing doubles the rate: evenly spaced here, crowded at 0 on a linear axis.
        x_scale: Scale::Log,
        y_scale: Scale::Log,
        series: vec![
            dots("held", "good", Verdict::Held),
            dots("broke", "bad", Verdict::Broke),
            dots("the generator was the limit", "b", Verdict::GeneratorLimited),
        ],
        x_ticks: None,
        bound: Some((bound.limit_us() / 1e3, bound.to_string())),
    })
}

fn steps_table(steps: &[Step]) -> String {
    let rows = steps.iter().map(|step| {
        let l = &step.report.corrected_latency_us;
        vec![
            step.number.to_string(),
            step.phase.to_owned(),
            grouped(step.rate as f64),
            grouped(step.report.events_per_s),
            ms(l.p50),
            ms(l.p99),
            ms(l.p999),
            format!("{:.3} %", step.report.failed_share() * 100.0),
            match &step.why {
                Some(why) => format!("{}: {why}", verdict_word(step.verdict)),
                None => verdict_word(step.verdict).to_owned(),
            },
        ]
    });
    let head = ["", "phase", "requests/s", "events/s", "p50", "p99", "p99.9", "failed", "verdict"];
    table("Steps", &head, &rows.collect::<Vec<_>>())
}
