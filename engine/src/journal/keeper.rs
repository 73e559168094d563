//! Prepares the next segments and takes back the forwarded ones, on a thread of its own, so that no
//! shard ever waits for a file to be made.
//!
//! A segment appears under its name only when it is complete: zeroed (or used before, with all that
//! is in it below the new floor), its header synced, then renamed and the directory synced. Oldest
//! first, and only what is wholly forwarded, is used again or removed.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use proto::JournalId;

use super::appender::PreparedSegment;
use super::buffer::{AlignedBytes, PAGE_BYTES};
use super::catalog::{Shared, SpaceState};
use super::segment::{SegmentHeader, segment_name};
use super::storage::{Access, SegmentFile, Storage};

/// Expired segments that stay for the next spares; more of them are removed.
const EXPIRED_KEPT: usize = 2;
const ZEROS_BYTES: usize = 1024 * 1024;

/// Called with a shard's index when it got a segment or learnt that there is none.
pub type Waker = Arc<dyn Fn(usize) + Send + Sync>;

/// What all shards together may take on disk.
pub(super) struct DiskBudget {
    bytes_max: u64,
    used: AtomicU64,
}

impl DiskBudget {
    pub fn new(bytes_max: u64) -> DiskBudget {
        DiskBudget { bytes_max, used: AtomicU64::new(0) }
    }

    /// For what is there already, over the limit or not.
    pub fn add(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
    }

    pub fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }

    fn try_add(&self, bytes: u64) -> bool {
        let add = |used: u64| (used + bytes <= self.bytes_max).then_some(used + bytes);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).is_ok()
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }
}

/// Why there is no segment.
#[derive(Debug)]
enum NoSpace {
    BacklogLimit,
    Disk(io::Error),
}

/// The keeper's part of one shard.
pub(super) struct ShardKeeper {
    pub shard_index: usize,
    pub storage: Arc<dyn Storage>,
    pub dir: PathBuf,
    pub journal_id: JournalId,
    pub epoch: u64,
    pub segment_bytes: u64,
    pub segments_ahead: usize,
    pub keep_forwarded: Duration,
    pub next_number: u64,
    /// Prepared by an earlier start, nothing in them counts; the last is used first. They count in the
    /// budget.
    pub free: Vec<(PathBuf, u64)>,
    pub shared: Arc<Shared>,
    pub budget: Arc<DiskBudget>,
    pub spares: Sender<PreparedSegment>,
    pub waker: Option<Waker>,
}

impl ShardKeeper {
    /// Brings the spares up to their number and lets go of what has expired. True: it has what it
    /// wants.
    pub fn tick(&mut self, now: Instant) -> bool {
        self.note_forwarded(now);
        let before = self.shared.space();
        let mut state = SpaceState::Ready;
        while self.shared.spares.load(Ordering::Acquire) < self.segments_ahead {
            match self.prepare(now) {
                Ok(prepared) => {
                    self.shared.spares.fetch_add(1, Ordering::AcqRel);
                    if self.spares.send(prepared).is_err() {
                        // The appender is gone; there is nothing to prepare for.
                        return true;
                    }
                    self.shared.set_space(SpaceState::Ready);
                    self.wake();
                }
                Err(NoSpace::BacklogLimit) => {
                    state = SpaceState::BacklogLimit;
                    break;
                }
                Err(NoSpace::Disk(error)) => {
                    state = SpaceState::Disk { os_error: error.raw_os_error().unwrap_or(0) };
                    if before != state {
                        tracing::error!(dir = %self.dir.display(), %error, "cannot prepare a segment");
                    }
                    break;
                }
            }
        }
        self.shared.set_space(state);
        if before != state {
            tracing::warn!(dir = %self.dir.display(), ?before, now = ?state, "journal space");
            self.wake();
        }
        self.remove_expired(now);
        state == SpaceState::Ready
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker(self.shard_index);
        }
    }

    fn note_forwarded(&self, now: Instant) {
        let forwarded = self.shared.saved_through();
        for segment in self.shared.segments().iter_mut() {
            if segment.last_sequence > forwarded {
                break;
            }
            segment.forwarded_at.get_or_insert(now);
        }
    }

    fn expired_count(&self, now: Instant) -> usize {
        let keep = self.keep_forwarded;
        let expired = |at: Instant| now.saturating_duration_since(at) >= keep;
        let segments = self.shared.segments();
        segments.iter().take_while(|segment| segment.forwarded_at.is_some_and(expired)).count()
    }

    fn remove_expired(&mut self, now: Instant) {
        while self.expired_count(now) > EXPIRED_KEPT {
            if !self.remove_oldest_forwarded() {
                break;
            }
        }
    }

    /// Removes the oldest segment if it is wholly forwarded, to make room.
    pub fn remove_oldest_forwarded(&mut self) -> bool {
        let Some((path, bytes)) = self.take_oldest_forwarded() else { return false };
        self.discard(&path, bytes);
        true
    }

    fn take_oldest_forwarded(&self) -> Option<(PathBuf, u64)> {
        let mut segments = self.shared.segments();
        let oldest = segments.pop_front_if(|oldest| oldest.forwarded_at.is_some())?;
        Some((oldest.path, oldest.bytes))
    }

    fn discard(&self, path: &Path, bytes: u64) {
        if let Err(error) = self.storage.remove(path) {
            tracing::error!(path = %path.display(), %error, "cannot remove a segment");
        }
        self.budget.release(bytes);
    }

    fn prepare(&mut self, now: Instant) -> Result<PreparedSegment, NoSpace> {
        while let Some((path, bytes)) = self.free.pop() {
            if bytes == self.segment_bytes {
                return self.reuse(&path);
            }
            self.discard(&path, bytes);
        }
        if self.expired_count(now) > 0
            && let Some(prepared) = self.reuse_oldest()
        {
            return prepared;
        }
        let error = if self.budget.try_add(self.segment_bytes) {
            match self.create() {
                Ok(prepared) => return Ok(prepared),
                Err(error) => NoSpace::Disk(error),
            }
        } else {
            NoSpace::BacklogLimit
        };
        self.reuse_oldest().unwrap_or(Err(error))
    }

    /// None: nothing is forwarded, or what is has another size than segments have now.
    fn reuse_oldest(&mut self) -> Option<Result<PreparedSegment, NoSpace>> {
        while let Some((path, bytes)) = self.take_oldest_forwarded() {
            if bytes == self.segment_bytes {
                return Some(self.reuse(&path));
            }
            self.discard(&path, bytes);
        }
        None
    }

    fn half_made(&self) -> PathBuf {
        self.dir.join("segment.tmp")
    }

    fn reuse(&mut self, path: &Path) -> Result<PreparedSegment, NoSpace> {
        let half_made = self.half_made();
        let renamed = self.storage.rename(path, &half_made);
        let prepared = renamed
            .and_then(|()| self.storage.sync_dir(&self.dir))
            .and_then(|()| self.storage.open(&half_made, Access::Prepare))
            .and_then(|file| self.finish(&*file));
        self.or_undo(prepared)
    }

    fn create(&mut self) -> io::Result<PreparedSegment> {
        let half_made = self.half_made();
        let prepared = self.storage.open(&half_made, Access::Prepare).and_then(|file| {
            let zeros = AlignedBytes::zeroed(ZEROS_BYTES);
            let mut offset = 0;
            while offset < self.segment_bytes {
                let bytes = (self.segment_bytes - offset).min(ZEROS_BYTES as u64) as usize;
                let written = file.write_at(&[IoSlice::new(&zeros[..bytes])], offset)?;
                if written == 0 || !written.is_multiple_of(PAGE_BYTES) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                offset += written as u64;
            }
            self.finish(&*file)
        });
        self.or_undo(prepared).map_err(|error| match error {
            NoSpace::Disk(error) => error,
            NoSpace::BacklogLimit => unreachable!("undoing reports the disk's error"),
        })
    }

    fn or_undo(&self, prepared: io::Result<PreparedSegment>) -> Result<PreparedSegment, NoSpace> {
        prepared.map_err(|error| {
            let _ = self.storage.remove(&self.half_made());
            self.budget.release(self.segment_bytes);
            NoSpace::Disk(error)
        })
    }

    /// Header, sync, name, sync of the directory.
    fn finish(&mut self, file: &dyn super::storage::StorageFile) -> io::Result<PreparedSegment> {
        let number = self.next_number;
        let header = SegmentHeader {
            journal_id: self.journal_id,
            epoch: self.epoch,
            number,
            sequence_floor: self.shared.synced_through() + 1,
        };
        let mut page = AlignedBytes::zeroed(PAGE_BYTES);
        let encoded = header.encode();
        page[..encoded.len()].copy_from_slice(&encoded);
        if file.write_at(&[IoSlice::new(&page)], 0)? != PAGE_BYTES {
            return Err(io::ErrorKind::WriteZero.into());
        }
        file.sync()?;
        let path = self.dir.join(segment_name(number));
        self.storage.rename(&self.half_made(), &path)?;
        // The number is used up even when what follows fails: the name may be on the disk.
        self.next_number += 1;
        let opened = self
            .storage
            .sync_dir(&self.dir)
            .and_then(|()| self.storage.open(&path, Access::Append));
        match opened {
            Ok(file) => {
                let file = Arc::new(SegmentFile::new(number, self.segment_bytes, file));
                Ok(PreparedSegment { file, path })
            }
            Err(error) => {
                let _ = self.storage.remove(&path);
                Err(error)
            }
        }
    }
}
