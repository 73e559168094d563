//! One shard's journal as the forwarder's source of blocks.

use bytes::Bytes;

use crate::forward::{Frame, FrameSource, SourceError};
use crate::journal::{Feed, FeedBlock, FeedError};

pub struct FeedSource(pub Feed);

/// Shares a block's memory with whoever sends it; the shard gets it back when all let go.
struct Held(FeedBlock);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl FrameSource for FeedSource {
    fn next_frame(&mut self) -> Result<Option<Frame>, SourceError> {
        let block = self.0.next_block().map_err(to_source_error)?;
        Ok(block.map(|block| Frame { header: block.header, bytes: Bytes::from_owner(Held(block)) }))
    }

    fn seek(&mut self, sequence: Option<u64>) {
        self.0.seek(sequence.unwrap_or_else(|| self.0.first_unread()));
    }

    fn has_unread(&self) -> bool {
        self.0.has_unread()
    }

    fn mark_forwarded(&mut self, sequence: u64) -> Result<(), SourceError> {
        self.0.mark_forwarded(sequence).map_err(to_source_error)
    }
}

/// Damage is behind the feed once it was told; it must be heard, and it must not stop the rest.
fn to_source_error(error: FeedError) -> SourceError {
    let text = error.to_string();
    match error {
        FeedError::Damaged { first_sequence, last_sequence } => {
            tracing::error!(first_sequence, last_sequence, "acknowledged blocks cannot be read");
            SourceError::Lost { first_sequence, last_sequence }
        }
        FeedError::Io { .. } => SourceError::Retry(text),
    }
}
