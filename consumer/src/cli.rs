//! The command line: every flag, its default, its environment variable and what it is for.
//!
//! Checks here are of form only; whether a server answers is found out by the subcommand.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::reader::Point;
use crate::warehouse::database_name;

/// From Kafka to ClickHouse.
///
/// `run` is the consumer that belongs to every installation with Kafka; the other commands are for
/// people. Logging goes to standard error; UNMOGROWP_LOG takes a filter such as `debug`.
#[derive(Debug, Parser)]
#[command(name = "unmogrowp-consumer", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Insert the topic's events until SIGTERM or SIGINT, then finish what is running and exit 0
    Run(Run),
    /// Look at what could not be inserted, and try it again
    Dead(Dead),
    /// Read a part of the topic again and insert it again; what is there already stays once
    Replay(Replay),
    /// Print a part of the topic, one JSON event a line
    Export(Export),
}

#[derive(Debug, Args)]
pub struct KafkaFlags {
    /// Kafka brokers to begin with, comma separated
    #[arg(long, env = "UNMOGROWP_KAFKA_BROKERS", value_name = "HOST:PORT,…")]
    pub brokers: String,
    /// Topic of the engine's blocks
    #[arg(long, default_value = proto::names::TOPIC_EVENTS, value_name = "NAME")]
    pub topic: String,
    /// Passed on to librdkafka, such as security.protocol=SASL_SSL; as often as you like. Prefer the
    /// environment for passwords (pairs separated by newlines): a command line is visible to every
    /// user of the machine
    #[arg(
        long,
        env = "UNMOGROWP_KAFKA_PROPERTIES",
        hide_env_values = true,
        value_name = "KEY=VALUE",
        value_delimiter = '\n'
    )]
    pub property: Vec<String>,
}

#[derive(Debug, Args)]
pub struct WarehouseFlags {
    /// ClickHouse over HTTP, such as http://user:password@127.0.0.1:8123; prefer the environment
    /// variable, as a command line is visible to every user of the machine
    #[arg(long, env = "UNMOGROWP_CLICKHOUSE_URL", hide_env_values = true, value_name = "URL")]
    pub clickhouse_url: String,
    /// ClickHouse database; its tables are made by unmogrowp-api
    #[arg(long, default_value = proto::names::DATABASE_DEFAULT, value_name = "NAME",
          value_parser = database_name)]
    pub database: String,
    /// Seconds that one INSERT may take before its outcome counts as unknown
    #[arg(long, default_value_t = 30, value_name = "SECONDS",
          value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub insert_seconds_max: u16,
}

#[derive(Clone, Copy, Debug, Args)]
pub struct RangeFlags {
    /// Rows of one INSERT
    #[arg(long, default_value_t = 100_000, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rows_max: u32,
    /// Milliseconds that rows wait for more before they are inserted
    #[arg(long, default_value_t = 1_000, value_name = "MS",
          value_parser = clap::value_parser!(u32).range(0..=60_000))]
    pub linger_ms: u32,
    /// INSERTs under way at once
    #[arg(long, default_value_t = 4, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub inserts_max: u16,
    /// Bytes of records held, of all partitions together: 16 MiB to 64 GiB. librdkafka holds up to
    /// 24 MiB beside it
    #[arg(long, default_value = "128 MiB", value_name = "BYTES", value_parser = memory_bytes)]
    pub memory_max: usize,
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub kafka: KafkaFlags,
    #[command(flatten)]
    pub warehouse: WarehouseFlags,
    #[command(flatten)]
    pub range: RangeFlags,
    /// Consumer group; its members share the partitions
    #[arg(long, default_value = "unmogrowp", value_name = "NAME")]
    pub group: String,
    /// Topic of dead letters; made when it is missing
    #[arg(long, default_value = proto::names::TOPIC_EVENTS_DEAD, value_name = "NAME")]
    pub dead_topic: String,
    /// Where records are missing, go on at the oldest there is instead of stopping
    #[arg(long)]
    pub accept_gap: bool,
    /// Address of /healthz, /readyz, /metrics and /version; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9091", value_name = "ADDR:PORT")]
    pub admin_listen: SocketAddr,
    /// Written, atomically and 0600, once the admin port answers: {"admin":"http://ADDR:PORT"}
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Dead {
    #[command(subcommand)]
    pub command: DeadCommand,
}

#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// Print dead letters, the newest first
    List {
        #[command(flatten)]
        warehouse: WarehouseFlags,
        /// At most so many
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: u32,
        /// One JSON object a line, raw bytes in hexadecimal
        #[arg(long)]
        json: bool,
    },
    /// Insert dead letters into events again and mark those that were taken
    Retry {
        #[command(flatten)]
        warehouse: WarehouseFlags,
        /// Every letter that was not retried with success yet
        #[arg(long, conflicts_with = "id", required_unless_present = "id")]
        all: bool,
        /// One letter, see `dead list`; as often as you like
        #[arg(long, value_name = "ID")]
        id: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub struct Replay {
    #[command(flatten)]
    pub kafka: KafkaFlags,
    #[command(flatten)]
    pub warehouse: WarehouseFlags,
    #[command(flatten)]
    pub range: RangeFlags,
    /// Topic of dead letters; made when it is missing
    #[arg(long, default_value = proto::names::TOPIC_EVENTS_DEAD, value_name = "NAME")]
    pub dead_topic: String,
    /// First record: RFC 3339 (when it was written to Kafka), or partition:offset, comma separated;
    /// partitions that are not named are left out
    #[arg(long, value_name = "T", value_parser = Point::parse)]
    pub from: Point,
    /// The same for the end, which is not read itself; without it, what is there at the start
    #[arg(long, value_name = "T", value_parser = Point::parse)]
    pub to: Option<Point>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// One JSON object a line
    Ndjson,
}

#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    pub kafka: KafkaFlags,
    /// How events are printed
    #[arg(long, value_enum)]
    pub format: Format,
    /// First record: RFC 3339 (when it was written to Kafka), or partition:offset, comma separated;
    /// without it, the oldest there is
    #[arg(long, value_name = "T", value_parser = Point::parse)]
    pub from: Option<Point>,
    /// The same for the end, which is not printed itself; without it, what is there at the start
    #[arg(long, value_name = "T", value_parser = Point::parse, conflicts_with = "follow")]
    pub to: Option<Point>,
    /// Go on with what comes, until the pipe is closed
    #[arg(long)]
    pub follow: bool,
    /// At most so many events
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

/// Bytes as a whole number, or with KiB, MiB or GiB.
fn memory_bytes(text: &str) -> Result<usize, String> {
    const RANGE: std::ops::RangeInclusive<usize> = 16 << 20..=64 << 30;
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = match text[digits..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("bytes, or a number with KiB, MiB or GiB".to_owned()),
    };
    let bytes = text[..digits].parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    bytes.filter(|bytes| RANGE.contains(bytes)).ok_or_else(|| "16 MiB to 64 GiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn memory_has_units_and_a_range() {
        for (text, expected) in [
            ("128 MiB", Some(128 << 20)),
            ("16777216", Some(16 << 20)),
            ("1GiB", Some(1 << 30)),
            ("15 MiB", None),
            ("128 MB", None),
            ("MiB", None),
            ("99999999999 GiB", None),
        ] {
            assert_eq!(memory_bytes(text).ok(), expected, "{text}");
        }
    }
}
