//! The configuration as plain data, one struct per section of the file, with the defaults. `[kafka]`
//! is in [`super::kafka`].

use super::Kafka;
use proto::limits;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Everything the engine is told. Made by [`super::load`]; [`Default`] is what nothing at all gives.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub admin: Admin,
    pub limits: Limits,
    pub journal: Journal,
    pub keys: KeySource,
    pub clickhouse: Clickhouse,
    pub kafka: Kafka,
    pub cors: Cors,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// io_uring where the kernel allows it, else epoll.
    Auto,
    Uring,
    Epoll,
    /// Not in every build.
    Glommio,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    pub listen: SocketAddr,
    /// Shards, one pinned to each core; 0 is all cores the process may use.
    pub cores: usize,
    pub driver: Driver,
    /// A turn of a shard waits so long for more to come, where the kernel can gather; 0 does not wait.
    pub gather_us: u32,
    /// A shard polls so long before it sleeps.
    pub spin_us: u32,
    /// Added to the niceness of the forwarder's thread, which competes with the shards for cores.
    pub nice: i32,
    /// Written once the engine answers, with the addresses it really listens on.
    pub ready_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    pub listen: SocketAddr,
}

/// Per shard, unless the field says otherwise.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub connections_max: usize,
    pub idle_timeout_s: u64,
    pub head_timeout_ms: u64,
    pub body_timeout_ms: u64,
    pub body_rate_min_bytes_per_s: u64,
    pub target_bytes_max: usize,
    pub head_bytes_max: usize,
    pub headers_max: usize,
    /// As declared, and as inflated.
    pub body_bytes_max: usize,
    /// Body bytes that may be held at once.
    pub body_budget_bytes: usize,
    /// Requests of one connection whose answers are not yet sent.
    pub pipeline_max: usize,
    /// Bytes read and dropped after an early answer, so that a reset does not eat it.
    pub drain_bytes_max: u64,
    pub drain_timeout_ms: u64,
    pub timestamp_past_days_max: u32,
    /// Of the whole process; 0 is three quarters of the memory, or the control group's limit if less.
    pub memory_budget_bytes: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Journal {
    pub dir: PathBuf,
    pub segment_bytes: u64,
    /// Of the whole process; 0 is half the disk's free bytes at the start, at most 64 GiB.
    pub backlog_bytes_max: u64,
    /// Forwarded segments are kept this long, to be sent again after a reboot of the machine.
    pub keep_forwarded_s: u64,
    /// Block buffers of 512 KiB per shard.
    pub buffers: usize,
    pub writes_in_flight_max: usize,
    /// Blocks per shard that the forwarder can take from memory; older ones it reads from disk.
    pub tail_blocks: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeySource {
    pub snapshot: PathBuf,
    pub poll_ms: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clickhouse {
    /// Scheme, host and port; user, password and database of the URL given are moved to theirs.
    pub url: String,
    pub database: String,
    pub user: String,
    pub password: Secret,
    pub rows_per_insert_max: usize,
    pub bytes_per_insert_max: usize,
    pub linger_ms: u64,
    /// Of the whole process.
    pub inserts_in_flight_max: usize,
    pub timeout_ms: u64,
    pub connect_timeout_ms: u64,
    pub retry_min_ms: u64,
    pub retry_max_ms: u64,
    /// Failures in a row that open the breaker.
    pub breaker_failures: u32,
    pub breaker_open_ms: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cors {
    /// Origins that browsers may send from; "*" allows all.
    pub origins: Vec<String>,
}

/// A value that is never printed.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(value.into())
    }

    /// The value itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "(none)" } else { "(hidden)" })
    }
}

impl Default for Server {
    fn default() -> Self {
        Server {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            cores: 0,
            driver: Driver::Auto,
            gather_us: 0,
            spin_us: 0,
            nice: 0,
            ready_file: None,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Admin { listen: SocketAddr::from(([127, 0, 0, 1], 9090)) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 8192,
            idle_timeout_s: 75,
            head_timeout_ms: 10_000,
            body_timeout_ms: 30_000,
            body_rate_min_bytes_per_s: 1024,
            target_bytes_max: 8192,
            head_bytes_max: 32 * KIB as usize,
            headers_max: 100,
            body_bytes_max: limits::BODY_BYTES_MAX_DEFAULT,
            body_budget_bytes: 64 * MIB as usize,
            pipeline_max: 64,
            drain_bytes_max: 32 * MIB,
            drain_timeout_ms: 2_000,
            timestamp_past_days_max: limits::TIMESTAMP_PAST_DAYS_MAX_DEFAULT,
            memory_budget_bytes: 0,
        }
    }
}

impl Default for Journal {
    fn default() -> Self {
        Journal {
            dir: PathBuf::from("data/journal"),
            segment_bytes: 64 * MIB,
            backlog_bytes_max: 0,
            keep_forwarded_s: 900,
            buffers: 24,
            writes_in_flight_max: 2,
            tail_blocks: 16,
        }
    }
}

impl Default for KeySource {
    fn default() -> Self {
        KeySource { snapshot: PathBuf::from("data/keys.json"), poll_ms: 1_000 }
    }
}

impl Default for Clickhouse {
    fn default() -> Self {
        Clickhouse {
            url: "http://127.0.0.1:8123".to_owned(),
            database: proto::names::DATABASE_DEFAULT.to_owned(),
            user: "default".to_owned(),
            password: Secret::default(),
            rows_per_insert_max: 100_000,
            bytes_per_insert_max: 32 * MIB as usize,
            linger_ms: 200,
            inserts_in_flight_max: 2,
            timeout_ms: 30_000,
            connect_timeout_ms: 2_000,
            retry_min_ms: 100,
            retry_max_ms: 30_000,
            breaker_failures: 5,
            breaker_open_ms: 1_000,
        }
    }
}
