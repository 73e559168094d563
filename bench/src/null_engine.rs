//! The engine's shards, with their real driver, on a journal that keeps nothing: what HTTP, JSON, rows
//! and blocks cost when no disk is in the way.
//!
//! The same parts as `engine::run` puts together, without admin port, forwarder and key file. Blocks
//! are handed over as to the forwarder and dropped, so that segments are used again.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engine::admin::Health;
use engine::config::Config;
use engine::driver::{self, Choice, Control, Seat};
use engine::journal::{Feed, FeedError, Journal, JournalConfig, OpenedJournal};
use engine::keys::{KeyCache, KeySnapshot, Keys};
use engine::metrics::ShardCounters;
use engine::shard::{Shard, ShardLimits};
use proto::limits::BLOCK_BYTES_MAX;
use sha2::{Digest, Sha256};

use crate::null_storage::NullStorage;

/// Small beside the time in which a shard fills its tail, and too long to cost anything.
const DRAIN_EVERY: Duration = Duration::from_millis(1);
/// As `engine::run` keeps spare.
const SEGMENTS_AHEAD: usize = 4;

/// Starts a shard on each core; they run until the process ends. Gives where they listen.
pub fn start(app_id: &str, api_key: &str) -> anyhow::Result<SocketAddr> {
    let config = Config::default();
    let cores = driver::available_cores();
    driver::raise_file_limit()?;
    let controls = cores.iter().map(|_| Control::new()).collect::<io::Result<Vec<_>>>()?;
    let journal_config = journal_config(&config, &controls)?;
    let journal = Journal::open(Path::new("/null"), journal_config)?;
    let keys = keys(app_id, api_key)?;
    let listeners = driver::bind_listeners(SocketAddr::from(([127, 0, 0, 1], 0)), cores.len())?;
    let address = listeners[0].local_addr()?;
    let health = Health::new(cores.len());
    let mut feeds = Vec::with_capacity(cores.len());
    for ((index, listener), control) in listeners.into_iter().enumerate().zip(controls) {
        let OpenedJournal { appender, feed, .. } = journal.open_shard(index)?;
        feeds.push(feed);
        let shard = Shard::new(
            index,
            ShardLimits::from(&config),
            Arc::default(),
            appender,
            KeyCache::new(Arc::clone(&keys)),
            Arc::clone(&health),
            Arc::new(ShardCounters::default()),
        );
        let seat = Seat {
            shard,
            listener: Some(listener),
            control,
            writes_in_flight_max: config.journal.writes_in_flight_max,
            gather_us: config.server.gather_us,
            spin_us: config.server.spin_us,
            drain_deadline: Duration::from_secs(1),
            on_journal_failed: None,
        };
        let core = cores[index];
        std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
            driver::pin_to_core(core);
            driver::run(Choice::Auto, seat, |_| ()).expect("a driver that this kernel has");
        })?;
    }
    std::thread::Builder::new().name("drain".to_owned()).spawn(move || drain(journal, feeds))?;
    Ok(address)
}

fn journal_config(config: &Config, controls: &[Arc<Control>]) -> io::Result<JournalConfig> {
    let controls = controls.to_vec();
    Ok(JournalConfig {
        segment_bytes: config.journal.segment_bytes,
        segments_ahead: SEGMENTS_AHEAD,
        writes_in_flight_max: config.journal.writes_in_flight_max,
        buffers_max: config.journal_buffers(),
        tail_bytes_max: config.journal.tail_blocks * BLOCK_BYTES_MAX,
        backlog_bytes_max: Some(1 << 40),
        keep_forwarded: Duration::ZERO,
        storage: Arc::new(NullStorage::new()?),
        waker: Some(Arc::new(move |shard: usize| controls[shard].wake())),
        ..JournalConfig::default()
    })
}

fn keys(app_id: &str, api_key: &str) -> anyhow::Result<Arc<Keys>> {
    let hex: String = Sha256::digest(api_key).iter().map(|byte| format!("{byte:02x}")).collect();
    let snapshot = format!(
        r#"{{"version":1,"keys":[{{"sha256":"{hex}","app_id":"{app_id}","scopes":["ingest"]}}]}}"#
    );
    let keys = Keys::new();
    keys.swap(KeySnapshot::parse(snapshot.as_bytes())?);
    Ok(keys)
}

/// Takes what is synced and says that it has arrived. The journal, kept here, lives as long.
fn drain(_journal: Journal, mut feeds: Vec<Feed>) {
    loop {
        for feed in &mut feeds {
            loop {
                match feed.next_block() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    // Beyond the tail it would be read from the disk, where nothing is.
                    Err(FeedError::Damaged { .. }) => {}
                    Err(FeedError::Io { .. }) => break,
                }
            }
            let through = feed.first_unread().saturating_sub(1);
            feed.mark_forwarded(through).expect("the null disk takes every checkpoint");
        }
        std::thread::sleep(DRAIN_EVERY);
    }
}
