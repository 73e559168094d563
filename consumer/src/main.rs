//! `unmogrowp-consumer`: picks the subcommand and maps its outcome to an exit code.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use consumer::cli::{Cli, Command};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// INSERTs wait for ClickHouse more than they compute.
const WORKER_THREADS: usize = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The `clickhouse` crate logs whole queries below `warn`.
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
            let _ = writeln!(std::io::stderr(), "unmogrowp-consumer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .thread_name("consumer")
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Run(options) => consumer::serve::run(options).await,
            Command::Dead(options) => consumer::dead::office::run(options).await,
            Command::Replay(options) => consumer::replay::run(options).await,
            Command::Export(options) => consumer::export::run(options).await,
        }
    });
    // An INSERT that was given up must not hold the process.
    runtime.shutdown_background();
    outcome
}
