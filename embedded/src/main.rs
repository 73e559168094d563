//! `unmogrowp-clickhouse`: the ClickHouse engine as a library behind ClickHouse's HTTP protocol.
//!
//! Owns the start and the stop; everything between them is the library's.

use std::convert::Infallible;
use std::io::{IsTerminal, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use embedded::write_back::WriteBack;
use embedded::{cli, doors, engine, engine_config, server};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What running statements get after a signal before the engine is closed without them.
const DRAIN_MAX: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("UNMOGROWP_LOG")
                .unwrap_or_else(|_| "info".into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // A line that cannot be written is lost; telling so on standard error would panic.
        .log_internal_errors(false)
        .init();
    match start(&cli::Flags::parse()) {
        Ok(never) => match never {},
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "unmogrowp-clickhouse: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs to the end of the process; returns only what kept it from starting.
fn start(flags: &cli::Flags) -> anyhow::Result<Infallible> {
    flags.check()?;
    let password = flags.password()?;
    // Before any thread exists: threads inherit the weight of the one that starts them, and the
    // kernel's call changes the calling thread alone.
    if flags.nice != 0 {
        rustix::process::setpriority_process(None, flags.nice).context("--nice")?;
    }
    let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get());
    let queries_max = flags.queries_max.map_or(2 * cores, |count| count.get() as usize);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(2))
        .max_blocking_threads(queries_max + 4)
        .enable_all()
        .build()?;
    let engine = start_engine(flags, cores)?;
    let every = Duration::from_millis(flags.write_back_ms);
    let write_back =
        (!every.is_zero()).then(|| WriteBack::start(&flags.data, every)).transpose()?;
    let credentials = doors::Credentials { user: flags.user.clone(), password };
    let server = server::Server::new(engine.clone(), credentials, queries_max);
    let drained = runtime.block_on(run(Arc::new(server), flags))?;
    drop(write_back);
    if let Some(path) = &flags.ready_file {
        std::fs::remove_file(path).ok();
    }
    // A statement that outlived the deadline is cut off by the exit, as by a power cut: what it had
    // stored stays, what it had not acknowledged may be missing.
    if drained {
        engine.stop();
    } else {
        tracing::warn!(
            "statements still ran after {} s; exiting without them",
            DRAIN_MAX.as_secs()
        );
    }
    std::io::stderr().flush().ok();
    std::process::exit(0);
}

fn start_engine(flags: &cli::Flags, cores: usize) -> anyhow::Result<Arc<engine::Engine>> {
    let threads_default = NonZeroU32::new(cores.clamp(1, 8) as u32).expect("at least one");
    let limits = engine_config::Limits {
        threads_max: flags.threads_max.unwrap_or(threads_default),
        memory_bytes_max: flags.memory_max,
    };
    engine::Engine::start(&flags.data, &flags.library()?, &limits).map(Arc::new)
}

async fn run(server: Arc<server::Server>, flags: &cli::Flags) -> anyhow::Result<bool> {
    let listener = TcpListener::bind(flags.listen)
        .await
        .with_context(|| format!("--listen {}", flags.listen))?;
    let address = listener.local_addr()?;
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stop.send(true).ok();
    });
    if let Some(path) = &flags.ready_file {
        write_ready_file(path, &format!("http://{address}"))?;
    }
    tracing::info!(%address, user = flags.user, "ready");
    Ok(server.serve(listener, stopped, DRAIN_MAX).await)
}

/// Under another name first, so that nobody reads half of it.
fn write_ready_file(path: &Path, url: &str) -> anyhow::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let text = serde_json::json!({ "clickhouse": url }).to_string();
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)
        .and_then(|mut file| writeln!(file, "{text}"))
        .and_then(|()| std::fs::rename(&partial, path))
        .with_context(|| format!("--ready-file {}", path.display()))
}
