//! Every key: its name, what it may be, and what to do when it is not.

use super::layers::ConfigError;
use std::net::SocketAddr;
use toml::Value;

/// What a key's value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Count {
        min: i64,
        max: i64,
    },
    /// A number of bytes: a whole number, or text such as "64 MiB".
    Bytes {
        min: i64,
        max: i64,
    },
    /// IP address and port; port 0 takes a free one.
    Address,
    Choice(&'static [&'static str]),
    Path,
    /// `http://[user[:password]@]host[:port][/database]`
    Url,
    /// Letters, digits and underscores, not beginning with a digit.
    Name,
    Text,
    /// Text that is never printed.
    Secret,
    /// `scheme://host[:port]` each, or "*"; in environment and flags separated by commas.
    Origins,
    /// `host[:port]`, separated by commas; empty for none.
    Brokers,
    /// What Kafka allows as a topic's name.
    Topic,
    /// Names and values for librdkafka.
    Properties,
}

#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// `section.key`
    pub name: &'static str,
    pub kind: Kind,
    /// The way out when a value is refused.
    pub advice: &'static str,
}

const KIB: i64 = 1024;
const MIB: i64 = 1024 * KIB;
const GIB: i64 = 1024 * MIB;

const ORIGINS_MAX: usize = 1_000;

const fn count(name: &'static str, min: i64, max: i64, advice: &'static str) -> Key {
    Key { name, kind: Kind::Count { min, max }, advice }
}

const fn bytes(name: &'static str, min: i64, max: i64, advice: &'static str) -> Key {
    Key { name, kind: Kind::Bytes { min, max }, advice }
}

const fn key(name: &'static str, kind: Kind, advice: &'static str) -> Key {
    Key { name, kind, advice }
}

/// Those that this build has.
const DRIVERS: &[&str] = if cfg!(feature = "glommio") {
    &["auto", "uring", "epoll", "glommio"]
} else {
    &["auto", "uring", "epoll"]
};

pub const KEYS: &[Key] = &[
    key("server.listen", Kind::Address, "127.0.0.1:8080 serves this machine, 0.0.0.0:8080 all"),
    count("server.cores", 0, 1024, "0 takes every core the process may use"),
    key("server.driver", Kind::Choice(DRIVERS), "auto takes the best there is"),
    count("server.gather_us", 0, 1_000, "0 works on what has come at once"),
    count("server.spin_us", 0, 100_000, "0 leaves the core to others while nothing comes"),
    count("server.nice", 0, 19, "0 leaves the forwarder's priority alone"),
    key("server.ready_file", Kind::Path, "leave it out to have no such file"),
    key("admin.listen", Kind::Address, "keep it on loopback: 127.0.0.1:9090"),
    count("limits.connections_max", 1, 1_000_000, "per shard; the default is 8192"),
    count("limits.idle_timeout_s", 1, 86_400, "seconds; the default is 75"),
    count("limits.head_timeout_ms", 100, 600_000, "milliseconds; the default is 10000"),
    count("limits.body_timeout_ms", 100, 3_600_000, "milliseconds; the default is 30000"),
    count("limits.body_rate_min_bytes_per_s", 0, GIB, "0 sets no minimum rate"),
    bytes("limits.target_bytes_max", 8_000, 64 * KIB, "RFC 9112 asks for 8000 at least"),
    bytes("limits.head_bytes_max", 9_000, MIB, "must be more than limits.target_bytes_max"),
    count("limits.headers_max", 8, 1_000, "the default is 100"),
    bytes("limits.body_bytes_max", KIB, GIB, "the default is 16 MiB"),
    bytes("limits.body_budget_bytes", KIB, 64 * GIB, "at least limits.body_bytes_max"),
    count("limits.pipeline_max", 1, 4_096, "the default is 64"),
    bytes("limits.drain_bytes_max", 0, GIB, "the default is 32 MiB; it costs no memory"),
    count("limits.drain_timeout_ms", 1, 60_000, "milliseconds; the default is 2000"),
    count("limits.timestamp_past_days_max", 1, 36_500, "days; the default is 400"),
    bytes(
        "limits.memory_budget_bytes",
        0,
        1024 * GIB,
        "0 takes three quarters of the machine's memory",
    ),
    key("journal.dir", Kind::Path, "a directory on a local disk, made when it is missing"),
    bytes("journal.segment_bytes", MIB, 4 * GIB, "the default is 64 MiB"),
    bytes("journal.backlog_bytes_max", 0, 1 << 50, "0 takes half the disk's free bytes"),
    count("journal.keep_forwarded_s", 0, 30 * 86_400, "seconds; the default is 900"),
    count("journal.buffers", 4, 4_096, "of 512 KiB each; the default is 24"),
    count("journal.writes_in_flight_max", 1, 64, "the default is 2"),
    count("journal.tail_blocks", 1, 4_096, "of 512 KiB each; the default is 16"),
    key("keys.snapshot", Kind::Path, "the file that unmogrowp-api writes"),
    count("keys.poll_ms", 10, 60_000, "milliseconds; how late a revoked key may still be accepted"),
    key("clickhouse.url", Kind::Url, "http://127.0.0.1:8123; for TLS put a proxy before it"),
    key("clickhouse.database", Kind::Name, "letters, digits and underscores"),
    key("clickhouse.user", Kind::Text, "the user that may INSERT into the events table"),
    key("clickhouse.password", Kind::Secret, "best given by UNMOGROWP_CLICKHOUSE_URL"),
    count("clickhouse.rows_per_insert_max", 1, 10_000_000, "the default is 100000"),
    bytes("clickhouse.bytes_per_insert_max", MIB, 4 * GIB, "the default is 32 MiB"),
    count("clickhouse.linger_ms", 0, 60_000, "milliseconds; an event is visible this much later"),
    count("clickhouse.inserts_in_flight_max", 1, 64, "the default is 2"),
    count("clickhouse.timeout_ms", 100, 3_600_000, "milliseconds; the default is 30000"),
    count("clickhouse.connect_timeout_ms", 10, 60_000, "milliseconds; the default is 2000"),
    count("clickhouse.retry_min_ms", 1, 60_000, "milliseconds; the default is 100"),
    count("clickhouse.retry_max_ms", 1, 3_600_000, "milliseconds; the default is 30000"),
    count("clickhouse.breaker_failures", 1, 1_000, "the default is 5"),
    count("clickhouse.breaker_open_ms", 1, 600_000, "milliseconds; the default is 1000"),
    key("kafka.brokers", Kind::Brokers, "leave it out to have no Kafka"),
    key("kafka.topic", Kind::Topic, "the default is events"),
    count("kafka.partitions", 1, 10_000, "of a topic made here; the default is 8"),
    count("kafka.replication", 1, 100, "of a topic made here; 3 where there are three brokers"),
    count("kafka.retention_ms", 60_000, 1 << 53, "milliseconds; the default is 7 days"),
    key("kafka.compression", Kind::Choice(&["lz4", "zstd", "none"]), "the default is lz4"),
    count("kafka.producers", 0, 256, "0 takes one for each shard, at most 8"),
    bytes("kafka.queue_bytes_max", 2 * MIB, 2 * GIB - MIB, "per producer; the default is 32 MiB"),
    key(
        "kafka.ack",
        Kind::Choice(&["auto", "journal", "kafka"]),
        "auto waits for Kafka only where the topic has three replicas",
    ),
    count("kafka.ack_deadline_ms", 0, 5_000, "milliseconds; the default is 5"),
    count("kafka.breaker_failures", 1, 1_000, "the default is 5"),
    count("kafka.breaker_open_ms", 10, 600_000, "milliseconds; the default is 1000"),
    count("kafka.stall_ms", 100, 600_000, "milliseconds; the default is 2000"),
    count("kafka.direct_insert_after_ms", 100, 86_400_000, "milliseconds; the default is 30000"),
    key(
        "kafka.properties",
        Kind::Properties,
        "TLS and SASL, such as \"security.protocol\" = \"SSL\"; what other keys set is refused",
    ),
    key("cors.origins", Kind::Origins, "such as [\"https://app.example.com\"], or [\"*\"] for all"),
];

impl Key {
    pub fn find(name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The values that are allowed, in words.
    pub fn range(&self) -> String {
        match self.kind {
            Kind::Count { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Bytes { min, max } => {
                format!("bytes from {min} to {max}, as a number or as text such as \"64 MiB\"")
            }
            Kind::Address => "an IP address and a port, such as 127.0.0.1:8080".to_owned(),
            Kind::Choice(words) => format!("one of {}", words.join(", ")),
            Kind::Path => "a path that is not empty".to_owned(),
            Kind::Url => "http://[user[:password]@]host[:port][/database]".to_owned(),
            Kind::Name => "1 to 64 letters, digits and underscores, no digit first".to_owned(),
            Kind::Text | Kind::Secret => "text without control characters".to_owned(),
            Kind::Origins => "origins as scheme://host[:port], or \"*\" alone".to_owned(),
            Kind::Brokers => "host:port, several separated by commas".to_owned(),
            Kind::Topic => "1 to 249 letters, digits, dots, dashes and underscores".to_owned(),
            Kind::Properties => {
                "a table of librdkafka's properties, without those that the engine sets".to_owned()
            }
        }
    }

    /// Turns a value of the file, or the text of an environment variable or a flag, into the form
    /// that [`super::Config`] is read from.
    pub fn accept(&self, given: &Value, origin: &str) -> Result<Value, ConfigError> {
        accepted(self.kind, given).ok_or_else(|| ConfigError::WrongValue {
            key: self.name.to_owned(),
            value: self.shown(given),
            range: self.range(),
            advice: self.advice,
            origin: origin.to_owned(),
        })
    }

    /// The value as an error may print it.
    fn shown(&self, given: &Value) -> String {
        match self.kind {
            Kind::Secret | Kind::Url | Kind::Properties => "(hidden)".to_owned(),
            _ => match given {
                Value::String(text) => format!("{text:?}"),
                other => other.to_string(),
            },
        }
    }
}

fn accepted(kind: Kind, given: &Value) -> Option<Value> {
    match kind {
        Kind::Count { min, max } => {
            let number = match given {
                Value::Integer(number) => *number,
                Value::String(text) => text.parse().ok()?,
                _ => return None,
            };
            (min..=max).contains(&number).then_some(Value::Integer(number))
        }
        Kind::Bytes { min, max } => {
            let number = match given {
                Value::Integer(number) => *number,
                Value::String(text) => parse_bytes(text)?,
                _ => return None,
            };
            (min..=max).contains(&number).then_some(Value::Integer(number))
        }
        Kind::Origins => accepted_origins(given),
        Kind::Properties => accepted_properties(given),
        _ => {
            let text = given.as_str()?;
            let plain = !text.chars().any(char::is_control);
            let good = plain
                && match kind {
                    Kind::Address => text.parse::<SocketAddr>().is_ok(),
                    Kind::Choice(words) => words.contains(&text),
                    Kind::Path => !text.is_empty(),
                    Kind::Name => is_name(text),
                    Kind::Brokers => are_brokers(text),
                    Kind::Topic => is_topic(text),
                    Kind::Url => super::layers::split_url(text).is_some(),
                    _ => true,
                };
            good.then(|| given.clone())
        }
    }
}

fn parse_bytes(text: &str) -> Option<i64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" => KIB,
        "MiB" => MIB,
        "GiB" => GIB,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(factor)
}

pub(super) fn is_name(text: &str) -> bool {
    let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    letters && text.len() <= 64 && text.starts_with(|first: char| !first.is_ascii_digit())
}

fn are_brokers(text: &str) -> bool {
    let is_broker = |broker: &str| {
        let bytes_good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        !broker.is_empty() && broker.bytes().all(bytes_good)
    };
    text.is_empty() || text.split(',').map(str::trim).all(is_broker)
}

/// Kafka's own rule.
fn is_topic(text: &str) -> bool {
    let bytes_good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=249).contains(&text.len()) && text.bytes().all(bytes_good) && text != "." && text != ".."
}

/// A table whose names may be quoted, or dotted and so nested: `security.protocol = "SSL"`.
fn accepted_properties(given: &Value) -> Option<Value> {
    let mut flat = toml::Table::new();
    flatten("", given.as_table()?, &mut flat)?;
    Some(Value::Table(flat))
}

fn flatten(prefix: &str, table: &toml::Table, flat: &mut toml::Table) -> Option<()> {
    for (name, value) in table {
        let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if let Value::Table(inner) = value {
            flatten(&name, inner, flat)?;
            continue;
        }
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Boolean(truth) => truth.to_string(),
            _ => return None,
        };
        if !is_property(&name) || text.chars().any(|c| c == '\0') {
            return None;
        }
        flat.insert(name, Value::String(text));
    }
    Some(())
}

fn is_property(name: &str) -> bool {
    let bytes_good = |byte: u8| byte.is_ascii_lowercase() || b"._".contains(&byte);
    (1..=100).contains(&name.len())
        && name.bytes().all(bytes_good)
        && !super::PINNED_PROPERTIES.contains(&name)
}

fn accepted_origins(given: &Value) -> Option<Value> {
    let origins: Vec<&str> = match given {
        Value::Array(items) => items.iter().map(Value::as_str).collect::<Option<_>>()?,
        Value::String(text) => {
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
        }
        _ => return None,
    };
    let all = origins.contains(&"*");
    let good = if all { origins.len() == 1 } else { origins.iter().all(|item| is_origin(item)) };
    let values: Vec<Value> =
        origins.into_iter().map(|item| Value::String(item.to_owned())).collect();
    (good && values.len() <= ORIGINS_MAX).then_some(Value::Array(values))
}

fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let host_bytes = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && !scheme.is_empty()
        && !host.is_empty()
        && host.bytes().all(host_bytes)
}
