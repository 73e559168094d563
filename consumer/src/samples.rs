//! Records for this crate's own tests.

use proto::samples::{block, frame};
use std::ops::Range;

/// A record of one block with a row for each of `users`, received at as many nanoseconds.
pub fn record(sequence: u64, users: Range<u64>) -> Vec<u8> {
    frame(&block(9, sequence, users, false))
}

pub fn sealed(sequence: u64, rows: u32, payload: &[u8]) -> Vec<u8> {
    frame(&proto::samples::sealed(9, sequence, 0, rows, payload.to_vec()))
}
