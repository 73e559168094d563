//! Where blocks come from: one shard's journal, as the forwarder sees it.

use bytes::Bytes;
use proto::block::HEADER_BYTES;
use proto::{Block, BlockHeader};

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The same call may succeed later.
    #[error("the journal cannot be read or written now: {0}")]
    Retry(String),
    /// These cannot be read any more; the next call goes on behind them. The journal told of it.
    #[error("acknowledged blocks {first_sequence} to {last_sequence} cannot be read")]
    Lost { first_sequence: u64, last_sequence: u64 },
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

/// A block as it lies in the journal, without its padding.
#[derive(Clone, Debug)]
pub struct Frame {
    pub header: BlockHeader,
    /// Header and rows.
    pub bytes: Bytes,
}

impl Frame {
    pub fn into_block(self) -> Block {
        Block { header: self.header, payload: self.bytes.slice(HEADER_BYTES..) }
    }
}

/// The same, for those who keep no block in memory and read again what failed.
pub trait FrameSource: Send {
    /// The next frame, or `None` while there is none. Does not wait for one.
    fn next_frame(&mut self) -> Result<Option<Frame>, SourceError>;

    /// The next frame is that of `sequence`, which was given out before; or the first that never
    /// was.
    fn seek(&mut self, sequence: Option<u64>);

    /// Whether there is a frame that was never given out.
    fn has_unread(&self) -> bool;

    /// Everything up to and including `sequence` has arrived. Never called with a lower one.
    fn mark_forwarded(&mut self, sequence: u64) -> Result<(), SourceError>;
}

/// Frames for those who want blocks.
pub struct Blocks(pub Box<dyn FrameSource>);

impl BlockSource for Blocks {
    fn next_block(&mut self) -> Result<Option<Block>, SourceError> {
        Ok(self.0.next_frame()?.map(Frame::into_block))
    }

    fn mark_forwarded(&mut self, sequence: u64) -> Result<(), SourceError> {
        self.0.mark_forwarded(sequence)
    }
}
