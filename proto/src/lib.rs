//! What every binary of the system agrees on: the event and its limits, the row it becomes, the
//! block that rows travel in, the names of tables, and the words of every error.
//!
//! Owns no I/O, no clock and no server. Everything may depend on this crate; it depends on nothing
//! of ours.

pub mod block;
pub mod error_code;
pub mod limits;
pub mod names;
pub mod row;

pub use block::{BlockHeader, BlockId, JournalId};
pub use error_code::ErrorCode;
