//! `./dev bench capacity`: what so many events a second take, from measured costs. Writes docs/capacity.md, or with
//! --check tells whether it is what history gives. One history and the same flags give the same page.

#[path = "../capacity/imbalance.rs"]
mod imbalance;
#[path = "../capacity/inputs.rs"]
mod inputs;
#[path = "../capacity/sizing.rs"]
mod sizing;

use std::fmt::Write;

use anyhow::{Context, bail};

const HELP: &str = "Usage: capacity [--history FILE] [--out FILE] [--check] [--assume FIGURE=VALUE]... [--set NAME=VALUE]...

  --history FILE  default bench/history.jsonl
  --out FILE      default docs/capacity.md
  --check         write nothing; exit code 1 when FILE is not what history gives
  --assume F=V    takes V for the measured figure F, marked on the page
  --set N=V       another value for an assumption of the page";

/// Name, value, what it means.
const ASSUMPTIONS: [(&str, f64, &str); 15] = [
    ("events_per_s", 10e6, "events a second to be taken"),
    ("core_speed_ratio", 1.0, "speed of a core there, by that of a core we measured on"),
    ("network_cpu_ratio", 1.2, "CPU with a network card, by that over loopback"),
    ("cores_per_machine", 32.0, "shards of a machine"),
    ("busy_max", 0.8, "how busy the busiest core may be with a zone lost"),
    (
        "connections_single",
        200e3,
        "connections simulated, un-pipelined; more of them are only more even",
    ),
    ("connections_pooled", 20e3, "connections, 16 deep"),
    ("connections_batched", 20e3, "connections with batches of 100"),
    ("heavy_share", 0.01, "share of connections that are heavy"),
    ("heavy_ratio", 10.0, "how much more those send"),
    ("body_bytes", 270.0, "JSON of an event"),
    ("head_bytes", 250.0, "head of a request, with TCP's and Ethernet's share"),
    ("row_bytes", 200.0, "row of an event in a block"),
    ("stored_bytes", 31.0, "of an event in ClickHouse, compressed (docs/adr/004-events-table.md)"),
    ("compression_ratio", 3.0, "of blocks on their way to Kafka"),
];
const MORE: [(&str, f64, &str); 9] = [
    ("nic_gbit_per_s", 25.0, "of each machine, each way"),
    ("replication", 3.0, "of Kafka's topic"),
    ("broker_bytes_per_s", 300e6, "that a broker writes lastingly, copies included"),
    ("partition_bytes_per_s", 10e6, "that a partition takes"),
    ("clickhouse_replicas", 2.0, "of each shard, in different zones"),
    ("clickhouse_cores", 32.0, "of a ClickHouse machine"),
    ("clickhouse_insert_share", 0.3, "of its cores that insert; the others merge and answer"),
    ("retention_days", 30.0, "that events are kept in ClickHouse"),
    ("kafka_away_s", 600.0, "outage of Kafka that journals must hold"),
];

struct Arguments {
    history: String,
    out: String,
    check: bool,
    assumed: Vec<String>,
    set: Vec<(String, f64)>,
}

fn arguments() -> anyhow::Result<Arguments> {
    let mut found = Arguments {
        history: "bench/history.jsonl".to_owned(),
        out: "docs/capacity.md".to_owned(),
        check: false,
        assumed: Vec::new(),
        set: Vec::new(),
    };
    let mut given = std::env::args().skip(1);
    while let Some(flag) = given.next() {
        let mut value = || given.next().with_context(|| format!("{flag} needs a value\n{HELP}"));
        match flag.as_str() {
            "--history" => found.history = value()?,
            "--out" => found.out = value()?,
            "--check" => found.check = true,
            "--assume" => found.assumed.push(value()?),
            "--set" => {
                let text = value()?;
                let (name, number) = text.split_once('=').context("--set takes NAME=VALUE")?;
                let number: f64 = number.parse().with_context(|| format!("--set {text}"))?;
                if !all().any(|(known, ..)| *known == name) || !number.is_finite() || number <= 0.0
                {
                    bail!("--set {text}: no such assumption, or a value that is not above 0");
                }
                found.set.push((name.to_owned(), number));
            }
            "-h" | "--help" => {
                println!("{HELP}");
                std::process::exit(0);
            }
            other => bail!("unknown argument '{other}'\n{HELP}"),
        }
    }
    Ok(found)
}

fn all() -> impl Iterator<Item = &'static (&'static str, f64, &'static str)> {
    ASSUMPTIONS.iter().chain(&MORE)
}

fn page(history: &str, assumed: &[String], set: &[(String, f64)]) -> anyhow::Result<String> {
    let value = |name: &str| -> f64 {
        let given = set.iter().rev().find(|(known, _)| known == name).map(|(_, value)| *value);
        given
            .or_else(|| all().find(|(known, ..)| *known == name).map(|(_, value, _)| *value))
            .expect("every name asked for is in the tables above")
    };
    let mut text = String::from(
        "# Capacity\n\nMade by `./dev bench capacity`; every input is a line of `bench/history.jsonl` or marked as assumed.\n\n| measured | value | from |\n|---|---|---|\n",
    );
    let mut input = |bench: &str, figure: &str| -> anyhow::Result<f64> {
        let found = inputs::find(history, assumed, bench, figure)?;
        let _ = writeln!(text, "| {bench}: {figure} | {} | {} |", found.median, found.source);
        Ok(found.median)
    };
    let single_us = input("ingest", "cpu_us_per_request_single_512_connections")?
        .max(input("ingest", "cpu_us_per_request_single_64_connections")?);
    let pooled_us = 1e6 / input("ingest", "requests_per_shard_core_s_single_16_deep")?;
    let kafka_us = input("kafka", "engine_cpu_us_per_event_batch_100")?;
    let consumer_us = input("kafka", "cpu_us_per_event_consumer")?;
    let insert_per_s = input("kafka", "events_per_s_raw_insert")?;
    text.push_str("\n| assumed | value | meaning |\n|---|---|---|\n");
    for (name, _, meaning) in all() {
        let _ = writeln!(text, "| {name} | {} | {meaning} |", value(name));
    }
    let per_s = value("events_per_s");
    let slower = value("network_cpu_ratio") / value("core_speed_ratio");
    let cores = value("cores_per_machine").max(1.0) as u64;
    text.push_str("\n## Engine\n\nMachines in three zones, the busiest core below the bound with one zone lost, machines chosen by the power of two choices.\n\n| traffic | cores busy | busiest core, p99.9, by the mean | machines | busy: all | a machine lost | a zone lost | Gbit/s in, a machine, a zone lost | journal of a machine in the outage, GB |\n|---|---|---|---|---|---|---|---|---|\n");
    let traffic = [
        ("un-pipelined", single_us, 1.0, value("connections_single")),
        ("16 deep", pooled_us, 1.0, value("connections_pooled")),
        ("batches of 100", kafka_us, 100.0, value("connections_batched")),
    ];
    let fleet_of = |machines: u64, connections: f64| imbalance::Fleet {
        machines: machines as usize,
        cores_per_machine: cores as usize,
        connections: connections as usize,
        heavy_share: value("heavy_share").min(1.0),
        heavy_ratio: value("heavy_ratio"),
    };
    let mut imbalances = String::new();
    for (name, cpu_us, batch, connections) in traffic {
        let (mut uneven, mut sized) =
            (1.0, sizing::size(per_s, cpu_us * slower, cores, 1.0, value("busy_max")));
        // More machines are less even, which takes more machines; upwards only, so that it ends.
        for _ in 0..8 {
            let left = fleet_of(sized.machines / 3 * 2, connections);
            uneven =
                imbalance::busiest_p999(left, imbalance::Policy::TwoChoices, 300, 1).max(uneven);
            let next = sizing::size(per_s, cpu_us * slower, cores, uneven, value("busy_max"));
            if next.machines <= sized.machines {
                break;
            }
            sized = next;
        }
        let gbit_all = per_s * (value("body_bytes") + value("head_bytes") / batch) * 8.0 / 1e9;
        let by_card = gbit_all / (value("nic_gbit_per_s") * value("busy_max").min(1.0)) / 2.0;
        let in_zone = (by_card.ceil() as u64).max(sized.machines / 3);
        let sized = sizing::in_zones(sized.cores_busy, in_zone, cores);
        let left = (in_zone * 2) as f64;
        let gbit = gbit_all / left;
        let (held, _) =
            sizing::backlog(per_s / left * value("row_bytes"), value("kafka_away_s"), 2.0);
        let _ = writeln!(
            text,
            "| {name} | {:.0} | {uneven:.2} | {} | {:.0} % | {:.0} % | {:.0} % | {gbit:.1} | {:.0} |",
            sized.cores_busy,
            sized.machines,
            sized.busy[0] * 100.0,
            sized.busy[1] * 100.0,
            sized.busy[2] * 100.0,
            held / 1e9
        );
        for (policy, policy_name) in imbalance::Policy::ALL {
            let fleet = fleet_of(sized.machines, connections);
            let found = imbalance::busiest_p999(fleet, policy, 300, 1);
            let _ = writeln!(imbalances, "| {name} | {policy_name} | {found:.2} |");
        }
    }
    let _ = write!(
        text,
        "\n## Balancers\n\nThe busiest core's load by the mean, p99.9, all machines there. Within a machine SO_REUSEPORT hashes.\n\n| traffic | balancer | p99.9 |\n|---|---|---|\n{imbalances}"
    );
    let written = per_s * value("row_bytes") / value("compression_ratio");
    let brokers = (written * value("replication") / value("broker_bytes_per_s") / 2.0).ceil() * 3.0;
    let partitions = (written / value("partition_bytes_per_s") / brokers).ceil() * brokers;
    let consumer_cores = per_s * consumer_us * slower / 1e6 / value("busy_max");
    let shards = (per_s
        / (insert_per_s / 2.0
            * value("core_speed_ratio")
            * value("clickhouse_cores")
            * value("clickhouse_insert_share")))
    .ceil();
    let day = per_s * 86_400.0 * value("stored_bytes") * value("clickhouse_replicas") / 1e12;
    let _ = write!(
        text,
        "\n## Behind it\n\n| what | takes |\n|---|---|\n| Kafka: brokers, two zones enough | {brokers:.0} |\n| partitions | {partitions:.0} |\n| consumers' cores | {consumer_cores:.0} |\n| ClickHouse: shards × replicas | {shards:.0} × {:.0} |\n| ClickHouse: TB a day, all replicas | {day:.1} |\n| kept in all, TB | {:.0} |\n\nThe rate of a raw INSERT is of two cores shared with a generator, so the shards are an upper bound as far as that goes.\n",
        value("clickhouse_replicas"),
        day * value("retention_days")
    );
    Ok(text)
}

fn main() -> anyhow::Result<()> {
    let arguments = arguments()?;
    let history = std::fs::read_to_string(&arguments.history).unwrap_or_default();
    let made = page(&history, &arguments.assumed, &arguments.set)?;
    if arguments.check {
        if std::fs::read_to_string(&arguments.out).unwrap_or_default() != made {
            bail!(
                "{} is not what {} gives: ./dev bench capacity makes it again",
                arguments.out,
                arguments.history
            );
        }
        println!("{} is what {} gives", arguments.out, arguments.history);
        return Ok(());
    }
    std::fs::write(&arguments.out, made).with_context(|| format!("writing {}", arguments.out))?;
    println!("{} is written", arguments.out);
    Ok(())
}
