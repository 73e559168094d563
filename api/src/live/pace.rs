//! When the next round may begin, and how long its results stand. Pure: times come in as arguments.
//!
//! Invariant: rounds take at most one part in [`SHARE_PARTS`] of the time, however long one takes.

use std::time::Duration;

/// A round begins this often, unless the last one took too long for that.
pub const PERIOD: Duration = Duration::from_secs(1);
/// A round is followed by a pause of this many times its length, less one: 20 % of the time.
const SHARE_PARTS: u32 = 5;
/// How many rounds may fail before their numbers are gone.
const PERIODS_KEPT: u32 = 4;
/// Of the numbers of short rounds: a Redis or ClickHouse that stutters shall not empty the page.
const KEPT_MIN: Duration = Duration::from_secs(5);
/// Older numbers are not "live": the question goes to ClickHouse.
pub const KEPT_MAX: Duration = Duration::from_secs(600);

/// The pause after a round that took `round`.
pub fn pause_after(round: Duration) -> Duration {
    PERIOD.saturating_sub(round).max(round.saturating_mul(SHARE_PARTS - 1))
}

/// How long numbers stand that come out of rounds of this length.
pub fn kept_for(round: Duration) -> Duration {
    let interval = round.saturating_add(pause_after(round));
    interval.saturating_mul(PERIODS_KEPT).clamp(KEPT_MIN, KEPT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_take_a_fifth_of_the_time_at_most() {
        let check = |round_ms: u64, pause_ms: u64, kept_ms: u64| {
            let round = Duration::from_millis(round_ms);
            assert_eq!(pause_after(round).as_millis() as u64, pause_ms, "after {round_ms} ms");
            assert_eq!(kept_for(round).as_millis() as u64, kept_ms, "after {round_ms} ms");
        };
        check(0, 1_000, 5_000);
        check(10, 990, 5_000);
        check(200, 800, 5_000);
        check(201, 804, 5_000);
        check(1_000, 4_000, 20_000);
        check(20_000, 80_000, 400_000);
        check(60_000, 240_000, 600_000);
        assert_eq!(kept_for(Duration::MAX), KEPT_MAX);
    }
}
