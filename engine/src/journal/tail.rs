//! The bounded way in memory from the appender to the forwarder. What does not fit is on disk, where
//! the feed finds it; so nothing here may ever hold the shard up.
//!
//! The bound counts what the forwarder still holds too: a forwarder that keeps blocks while
//! ClickHouse is away must not keep the buffers that ingestion needs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, Sender, bounded};
use proto::BlockHeader;
use proto::block::HEADER_BYTES;
use proto::limits::BLOCK_BYTES_MAX;

use super::buffer::BlockBuffer;
use super::catalog::Shared;

/// Shorter blocks are copied, so that a hundred bytes of rows do not hold half a megabyte.
const COPIED_BYTES_MAX: usize = 64 * 1024;
const TAIL_BLOCKS_MAX: usize = 1024;

pub(super) struct TailBlock {
    pub header: BlockHeader,
    pub segment_number: u64,
    /// Offset behind its frame.
    pub end: u64,
    pub buffer: BlockBuffer,
}

/// A durable block on its way to the forwarder, at most a bounded number of bytes of them at a time.
pub(super) struct Delivery {
    pub header: BlockHeader,
    pub segment_number: u64,
    pub end: u64,
    pub body: Body,
}

pub(super) struct Body {
    bytes: Bytes,
    _held: Option<Held>,
}

enum Bytes {
    Buffer(BlockBuffer, usize),
    /// Header and payload.
    Copied(Box<[u8]>),
}

/// Gives its bytes back to the bound when the forwarder lets go of the block.
struct Held {
    bytes: usize,
    shared: Arc<Shared>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.tail_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl Body {
    pub fn from_disk(block: &[u8]) -> Body {
        Body { bytes: Bytes::Copied(block.into()), _held: None }
    }

    pub fn block(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Buffer(buffer, block_bytes) => buffer.block(*block_bytes),
            Bytes::Copied(block) => block,
        }
    }

    pub fn payload(&self) -> &[u8] {
        &self.block()[HEADER_BYTES..]
    }
}

pub(super) struct TailSender {
    sender: Sender<Delivery>,
    shared: Arc<Shared>,
    bytes_max: usize,
}

pub(super) fn tail(shared: &Arc<Shared>, bytes_max: usize) -> (TailSender, Receiver<Delivery>) {
    let (sender, receiver) = bounded(TAIL_BLOCKS_MAX);
    (TailSender { sender, shared: Arc::clone(shared), bytes_max }, receiver)
}

impl TailSender {
    /// Passes the block on if there is room for it, else leaves it to the disk.
    pub fn offer(&self, block: TailBlock) {
        let TailBlock { header, segment_number, end, buffer } = block;
        let block_bytes = header.block_bytes();
        let copied = block_bytes <= COPIED_BYTES_MAX;
        let bytes = if copied { block_bytes } else { BLOCK_BYTES_MAX };
        // Only the appender adds, so the check cannot be overtaken.
        if self.sender.is_full()
            || self.shared.tail_bytes.load(Ordering::Acquire) + bytes > self.bytes_max
        {
            return;
        }
        self.shared.tail_bytes.fetch_add(bytes, Ordering::AcqRel);
        let held = Some(Held { bytes, shared: Arc::clone(&self.shared) });
        let bytes = match copied {
            true => Bytes::Copied(buffer.block(block_bytes).into()),
            false => Bytes::Buffer(buffer, block_bytes),
        };
        let body = Body { bytes, _held: held };
        let _ = self.sender.try_send(Delivery { header, segment_number, end, body });
    }
}
