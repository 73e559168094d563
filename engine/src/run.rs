//! The engine's life: configuration, recovery, listeners, shards, and the way back.
//!
//! Order of the start: every journal is recovered before any listener is bound, so that a
//! connection that is taken can be served. Order of the end: listeners close, what was asked is
//! answered, the forwarder hands on what it can, the journal keeps the rest.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use proto::limits::BLOCK_BYTES_MAX;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::admin::{AdminServer, Component, Health, Level};
use crate::config::{self, Ack, Config, Driver, RunArgs};
use crate::driver::{self, Choice, Control, Exit, Seat};
use crate::feed_source::FeedSource;
use crate::forward::Forwarding;
use crate::forward::kafka::{Bell, Source, Waiter};
use crate::http::Reject;
use crate::journal::{self, Journal, JournalConfig, OpenedJournal, RecoveryReport, ShardStatus};
use crate::keys::{KeyCache, KeyPoller, Keys};
use crate::metrics::{self, Metrics, ShardCounters};
use crate::shard::{DeliveryWatch, Shard, ShardLimits};

/// From the signal to the moment when open requests are given up, and then the forwarder.
const DRAIN_DEADLINE: Duration = Duration::from_secs(4);
const FORWARD_DEADLINE: Duration = Duration::from_secs(6);

const GAUGE_INTERVAL: Duration = Duration::from_millis(500);

pub fn run(arguments: &RunArgs) -> anyhow::Result<ExitCode> {
    let config = config::load(arguments)?;
    start_log();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Signal handlers first: a stop that comes during a long recovery is not lost.
    let (mut terminate, mut interrupt) = {
        let _context = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let (ended, mut shard_ended) = mpsc::unbounded_channel();
    let mut engine = Engine::start(&config, &ended)?;
    let outcome = runtime.block_on(async {
        let mut gauges = tokio::time::interval(GAUGE_INTERVAL);
        let mut running = engine.shards.len();
        loop {
            tokio::select! {
                _ = terminate.recv() => return Outcome::Asked,
                _ = interrupt.recv() => return Outcome::Asked,
                _ = gauges.tick() => engine.publish_gauges(),
                _ = shard_ended.recv() => {
                    running -= 1;
                    if running == 0 {
                        return Outcome::AllShardsFailed;
                    }
                }
            }
        }
    });
    engine.stop(&config);
    Ok(match outcome {
        Outcome::Asked => ExitCode::SUCCESS,
        Outcome::AllShardsFailed => {
            tracing::error!("every shard has failed; the log says why");
            ExitCode::FAILURE
        }
    })
}

enum Outcome {
    Asked,
    AllShardsFailed,
}

/// Plain lines on standard error; `RUST_LOG` chooses, `info` without it.
pub(crate) fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    // A disk that is full, or a reader that is gone, must not end the process: by default a line that
    // cannot be written is told of on standard error, which fails as well, and panics.
    log.with_writer(std::io::stderr).log_internal_errors(false).init();
}

struct Engine {
    health: Arc<Health>,
    shards: Vec<ShardHandle>,
    journal: Journal,
    forwarding: Option<Forwarding>,
    admin: Option<AdminServer>,
    _keys: KeyPoller,
}

struct ShardHandle {
    control: Arc<Control>,
    status: ShardStatus,
    counters: Arc<ShardCounters>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    fn start(config: &Config, ended: &mpsc::UnboundedSender<usize>) -> anyhow::Result<Engine> {
        let cores = choose_cores(config.server.cores)?;
        let plan = config.memory_worst_case(cores.len());
        tracing::info!("{plan}");
        plan.check()?;
        check_descriptors(config, cores.len())?;

        let health = Health::new(cores.len());
        let bells: Vec<Arc<Bell>> =
            (0..config.kafka.lanes(cores.len())).map(|_| Arc::default()).collect();
        let metrics =
            Metrics::with_lanes(cores.len(), bells.len(), &Reject::LABELS, Arc::clone(&health));
        let metrics = Arc::new(metrics);
        let admin =
            AdminServer::start(config.admin.listen, Arc::clone(&health), Arc::clone(&metrics))?;
        let keys = Keys::new();
        let poller = KeyPoller::start(
            config.keys.snapshot.clone(),
            Duration::from_millis(config.keys.poll_ms),
            Arc::clone(&keys),
            metrics.keys(),
            Arc::clone(&health),
        )?;

        let controls = cores.iter().map(|_| Control::new()).collect::<Result<Vec<_>, _>>()?;
        let journal_config = journal_config(config, &controls, &bells);
        let disk_floor = disk_floor(&journal_config, cores.len());
        let journal = Journal::open(&config.journal.dir, journal_config)?;
        check_disk(&journal, disk_floor)?;
        let mut damaged_blocks = 0;
        let opened = recover(&journal, cores.len(), &health, &mut damaged_blocks)?;
        let orphans = open_orphans(&journal, cores.len(), &health, &mut damaged_blocks)?;
        metrics::set(&metrics.shard(0).journal_damaged_blocks, damaged_blocks);

        let listeners = driver::bind_listeners(config.server.listen, cores.len())
            .with_context(|| format!("server.listen = {}", config.server.listen))?;
        let ingest = listeners[0].local_addr()?;
        let limits = ShardLimits::from(config);
        let origins: Arc<[String]> = config.cors.origins.clone().into();
        let mut shards = Vec::with_capacity(cores.len());
        let mut sources = Vec::with_capacity(cores.len() + orphans.len());
        for (index, (opened, listener)) in opened.into_iter().zip(listeners).enumerate() {
            let OpenedJournal { appender, feed, status, .. } = opened;
            let counters = metrics.shard(index);
            let mut shard = Shard::new(
                index,
                limits.clone(),
                Arc::clone(&origins),
                appender,
                KeyCache::new(Arc::clone(&keys)),
                Arc::clone(&health),
                Arc::clone(&counters),
            );
            let control = Arc::clone(&controls[index]);
            let mut waiter = None;
            if config.kafka.is_configured() && config.kafka.ack != Ack::Journal {
                let watch = Arc::<DeliveryWatch>::default();
                shard = shard
                    .wait_for_delivery(Arc::clone(&watch), config.kafka.ack_deadline_ms * 1_000);
                let control = Arc::clone(&control);
                waiter = Some(Waiter { watch, wake: Box::new(move || control.wake()) });
            }
            sources.push(Source { frames: Box::new(FeedSource(feed)), waiter });
            let seat = Seat {
                shard,
                listener: Some(listener),
                control: Arc::clone(&control),
                writes_in_flight_max: config.journal.writes_in_flight_max,
                gather_us: config.server.gather_us,
                spin_us: config.server.spin_us,
                drain_deadline: DRAIN_DEADLINE,
                on_journal_failed: Some(report_failure(index, &health)),
            };
            let choice = match config.server.driver {
                Driver::Auto => Choice::Auto,
                Driver::Uring => Choice::Uring,
                Driver::Epoll => Choice::Epoll,
                Driver::Glommio => Choice::Glommio,
            };
            let thread = start_shard(index, cores[index], choice, seat, &health, ended.clone())?;
            shards.push(ShardHandle { control, status, counters, thread: Some(thread) });
        }
        // The shards' first, so that source and shard have one index, which chooses lane and bell.
        sources.extend(orphans);
        let forwarding = Forwarding::start(config, sources, &bells, &metrics, &health)?;
        wait_serving(&health, cores.len())?;
        let engine = Engine {
            health,
            shards,
            journal,
            forwarding: Some(forwarding),
            admin: Some(admin),
            _keys: poller,
        };
        engine.announce(config, ingest)?;
        Ok(engine)
    }

    /// Says where it listens: in the log, and in the ready file where one is asked for.
    fn announce(&self, config: &Config, ingest: SocketAddr) -> anyhow::Result<()> {
        let admin = self.admin.as_ref().map_or(config.admin.listen, AdminServer::address);
        tracing::info!(%ingest, %admin, shards = self.shards.len(), "serving");
        if let Some(path) = &config.server.ready_file {
            let text = format!("{{\"ingest\":\"http://{ingest}\",\"admin\":\"http://{admin}\"}}\n");
            write_ready_file(path, &text)
                .with_context(|| format!("server.ready_file = {}", path.display()))?;
        }
        Ok(())
    }

    fn publish_gauges(&self) {
        for shard in &self.shards {
            let backlog = shard.status.backlog();
            metrics::set(&shard.counters.journal_backlog_bytes, backlog.bytes);
            metrics::set(&shard.counters.journal_backlog_blocks, backlog.blocks);
        }
    }

    fn stop(&mut self, config: &Config) {
        tracing::info!("stopping: no new connections, open requests are answered");
        self.health.set(Component::Server, Level::Down, "the engine is stopping");
        for shard in &self.shards {
            shard.control.stop();
        }
        for shard in &mut self.shards {
            if let Some(thread) = shard.thread.take()
                && thread.join().is_err()
            {
                tracing::error!("a shard ended by a panic; what it acknowledged is in its journal");
            }
        }
        if let Some(forwarding) = self.forwarding.take() {
            let empty = forwarding.stop(Instant::now() + FORWARD_DEADLINE);
            let blocks: u64 = self.shards.iter().map(|shard| shard.status.backlog().blocks).sum();
            if !empty || blocks > 0 {
                let dir = config.journal.dir.display();
                tracing::info!(blocks, %dir, "the rest stays in the journal for the next start");
            }
        }
        self.journal.stop();
        self.admin.take();
        if let Some(path) = &config.server.ready_file {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn choose_cores(asked: usize) -> anyhow::Result<Vec<usize>> {
    let mut cores = driver::available_cores();
    if asked > cores.len() {
        bail!(
            "server.cores = {asked}: this process may run on {} cores; give 1 to {}, or 0 for all",
            cores.len(),
            cores.len()
        );
    }
    if asked > 0 {
        cores.truncate(asked);
    }
    Ok(cores)
}

/// Each connection is a descriptor; the rest of the process needs some, too.
fn check_descriptors(config: &Config, shards: usize) -> anyhow::Result<()> {
    const DESCRIPTORS_RESERVED: u64 = 512;
    let limit = driver::raise_file_limit().context("the limit of open files")?;
    let needed = shards as u64 * config.limits.connections_max as u64 + DESCRIPTORS_RESERVED;
    if needed > limit {
        bail!(
            "limits.connections_max = {}: {shards} shards need up to {needed} open files, this process \
             may have {limit}; lower it to {} or raise the limit (ulimit -n)",
            config.limits.connections_max,
            limit.saturating_sub(DESCRIPTORS_RESERVED) / shards as u64
        );
    }
    Ok(())
}

pub(crate) fn journal_config(
    config: &Config,
    controls: &[Arc<Control>],
    bells: &[Arc<Bell>],
) -> JournalConfig {
    let journal = &config.journal;
    let chain_buffers = config.journal_buffers() - journal.buffers;
    // A block lies whole in one segment, and the first page of a segment holds none.
    let segment_blocks = (journal.segment_bytes - 1) / BLOCK_BYTES_MAX as u64;
    let controls = controls.to_vec();
    let bells = bells.to_vec();
    JournalConfig {
        segment_bytes: journal.segment_bytes,
        segments_ahead: (chain_buffers + 1).div_ceil(segment_blocks as usize),
        writes_in_flight_max: journal.writes_in_flight_max,
        buffers_max: config.journal_buffers(),
        tail_bytes_max: journal.tail_blocks * BLOCK_BYTES_MAX,
        backlog_bytes_max: (journal.backlog_bytes_max > 0).then_some(journal.backlog_bytes_max),
        keep_forwarded: Duration::from_secs(journal.keep_forwarded_s),
        waker: Some(Arc::new(move |shard: usize| {
            if let Some(control) = controls.get(shard) {
                control.wake();
            }
        })),
        on_release: (!bells.is_empty()).then(|| {
            Arc::new(move |shard: usize| bells[shard % bells.len()].ring()) as journal::Waker
        }),
        ..JournalConfig::default()
    }
}

/// Below this a shard may find no segment to go on in although everything was forwarded: one in use,
/// one ready, and those that the longest body fills.
fn disk_floor(config: &JournalConfig, shards: usize) -> u64 {
    shards as u64 * (config.segments_ahead as u64 + 2) * config.segment_bytes
}

fn check_disk(journal: &Journal, floor: u64) -> anyhow::Result<()> {
    let (_, allowed) = journal.disk_bytes();
    if allowed < floor {
        bail!(
            "journal.backlog_bytes_max allows {allowed} bytes (0 is half the free disk), these shards \
             need at least {floor}: raise it, free some disk, or lower journal.segment_bytes, \
             limits.body_bytes_max or server.cores"
        );
    }
    Ok(())
}

/// Recovers all shards' journals side by side and tells what was found.
fn recover(
    journal: &Journal,
    shards: usize,
    health: &Health,
    damaged_blocks: &mut u64,
) -> anyhow::Result<Vec<OpenedJournal>> {
    let opened: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..shards).map(|index| scope.spawn(move || journal.open_shard(index))).collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    let mut recovered = Vec::with_capacity(shards);
    for (index, opened) in opened.into_iter().enumerate() {
        let opened = match opened {
            Ok(opened) => {
                opened.with_context(|| format!("recovering the journal of shard {index}"))?
            }
            Err(panic) => std::panic::resume_unwind(panic),
        };
        *damaged_blocks += tell_recovery(index, &opened.report, health);
        recovered.push(opened);
    }
    Ok(recovered)
}

/// Journals of shards that an earlier start had and this one has not: they are forwarded, and their
/// directories go at the first start that finds them empty.
pub(crate) fn open_orphans(
    journal: &Journal,
    shards: usize,
    health: &Health,
    damaged_blocks: &mut u64,
) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for index in journal.orphans(shards)? {
        let orphan = journal.open_orphan(index)?;
        *damaged_blocks += tell_recovery(index, &orphan.report, health);
        if let Some(orphan) = journal.remove_orphan(orphan)? {
            sources.push(Source { frames: Box::new(FeedSource(orphan.feed)), waiter: None });
        }
    }
    Ok(sources)
}

/// Into the log, and where there is damage onto `/readyz`; gives how many blocks are damaged.
fn tell_recovery(shard: usize, report: &RecoveryReport, health: &Health) -> u64 {
    let RecoveryReport { blocks_to_forward, dropped_blocks, quarantined, .. } = report;
    tracing::info!(shard, blocks_to_forward, dropped_blocks, "journal recovered");
    let blocks = report.damaged_blocks();
    if blocks > 0 || !report.damaged_headers.is_empty() {
        tracing::error!(shard, blocks, ?quarantined, "acknowledged data in the journal is damaged");
        let reason = format!(
            "{blocks} acknowledged blocks of shard {shard}'s journal cannot be read; copies of their \
             segments were put aside beside it"
        );
        health.set(Component::Recovery, Level::Degraded, &reason);
    }
    blocks
}

fn report_failure(index: usize, health: &Arc<Health>) -> driver::OnJournalFailed {
    let health = Arc::clone(health);
    Box::new(move |failed| {
        tracing::error!(shard = index, %failed, "this shard is out: its journal failed");
        health.set(Component::Shard(index), Level::Failed, &failed.to_string());
    })
}

fn start_shard(
    index: usize,
    core: usize,
    choice: Choice,
    seat: Seat,
    health: &Arc<Health>,
    ended: mpsc::UnboundedSender<usize>,
) -> anyhow::Result<JoinHandle<()>> {
    let health = Arc::clone(health);
    let thread = std::thread::Builder::new().name(format!("shard-{index}"));
    let thread = thread.spawn(move || {
        if !driver::pin_to_core(core) {
            tracing::warn!(shard = index, core, "the shard could not be pinned to its core");
        }
        let on_start = |name| {
            tracing::info!(shard = index, core, driver = name, "shard running");
            health.set(Component::Shard(index), Level::Ok, "");
        };
        match driver::run(choice, seat, on_start) {
            Ok(Exit::Drained) => {}
            Ok(exit) => tracing::warn!(shard = index, ?exit, "shard ended"),
            Err(error) => {
                tracing::error!(shard = index, %error, "the shard's driver failed");
                health.set(Component::Shard(index), Level::Failed, &error.to_string());
            }
        }
        // Nobody listens any more once the engine is stopping.
        let _ = ended.send(index);
    });
    thread.context("starting a shard's thread")
}

/// Until every shard's driver runs, or has said why it can not.
fn wait_serving(health: &Health, shards: usize) -> anyhow::Result<()> {
    const SERVING_WITHIN: Duration = Duration::from_secs(10);
    let deadline = Instant::now() + SERVING_WITHIN;
    for index in 0..shards {
        while health.level(Component::Shard(index)) == Level::Down {
            if Instant::now() > deadline {
                bail!("shard {index} did not start within {SERVING_WITHIN:?}");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    if health.shard_levels().all(|level| level == Level::Failed) {
        bail!("no shard could start; the log says why");
    }
    Ok(())
}

/// Appears whole or not at all.
fn write_ready_file(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let beside = path.with_extension("new");
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&beside, path)?;
    Ok(())
}
