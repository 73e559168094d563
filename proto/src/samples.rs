//! Rows and blocks for tests. Only with the feature `samples`, which dev-dependencies and the fuzz
//! targets switch on, and no release.
//!
//! Owns what a sample looks like, and how a test knows it again. Every row of [`block`] is told by its
//! user, every [`numbered_row`] by its event id.

use crate::block::{Block, BlockHeader, BlockId, FLAG_CONTINUES, JournalId};
use crate::row::{Row, Rows};
use std::ops::Range;

/// With a row for each of `users`, received at as many nanoseconds. `journal` fills the journal's id;
/// `continues`: its last request goes on in the next block.
pub fn block(journal: u8, sequence: u64, users: Range<u64>, continues: bool) -> Block {
    let mut payload = Vec::new();
    let row_count = users.end.saturating_sub(users.start) as u32;
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
    let flags = if continues { FLAG_CONTINUES } else { 0 };
    sealed(journal, sequence, flags, row_count, payload)
}

/// Whatever the payload is, under a header that fits it.
pub fn sealed(journal: u8, sequence: u64, flags: u16, row_count: u32, payload: Vec<u8>) -> Block {
    let id = BlockId { journal_id: JournalId([journal; 16]), epoch: 1, sequence };
    let header = BlockHeader::seal(id, 0, 0, flags, row_count, &payload);
    Block { header, payload: payload.into() }
}

/// As it lies in the journal, and in a record of the topic.
pub fn frame(block: &Block) -> Vec<u8> {
    [&block.header.encode(), &block.payload[..]].concat()
}

/// The users of the rows of blocks made by [`block`].
pub fn users(payload: &[u8]) -> Vec<u64> {
    let user = |row: Row<'_>| std::str::from_utf8(row.user_id).ok()?.parse().ok();
    let rows = Rows::new(payload).map(|row| row.ok().and_then(user));
    rows.map(|user| user.expect("the test's own rows have numbers for users")).collect()
}

/// A row that carries `number`, about `bytes` long.
pub fn numbered_row(number: u64, bytes: usize) -> Vec<u8> {
    let properties = vec![b'x'; bytes.saturating_sub(70)];
    let mut out = Vec::new();
    let row = Row {
        app_id: [1; 16],
        event_id: u128::from(number).to_be_bytes(),
        timestamp_ms: 1,
        received_at_ns: 2,
        event_name: b"name",
        user_id: b"user",
        properties: &properties,
    };
    row.encode(&mut out);
    out
}

/// The numbers of rows made by [`numbered_row`].
pub fn numbers(payload: &[u8]) -> Vec<u64> {
    let number = |row: Row<'_>| u128::from_be_bytes(row.event_id) as u64;
    Rows::new(payload).map(|row| number(row.expect("the test's own rows are whole"))).collect()
}
