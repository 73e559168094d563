//! What a shard's appender, its feed and the keeper tell each other: watermarks as atomics, and the
//! list of segments behind a lock that is taken once a segment, once a block read from disk, and by
//! the keeper.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::segment::FRAMES_OFFSET;

/// Frames that lie one behind the other with no sequence missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub offset: u64,
    pub first_sequence: u64,
    /// `u64::MAX` while the appender still adds to it.
    pub last_sequence: u64,
}

/// One segment on disk, oldest first in the catalog.
#[derive(Debug)]
pub struct Segment {
    pub number: u64,
    pub path: PathBuf,
    pub epoch: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes up to the end of the last frame.
    pub used_bytes: u64,
    /// More than one only where damage lies between them; none where there is nothing to forward.
    pub runs: Vec<Run>,
    /// When this is forwarded the segment is free; `u64::MAX` while it is being appended to.
    pub last_sequence: u64,
    pub forwarded_at: Option<Instant>,
}

impl Segment {
    pub fn live(
        number: u64,
        path: PathBuf,
        epoch: u64,
        bytes: u64,
        first_sequence: u64,
    ) -> Segment {
        let run = Run { offset: FRAMES_OFFSET, first_sequence, last_sequence: u64::MAX };
        Segment {
            number,
            path,
            epoch,
            bytes,
            used_bytes: FRAMES_OFFSET,
            runs: vec![run],
            last_sequence: u64::MAX,
            forwarded_at: None,
        }
    }
}

/// Where the keeper stands with the next segment of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceState {
    /// The next segment is there or on its way.
    Ready,
    /// The backlog limit is reached and nothing of it is forwarded.
    BacklogLimit,
    /// The disk refused: full, or failing. The operating system's error number.
    Disk { os_error: i32 },
}

const READY: u64 = 0;
const BACKLOG_LIMIT: u64 = 1;
const DISK: u64 = 2;

pub struct Shared {
    /// All up to here is durable.
    synced_through: AtomicU64,
    /// The same, but never inside a chain.
    released_through: AtomicU64,
    forwarded_through: AtomicU64,
    /// What the checkpoint says of it: only segments up to here are free, so that a kill never
    /// finds less than the checkpoint promises.
    saved_through: AtomicU64,
    /// End of the last durable frame in the live segment.
    live_end: AtomicU64,
    space: AtomicU64,
    failed: AtomicBool,
    pub spares: AtomicUsize,
    /// Bytes of blocks between the appender and whoever holds them after the feed.
    pub tail_bytes: AtomicUsize,
    segments: Mutex<VecDeque<Segment>>,
}

impl Shared {
    pub fn new(last: u64, forwarded: u64, segments: VecDeque<Segment>) -> Shared {
        Shared {
            synced_through: AtomicU64::new(last),
            released_through: AtomicU64::new(last),
            forwarded_through: AtomicU64::new(forwarded),
            saved_through: AtomicU64::new(forwarded),
            live_end: AtomicU64::new(FRAMES_OFFSET),
            space: AtomicU64::new(READY),
            failed: AtomicBool::new(false),
            spares: AtomicUsize::new(0),
            tail_bytes: AtomicUsize::new(0),
            segments: Mutex::new(segments),
        }
    }

    pub fn synced_through(&self) -> u64 {
        self.synced_through.load(Ordering::Acquire)
    }

    pub fn released_through(&self) -> u64 {
        self.released_through.load(Ordering::Acquire)
    }

    /// Called once a completed write, after its blocks went to the tail.
    pub fn publish(&self, synced: u64, released: u64, live_end: u64) {
        self.live_end.store(live_end, Ordering::Relaxed);
        self.synced_through.store(synced, Ordering::Release);
        self.released_through.store(released, Ordering::Release);
    }

    pub fn forwarded_through(&self) -> u64 {
        self.forwarded_through.load(Ordering::Acquire)
    }

    pub fn set_forwarded(&self, sequence: u64) {
        self.forwarded_through.fetch_max(sequence, Ordering::AcqRel);
    }

    pub fn saved_through(&self) -> u64 {
        self.saved_through.load(Ordering::Acquire)
    }

    pub fn set_saved(&self, sequence: u64) {
        self.saved_through.fetch_max(sequence, Ordering::AcqRel);
    }

    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub fn set_failed(&self) {
        self.failed.store(true, Ordering::Release);
    }

    pub fn space(&self) -> SpaceState {
        let packed = self.space.load(Ordering::Acquire);
        match packed & 0xff {
            READY => SpaceState::Ready,
            BACKLOG_LIMIT => SpaceState::BacklogLimit,
            _ => SpaceState::Disk { os_error: (packed >> 8) as i32 },
        }
    }

    pub fn set_space(&self, state: SpaceState) {
        let packed = match state {
            SpaceState::Ready => READY,
            SpaceState::BacklogLimit => BACKLOG_LIMIT,
            SpaceState::Disk { os_error } => DISK | u64::from(os_error as u32) << 8,
        };
        self.space.store(packed, Ordering::Release);
    }

    /// A panic elsewhere leaves the list whole: every change to it is a single push, pop or store.
    pub fn segments(&self) -> MutexGuard<'_, VecDeque<Segment>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The live segment got its last frame; the next one begins with `first_sequence`.
    pub fn switch_segment(&self, used_bytes: u64, next: Segment) {
        let mut segments = self.segments();
        let last_sequence = next.runs[0].first_sequence - 1;
        if let Some(live) = segments.back_mut().filter(|live| live.last_sequence == u64::MAX) {
            live.last_sequence = last_sequence;
            live.used_bytes = used_bytes;
            live.runs[0].last_sequence = last_sequence;
        }
        segments.push_back(next);
    }

    /// Durable blocks that are not forwarded, and about how many bytes they take on disk.
    pub fn backlog(&self) -> Backlog {
        let (forwarded, released) = (self.forwarded_through(), self.released_through());
        let mut bytes = 0;
        for segment in self.segments().iter() {
            let (used, last) = match segment.last_sequence {
                u64::MAX => (self.live_end.load(Ordering::Relaxed), released),
                last => (segment.used_bytes, last),
            };
            let Some(run) = segment.runs.first() else { continue };
            if last <= forwarded || last < run.first_sequence {
                continue;
            }
            let blocks = last - run.first_sequence + 1;
            let left = blocks.min(last - forwarded);
            let used = used.saturating_sub(FRAMES_OFFSET);
            bytes += (u128::from(used) * u128::from(left) / u128::from(blocks)) as u64;
        }
        Backlog { blocks: released.saturating_sub(forwarded), bytes }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    pub blocks: u64,
    /// Exact to the segment; within one segment blocks count as equally long.
    pub bytes: u64,
}
