//! The worker's bounds, with what they are in production.

use crate::desk::DeskLimits;
use crate::pace::BACKOFF;
use proto::backoff::Backoff;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub struct WorkerLimits {
    pub desk: DeskLimits,
    /// Between two attempts at the same INSERT or the same letters.
    pub backoff: Backoff,
    /// Outages in a row that open the breaker.
    pub breaker_failures_max: u32,
    pub breaker_open: Duration,
    /// What is under way of a revoked partition may take so long.
    pub revoke_patience: Duration,
    /// The same at a stop; with leaving the group it stays below 10 s.
    pub stop_patience: Duration,
    /// How often ClickHouse is asked for its health while no INSERT tells it; never if None.
    pub probe_every: Option<Duration>,
}

impl WorkerLimits {
    pub fn of(desk: DeskLimits) -> WorkerLimits {
        WorkerLimits {
            desk,
            backoff: BACKOFF,
            breaker_failures_max: 5,
            breaker_open: Duration::from_secs(1),
            revoke_patience: Duration::from_secs(20),
            stop_patience: Duration::from_secs(7),
            probe_every: Some(Duration::from_secs(1)),
        }
    }
}
