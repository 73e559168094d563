//! One shard's journal as the forwarder's source of blocks.

use bytes::Bytes;

use proto::Block;

use crate::forward::{BlockSource, SourceError};
use crate::journal::{Feed, FeedBlock, FeedError};

pub struct FeedSource(pub Feed);

/// Shares a block's memory with the INSERT that carries it; the shard gets it back when both let go.
struct Payload(FeedBlock);

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self.0.payload()
    }
}

impl BlockSource for FeedSource {
    fn next_block(&mut self) -> Result<Option<Block>, SourceError> {
        let block = self.0.next_block().map_err(to_source_error)?;
        Ok(block.map(|block| Block {
            header: block.header,
            payload: Bytes::from_owner(Payload(block)),
        }))
    }

    fn mark_forwarded(&mut self, sequence: u64) -> Result<(), SourceError> {
        self.0.mark_forwarded(sequence).map_err(to_source_error)
    }
}

/// Damage is behind the feed once it was told; it must be heard, and it must not stop the rest.
fn to_source_error(error: FeedError) -> SourceError {
    if let FeedError::Damaged { first_sequence, last_sequence } = &error {
        tracing::error!(first_sequence, last_sequence, "acknowledged blocks cannot be read");
    }
    SourceError::Retry(error.to_string())
}
