//! Blocks for this crate's own tests.

use proto::row::Row;
use proto::{BlockHeader, BlockId, JournalId};

/// A record of one block with a row for each of `users`, received at as many nanoseconds.
pub fn record(sequence: u64, users: std::ops::Range<u64>) -> Vec<u8> {
    let rows = users.end - users.start;
    let mut payload = Vec::new();
    for user in users {
        let user_id = user.to_string();
        let row = Row {
            app_id: [1; 16],
            event_id: u128::from(user).to_be_bytes(),
            timestamp_ms: 1_700_000_000_000,
            received_at_ns: user as i64,
            event_name: b"e",
            user_id: user_id.as_bytes(),
            properties: b"{}",
        };
        row.encode(&mut payload);
    }
    sealed(sequence, rows as u32, &payload)
}

pub fn sealed(sequence: u64, rows: u32, payload: &[u8]) -> Vec<u8> {
    let id = BlockId { journal_id: JournalId([9; 16]), epoch: 1, sequence };
    let header = BlockHeader::seal(id, 0, 0, 0, rows, payload);
    [&header.encode(), payload].concat()
}
