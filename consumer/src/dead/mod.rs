//! Dead letters: what cannot become rows of `events`, kept raw with the reason until somebody looks.
//!
//! A letter is a row that ClickHouse refused for itself, or a whole record that is no block. It is in
//! the topic `events_dead` (acks=all) and in the table `events_dead` before its offset is committed.
//! Its key is the block's identity, row, partition and offset: a repetition collapses.

mod letter;
mod mail;
pub mod office;
mod sink;

pub use letter::{COLUMNS, Letter, WHOLE_RECORD};
pub use mail::{Mail, NotWritten, Place, Posted};
pub use sink::{DeadSink, DeadTopic};
