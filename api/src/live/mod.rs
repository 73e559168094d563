//! Live counters: what happens in an app now. [`numbers`] computes them from ClickHouse, right
//! before merges; [`round`] does so in the background and lays them into Redis; [`stored`] is the
//! form in which they lie there.
//!
//! Invariants: the same numbers come out on every route, as both are [`numbers`]' work; rounds take
//! a bounded share of the time ([`pace`]), a bounded number of apps and bytes; whatever fails here
//! is told and never waited for by a client.

mod figures;
pub mod numbers;
pub mod pace;
mod round;
pub mod stored;

pub use figures::{LiveFigures, Miss};
pub use round::keep_counting;

/// The current minute and those before it.
pub const MINUTES: usize = 60;
pub const LAST_EVENTS_MAX: usize = 100;
