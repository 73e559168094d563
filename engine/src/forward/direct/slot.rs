//! One journal as the forwarder sees it: what it gives, how far it was told, when it is left alone.

use super::FILE_RETRY;
use crate::forward::{BlockSource, SourceError};
use proto::Block;
use std::time::Instant;

pub(super) struct Slot {
    pub index: usize,
    source: Box<dyn BlockSource>,
    /// The last contiguous sequence, while the journal could not be told.
    unmarked: Option<u64>,
    retry_at: Option<Instant>,
    failed: bool,
    /// It was not asked, for want of room.
    pub held_back: bool,
}

/// What a source had when it was asked.
pub(super) enum Given {
    Block(Block),
    Nothing,
    /// The next blocks, up to this one, are lost.
    Lost(u64),
    /// It gives nothing any more, and why.
    Out(String),
}

impl Slot {
    pub fn new(index: usize, source: Box<dyn BlockSource>) -> Slot {
        Slot { index, source, unmarked: None, retry_at: None, failed: false, held_back: false }
    }

    /// Nothing is to be told, and it is known that there is nothing more: a source that rests after
    /// an error may have more than it could give.
    pub fn is_settled(&self) -> bool {
        self.is_told() && !self.failed
    }

    /// Nothing is to be told, nor to be asked again.
    pub fn is_told(&self) -> bool {
        self.unmarked.is_none() && self.retry_at.is_none()
    }

    pub fn rests(&self, now: Instant) -> bool {
        self.failed || self.retry_at.is_some_and(|at| now < at)
    }

    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Everything through `sequence` is forwarded; [`Self::settle`] tells the journal.
    pub fn on_forwarded(&mut self, sequence: u64) {
        self.unmarked = Some(sequence);
    }

    pub fn settle(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        let Some(sequence) = self.unmarked else { return };
        match self.source.mark_forwarded(sequence) {
            Ok(()) => self.unmarked = None,
            Err(error) => {
                tracing::warn!(shard = self.index, %error, "cannot mark blocks as forwarded");
                self.retry_at = Some(now + FILE_RETRY);
            }
        }
    }

    pub fn next_block(&mut self, now: Instant) -> Given {
        let error = match self.source.next_block() {
            Ok(Some(block)) => return Given::Block(block),
            Ok(None) => return Given::Nothing,
            Err(error) => error,
        };
        tracing::error!(shard = self.index, %error, "no blocks from this journal");
        match error {
            SourceError::Retry(_) => {
                self.retry_at = Some(now + FILE_RETRY);
                Given::Nothing
            }
            SourceError::Lost { last_sequence, .. } => Given::Lost(last_sequence),
            SourceError::Fatal(text) => {
                self.failed = true;
                Given::Out(format!("shard {}: {text}", self.index))
            }
        }
    }
}
