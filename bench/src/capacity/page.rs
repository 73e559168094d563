//! The page: every table and chart of the model, in the order of an event's way.

mod losses;
mod text;

use std::fmt::Write;

use super::assumptions::{Assumptions, TABLE};
use super::balancer::Policy;
use super::bars;
use super::behind;
use super::engine::{self, Plan, SEED};
use super::imbalance;
use super::measured::Measured;
use super::outage::{self, Outage};

/// `flags` are those that made it, each after a space.
pub fn page(measured: &Measured, a: &Assumptions, flags: &str) -> String {
    let plans = engine::traffics(measured, a).map(|traffic| engine::plan(traffic, a));
    let mut page = text::head(a, flags);
    page.push_str(&measured_figures(measured));
    page.push_str(&assumed(a));
    page.push_str(&engine_machines(&plans, a));
    page.push_str(&balancers(&plans, a));
    page.push_str(&losses::section(&plans, measured, a));
    page.push_str(&kafka_away(&plans, a));
    page.push_str(&behind_it(measured, a));
    page.push_str(text::NOT_MODELLED);
    page
}

/// As in the tables of the benches, but for small whole numbers, which have no digits behind the point.
fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1_000.0 {
        format!("{value}")
    } else {
        bench::table::number(value)
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn measured_figures(measured: &Measured) -> String {
    let mut text = String::from(
        "\n## Measured\n\n| bench | figure | median (least–most) | from |\n|---|---|---|---|\n",
    );
    for one in &measured.found {
        let (bench, figure, value, source) = (one.bench, one.figure, &one.text, &one.source);
        let _ = writeln!(text, "| {bench} | `{figure}` | {value} | {source} |");
    }
    let _ = write!(
        text,
        "\nFrom them, in µs of one measured core: un-pipelined request {} (the most of the three ways it was measured); 16 deep {}, \
         with {} for Kafka instead of ClickHouse (what an event of a batch takes more there); event of a batch {}; \
         consumer {} an event. A core inserts {} rows a second (all cores of that machine, its generator included).\n",
        number(measured.single_us),
        number(measured.pooled_us),
        number(measured.kafka_more_us),
        number(measured.event_of_batch_us),
        number(measured.consumer_us),
        number(measured.inserts_per_core_s),
    );
    text
}

fn assumed(a: &Assumptions) -> String {
    let defaults = Assumptions::default();
    let mut text = String::from(
        "\n## Assumed\n\n`--set NAME=VALUE` gives another value.\n\n| name | value | unit | meaning | from |\n|---|---|---|---|---|\n",
    );
    for known in TABLE {
        let [value, usual] =
            [a, &defaults].map(|of| of.value(known.name).expect("the table names fields"));
        let source = if value == usual { known.source } else { "**given with `--set`**" };
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {source} |",
            known.name,
            number(value),
            known.unit,
            known.meaning
        );
    }
    text
}

fn engine_machines(plans: &[Plan], a: &Assumptions) -> String {
    let mut text = format!(
        "\n## Engine\n\nMachines of {} cores in three zones. The busiest core is the {} by the mean core with a zone lost, \
         machines chosen by the power of two choices.\n\n\
         | traffic | CPU there, µs an event | cores busy | busiest core by the mean | **machines** | asked for by | a core's mean use: all there | a machine lost | a zone lost | busiest then | Gbit/s in, a machine | journal MB/s | connections of a core |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        a.cores(),
        imbalance::called(a.imbalance_moments as usize),
    );
    for plan in plans {
        let [all, machine, zone] = plan.sized.busy;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.2} | **{}** | {} | {} | {} | {} | {} | {:.1} | {} | {} |",
            plan.traffic.name,
            number(plan.traffic.event_us()),
            number(plan.sized.cores_busy),
            plan.uneven,
            plan.sized.machines,
            plan.asked_by,
            percent(all),
            percent(machine),
            percent(zone),
            percent(zone * plan.uneven),
            plan.gbit_per_s,
            number(plan.journal_bytes_per_s / 1e6),
            number(plan.connections_of_core),
        );
    }
    let _ = writeln!(
        text,
        "\nThe last three columns are with a zone lost. A shard takes up to {} connections.",
        number(a.shard_connections_max)
    );
    text
}

fn balancers(plans: &[Plan], a: &Assumptions) -> String {
    let moments = a.imbalance_moments as usize;
    let mut text = format!(
        "\n## Balancers\n\nThe busiest core by the mean core, {}, all machines there. The balancer chooses a machine and knows \
         counts of connections, not what they send; within a machine SO_REUSEPORT's hash chooses the core, which no \
         balancer mends.\n\n| traffic | {} |\n|---|---|---|---|---|\n",
        imbalance::called(moments),
        Policy::ALL.map(|(_, name)| name).join(" | ")
    );
    for plan in plans {
        let fleet = plan.traffic.fleet(plan.sized.machines, a);
        let cells = Policy::ALL
            .map(|(policy, _)| format!("{:.2}", imbalance::busiest(fleet, policy, moments, SEED)));
        let _ = writeln!(text, "| {} | {} |", plan.traffic.name, cells.join(" | "));
    }
    text
}

fn kafka_away(plans: &[Plan], a: &Assumptions) -> String {
    const COLUMNS: usize = 60;
    let kafka = behind::kafka(a);
    let ratio = behind::drain_ratio(&kafka, a);
    let limit =
        if ratio < a.kafka_drain_ratio { "as fast as the brokers take it" } else { "as measured" };
    let mut text = format!(
        "\n## Kafka away\n\n{} s without Kafka, all engine machines there; then the journals drain at {ratio:.1} times the arrivals, \
         {limit} (measured {:.1}; all brokers take {:.1} times). No request fails while the disk has room. \
         What is inserted into ClickHouse directly after 30 s is not counted, so journals are full later than this says. \
         What was forwarded before stays for 15 minutes (`journal.keep_forwarded_s`) where there is room, and gives way.\n\n\
         | traffic | a machine's journals gain | hold at most, GB | drained after Kafka's return, s | a default of 64 GiB is full after, s | 503 with {} GB |\n\
         |---|---|---|---|---|---|\n",
        number(a.kafka_away_s),
        a.kafka_drain_ratio,
        kafka.take_ratio,
        number(a.journal_backlog_bytes_max / 1e9),
    );
    let mut chart = String::new();
    for plan in plans {
        let outage = Outage {
            bytes_per_s: a.events_per_s * a.row_bytes / plan.sized.machines as f64,
            away_s: a.kafka_away_s,
            drain_ratio: ratio,
            bytes_max: a.journal_backlog_bytes_max,
        };
        let course = outage::follow(&outage);
        let refused = course.full_from_s.map_or_else(
            || "none".to_owned(),
            |from| format!("**from {from} s on, {} s of the load**", number(course.full_s)),
        );
        let drained = course.drained_s.map_or_else(|| "**never**".to_owned(), |s| s.to_string());
        let _ = writeln!(
            text,
            "| {} | {} MB/s | {} | {drained} | {} | {refused} |",
            plan.traffic.name,
            number(outage.bytes_per_s / 1e6),
            number(course.bytes_peak / 1e9),
            number(64.0 * 1_073_741_824.0 / outage.bytes_per_s),
        );
        if chart.is_empty() {
            let span = course.bytes.len().max(1);
            let seconds = span.div_ceil(COLUMNS).max(1);
            let values: Vec<f64> =
                course.bytes.chunks(seconds).map(|some| some[some.len() - 1] / 1e9).collect();
            let top = values.iter().copied().fold(1e-9, f64::max);
            let _ = write!(
                chart,
                "\nJournals of a machine in GB, {}, a column is {seconds} s:\n\n```text\n{}```\n",
                plan.traffic.name,
                bars::columns(&values, top, 5, number)
            );
        }
    }
    text.push_str(&chart);
    text
}

fn behind_it(measured: &Measured, a: &Assumptions) -> String {
    let kafka = behind::kafka(a);
    let clickhouse = behind::clickhouse(measured, a);
    let mut text = String::from("\n## Behind it\n\n| what | takes | because |\n|---|---|---|\n");
    let mut row = |what: &str, takes: String, because: String| {
        let _ = writeln!(text, "| {what} | **{takes}** | {because} |");
    };
    row(
        "Kafka: brokers, in three zones, two enough",
        number(kafka.brokers),
        format!(
            "{}: {} MB/s into the topic, {} copies",
            kafka.asked_by,
            number(kafka.bytes_per_s / 1e6),
            number(a.replication)
        ),
    );
    row(
        "Kafka: partitions",
        number(kafka.partitions),
        format!("{} MB/s each, as many on each broker", number(a.partition_bytes_per_s / 1e6)),
    );
    let cores = behind::consumer_cores(measured, a);
    row(
        "consumers: cores",
        number(cores.ceil()),
        format!("busy up to {}; at most one for a partition works", percent(a.busy_max)),
    );
    row(
        "ClickHouse: shards × replicas",
        format!("{} × {}", number(clickhouse.shards()), number(clickhouse.replicas)),
        format!(
            "{}: {} shards by disk, {} by inserts",
            clickhouse.asked_by(),
            number(clickhouse.shards_by_disk),
            number(clickhouse.shards_by_insert)
        ),
    );
    row(
        "ClickHouse: disk of a machine",
        format!("{} TB", number(clickhouse.bytes_of_machine / 1e12)),
        format!(
            "{} TB a day and {} TB kept in all replicas, of {} TB usable each",
            number(clickhouse.bytes_per_day / 1e12),
            number(clickhouse.bytes_kept / 1e12),
            number(a.clickhouse_disk_bytes * a.clickhouse_disk_full_max / 1e12)
        ),
    );
    row(
        "ClickHouse: inserts of a shard",
        format!("{} rows/s", number(a.events_per_s / clickhouse.shards())),
        format!(
            "of {} that {} of its cores take; one replica inserts, the others fetch",
            number(clickhouse.inserts_per_shard_s),
            percent(a.clickhouse_insert_share)
        ),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::measured::tests::given;

    fn made(set: &[&str]) -> String {
        let few = [
            "imbalance_moments=20",
            "connections_single=6000",
            "connections_pooled=2000",
            "connections_batched=2000",
            "loss_horizon_s=60",
        ];
        let set: Vec<String> = few.iter().chain(set).map(|text| (*text).to_owned()).collect();
        page(&given(), &Assumptions::with(&set).expect("in range"), "")
    }

    #[test]
    fn everything_stands_on_the_page() {
        let page = made(&[]);
        for known in TABLE {
            assert!(page.contains(&format!("| `{}` |", known.name)), "{}", known.name);
        }
        let check = |part: &str| assert!(page.contains(part), "{part} in {page}");
        check("**assumed**, not measured");
        check("**given with `--set`**");
        check("the most of 20 moments");
        check("▇");
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let check = |set: &[&str], part: &str| {
            let page = made(set);
            assert!(page.contains(part), "{part} in {page}");
        };
        check(&["journal_backlog_bytes_max=1e9"], "s of the load**");
        check(&["kafka_drain_ratio=0.5"], "**never**");
        check(&["shard_connections_max=3"], "| connections |");
    }
}
