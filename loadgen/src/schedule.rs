//! When requests are meant to be sent.
//!
//! The stages say how many requests are due by each moment: the integral of the rate. Send number
//! `s` of the whole run is due when more than `s` are, and belongs to connection `s mod connections`:
//! every connection is evenly paced and no two are due at the same moment, up to the nanosecond.
//! A due time never moves, so a send that comes late shows in the corrected latency.

use crate::stages::Stages;

/// Work is counted in parts of a request so small that each stage's is a whole number:
/// (requests a second at the beginning + at the end) × nanoseconds. At most 2 × 10^8 × 6.1 × 10^14.
const WORK_PER_REQUEST: u128 = 2_000_000_000;

#[derive(Clone, Debug)]
pub struct Schedule {
    legs: Vec<Leg>,
    connections: u64,
}

/// One stage and where it begins.
#[derive(Clone, Debug)]
struct Leg {
    start_ns: u64,
    duration_ns: u64,
    from_per_s: u64,
    to_per_s: u64,
    work_before: u128,
}

impl Schedule {
    pub fn new(stages: &Stages, connections: u64) -> Self {
        assert!(connections > 0);
        let (mut start_ns, mut work_before) = (0, 0);
        let legs = stages.iter().map(|stage| {
            let leg = Leg {
                start_ns,
                duration_ns: stage.duration.as_nanos() as u64,
                from_per_s: stage.from_per_s,
                to_per_s: stage.to_per_s,
                work_before,
            };
            start_ns += leg.duration_ns;
            work_before += leg.work();
            leg
        });
        Schedule { legs: legs.collect(), connections }
    }

    /// Nanoseconds after the start at which a connection's request number `request` is due;
    /// `u64::MAX` for those that never are.
    pub fn due_ns(&self, connection: u64, request: u64) -> u64 {
        let send = u128::from(request) * u128::from(self.connections) + u128::from(connection);
        let work = send * WORK_PER_REQUEST;
        // Of legs that begin with the same work the last: the others were pauses.
        let next = self.legs.partition_point(|leg| leg.work_before <= work);
        let leg = &self.legs[next - 1];
        let work = work - leg.work_before;
        if work >= leg.work() { u64::MAX } else { leg.start_ns + leg.last_ns_with(work) }
    }

    /// How many of a connection's requests are due before `elapsed_ns`.
    pub fn due_before(&self, connection: u64, elapsed_ns: u64) -> u64 {
        let next = self.legs.partition_point(|leg| leg.start_ns < elapsed_ns);
        let Some(leg) = next.checked_sub(1).map(|at| &self.legs[at]) else { return 0 };
        let inside_ns = (elapsed_ns - leg.start_ns).min(leg.duration_ns);
        let work = leg.work_before + leg.work_by(inside_ns);
        let sends = work.div_ceil(WORK_PER_REQUEST) as u64;
        (sends + self.connections - 1).saturating_sub(connection) / self.connections
    }

    /// Requests a second that are due at `elapsed_ns`; 0 after the end.
    pub fn rate_at(&self, elapsed_ns: u64) -> f64 {
        let next = self.legs.partition_point(|leg| leg.start_ns <= elapsed_ns);
        let Some(leg) = next.checked_sub(1).map(|at| &self.legs[at]) else { return 0.0 };
        let inside_ns = elapsed_ns - leg.start_ns;
        if inside_ns >= leg.duration_ns {
            return 0.0;
        }
        let (from, to) = (leg.from_per_s as f64, leg.to_per_s as f64);
        from + (to - from) * inside_ns as f64 / leg.duration_ns as f64
    }
}

impl Leg {
    fn work(&self) -> u128 {
        u128::from(self.from_per_s + self.to_per_s) * u128::from(self.duration_ns)
    }

    /// The work due in the leg's first `ns` nanoseconds, rounded down.
    fn work_by(&self, ns: u64) -> u128 {
        let (ns, duration_ns) = (u128::from(ns), u128::from(self.duration_ns));
        let even = 2 * u128::from(self.from_per_s) * ns;
        let change = u128::from(self.from_per_s.abs_diff(self.to_per_s)) * ns * ns;
        if self.to_per_s >= self.from_per_s {
            even + change / duration_ns
        } else {
            even - change.div_ceil(duration_ns)
        }
    }

    /// The last nanosecond by which no more than `work` is due; `work` is less than the leg's.
    fn last_ns_with(&self, work: u128) -> u64 {
        if self.from_per_s == self.to_per_s {
            return (work / (2 * u128::from(self.from_per_s))) as u64;
        }
        // A guess by the quadratic formula, good to a nanosecond except where a ramp nears 0; the
        // exact place is then searched in steps that double, and halved.
        let (from, to) = (self.from_per_s as f64, self.to_per_s as f64);
        let slope = (to - from) / (self.duration_ns as f64 / 1e9);
        let requests = work as f64 / WORK_PER_REQUEST as f64;
        let root = (from * from + 2.0 * slope * requests).max(0.0).sqrt();
        let guess_ns = (2.0 * requests / (from + root) * 1e9) as u64; // 0 / 0 becomes 0
        let guess_ns = guess_ns.min(self.duration_ns);
        let (mut fits_ns, mut step_ns) = (guess_ns, 1);
        while self.work_by(fits_ns) > work {
            fits_ns = fits_ns.saturating_sub(step_ns);
            step_ns *= 2;
        }
        let mut over_ns = fits_ns + step_ns;
        while over_ns < self.duration_ns && self.work_by(over_ns) <= work {
            step_ns *= 2;
            over_ns += step_ns;
        }
        // At the leg's end all of its work is due, which is more.
        over_ns = over_ns.min(self.duration_ns);
        while over_ns - fits_ns > 1 {
            let middle_ns = fits_ns + (over_ns - fits_ns) / 2;
            if self.work_by(middle_ns) <= work {
                fits_ns = middle_ns;
            } else {
                over_ns = middle_ns;
            }
        }
        fits_ns
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
