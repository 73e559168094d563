//! What follows the loss of a machine and of a zone, as a table, and charts of the worst traffic.

use std::fmt::Write;

use super::{number, percent};
use crate::capacity::assumptions::Assumptions;
use crate::capacity::bars;
use crate::capacity::engine::Plan;
use crate::capacity::loss::{self, Outcome, WINDOW_S};
use crate::capacity::measured::Measured;

/// From then on a loss is over for those who look at goodput.
const GOODPUT_BACK: f64 = 0.99;
const CHART_COLUMNS: usize = 60;
const BAND: f64 = 0.05;
const BANDS_MAX: f64 = 24.0;

pub fn section(plans: &[Plan], measured: &Measured, a: &Assumptions) -> String {
    // No refusal costs more than a whole request of its own.
    let refusal_us = measured.single_us * a.slower();
    let lost = |plan: &Plan, machines| loss::simulate(&plan.scene(machines, refusal_us, a));
    let found: Vec<(&Plan, [Outcome; 2])> = plans
        .iter()
        .map(|plan| (plan, [lost(plan, 1), lost(plan, plan.sized.in_zone())]))
        .collect();
    let mut text = format!(
        "\n## A machine lost, a zone lost\n\n{} s are simulated. The *peak* is the most that came to one core in {WINDOW_S} s, by what \
         it does in them; above 100 % something waits. Times count from the loss.\n",
        number(a.loss_horizon_s)
    );
    text.push_str(&cores(&found));
    text.push_str(&answers(&found));
    if let Some((plan, [_, zone])) = found.first() {
        text.push_str(&loads(plan.traffic.name, zone));
    }
    for (plan, [_, zone]) in &found {
        text.push_str(&goodput(plan.traffic.name, zone));
    }
    text
}

fn each<'a>(found: &'a [(&'a Plan, [Outcome; 2])]) -> impl Iterator<Item = (String, &'a Outcome)> {
    found.iter().flat_map(|(plan, outcomes)| {
        let names = ["a machine", "a zone"].map(|lost| format!("{}, {lost}", plan.traffic.name));
        names.into_iter().zip(outcomes)
    })
}

fn cores(found: &[(&Plan, [Outcome; 2])]) -> String {
    let mut text = String::from(
        "\n| lost | busiest core before | **peak** | after | a core full for, s | longest wait there, ms | goodput at least | 99 % again after, s | **steady after, s** |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for (name, outcome) in each(found) {
        let back = outcome.goodput_back_s(GOODPUT_BACK);
        let _ = writeln!(
            text,
            "| {name} | {} | **{}** | {} | {} | {} | {} | {} | **{}** |",
            percent(outcome.busiest_before()),
            percent(outcome.peak_load),
            percent(outcome.busiest_after()),
            number(outcome.full_s),
            number(outcome.wait_ms),
            percent(outcome.goodput_least()),
            back.map_or_else(|| "never".to_owned(), number),
            outcome.steady_s.map_or_else(|| "never".to_owned(), number),
        );
    }
    text
}

fn answers(found: &[(&Plan, [Outcome; 2])]) -> String {
    let mut text = String::from(
        "\n| lost | connections lost | 503 of the balancer | until, s | 503 of shards | until, s | not accepted | requests sent again | clients and cores held at most, s of the load |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for (name, outcome) in each(found) {
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} |",
            number(outcome.connections_lost as f64),
            number(outcome.refused_by_balancer.round()),
            number(outcome.refused_by_balancer_until_s),
            number(outcome.refused_by_shards.round()),
            number(outcome.refused_by_shards_until_s),
            number(outcome.not_accepted as f64),
            number(outcome.sent_again.round()),
            number(outcome.held_s),
        );
    }
    text
}

fn loads(traffic: &str, zone: &Outcome) -> String {
    // The same bands for both, and never more of them than fit a screen.
    let most = zone.busiest_before().max(zone.busiest_after());
    let band = BAND * (most / BAND / BANDS_MAX).ceil().max(1.0);
    let chart = |loads: &[f64]| bars::lines(&bars::bands(loads, band), 40);
    format!(
        "\nCores by their use, {traffic}, all there:\n\n```text\n{}```\n\nThose that stay, once steady with a zone lost:\n\n```text\n{}```\n",
        chart(&zone.loads_before),
        chart(&zone.loads_after)
    )
}

fn goodput(traffic: &str, zone: &Outcome) -> String {
    let shown = &zone.goodput[..zone.goodput.len().min(CHART_COLUMNS)];
    let top = shown.iter().copied().fold(1.0, f64::max);
    format!(
        "\nGoodput of {traffic} after a zone is lost, by what comes in, a column is {WINDOW_S} s:\n\n```text\n{}```\n",
        bars::columns(shown, top, 5, percent)
    )
}
