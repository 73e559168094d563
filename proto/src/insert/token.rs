//! The `insert_deduplication_token` of an INSERT: a hash of what it sends, by identity.

use crate::block::BlockHeader;
use crate::planted::{Planted, is_planted};
use sha2::{Digest, Sha256};
use std::ops::Range;

/// The same blocks and rows in the same order give the same token, in any process and on any route.
pub struct Token(Sha256);

impl Token {
    pub fn new(run: Option<[u8; 16]>) -> Token {
        let mut hash = Sha256::new();
        if let Some(run) = run {
            hash.update(run);
        }
        Token(hash)
    }

    pub fn add(&mut self, block: &BlockHeader) {
        if is_planted(Planted::TokenReused) {
            return;
        }
        self.0.update(block.id.journal_id.0);
        self.0.update(block.id.epoch.to_le_bytes());
        self.0.update(block.id.sequence.to_le_bytes());
        self.0.update(block.crc32c.to_le_bytes());
    }

    /// Of the block added last only these rows are sent.
    pub fn add_rows(&mut self, rows: &Range<usize>) {
        self.0.update((rows.start as u64).to_le_bytes());
        self.0.update((rows.end as u64).to_le_bytes());
    }

    /// 64 hexadecimal digits.
    pub fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
