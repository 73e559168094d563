//! The journal: one append-only log of blocks per shard, the only thing that an acknowledgement
//! stands on.
//!
//! ```text
//! journal/LOCK                         flock: one engine per directory; holds its process id
//! journal/shard-NN/journal.id          the random name of this log
//! journal/shard-NN/segment-….jnl       a header page, then frames: blocks padded to 4096 bytes
//! journal/shard-NN/forwarded.ckpt      how far it is forwarded, in which boot of the machine
//! ```
//!
//! [`Appender`] (the shard's thread) takes rows and gives out writes; [`Feed`] (the forwarder's)
//! gives out what is durable; the keeper's thread makes segments and takes them back. This folder
//! knows neither HTTP nor where blocks are forwarded to. [`resolve`] is the heart of recovery.
//!
//! # What a frame proves
//!
//! A block's identity is (journal id, epoch, sequence). Epochs count starts; an epoch begins in a
//! fresh segment; sequences go on from the end of the log. So a frame belongs to its segment only
//! with the segment's epoch and at or above the segment's floor: whatever an earlier use of the file
//! left is of an older epoch, or below the floor.
//!
//! Frames of one epoch must follow each other without a hole. At the first hole:
//! - *damage*, if the missing sequence is known to have been durable: some frame says so in its
//!   `durable_through` (the watermark when it was sealed), or a later segment's floor does (it was
//!   the watermark when the segment was prepared), or the checkpoint (only durable blocks are
//!   forwarded), or the next epoch's first floor (the start that chose it took all below for good).
//!   The good frames on both sides stay; the hole is reported; copies of its segments are put aside.
//! - else a *torn tail*: writes were on their way when the machine stopped. With two in flight the
//!   second may be whole and the first not; the second's `durable_through` was taken when it was
//!   sealed, before the first had completed, so it cannot vouch for the first, and both are dropped.
//!
//! A torn tail needs no erasing: the next epoch's first floor says where this one ends, for ever.
//! A chain whose last block is behind the end is dropped whole. Not told apart from a torn tail:
//! bits that rot in the very last writes before a crash, which nothing later vouches for. Nor, after a
//! reboot, an oldest segment of which not even a frame's header can be read from one never used.

mod appender;
mod buffer;
mod catalog;
mod feed;
mod identity;
mod keeper;
mod keeper_thread;
mod lock;
mod recovery;
mod resolve;
mod scan;
mod segment;
pub mod simulated_disk;
pub mod storage;
mod tail;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::environment::{Environment, Machine};
use crossbeam_channel::unbounded;
use proto::limits::{BLOCK_BYTES_MAX, BODY_BYTES_MAX_DEFAULT};

pub use appender::{Appender, FilledBuffer, JournalFailed, Stall, WRITE_BLOCKS_MAX, Write};
pub use buffer::{AlignedBytes, BlockBuffer, BufferPool, PAGE_BYTES, SLACK_BYTES};
pub use catalog::{Backlog, SpaceState};
pub use feed::{Feed, FeedBlock, FeedError};
pub use identity::{BootId, CheckpointState};
pub use keeper::Waker;
pub use recovery::RecoveryReport;
pub use resolve::Damage;
pub use storage::SegmentFile;
pub use verify::{VerifyReport, verify, verify_on};

use appender::AppenderParts;
use catalog::Shared;
use feed::FeedParts;
use keeper::{DiskBudget, ShardKeeper};
use keeper_thread::{KeeperThread, Shards};
use lock::RootLock;
use recovery::io_error;
use storage::{DiskStorage, Storage};

/// At most this much of the disk unless configured otherwise.
const BACKLOG_BYTES_MAX_DEFAULT: u64 = 64 << 30;

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("the journal {root} is in use by process {pid}")]
    Locked { root: PathBuf, pid: String },
    #[error("{key} = {value} is out of range: {range}")]
    Config { key: &'static str, value: u64, range: String },
    #[error("{dir} holds segments, but neither journal.id nor any segment says of which journal")]
    Identity { dir: PathBuf },
    #[error("cannot {action} {path}: {cause}")]
    Io { action: &'static str, path: PathBuf, cause: std::io::Error },
    #[error("{0} is not the directory of a shard")]
    NoShard(PathBuf),
}

#[derive(Clone)]
pub struct JournalConfig {
    /// Size of new segments, a multiple of 4096, at least 1 MiB.
    pub segment_bytes: u64,
    /// Spare segments per shard, prepared ahead. With the segment in use they must hold the longest
    /// request.
    pub segments_ahead: usize,
    pub writes_in_flight_max: usize,
    /// Block buffers per shard for blocks that are not durable yet.
    pub buffers_max: usize,
    /// Memory per shard for durable blocks that the forwarder has not let go of yet.
    pub tail_bytes_max: usize,
    /// All segments of all shards. None: half the disk's free space at start, at most 64 GiB.
    pub backlog_bytes_max: Option<u64>,
    /// At least so long between two writes of the checkpoint.
    pub checkpoint_interval: Duration,
    /// How long forwarded segments stay.
    pub keep_forwarded: Duration,
    /// Lane of every block.
    pub lane: u16,
    pub storage: Arc<dyn Storage>,
    pub environment: Arc<dyn Environment>,
    /// None: ask the kernel.
    pub boot_id: Option<BootId>,
    /// Without it the keeper works only in [`Journal::keep`].
    pub keeper_thread: bool,
    /// Called from the keeper's thread; must not block.
    pub waker: Option<Waker>,
    /// Called from the shard's thread with its index, once for each completed write that released
    /// blocks; must not block.
    pub on_release: Option<Waker>,
}

impl Default for JournalConfig {
    fn default() -> JournalConfig {
        JournalConfig {
            segment_bytes: 64 << 20,
            segments_ahead: 1,
            writes_in_flight_max: 2,
            buffers_max: 48,
            tail_bytes_max: 8 << 20,
            backlog_bytes_max: None,
            checkpoint_interval: Duration::from_millis(200),
            keep_forwarded: Duration::from_secs(15 * 60),
            lane: 0,
            storage: Arc::new(DiskStorage),
            environment: Arc::new(Machine),
            boot_id: None,
            keeper_thread: true,
            waker: None,
            on_release: None,
        }
    }
}

impl JournalConfig {
    fn check(&self) -> Result<(), JournalError> {
        let check = |key, value: u64, good: bool, range: String| {
            if good { Ok(()) } else { Err(JournalError::Config { key, value, range }) }
        };
        let segment_bytes_min = segment::SEGMENT_BYTES_MIN;
        check(
            "journal.segment_bytes",
            self.segment_bytes,
            self.segment_bytes >= segment_bytes_min
                && self.segment_bytes.is_multiple_of(PAGE_BYTES as u64),
            format!("a multiple of {PAGE_BYTES}, at least {segment_bytes_min}"),
        )?;
        let ahead = self.segments_ahead as u64;
        check("journal.segments_ahead", ahead, (1..=1024).contains(&ahead), "1 to 1024".into())?;
        let writes = self.writes_in_flight_max as u64;
        check(
            "journal.writes_in_flight_max",
            writes,
            (1..=64).contains(&writes),
            "1 to 64".into(),
        )?;
        let buffers = self.buffers_max as u64;
        check("journal.buffers_max", buffers, (4..=65_536).contains(&buffers), "4 to 65536".into())
    }

    /// Worst-case memory of one shard's journal, without its fixed small parts.
    pub fn memory_bytes_max(&self) -> usize {
        (self.buffers_max + self.tail_bytes_max.div_ceil(BLOCK_BYTES_MAX))
            * (BLOCK_BYTES_MAX + PAGE_BYTES)
            + self.tail_bytes_max
            + BLOCK_BYTES_MAX
    }
}

const _: () = assert!(BODY_BYTES_MAX_DEFAULT / BLOCK_BYTES_MAX + 8 <= 48, "the longest body fits");

/// The journal of one engine: all shards' directories, one lock, one budget, one keeper.
pub struct Journal {
    root: PathBuf,
    config: JournalConfig,
    boot_id: BootId,
    budget: Arc<DiskBudget>,
    keeper: KeeperThread,
    shards: Arc<Shards>,
    _lock: RootLock,
}

/// One shard's journal, recovered.
pub struct OpenedJournal {
    pub appender: Appender,
    pub feed: Feed,
    pub status: ShardStatus,
    pub report: RecoveryReport,
}

/// The directory of a shard that has no thread in this start: forwarded, never appended to.
pub struct OrphanJournal {
    pub feed: Feed,
    pub status: ShardStatus,
    pub report: RecoveryReport,
}

/// A shard's journal for `/readyz` and metrics; cheap to clone and to ask from any thread.
#[derive(Clone)]
pub struct ShardStatus {
    shared: Arc<Shared>,
}

impl ShardStatus {
    pub fn synced_through(&self) -> u64 {
        self.shared.synced_through()
    }

    /// The same, but never inside a request of several blocks: all up to here survives anything.
    pub fn released_through(&self) -> u64 {
        self.shared.released_through()
    }

    pub fn forwarded_through(&self) -> u64 {
        self.shared.forwarded_through()
    }

    pub fn backlog(&self) -> Backlog {
        self.shared.backlog()
    }

    pub fn failed(&self) -> bool {
        self.shared.failed()
    }

    pub fn space(&self) -> SpaceState {
        self.shared.space()
    }

    /// Segments kept, the spares not counted.
    pub fn segments(&self) -> usize {
        self.shared.segments().len()
    }
}

impl Journal {
    /// Takes the directory for this process and starts the keeper; the shards come one by one.
    pub fn open(root: &Path, config: JournalConfig) -> Result<Journal, JournalError> {
        config.check()?;
        config.storage.create_dir(root).map_err(io_error("create", root))?;
        let lock = RootLock::take(&*config.storage, root)?;
        // All that is there counts before the first shard makes its spares.
        let used = segment_bytes_in(&*config.storage, root)?;
        let bytes_max = match config.backlog_bytes_max {
            Some(bytes_max) => bytes_max,
            None => Self::default_backlog(&*config.storage, root, used)?,
        };
        let budget = DiskBudget::new(bytes_max);
        budget.add(used);
        let shards = Arc::new(Shards::default());
        let keeper = KeeperThread::new(&shards, &config.environment, config.keeper_thread)
            .map_err(io_error("start the keeper of", root))?;
        Ok(Journal {
            root: root.to_path_buf(),
            boot_id: config.boot_id.unwrap_or_else(|| BootId::current(&*config.environment)),
            budget: Arc::new(budget),
            keeper,
            shards,
            config,
            _lock: lock,
        })
    }

    /// Half of what is free when what the journal has already is counted as free.
    fn default_backlog(storage: &dyn Storage, root: &Path, used: u64) -> Result<u64, JournalError> {
        let free = storage.free_bytes(root).map_err(io_error("measure", root))?;
        Ok(((free + used) / 2).min(BACKLOG_BYTES_MAX_DEFAULT))
    }

    /// Recovers one shard and begins its next epoch.
    pub fn open_shard(&self, shard_index: usize) -> Result<OpenedJournal, JournalError> {
        let storage = &self.config.storage;
        let dir = self.root.join(segment::shard_name(shard_index));
        storage.create_dir(&dir).map_err(io_error("create", &dir))?;
        storage.sync_dir(&self.root).map_err(io_error("sync", &self.root))?;
        let recovered = self.recover(&dir)?;
        let report = recovered.report;
        let shared = Arc::new(Shared::new(
            report.last_sequence,
            recovered.forwarded_through,
            recovered.segments,
        ));
        let (spare_sender, spares) = unbounded();
        let (tail_sender, tail) = tail::tail(&shared, self.config.tail_bytes_max);
        let keeper = ShardKeeper {
            shard_index,
            storage: Arc::clone(storage),
            dir: dir.clone(),
            journal_id: report.journal_id,
            epoch: report.epoch_found + 1,
            segment_bytes: self.config.segment_bytes,
            segments_ahead: self.config.segments_ahead,
            keep_forwarded: self.config.keep_forwarded,
            next_number: recovered.next_number,
            free: recovered.free,
            shared: Arc::clone(&shared),
            budget: Arc::clone(&self.budget),
            spares: spare_sender,
            waker: self.config.waker.clone(),
        };
        self.shards.add(keeper, self.config.environment.now());
        let appender = Appender::new(AppenderParts {
            journal_id: report.journal_id,
            epoch: report.epoch_found + 1,
            lane: self.config.lane,
            next_sequence: report.last_sequence + 1,
            buffers_max: self.config.buffers_max
                + self.config.tail_bytes_max.div_ceil(BLOCK_BYTES_MAX),
            writes_in_flight_max: self.config.writes_in_flight_max,
            shared: Arc::clone(&shared),
            spares,
            keeper: self.keeper.wake(),
            tail: tail_sender,
            on_release: self.config.on_release.clone().map(|waker| (waker, shard_index)),
        });
        let feed = self.feed(dir, &report, &shared, tail);
        Ok(OpenedJournal { appender, feed, status: ShardStatus { shared }, report })
    }

    fn recover(&self, dir: &Path) -> Result<recovery::Recovered, JournalError> {
        let JournalConfig { storage, environment, .. } = &self.config;
        recovery::recover(&**storage, &**environment, dir, self.boot_id)
    }

    fn feed(
        &self,
        dir: PathBuf,
        report: &RecoveryReport,
        shared: &Arc<Shared>,
        tail: crossbeam_channel::Receiver<tail::Delivery>,
    ) -> Feed {
        Feed::new(FeedParts {
            storage: Arc::clone(&self.config.storage),
            dir,
            journal_id: report.journal_id,
            boot_id: self.boot_id,
            environment: Arc::clone(&self.config.environment),
            shared: Arc::clone(shared),
            tail,
            checkpoint_interval: self.config.checkpoint_interval,
        })
    }

    /// Indexes of the directories that earlier starts with more shards have left.
    pub fn orphans(&self, shards: usize) -> Result<Vec<usize>, JournalError> {
        let dirs = shard_dirs(&*self.config.storage, &self.root)?;
        Ok(dirs.into_iter().map(|(index, _)| index).filter(|index| *index >= shards).collect())
    }

    /// Recovers a shard's directory for forwarding alone: for orphans, and for `journal drain`.
    pub fn open_orphan(&self, shard_index: usize) -> Result<OrphanJournal, JournalError> {
        let storage = &self.config.storage;
        let dir = self.root.join(segment::shard_name(shard_index));
        if recovery::list_segments(&**storage, &dir)?.is_empty() {
            return Err(JournalError::NoShard(dir));
        }
        let recovered = self.recover(&dir)?;
        let report = recovered.report;
        let shared = Arc::new(Shared::new(
            report.last_sequence,
            recovered.forwarded_through,
            recovered.segments,
        ));
        let (_, tail) = tail::tail(&shared, 0);
        let feed = self.feed(dir, &report, &shared, tail);
        Ok(OrphanJournal { feed, status: ShardStatus { shared }, report })
    }

    /// Removes an orphan's directory once it is drained, except what was quarantined. Gives it back
    /// while blocks of it are still to be forwarded.
    pub fn remove_orphan(
        &self,
        orphan: OrphanJournal,
    ) -> Result<Option<OrphanJournal>, JournalError> {
        if !orphan.feed.is_drained() {
            return Ok(Some(orphan));
        }
        let dir = orphan.feed.dir().to_path_buf();
        drop(orphan);
        let storage = &*self.config.storage;
        for (_, path) in recovery::list_segments(storage, &dir)? {
            let bytes = storage.open(&path, storage::Access::Read).and_then(|file| file.bytes());
            storage.remove(&path).map_err(io_error("remove", &path))?;
            self.budget.release(bytes.unwrap_or(0));
        }
        for name in [identity::CHECKPOINT_FILE, identity::ID_FILE] {
            let path = dir.join(name);
            match storage.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io_error("remove", &path)(error));
                }
                _ => {}
            }
        }
        if storage.list(&dir).is_ok_and(|names| names.is_empty()) {
            storage.remove_dir(&dir).map_err(io_error("remove", &dir))?;
        }
        Ok(None)
    }

    /// Bytes that all segments take, and how many they may.
    pub fn disk_bytes(&self) -> (u64, u64) {
        (self.budget.used(), self.budget.bytes_max())
    }

    /// What the keeper's thread does by itself.
    pub fn keep(&self) {
        self.shards.tick(self.config.environment.now());
    }

    /// Stops the keeper and waits for it. Shards that are still running go on in the segments they
    /// have.
    pub fn stop(&mut self) {
        self.keeper.stop();
    }
}

/// Of all shards, those of earlier starts among them.
fn segment_bytes_in(storage: &dyn Storage, root: &Path) -> Result<u64, JournalError> {
    let mut bytes = 0;
    for (_, dir) in shard_dirs(storage, root)? {
        for (_, path) in recovery::list_segments(storage, &dir)? {
            let file = storage.open(&path, storage::Access::Read);
            bytes += file.and_then(|file| file.bytes()).map_err(io_error("measure", &path))?;
        }
    }
    Ok(bytes)
}

/// Indexes and paths of the shards' directories, in order.
fn shard_dirs(storage: &dyn Storage, root: &Path) -> Result<Vec<(usize, PathBuf)>, JournalError> {
    let names = storage.list(root).map_err(io_error("list", root))?;
    let mut dirs: Vec<(usize, PathBuf)> = names
        .iter()
        .filter_map(|name| Some((segment::shard_index(name)?, root.join(name))))
        .collect();
    dirs.sort();
    Ok(dirs)
}
