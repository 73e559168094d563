//! Re-reads the snapshot file when it changes. A damaged or missing file never takes away the last
//! good snapshot; it is reported until a good one is there.

use super::{KeySnapshot, Keys, SNAPSHOT_BYTES_MAX};
use crate::admin::{Component, Health, Level};
use anyhow::{Context, bail};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the poller tells of itself.
#[derive(Debug, Default)]
pub struct KeyStats {
    pub version: AtomicU64,
    pub keys: AtomicU64,
    /// When the file was last found good, changed or not; Unix seconds, 0 for never.
    pub checked_at_s: AtomicU64,
    pub failures: AtomicU64,
}

/// What tells one state of a file from the next without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileState {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    fn of(metadata: &std::fs::Metadata) -> FileState {
        FileState {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The polling thread; ends when this is dropped.
pub struct KeyPoller {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl KeyPoller {
    /// Reads the file once before it returns, then every `poll`.
    pub fn start(
        path: PathBuf,
        poll: Duration,
        keys: Arc<Keys>,
        stats: Arc<KeyStats>,
        health: Arc<Health>,
    ) -> std::io::Result<KeyPoller> {
        let mut watch = Watch { path, keys, stats, health, seen: None, last_error: String::new() };
        watch.look();
        let (stop, stopped) = channel::<()>();
        let thread = std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
            while stopped.recv_timeout(poll) == Err(RecvTimeoutError::Timeout) {
                watch.look();
            }
        })?;
        Ok(KeyPoller { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for KeyPoller {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the key poller ended by a panic");
        }
    }
}

struct Watch {
    path: PathBuf,
    keys: Arc<Keys>,
    stats: Arc<KeyStats>,
    health: Arc<Health>,
    /// The file of the current snapshot; `None` before the first good one.
    seen: Option<FileState>,
    last_error: String,
}

impl Watch {
    fn look(&mut self) {
        match read_if_changed(&self.path, self.seen) {
            Ok(None) => self.good(),
            Ok(Some((snapshot, state))) => {
                tracing::info!(version = snapshot.version, keys = snapshot.len(), "keys read");
                self.stats.version.store(snapshot.version, Ordering::Relaxed);
                self.stats.keys.store(snapshot.len() as u64, Ordering::Relaxed);
                self.keys.swap(snapshot);
                self.seen = Some(state);
                self.good();
            }
            Err(error) => self.bad(format!("{error:#}")),
        }
    }

    fn good(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.stats.checked_at_s.store(now, Ordering::Relaxed);
        self.last_error.clear();
        self.health.set(Component::Keys, Level::Ok, "");
    }

    fn bad(&mut self, error: String) {
        self.stats.failures.fetch_add(1, Ordering::Relaxed);
        let level = if self.seen.is_some() { Level::Degraded } else { Level::Down };
        self.health.set(Component::Keys, level, &error);
        if self.last_error != error {
            tracing::warn!(%error, "key snapshot not taken; the last good one stays");
            self.last_error = error;
        }
    }
}

fn read_if_changed(
    path: &Path,
    seen: Option<FileState>,
) -> anyhow::Result<Option<(KeySnapshot, FileState)>> {
    let named = || format!("key snapshot {}", path.display());
    let metadata = std::fs::metadata(path).with_context(named)?;
    if seen == Some(FileState::of(&metadata)) {
        return Ok(None);
    }
    let mut file = File::open(path).with_context(named)?;
    let state = FileState::of(&file.metadata().with_context(named)?);
    let mut json = Vec::new();
    file.by_ref().take(SNAPSHOT_BYTES_MAX + 1).read_to_end(&mut json).with_context(named)?;
    if json.len() as u64 > SNAPSHOT_BYTES_MAX {
        bail!("{} is longer than {SNAPSHOT_BYTES_MAX} bytes", named());
    }
    Ok(Some((KeySnapshot::parse(&json).with_context(named)?, state)))
}
