//! `unmogrowp-engine`: takes events over HTTP, journals them, forwards them.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use engine::config::RunArgs;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// UnMoGrowP's ingestion engine.
///
/// An event is acknowledged with 200 only once it is synced to the journal on this machine; from
/// there it is forwarded to Kafka or ClickHouse.
#[derive(Parser)]
#[command(name = "unmogrowp-engine", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT
    Run(Box<RunArgs>),
    /// Look into a journal, or empty it, while no engine runs on it
    #[command(subcommand)]
    Journal(JournalCommand),
}

#[derive(Subcommand)]
enum JournalCommand {
    /// Read every frame and say what is there: blocks, rows, torn tails, damage. Changes nothing.
    /// Exit code 1 when acknowledged data is damaged
    Verify {
        /// The journal's directory, or one shard's in it
        dir: PathBuf,
    },
    /// Forward all that was not yet forwarded, to Kafka where it is configured, then end
    Drain {
        /// The journal's directory
        dir: PathBuf,
        #[command(flatten)]
        config: Box<RunArgs>,
    },
}

fn main() -> ExitCode {
    let ended = match Arguments::parse().command {
        Command::Run(arguments) => engine::run::run(&arguments),
        Command::Journal(JournalCommand::Verify { dir }) => engine::journal_tools::verify(&dir),
        Command::Journal(JournalCommand::Drain { dir, config }) => {
            engine::journal_tools::drain(&dir, *config)
        }
    };
    ended.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "unmogrowp-engine: {error:#}");
        ExitCode::FAILURE
    })
}
