//! One journal as its lane sees it: where reading stands, what became of the blocks, who waits.

use super::handover::Handover;
use super::ledger::{Ledger, Wanted};
use crate::forward::{Frame, FrameSource, SourceError};
use crate::shard::DeliveryWatch;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a journal is left alone after a failure.
const FILE_RETRY: Duration = Duration::from_secs(1);

/// The shard whose blocks these are.
pub struct Waiter {
    pub watch: Arc<DeliveryWatch>,
    /// Makes the shard look at its watch.
    pub wake: Box<dyn Fn() + Send>,
}

pub struct Slot {
    frames: Box<dyn FrameSource>,
    pub(super) ledger: Ledger,
    pub(super) handover: Handover,
    /// `None` where no shard appends any more, or none waits for Kafka.
    waiter: Option<Waiter>,
    /// What the source gives next, unless that is the first unread.
    behind: Option<u64>,
    /// The last contiguous done sequence, while the journal could not be told.
    unmarked: Option<u64>,
    retry_at: Option<Instant>,
    failed: bool,
}

impl Slot {
    pub fn new(frames: Box<dyn FrameSource>, handover: Handover, waiter: Option<Waiter>) -> Slot {
        Slot {
            frames,
            ledger: Ledger::default(),
            handover,
            waiter,
            behind: None,
            unmarked: None,
            retry_at: None,
            failed: false,
        }
    }

    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Blocks are in somebody's hands, or wait to be.
    pub fn has_work(&self) -> bool {
        !self.ledger.is_empty() || self.frames.has_unread()
    }

    /// Everything that it had arrived, and the journal knows.
    pub fn is_idle(&self) -> bool {
        !self.has_work() && self.unmarked.is_none() && !self.failed
    }

    /// Nothing is to be told, and what is left only the direct route can take.
    pub fn is_left_to_direct(&self) -> bool {
        let unread = !self.failed && self.frames.has_unread();
        !unread && self.unmarked.is_none() && self.ledger.is_left_to_direct()
    }

    pub fn rests(&self, now: Instant) -> bool {
        self.failed || self.retry_at.is_some_and(|at| now < at)
    }

    /// Reads the wanted frame; `None` when there is none now.
    pub fn read(&mut self, wanted: Wanted, now: Instant) -> Option<Frame> {
        match wanted {
            Wanted::Again(sequence) => {
                if self.behind != Some(sequence) {
                    self.frames.seek(Some(sequence));
                }
                self.behind = Some(sequence + 1);
            }
            Wanted::Unread => {
                if !self.ledger.has_room() {
                    return None;
                }
                if self.behind.take().is_some() {
                    self.frames.seek(None);
                }
            }
        }
        match self.frames.next_frame() {
            Ok(Some(frame)) => Some(frame),
            Ok(None) => {
                // The next read seeks anew.
                self.behind = self.behind.map(|_| u64::MAX);
                None
            }
            Err(error) => {
                self.on_error(error, now);
                None
            }
        }
    }

    fn on_error(&mut self, error: SourceError, now: Instant) {
        tracing::error!(%error, "no blocks from a journal");
        self.behind = self.behind.map(|_| u64::MAX);
        match error {
            SourceError::Retry(_) => self.retry_at = Some(now + FILE_RETRY),
            SourceError::Lost { first_sequence, last_sequence } => {
                self.ledger.on_lost(first_sequence, last_sequence);
            }
            SourceError::Fatal(_) => self.failed = true,
        }
    }

    /// Takes in what the direct route has done, and tells the journal and the shard how far all is.
    pub fn settle(&mut self, now: Instant) {
        while let Some(sequence) = self.handover.next_done() {
            self.ledger.on_direct_done(sequence);
        }
        if let Some(mark) = self.ledger.take_mark() {
            self.unmarked = Some(mark);
        }
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
        }
        let Some(sequence) = self.unmarked.filter(|_| self.retry_at.is_none()) else { return };
        match self.frames.mark_forwarded(sequence) {
            Ok(()) => self.unmarked = None,
            Err(error) => {
                tracing::warn!(%error, "cannot mark blocks as forwarded");
                self.retry_at = Some(now + FILE_RETRY);
            }
        }
        if let Some(waiter) = &self.waiter
            && waiter.watch.is_awaited(sequence)
        {
            (waiter.wake)();
        }
    }

    pub fn set_acks(&self, acks: bool) {
        if let Some(waiter) = &self.waiter
            && waiter.watch.set_acks(acks)
        {
            (waiter.wake)();
        }
    }
}
