//! When requests are meant to be sent at a constant rate.
//!
//! Send number `s` of the whole run is due `s / rate` after the start and belongs to connection
//! `s mod connections`: every connection is evenly paced and no two are due at the same moment.
//! A due time never moves, so a send that comes late shows in the corrected latency.

const NS_PER_S: u128 = 1_000_000_000;

#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    requests_per_s: u64,
    connections: u64,
}

impl Schedule {
    /// None when the rate is 0: then nothing is scheduled, the answers set the pace.
    pub fn new(requests_per_s: u64, connections: u64) -> Option<Self> {
        assert!(connections > 0);
        (requests_per_s > 0).then_some(Schedule { requests_per_s, connections })
    }

    /// Nanoseconds after the start at which a connection's request number `request` is due.
    pub fn due_ns(&self, connection: u64, request: u64) -> u64 {
        let send = u128::from(request) * u128::from(self.connections) + u128::from(connection);
        (send * NS_PER_S / u128::from(self.requests_per_s)) as u64
    }

    /// How many of a connection's requests are due before `elapsed_ns`.
    pub fn due_before(&self, connection: u64, elapsed_ns: u64) -> u64 {
        // The sends with `s * NS_PER_S / rate < elapsed_ns`, of all connections.
        let sends =
            (u128::from(elapsed_ns) * u128::from(self.requests_per_s)).div_ceil(NS_PER_S) as u64;
        (sends + self.connections - 1).saturating_sub(connection) / self.connections
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rate_zero_is_no_schedule() {
        assert!(Schedule::new(0, 4).is_none());
    }

    #[test]
    fn sends_are_evenly_spread_over_connections() {
        let schedule = Schedule::new(1_000, 4).unwrap();
        let mut due: Vec<u64> =
            (0..4).flat_map(|c| (0..5).map(move |r| schedule.due_ns(c, r))).collect();
        due.sort_unstable();
        let expected: Vec<u64> = (0..20).map(|ms| ms * 1_000_000).collect();
        assert_eq!(due, expected);
    }

    #[test]
    fn a_whole_run_has_rate_times_seconds_sends() {
        let schedule = Schedule::new(12_345, 64).unwrap();
        let total: u64 = (0..64).map(|c| schedule.due_before(c, 10_000_000_000)).sum();
        assert_eq!(total, 123_450);
    }

    #[test]
    fn long_runs_do_not_drift_or_overflow() {
        let schedule = Schedule::new(1_000_000, 10_000).unwrap();
        let a_week_of_requests = 7 * 86_400 * 100;
        assert_eq!(schedule.due_ns(0, a_week_of_requests), 7 * 86_400 * 1_000_000_000);
    }

    proptest! {
        #[test]
        fn due_before_counts_due_ns(
            rate in 1u64..5_000, connections in 1u64..9, connection in 0u64..9, ms in 0u64..50,
        ) {
            let connection = connection % connections;
            let schedule = Schedule::new(rate, connections).unwrap();
            let elapsed_ns = ms * 1_000_003;
            let counted =
                (0..).take_while(|&r| schedule.due_ns(connection, r) < elapsed_ns).count();
            prop_assert_eq!(schedule.due_before(connection, elapsed_ns), counted as u64);
        }
    }
}
