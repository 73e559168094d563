//! Where blocks come from: one shard's journal, as the forwarder sees it.

use bytes::Bytes;
use proto::BlockHeader;

/// A durable block. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct SourceBlock {
    pub header: BlockHeader,
    /// The rows, without header and padding.
    pub payload: Bytes,
}

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
    fn next_block(&mut self) -> Result<Option<SourceBlock>, SourceError>;

    /// Everything up to and including `sequence` is forwarded. Never called with a lower one.
    fn mark_forwarded(&mut self, sequence: u64) -> Result<(), SourceError>;
}
