//! `run`, put together: admin port first, then the group's member; and the way down again.

use crate::admin;
use crate::cli::{RangeFlags, Run, WarehouseFlags};
use crate::dead::{DeadSink, DeadTopic};
use crate::deliver::Deliverer;
use crate::desk::DeskLimits;
use crate::health::Health;
use crate::kafka::{self, Kafka};
use crate::lag::Lag;
use crate::metrics::Metrics;
use crate::partition::RangeLimits;
use crate::ready_file;
use crate::run::{Member, Positions};
use crate::warehouse::{Address, Inserter};
use crate::worker::WorkerLimits;
use anyhow::Context as _;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

const HOLD_MAX: Duration = Duration::from_millis(500);
/// Of one INSERT; further ranges of the partition gather meanwhile.
const RANGE_BYTES_MAX: usize = 32 * 1024 * 1024;

pub fn desk_limits(flags: &RangeFlags) -> DeskLimits {
    DeskLimits {
        range: RangeLimits {
            rows_max: flags.rows_max as usize,
            bytes_max: RANGE_BYTES_MAX.min(flags.memory_max / 2),
            linger: Duration::from_millis(flags.linger_ms.into()),
        },
        inserts_max: flags.inserts_max.into(),
        bytes_max: flags.memory_max,
        hold_max: HOLD_MAX,
    }
}

pub fn inserter(flags: &WarehouseFlags) -> anyhow::Result<Inserter> {
    let address = Address::parse(&flags.clickhouse_url)?;
    let patience = Duration::from_secs(flags.insert_seconds_max.into());
    Ok(Inserter::new(&address, &flags.database, patience))
}

/// What sends ranges, with its dead letters.
pub fn deliverer(
    warehouse: &WarehouseFlags,
    dead_topic: DeadTopic,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Arc<Deliverer>> {
    let inserter = inserter(warehouse)?;
    let (database, letters) = (&warehouse.database, inserter.clone());
    let dead = DeadSink::new(Some(dead_topic), letters, database);
    Ok(Arc::new(Deliverer::new(inserter, dead, Arc::clone(metrics))))
}

pub async fn run(options: Run) -> anyhow::Result<()> {
    let kafka = Kafka::new(&options.kafka.brokers, &options.kafka.property)?;
    let (health, metrics) = (Arc::new(Health::starting()), Arc::new(Metrics::new()));
    let dead_topic = DeadTopic::new(&kafka, &options.dead_topic)?;
    let deliverer = deliverer(&options.warehouse, dead_topic, &metrics)?;
    let reader = kafka::open(&kafka.reader(&options.group, false), Some(Arc::clone(&health)))?;
    if let Some(path) = &options.ready_file {
        ready_file::remove(path)
            .with_context(|| format!("--ready-file {}: cannot remove", path.display()))?;
    }
    let listener = TcpListener::bind(options.admin_listen)
        .await
        .with_context(|| format!("--admin-listen {}: cannot listen there", options.admin_listen))?;
    let admin = format!("http://{}", listener.local_addr()?);
    let serving = tokio::spawn(admin::serve(listener, Arc::clone(&health), Arc::clone(&metrics)));
    let (stop, positions) = (Arc::new(AtomicBool::new(false)), Positions::default());
    let lag = Lag {
        reader,
        topic: options.kafka.topic.clone(),
        positions: Arc::clone(&positions),
        metrics: Arc::clone(&metrics),
        health: Arc::clone(&health),
    };
    lag.start()?;
    let member = Member {
        reader,
        topic: options.kafka.topic.clone(),
        accept_gap: options.accept_gap,
        deliverer,
        health,
        metrics,
        positions,
        stop: Arc::clone(&stop),
        runtime: tokio::runtime::Handle::current(),
    };
    // Whoever sees the ready file may ask for an end: what asks is heard from here on.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let limits = WorkerLimits::of(desk_limits(&options.range));
    let mut working = tokio::task::spawn_blocking(move || member.run(limits));
    if let Some(path) = &options.ready_file {
        ready_file::write(path, &json!({ "admin": admin }).to_string())
            .with_context(|| format!("--ready-file {}: cannot write", path.display()))?;
    }
    tracing::info!(%admin, topic = options.kafka.topic, group = options.group, "consuming");

    let ended = tokio::select! {
        ended = &mut working => Some(ended),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    stop.store(true, Ordering::Release);
    let outcome = match ended {
        Some(ended) => ended,
        None => working.await,
    };
    serving.abort();
    if let Some(path) = &options.ready_file {
        ready_file::remove(path).context("cannot remove the ready file")?;
    }
    outcome.context("the consumer's thread ended by a panic")?
}
