//! What is taken for granted: each with its unit, its meaning, and where the value comes from. The page shows all of
//! them; `--set` gives others.

use anyhow::{Context, bail};

pub struct Described {
    pub name: &'static str,
    pub unit: &'static str,
    pub meaning: &'static str,
    pub source: &'static str,
    /// Values are above 0 and at most this.
    pub max: f64,
}

macro_rules! assumptions {
    ($($name:ident = $value:literal to $max:literal $unit:literal, $meaning:literal, $source:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct Assumptions {
            $(pub $name: f64,)*
        }

        impl Default for Assumptions {
            fn default() -> Assumptions {
                Assumptions { $($name: $value,)* }
            }
        }

        impl Assumptions {
            fn slot(&mut self, name: &str) -> Option<&mut f64> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)*
                    _ => None,
                }
            }
        }

        pub const TABLE: &[Described] = &[
            $(Described {
                name: stringify!($name), unit: $unit, meaning: $meaning, source: $source, max: $max,
            },)*
        ];
    };
}

assumptions! {
    events_per_s = 10e6 to 1e10 "events/s", "what is to be taken", "what the design is asked for";
    body_bytes = 270.0 to 1e6 "B", "JSON of an event", "what the benches send";
    row_bytes = 200.0 to 1e6 "B", "an event's row in a block",
        "an estimate below its JSON; a running system: `unmogrowp_forward_sent_bytes_total` / `unmogrowp_forward_rows_total`";
    head_bytes = 250.0 to 1e5 "B", "head of a request, with TCP's and Ethernet's share", "an estimate: 9 headers, one segment";
    connections_single = 100e3 to 5e6 "", "clients that send an event at a time",
        "chosen, on the low side: more of them are only more even";
    connections_pooled = 20e3 to 5e6 "", "clients that send 16 deep", "chosen; fewer are less even";
    connections_batched = 20e3 to 5e6 "", "clients that send batches of 100", "chosen; fewer are less even";
    heavy_share = 0.01 to 1.0 "of 1", "share of the clients that are heavy", "chosen: a few servers among many small clients";
    heavy_ratio = 10.0 to 1e4 "times", "how much more those send", "chosen";
    core_speed_ratio = 1.0 to 100.0 "times", "speed of a core there, by a core that we measured on",
        "not known before `./dev bench json` ran there";
    network_cpu_ratio = 1.2 to 100.0 "times", "CPU of a request over a network card, by that over loopback",
        "an estimate; one machine can not measure it";
    cores_per_machine = 32.0 to 1024.0 "", "shards of a machine, one to a core", "chosen: a usual size";
    busy_max = 0.8 to 1.0 "of 1", "how busy the busiest core may be with a zone lost",
        "the latency goals are measured at 80 % of the peak";
    nic_gbit_per_s = 25.0 to 1e4 "Gbit/s", "network card of every machine, each way; used up to `busy_max`", "chosen: a usual card";
    journal_disk_bytes_per_s = 1e9 to 1e12 "B/s", "that an engine machine's disk writes lastingly; used up to `busy_max`",
        "chosen: one NVMe disk; `./dev bench journal` there tells";
    imbalance_moments = 3000.0 to 1e5 "", "moments at which the busiest core is looked at", "a p99.9 needs some thousand";
    loss_notice_s = 1.0 to 600.0 "s", "within which clients notice that their connection is dead, evenly spread",
        "an estimate: a reset by the balancer, or the next request's time-out";
    balancer_detect_s = 6.0 to 600.0 "s", "until the balancer leaves a lost machine out; an attempt that it sends there before gets a 503",
        "chosen: three health checks in a row, 2 s apart";
    backoff_min_s = 0.5 to 600.0 "s", "SDK's backoff, exponential with full jitter: attempt n waits from 0 to this × 2ⁿ, evenly",
        "chosen: what SDKs have is 0.1 s to 3 s";
    backoff_max_s = 30.0 to 3600.0 "s", "the longest such wait", "chosen";
    answer_ms = 5.0 to 1e5 "ms", "time of an answer: what a lost connection had under way for so long is sent again",
        "the goal of the p99 at 80 % of the peak";
    connect_cpu_us = 50.0 to 5e3 "µs", "CPU of a new connection, TLS ended by the balancer", "an estimate, on the high side";
    shard_connections_max = 8192.0 to 1e6 "", "connections of a shard; more are closed at once; planned up to `busy_max` of them",
        "`limits.connections_max`";
    accept_backlog = 4096.0 to 1e6 "", "connections that wait for a shard to accept them; more get no answer",
        "engine/src/driver/socket.rs, with tuning/listen-backlog.sh";
    body_budget_bytes = 67108864.0 to 1e12 "B", "bodies that a shard holds; more get a 503", "`limits.body_budget_bytes`";
    retry_after_s = 1.0 to 600.0 "s", "Retry-After of such a 503", "engine/src/shard/answer.rs";
    loss_horizon_s = 120.0 to 3600.0 "s", "that is simulated after a loss", "chosen";
    kafka_away_s = 600.0 to 1e6 "s", "outage of Kafka that journals must hold", "what `./dev chaos kafka-outage` breaks";
    kafka_drain_ratio = 5.9 to 100.0 "times", "how much faster than the arrivals a journal drains when Kafka is back",
        "measured at 200,000 events/s: `./dev chaos kafka-outage --minutes 10`, [figures.md](figures.md)";
    journal_backlog_bytes_max = 512e9 to 1e15 "B", "disk of an engine machine's journals",
        "chosen; `journal.backlog_bytes_max`, by default 64 GiB at most";
    compression_ratio = 3.0 to 100.0 "times", "of blocks on their way to Kafka", "an estimate for LZ4 and rows like those";
    replication = 3.0 to 10.0 "", "copies of Kafka's topic", "a usual choice; `min.insync.replicas` is 2 then";
    broker_bytes_per_s = 300e6 to 1e11 "B/s", "that a broker writes lastingly, copies of others' included", "an estimate for one NVMe disk";
    partition_bytes_per_s = 10e6 to 1e10 "B/s", "that a partition takes", "a usual rule for brokers";
    clickhouse_replicas = 2.0 to 10.0 "", "of each shard, in different zones", "chosen: a zone may go";
    clickhouse_cores = 32.0 to 1024.0 "", "of a ClickHouse machine", "chosen: a usual size";
    clickhouse_insert_share = 0.3 to 1.0 "of 1", "share of those that inserts may take; the others merge and answer", "an estimate";
    clickhouse_disk_bytes = 30e12 to 1e18 "B", "disk of a ClickHouse machine", "chosen: a usual size with local NVMe disks";
    clickhouse_disk_full_max = 0.7 to 1.0 "of 1", "how full it may get; merges need the rest", "a usual rule";
    stored_bytes = 31.0 to 1e6 "B", "an event in ClickHouse, compressed", "measured: [ADR 004](adr/004-events-table.md)";
    retention_days = 30.0 to 36500.0 "days", "that events are kept in ClickHouse", "chosen";
}

impl Assumptions {
    /// The values of the table, but for those given as NAME=VALUE.
    pub fn with(given: &[String]) -> anyhow::Result<Assumptions> {
        let mut made = Assumptions::default();
        for text in given {
            let (name, number) = text
                .split_once('=')
                .with_context(|| format!("--set {text}: it takes NAME=VALUE"))?;
            let value: f64 =
                number.parse().with_context(|| format!("--set {text}: '{number}' is no number"))?;
            let Some(known) = TABLE.iter().find(|known| known.name == name) else {
                bail!("--set {text}: no such assumption; --help names them all");
            };
            if !(value > 0.0 && value <= known.max) {
                bail!("--set {text}: {name} must be above 0 and at most {}", known.max);
            }
            *made.slot(name).expect("the table names fields") = value;
        }
        if made.backoff_max_s < made.backoff_min_s {
            bail!(
                "backoff_max_s {} is below backoff_min_s {}",
                made.backoff_max_s,
                made.backoff_min_s
            );
        }
        Ok(made)
    }

    pub fn value(&self, name: &str) -> Option<f64> {
        let mut copy = *self;
        copy.slot(name).copied()
    }

    /// How much more CPU than measured a request takes there.
    pub fn slower(&self) -> f64 {
        self.network_cpu_ratio / self.core_speed_ratio
    }

    pub fn cores(&self) -> usize {
        self.cores_per_machine.max(1.0) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_says_what_it_means_and_where_it_is_from() {
        let defaults = Assumptions::default();
        for known in TABLE {
            assert!(!known.meaning.is_empty() && !known.source.is_empty(), "{}", known.name);
            let value = defaults.value(known.name).expect("a field");
            assert!(value > 0.0 && value <= known.max, "{} = {value}", known.name);
        }
    }

    #[test]
    fn what_is_given_is_taken_or_refused_with_its_range() {
        let with = |text: &str| Assumptions::with(&[text.to_owned()]);
        assert_eq!(with("events_per_s=1e6").unwrap().events_per_s, 1e6);
        let check = |text: &str, part: &str| {
            let error = with(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        };
        check("events_per_s", "NAME=VALUE");
        check("event_per_s=1", "no such assumption");
        check("busy_max=1.5", "at most 1");
        check("busy_max=0", "above 0");
        check("busy_max=NaN", "above 0");
        check("busy_max=much", "no number");
        check("backoff_max_s=0.1", "below backoff_min_s");
    }
}
