//! Bounds of one shard.

use std::time::Duration;

use crate::config::Config;
use crate::http::HeadLimits;

/// A peer that takes no byte of its answers for so long is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// A batch that is not durable after so long is answered 503: its outcome is unknown.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Clone, Debug)]
pub struct ShardLimits {
    pub head: HeadLimits,
    pub connections_max: usize,
    pub pipeline_max: usize,
    pub body_bytes_max: usize,
    pub body_budget_bytes: usize,
    pub body_rate_min_bytes_per_s: u64,
    pub drain_bytes_max: usize,
    pub idle_timeout_us: u64,
    pub head_timeout_us: u64,
    pub body_timeout_us: u64,
    pub drain_timeout_us: u64,
    pub send_timeout_us: u64,
    pub ack_timeout_us: u64,
    pub timestamp_past_ms_max: i64,
}

impl From<&Config> for ShardLimits {
    fn from(config: &Config) -> ShardLimits {
        let limits = &config.limits;
        let past = DAY * limits.timestamp_past_days_max;
        ShardLimits {
            head: HeadLimits {
                target_bytes_max: limits.target_bytes_max as u32,
                head_bytes_max: limits.head_bytes_max as u32,
                header_count_max: limits.headers_max as u32,
                ..HeadLimits::default()
            },
            connections_max: limits.connections_max,
            pipeline_max: limits.pipeline_max,
            body_bytes_max: limits.body_bytes_max,
            body_budget_bytes: limits.body_budget_bytes,
            body_rate_min_bytes_per_s: limits.body_rate_min_bytes_per_s,
            drain_bytes_max: limits.drain_bytes_max as usize,
            idle_timeout_us: limits.idle_timeout_s * 1_000_000,
            head_timeout_us: limits.head_timeout_ms * 1_000,
            body_timeout_us: limits.body_timeout_ms * 1_000,
            drain_timeout_us: limits.drain_timeout_ms * 1_000,
            send_timeout_us: SEND_TIMEOUT.as_micros() as u64,
            ack_timeout_us: ACK_TIMEOUT.as_micros() as u64,
            timestamp_past_ms_max: past.as_millis() as i64,
        }
    }
}
