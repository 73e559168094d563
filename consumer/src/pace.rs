//! Pauses between attempts: how long, and with the randomness that [`proto::backoff`] asks for where
//! nobody gives a seed.

use proto::backoff::{Backoff, Pace};
use proto::random::SplitMix64;
use std::time::Duration;

/// Of every attempt at the same.
pub const BACKOFF: Backoff =
    Backoff { min: Duration::from_millis(50), max: Duration::from_secs(10) };

/// The rest after so many attempts, for who has no generator of its own.
pub fn pause(pace: Pace, attempts: u32) -> Duration {
    BACKOFF.delay(pace, attempts, SplitMix64::new(seed()).unit())
}

/// For [`proto::random`], once.
pub fn seed() -> u64 {
    // Without randomness the instances merely march in step.
    getrandom::u64().unwrap_or(0)
}

/// Whether the failure of this attempt is worth a line of the log: the first ones, then ever fewer.
pub fn is_news(attempts: u32) -> bool {
    attempts <= 3 || attempts.is_power_of_two()
}
