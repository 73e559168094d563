//! Takes durable blocks from every shard's journal and INSERTs them into ClickHouse.
//!
//! Owns batches, tokens, retries, the breaker and dead letters. Knows a journal only as a
//! [`BlockSource`], and of SQL one INSERT. The deciding parts ([`Batcher`], and from `proto` breaker,
//! backoff, [`proto::insert`]) are state machines without clock, socket or randomness;
//! [`run`] moves bytes and time between them.
//!
//! Invariants: a block is marked forwarded only when its rows are in ClickHouse or durably among the
//! dead letters, and all blocks before it are; an INSERT is repeated with the same token and the
//! same rows; what cannot be forwarded stays in the journal.

mod batcher;
pub mod dead;
mod insert;
mod run;
mod source;

pub use batcher::{Batch, BatchBlock, BatchLimits, Batcher};
pub use source::{BlockSource, SourceError};

use crate::admin::Health;
use crate::config::Config;
use crate::metrics::ForwardCounters;
use anyhow::Context;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::watch;

/// The forwarder's thread.
pub struct Forwarder {
    stop: watch::Sender<Option<Instant>>,
    idle: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Starts the thread. Dead letters go to `dead/` in the journal's directory.
    pub fn start(
        config: &Config,
        sources: Vec<Box<dyn BlockSource>>,
        counters: Arc<ForwardCounters>,
        health: Arc<Health>,
    ) -> anyhow::Result<Forwarder> {
        let nice = config.server.nice;
        let (stop, stopped) = watch::channel(None);
        let idle = Arc::new(AtomicBool::new(false));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the forwarder's runtime")?;
        let dead = dead::DeadLetters::open(&config.journal.dir.join("dead"))
            .context("cannot open the dead letters")?;
        let runner =
            run::Runner::new(config, sources, dead, counters, health, idle.clone(), stopped)?;
        let thread = std::thread::Builder::new()
            .name("forwarder".to_owned())
            .spawn(move || {
                // On Linux this is the calling thread's alone.
                if nice != 0
                    && let Err(error) = rustix::process::nice(nice)
                {
                    tracing::warn!(%error, nice, "the forwarder keeps its priority");
                }
                runtime.block_on(runner.run());
            })
            .context("cannot start the forwarder's thread")?;
        Ok(Forwarder { stop, idle, thread: Some(thread) })
    }

    /// Whether every block that its sources had when they were last asked is forwarded and marked.
    pub fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Acquire)
    }

    /// Forwards what there is without lingering, until `deadline`, or until ClickHouse is found to
    /// be away; the rest stays in the journal. Gives whether nothing is left.
    pub fn stop(mut self, deadline: Instant) -> bool {
        self.end(deadline);
        self.is_idle()
    }

    fn end(&mut self, deadline: Instant) {
        self.stop.send_replace(Some(deadline));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            self.idle.store(false, Ordering::Release);
            tracing::error!("the forwarder ended by a panic; what it held is still in the journal");
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.end(Instant::now());
    }
}
