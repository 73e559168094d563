//! Flags and their limits.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Parser;

/// The real ClickHouse engine for one machine, without a server.
///
/// Runs ClickHouse (as the library chDB) on one data directory and answers ClickHouse's HTTP
/// protocol on a loopback address: what the `clickhouse` crate, curl and unmogrowp-engine send.
#[derive(Debug, Parser)]
#[command(
    name = "unmogrowp-clickhouse",
    version,
    args_override_self = true,
    after_help = "\
Try it:
  UNMOGROWP_CLICKHOUSE_PASSWORD=secret unmogrowp-clickhouse --data ./data --listen 127.0.0.1:8123
  curl 'http://default:secret@127.0.0.1:8123/' --data 'SELECT version()'
  curl 'http://default:secret@127.0.0.1:8123/?param_n=3' --data 'SELECT {n:UInt8} + 1'

Not served, by design: other addresses than loopback, requests of web pages, functions and engines
that read files or reach other hosts, SYSTEM, BACKUP, users, sessions, several statements at once.

SIGTERM or SIGINT: no new connections, running inserts end (10 s at most), exit code 0."
)]
pub struct Flags {
    /// Directory of the tables; made if it does not exist, held by one process at a time
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,

    /// Loopback address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8123")]
    pub listen: SocketAddr,

    /// The library of the engine; ./dev fetches it
    #[arg(long, value_name = "PATH", env = "UNMOGROWP_LIBCHDB")]
    pub lib: Option<PathBuf>,

    /// The one user's name
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub user: String,

    /// File with the user's password (its first line), or see the environment variable
    /// UNMOGROWP_CLICKHOUSE_PASSWORD; without either it does not start
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// Once ready, this file says where: {"clickhouse":"http://127.0.0.1:PORT"}
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,

    /// Threads for one statement and for merges [default: the machine's cores, at most 8]
    #[arg(long, value_name = "N")]
    pub threads_max: Option<NonZeroU32>,

    /// Statements that run at once; further ones wait [default: twice the cores]
    #[arg(long, value_name = "N")]
    pub queries_max: Option<NonZeroU32>,

    /// Memory of the engine in bytes, at least 256 MiB [default: 90 % of the machine's]
    #[arg(long, value_name = "BYTES")]
    pub memory_max: Option<NonZeroU64>,

    /// Scheduling weight: 0 is normal, 19 yields to everything else
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..=19))]
    pub nice: i32,

    /// Milliseconds between two times that what merges have written is sent to the disk. Without it Linux
    /// gathers half a minute of it and then keeps the disk, and a journal on it, busy at one go. 0 leaves
    /// it to Linux; at most 60000
    #[arg(long, value_name = "MS", default_value_t = 250, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub write_back_ms: u64,
}

const MEMORY_BYTES_MIN: u64 = 256 << 20;

impl Flags {
    pub fn check(&self) -> anyhow::Result<()> {
        if !self.listen.ip().is_loopback() {
            bail!(
                "--listen {}: only loopback addresses (127.0.0.0/8 or [::1]); to reach the tables \
                 from elsewhere use the api",
                self.listen
            );
        }
        if let Some(bytes) = self.memory_max
            && bytes.get() < MEMORY_BYTES_MIN
        {
            bail!("--memory-max {bytes}: at least {MEMORY_BYTES_MIN}");
        }
        Ok(())
    }

    pub fn password(&self) -> anyhow::Result<String> {
        let password = match &self.password_file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("--password-file {}", path.display()))?;
                text.lines().next().unwrap_or_default().to_owned()
            }
            None => std::env::var("UNMOGROWP_CLICKHOUSE_PASSWORD").unwrap_or_default(),
        };
        if password.is_empty() {
            bail!(
                "no password: give --password-file FILE or UNMOGROWP_CLICKHOUSE_PASSWORD (every \
                 local user can reach a loopback port)"
            );
        }
        Ok(password)
    }

    /// The flag, the environment, or where `./dev` puts it.
    pub fn library(&self) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.lib {
            return Ok(path.clone());
        }
        let cache = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
            (Some(cache), _) => PathBuf::from(cache),
            (None, Some(home)) => PathBuf::from(home).join(".cache"),
            (None, None) => bail!("no --lib, no UNMOGROWP_LIBCHDB and no home directory"),
        };
        Ok(cache.join("unmogrowp/libchdb/libchdb.so"))
    }
}
