//! Where blocks come from: one shard's journal, as the forwarder sees it.

use proto::Block;

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The same call may succeed later.
    #[error("the journal cannot be read or written now: {0}")]
    Retry(String),
    /// This source gives nothing any more; what it gave may still be marked.
    #[error("the journal is damaged: {0}")]
    Fatal(String),
}

/// One shard's durable blocks in the order of their sequences, each handed out once per start.
pub trait BlockSource: Send {
    /// The next block, or `None` while there is none. Does not wait for one.
    fn next_block(&mut self) -> Result<Option<Block>, SourceError>;

    /// Everything up to and including `sequence` is forwarded. Never called with a lower one.
    fn mark_forwarded(&mut self, sequence: u64) -> Result<(), SourceError>;
}
