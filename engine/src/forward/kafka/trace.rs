//! The W3C trace context of a block, derived from its identity, so that everyone who handles the
//! block says the same words about it without being told.

use proto::BlockId;
use sha2::{Digest, Sha256};

/// `00-<trace id>-<span id>-01`.
pub fn traceparent(id: BlockId) -> String {
    let mut hash = Sha256::new();
    hash.update(id.journal_id.0);
    hash.update(id.epoch.to_le_bytes());
    hash.update(id.sequence.to_le_bytes());
    let hash = hash.finalize();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    // All zeros would be no trace; 128 bits of a hash are not.
    format!("00-{}-{}-01", hex(&hash[..16]), hex(&hash[16..24]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::JournalId;

    #[test]
    fn it_is_of_the_block_alone_and_in_the_standards_form() {
        let id = BlockId { journal_id: JournalId([7; 16]), epoch: 2, sequence: 3 };
        let trace = traceparent(id);
        assert_eq!(trace, traceparent(id));
        assert_ne!(trace, traceparent(BlockId { sequence: 4, ..id }));
        let parts: Vec<usize> = trace.split('-').map(str::len).collect();
        assert_eq!(parts, [2, 32, 16, 2], "{trace}");
        assert!(
            trace.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        );
    }
}
