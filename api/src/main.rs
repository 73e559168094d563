//! `unmogrowp-api`: answers analytics questions from ClickHouse over HTTP, applies the ClickHouse
//! migrations, and owns apps and API keys.
//!
//! This file picks the subcommand and maps its outcome to an exit code; [`serve`] tells how the
//! server is put together. The binary must not know how events are ingested: it meets the engine
//! only in the `events` table and in the keys snapshot file.

mod administration;
mod answers;
mod api_key;
mod cli;
mod clock;
mod connection;
mod demo;
mod health;
mod key_table;
mod keys_snapshot;
mod live;
mod metrics;
mod migrations;
mod params;
mod percent;
mod private_file;
mod redis_link;
mod reply;
mod router;
mod serve;
mod store;
mod warehouse;
mod write_deadline;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Questions wait for ClickHouse, not for the CPU: two threads keep thousands of them apart.
const WORKER_THREADS: usize = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The `clickhouse` crate logs whole queries and their parameters below `warn`.
    let filter = EnvFilter::try_from_env("UNMOGROWP_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,clickhouse=error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // A line that cannot be written is lost; telling so on standard error would panic.
        .log_internal_errors(false)
        .init();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "unmogrowp-api: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .thread_name("api")
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match cli.command {
            Command::Serve(options) => serve::run(options).await,
            Command::Demo(options) => demo::run(options).await,
            Command::App(options) => administration::app(options).await,
            Command::Key(options) => administration::key(options).await,
        }
    })
}
