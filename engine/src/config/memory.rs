//! The worst case of the process's memory, computed from the limits alone.
//!
//! Every number here is a bound, not an estimate of use: a server at rest touches a small part of
//! it. Other modules keep what they allocate within the constants named here.

use super::Config;
use crate::shard::{HELD_FREE_BYTES, INFLATING_MAX};
use anyhow::bail;
use proto::limits::{BLOCK_BYTES_MAX, BLOCK_PAYLOAD_BYTES_MAX, ROW_BYTES_MAX};
use std::fmt;

/// State of one connection that sends nothing.
pub const CONNECTION_BYTES: u64 = 1024;
/// One answer in a connection's output, but for the long ones, whose request's body still holds its
/// share of the body budget.
pub const ANSWER_BYTES: u64 = 512;
/// Inflation windows, spare buffers, and the structural indexes of the JSON passes.
pub const SHARD_SCRATCH_BYTES: u64 = (INFLATING_MAX as u64 * 8 + 10) << 20;
/// Receive buffers and rings of a driver.
pub const DRIVER_BYTES: u64 = 8 << 20;
/// Of one producer beside its queue: batches being compressed and sent, a few for each of the five
/// requests under way to a broker, buffers of sockets, the threads' stacks.
pub const PRODUCER_BYTES: u64 = 16 << 20;
/// Blocks of one journal on their way from its lane to the INSERTs.
pub const HANDED_BLOCKS: u64 = 4;
/// Code, stacks, allocator slack, and the threads beside the shards.
pub const PROCESS_BYTES: u64 = 48 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLine {
    pub what: &'static str,
    /// The keys that this line grows with.
    pub keys: &'static str,
    pub count: u64,
    pub each_bytes: u64,
}

impl MemoryLine {
    pub fn bytes(&self) -> u64 {
        self.count.saturating_mul(self.each_bytes)
    }
}

/// What the limits add up to; its `Display` is the table printed at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    pub shards: usize,
    pub budget_bytes: u64,
    pub lines: Vec<MemoryLine>,
}

impl Config {
    /// Block buffers of one shard: those configured, and as many as the longest body fills, because
    /// its rows reach the journal as one chain once all of them are known to be good.
    pub fn journal_buffers(&self) -> usize {
        let rows_bytes = BLOCK_PAYLOAD_BYTES_MAX - ROW_BYTES_MAX;
        self.journal.buffers + self.limits.body_bytes_max.div_ceil(rows_bytes)
    }

    /// The bound of `shards` shards and everything beside them.
    pub fn memory_worst_case(&self, shards: usize) -> MemoryPlan {
        let limits = &self.limits;
        let block = BLOCK_BYTES_MAX as u64;
        let each_shard = |count: usize| shards as u64 * count as u64;
        let line = |what, keys, count, each_bytes| MemoryLine { what, keys, count, each_bytes };
        let answers = limits.pipeline_max as u64 * ANSWER_BYTES;
        let connection = CONNECTION_BYTES + HELD_FREE_BYTES as u64 + answers;
        // In flight, one waiting, one being filled; and a chain that exceeds an INSERT's bound is
        // at most one request's rows, per source.
        let inserts = self.clickhouse.inserts_in_flight_max as u64 + 2;
        MemoryPlan {
            shards,
            budget_bytes: match limits.memory_budget_bytes {
                0 => memory_budget_of_machine(),
                given => given,
            },
            lines: vec![
                line(
                    "connections, each with the start of a head and its answers",
                    "limits.connections_max, limits.pipeline_max",
                    each_shard(limits.connections_max),
                    connection,
                ),
                line(
                    "bodies, long heads and input that waits",
                    "limits.body_budget_bytes",
                    shards as u64,
                    limits.body_budget_bytes as u64,
                ),
                line(
                    "journal buffers, enough for the longest body",
                    "journal.buffers, limits.body_bytes_max",
                    each_shard(self.journal_buffers()),
                    block,
                ),
                line(
                    "journal tail",
                    "journal.tail_blocks",
                    each_shard(self.journal.tail_blocks),
                    block,
                ),
                line("scratch of a shard", "", shards as u64, SHARD_SCRATCH_BYTES + DRIVER_BYTES),
                line(
                    "inserts",
                    "clickhouse.inserts_in_flight_max, clickhouse.bytes_per_insert_max",
                    inserts,
                    self.clickhouse.bytes_per_insert_max as u64 + block,
                ),
                line(
                    "chained blocks on their way into an insert",
                    "limits.body_bytes_max",
                    shards as u64,
                    limits.body_bytes_max as u64 + 2 * block,
                ),
                line("the rest of the process", "", 1, PROCESS_BYTES),
            ]
            .into_iter()
            .chain(self.kafka_memory(shards))
            .collect(),
        }
    }

    fn kafka_memory(&self, shards: usize) -> Vec<MemoryLine> {
        let lanes = self.kafka.lanes(shards) as u64;
        if lanes == 0 {
            return Vec::new();
        }
        let keys = "kafka.producers, kafka.queue_bytes_max";
        let queue = self.kafka.queue_bytes_max as u64;
        let block = BLOCK_BYTES_MAX as u64;
        let line = |what, keys, count, each_bytes| MemoryLine { what, keys, count, each_bytes };
        vec![
            line("blocks queued for Kafka", keys, lanes, queue),
            line("Kafka's producers", keys, lanes, PRODUCER_BYTES),
            line("blocks handed on for a direct insert", "", shards as u64, HANDED_BLOCKS * block),
        ]
    }
}

impl MemoryPlan {
    pub fn total_bytes(&self) -> u64 {
        self.lines.iter().map(MemoryLine::bytes).fold(0, u64::saturating_add)
    }

    /// Refuses a plan above its budget, naming the limits that weigh most.
    pub fn check(&self) -> anyhow::Result<()> {
        let total = self.total_bytes();
        if total <= self.budget_bytes {
            return Ok(());
        }
        let mut heavy: Vec<&MemoryLine> =
            self.lines.iter().filter(|line| !line.keys.is_empty()).collect();
        heavy.sort_by_key(|line| std::cmp::Reverse(line.bytes()));
        let named: Vec<String> = heavy
            .iter()
            .take(3)
            .map(|line| format!("{} ({})", line.keys, Mebibytes(line.bytes())))
            .collect();
        bail!(
            "{} shards may need {} in the worst case, limits.memory_budget_bytes allows {}: \
             lower {}, run fewer shards (server.cores), or raise the budget",
            self.shards,
            Mebibytes(total),
            Mebibytes(self.budget_bytes),
            named.join(", then "),
        )
    }
}

struct Mebibytes(u64);

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} MiB", self.0 >> 20, ((self.0 & 0xf_ffff) * 10) >> 20)
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "memory in the worst case, {} shards:", self.shards)?;
        for line in &self.lines {
            let (bytes, each) = (Mebibytes(line.bytes()).to_string(), line.each_bytes);
            writeln!(f, "  {bytes:>12}  {} ({} × {each} B)", line.what, line.count)?;
        }
        let (total, budget) = (Mebibytes(self.total_bytes()), Mebibytes(self.budget_bytes));
        write!(f, "  {:>12}  of a budget of {budget}", total.to_string())
    }
}

/// Three quarters of the machine's memory, or the control group's limit if that is less. 1 GiB where neither
/// can be read.
pub fn memory_budget_of_machine() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    budget_from(&read("/proc/meminfo"), groups.map(read))
}

pub(super) fn budget_from(meminfo: &str, group_limits: [String; 2]) -> u64 {
    let most = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map(|kib| kib * 1024 / 4 * 3);
    let group = group_limits.iter().filter_map(|text| text.trim().parse::<u64>().ok()).min();
    most.into_iter().chain(group).min().unwrap_or(1 << 30)
}
