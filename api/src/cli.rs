//! The command line: every flag, its default, its environment variable and what it is for.
//!
//! Checks here are of form only (a port is a number, a scope is known); whether a path or a server
//! answers is found out by the subcommand.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use uuid::Uuid;

use crate::api_key::Scopes;

/// Analytics over HTTP, and the apps and keys that may use it.
///
/// A first session: `app create` makes an app, `key create` makes a key for it and shows the key
/// once, `serve` answers questions. Every change of the keys is written to the keys snapshot, the
/// file from which the engine learns which keys exist.
///
/// Logging goes to standard error; UNMOGROWP_LOG takes a filter such as `debug` or `info,api=debug`.
#[derive(Debug, Parser)]
#[command(name = "unmogrowp-api", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer questions over HTTP until SIGTERM or SIGINT, then finish what is running and exit 0
    Serve(Serve),
    /// Print the demo app and its key as JSON; make them on the first run
    Demo(Demo),
    /// Create and list apps
    App(App),
    /// Create, list and revoke API keys
    Key(Key),
}

/// Where apps and keys live, and where the engine looks for the keys.
#[derive(Debug, Clone, Args)]
pub struct StorePaths {
    /// SQLite file of apps and keys; made, with its directory, when it is missing
    #[arg(long, value_name = "FILE", env = "UNMOGROWP_STORE")]
    pub store: PathBuf,
    /// File that tells the engine which keys exist: hashes, apps and scopes, never a key
    #[arg(long, value_name = "FILE", env = "UNMOGROWP_KEYS_SNAPSHOT")]
    pub keys_snapshot: PathBuf,
}

#[derive(Debug, Args)]
pub struct Serve {
    /// Address to answer on; port 0 takes a free one, see --ready-file
    #[arg(long, default_value = "127.0.0.1:8081", value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
    /// ClickHouse over HTTP, such as http://user:password@127.0.0.1:8123; prefer the environment
    /// variable, as a command line is visible to every user of the machine
    #[arg(long, env = "UNMOGROWP_CLICKHOUSE_URL", hide_env_values = true, value_name = "URL")]
    pub clickhouse_url: String,
    /// Redis of the live counters, such as redis://user:password@127.0.0.1:6379/0; without it they
    /// come from ClickHouse. Prefer the environment variable, as with --clickhouse-url
    #[arg(long, env = "UNMOGROWP_REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub redis: Option<String>,
    /// ClickHouse database; made when it is missing
    #[arg(long, default_value = proto::names::DATABASE_DEFAULT, value_name = "NAME")]
    pub database: String,
    #[command(flatten)]
    pub paths: StorePaths,
    /// Written, atomically and 0600, once questions can be answered: {"api":"http://ADDR:PORT"}
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Questions that ClickHouse works on at once; the next ones wait up to 5 s, then get 503
    #[arg(long, default_value_t = 8, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub queries_max: u16,
    /// Seconds that ClickHouse may work on one question
    #[arg(long, default_value_t = 30, value_name = "SECONDS",
          value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub query_seconds_max: u16,
    /// Open connections; further ones wait in the kernel's queue
    #[arg(long, default_value_t = 1024, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=16384))]
    pub connections_max: u16,
    /// Seconds in which a request's head has to arrive, and an idle connection is kept
    #[arg(long, default_value_t = 30, value_name = "SECONDS",
          value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub head_seconds_max: u16,
}

#[derive(Debug, Args)]
pub struct Demo {
    #[command(flatten)]
    pub paths: StorePaths,
    /// Keeps the demo app and its key (0600), so that every run gives the same ones
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
pub struct App {
    #[command(subcommand)]
    pub command: AppCommand,
}

#[derive(Debug, Subcommand)]
pub enum AppCommand {
    /// Make an app and print it as one line of JSON
    Create {
        #[command(flatten)]
        paths: StorePaths,
        /// What people call the app
        #[arg(long, value_parser = name_text)]
        name: String,
    },
    /// Print every app, one line of JSON each
    List {
        #[command(flatten)]
        paths: StorePaths,
    },
}

#[derive(Debug, Args)]
pub struct Key {
    #[command(subcommand)]
    pub command: KeyCommand,
}

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key and print it as one line of JSON; it is not shown again, only its hash is kept
    Create {
        #[command(flatten)]
        paths: StorePaths,
        /// App that the key belongs to, see `app list`
        #[arg(long, value_name = "UUID")]
        app: Uuid,
        /// What the key may do, comma separated: ingest (send events), read (ask questions)
        #[arg(long, value_name = "SCOPES")]
        scopes: Scopes,
        /// What people call the key
        #[arg(long, default_value = "", value_parser = name_text)]
        name: String,
    },
    /// Print every key, one line of JSON each: id, first characters, app, scopes, never the key
    List {
        #[command(flatten)]
        paths: StorePaths,
    },
    /// Revoke a key; the API refuses it within 1 s, the engine at its next look at the snapshot
    Revoke {
        #[command(flatten)]
        paths: StorePaths,
        /// The key's id, see `key list`
        #[arg(value_name = "KEY_ID")]
        id: Uuid,
    },
}

fn name_text(text: &str) -> Result<String, String> {
    const NAME_CHARS_MAX: usize = 100;
    if text.chars().count() > NAME_CHARS_MAX || text.chars().any(char::is_control) {
        return Err(format!("at most {NAME_CHARS_MAX} characters, no control characters"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
