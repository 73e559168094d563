//! Blocks from a lane to the one forwarder that inserts, and word of them back.
//!
//! To the forwarder this is one more [`BlockSource`]; a lane sees what it can still take, and which
//! blocks are done. A block's memory moves with it; few wait here.

use super::bell::Bell;
use crate::config::HANDED_BLOCKS;
use crate::forward::{BlockSource, SourceError};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use proto::Block;
use std::collections::VecDeque;
use std::sync::Arc;

/// The lane's end, for one journal.
pub struct Handover {
    blocks: Sender<Block>,
    done: Receiver<u64>,
}

impl Handover {
    pub fn has_room(&self) -> bool {
        !self.blocks.is_full()
    }

    /// Only where there is room.
    pub fn hand(&self, block: Block) {
        // A forwarder that is gone leaves everything to the next start.
        let _ = self.blocks.try_send(block);
    }

    /// A sequence that is in ClickHouse, or among the dead letters.
    pub fn next_done(&self) -> Option<u64> {
        self.done.try_recv().ok()
    }
}

/// The forwarder's end.
pub struct HandedBlocks {
    blocks: Receiver<Block>,
    /// At most as many as the lane's ledger holds.
    done: Sender<u64>,
    bell: Arc<Bell>,
    /// Given to the forwarder, in that order; sequences may go back.
    given: VecDeque<u64>,
}

pub fn handover(bell: &Arc<Bell>) -> (Handover, HandedBlocks) {
    let (to_forwarder, blocks) = bounded(HANDED_BLOCKS as usize);
    let (report, done) = unbounded();
    let given = VecDeque::new();
    let handed = HandedBlocks { blocks, done: report, bell: Arc::clone(bell), given };
    (Handover { blocks: to_forwarder, done }, handed)
}

impl BlockSource for HandedBlocks {
    fn next_block(&mut self) -> Result<Option<Block>, SourceError> {
        let Ok(block) = self.blocks.try_recv() else { return Ok(None) };
        self.given.push_back(block.header.id.sequence);
        self.bell.ring();
        Ok(Some(block))
    }

    fn mark_forwarded(&mut self, sequence: u64) -> Result<(), SourceError> {
        while let Some(given) = self.given.pop_front() {
            let _ = self.done.send(given);
            if given == sequence {
                break;
            }
        }
        self.bell.ring();
        Ok(())
    }
}
