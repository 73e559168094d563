//! What every binary of the system agrees on: the event and its limits, the row it becomes, the
//! block that rows travel in, the rules of inserting blocks, the names of tables and topics, and the
//! words of every error.
//!
//! Owns no I/O, no clock and no server. Everything may depend on this crate; it depends on nothing
//! of ours.

pub mod backoff;
pub mod block;
pub mod breaker;
pub mod clickhouse;
pub mod error_code;
pub mod insert;
pub mod limits;
pub mod names;
pub mod planted;
pub mod random;
pub mod row;
#[cfg(any(test, feature = "samples"))]
pub mod samples;

pub use block::{Block, BlockHeader, BlockId, JournalId};
pub use error_code::ErrorCode;
