//! The server, put together: listener first (it answers 503 and `/readyz` from the first moment),
//! then keys, then ClickHouse, then the ready file; and the way down again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::cli::Serve;
use crate::connection::{self, ConnectionLimits};
use crate::health::{Dependency, Health};
use crate::key_table::KeyTable;
use crate::keys_snapshot;
use crate::live;
use crate::metrics::Metrics;
use crate::migrations::{self, MigrationError};
use crate::private_file;
use crate::redis_link::RedisLink;
use crate::reply::AnswerMemory;
use crate::router::Router;
use crate::store::Store;
use crate::warehouse::{Warehouse, WarehouseError};
use proto::clickhouse::Address;

const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// A ClickHouse that takes longer than this for nothing counts as away.
const PROBE_TIME_MAX: Duration = Duration::from_secs(2);
const MIGRATION_TIME_MAX: Duration = Duration::from_secs(60);
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(50);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);

pub async fn run(options: Serve) -> anyhow::Result<()> {
    let address = Address::parse(&options.clickhouse_url)?;
    check_database_name(&options.database)?;
    if let Some(path) = &options.ready_file {
        // One of an earlier run would lie about this one.
        remove_if_there(path)?;
    }
    // An empty variable is how scripts say "none".
    let redis = options.redis.as_deref().filter(|url| !url.is_empty());
    let redis = redis.map(RedisLink::new).transpose()?;
    let mut store = Store::open(&options.paths.store).await?;
    let key_set = keys_snapshot::write(&mut store, &options.paths.keys_snapshot).await?;
    let router = Arc::new(Router {
        warehouse: Warehouse::new(
            &address,
            &options.database,
            options.queries_max,
            Duration::from_secs(options.query_seconds_max.into()),
        ),
        keys: KeyTable::default(),
        health: Arc::new(Health::starting(redis.is_some())),
        redis,
        metrics: Metrics::new(),
        memory: AnswerMemory::new(),
        migrated: AtomicBool::new(false),
    });
    router.keys.replace(&key_set);
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("--listen {}: cannot listen there", options.listen))?;
    let url = format!("http://{}", listener.local_addr()?);
    info!(%url, keys = key_set.keys.len(), "listening");

    let limits = ConnectionLimits {
        connections_max: options.connections_max,
        head_time_max: Duration::from_secs(options.head_seconds_max.into()),
    };
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(connection::serve(listener, Arc::clone(&router), limits, stopped));
    let (first_ready, ready) = oneshot::channel();
    let following_keys = {
        let (router, path) = (Arc::clone(&router), options.paths.keys_snapshot.clone());
        tokio::spawn(async move {
            router.keys.keep_fresh(store, path, key_set.version, &router.health).await;
        })
    };
    let counting = {
        let router = Arc::clone(&router);
        tokio::spawn(async move { live::keep_counting(&router).await })
    };
    let following_warehouse = {
        let router = Arc::clone(&router);
        tokio::spawn(async move { follow_warehouse(&router, first_ready).await })
    };
    let outcome = until_stopped(options.ready_file.as_deref(), &url, ready, following_warehouse);
    let outcome = outcome.await;

    stop.send_replace(true);
    if let Some(path) = &options.ready_file {
        remove_if_there(path)?;
    }
    following_keys.abort();
    counting.abort();
    serving.await.context("the listener failed")?;
    info!("stopped");
    outcome
}

/// Waits for a signal, writing the ready file on the way; fails when the schema is not ours.
async fn until_stopped(
    ready_file: Option<&Path>,
    url: &str,
    ready: oneshot::Receiver<()>,
    mut following: tokio::task::JoinHandle<MigrationError>,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let announcing = async {
        if ready.await.is_ok() {
            info!(%url, "ready");
            if let Some(path) = ready_file {
                private_file::replace(path, json!({ "api": url }).to_string().as_bytes())
                    .with_context(|| format!("--ready-file {}: cannot write", path.display()))?;
            }
        }
        std::future::pending::<anyhow::Result<()>>().await
    };
    let outcome = tokio::select! {
        failed = announcing => failed,
        fatal = &mut following => match fatal {
            Ok(error) => Err(error.into()),
            Err(panicked) => Err(panicked.into()),
        },
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    following.abort();
    outcome
}

/// Migrates, then watches ClickHouse; migrates again when the tables are gone. Ends only with an
/// error that no retry can mend.
async fn follow_warehouse(router: &Router, first_ready: oneshot::Sender<()>) -> MigrationError {
    let mut first_ready = Some(first_ready);
    let mut retry_pause = RETRY_PAUSE_MIN;
    loop {
        let migrated = router.migrated.load(Ordering::Acquire);
        let outcome = if migrated { probe(&router.warehouse).await } else { migrate(router).await };
        let pause = match outcome {
            Ok(()) => {
                router.health.set_up(Dependency::ClickHouse);
                if let Some(first_ready) = first_ready.take() {
                    // Nobody waits any more only when the process is on its way down.
                    let _ = first_ready.send(());
                }
                retry_pause = RETRY_PAUSE_MIN;
                PROBE_INTERVAL
            }
            Err(MigrationError::Warehouse(error)) => {
                let reason = reason_of(&error, migrated);
                if router.health.set_down(Dependency::ClickHouse, reason) {
                    warn!(%error, "{reason}");
                }
                if matches!(error, WarehouseError::Failed(_)) {
                    router.migrated.store(false, Ordering::Release);
                }
                retry_pause = (retry_pause * 2).min(RETRY_PAUSE_MAX);
                retry_pause
            }
            Err(fatal) => return fatal,
        };
        sleep(pause).await;
    }
}

fn reason_of(error: &WarehouseError, migrated: bool) -> &'static str {
    match (error, migrated) {
        (WarehouseError::Away(_), _) => "ClickHouse does not answer",
        (WarehouseError::Busy(_), _) => "ClickHouse is busy",
        (WarehouseError::Failed(_), true) => "ClickHouse refuses to read the events table",
        (WarehouseError::Failed(_), false) => "ClickHouse refuses the migrations",
    }
}

async fn migrate(router: &Router) -> Result<(), MigrationError> {
    let away = |_| WarehouseError::Away("the migrations took too long".to_owned());
    let applied = timeout(MIGRATION_TIME_MAX, migrations::apply(&router.warehouse));
    let applied = applied.await.map_err(away)??;
    info!(?applied, "the database is up to date");
    router.migrated.store(true, Ordering::Release);
    Ok(())
}

async fn probe(warehouse: &Warehouse) -> Result<(), MigrationError> {
    let away = |_| WarehouseError::Away("no answer to the probe".to_owned());
    let probe = warehouse.statement("SELECT 1 FROM events LIMIT 0").execute();
    timeout(PROBE_TIME_MAX, probe).await.map_err(away)??;
    Ok(())
}

fn check_database_name(name: &str) -> anyhow::Result<()> {
    let first_ok = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let rest_ok = name.chars().all(|rest| rest.is_ascii_alphanumeric() || rest == '_');
    if !first_ok || !rest_ok || name.len() > 64 {
        bail!("--database {name:?}: 1 to 64 letters, digits and _, not a digit first");
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
