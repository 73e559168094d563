//! The rules of an INSERT of blocks, the same for everyone who sends one: its statement, settings and
//! token, what an answer means, and how a refused one is halved until the bad rows are alone.
//!
//! Pure: no client, no clock, no randomness. Callers move the bytes and the time.
//!
//! Invariants: the same blocks have the same token on every route; an INSERT is one block of
//! ClickHouse's, so that it is taken whole or not at all; a row is a dead letter only where something
//! of the same kind was taken.

mod answer;
mod delivery;
mod dispatcher;
mod statement;
mod token;
mod witness;

pub use answer::{Failure, InsertFailure, TEXT_CHARS_MAX, sort_answer};
pub use delivery::{DeadRow, Delivery, Step};
pub use dispatcher::{Dispatcher, Insert, Progress, Refusals, TakenBack};
pub use statement::{SETTING_BLOCK_ROWS, SETTING_TOKEN, SETTINGS, statement};
pub use token::Token;
pub use witness::Witness;
