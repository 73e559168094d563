//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Asks `look` until it gives something; after `within` the test fails, naming `what`.
pub fn wait_for<T>(what: &str, within: Duration, look: impl FnMut() -> Option<T>) -> T {
    found_within(within, look).unwrap_or_else(|| panic!("not within {within:?}: {what}"))
}

/// The same for who has more to say about a failure; None after `within`.
pub fn found_within<T>(within: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Asks `look` until it is what the test expects; the last value is in the failure's text.
pub fn wait_equal<T: PartialEq + std::fmt::Debug>(
    what: &str,
    within: Duration,
    expected: T,
    mut look: impl FnMut() -> T,
) {
    let mut last = None;
    let equal = found_within(within, || (*last.insert(look()) == expected).then_some(()));
    if equal.is_none() {
        assert_eq!(last, Some(expected), "not within {within:?}: {what}");
    }
}

pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
