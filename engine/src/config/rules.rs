//! The rules between values; each key's own range is in [`super::keys`].

use super::{Ack, Config, ConfigError};

fn conflict(
    key: &'static str,
    value: impl ToString,
    range: impl Into<String>,
    advice: impl Into<String>,
) -> ConfigError {
    ConfigError::Conflict {
        key,
        value: value.to_string(),
        range: range.into(),
        advice: advice.into(),
    }
}

pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let (limits, journal, clickhouse) = (&config.limits, &config.journal, &config.clickhouse);
    if limits.head_bytes_max <= limits.target_bytes_max {
        return Err(conflict(
            "limits.head_bytes_max",
            limits.head_bytes_max,
            format!("more than limits.target_bytes_max ({})", limits.target_bytes_max),
            "raise it, or lower limits.target_bytes_max",
        ));
    }
    // A quarter of the budget is kept for short bodies: the longest must fit into the rest.
    if limits.body_budget_bytes / 4 * 3 < limits.body_bytes_max {
        return Err(conflict(
            "limits.body_budget_bytes",
            limits.body_budget_bytes,
            format!("at least 4/3 of limits.body_bytes_max ({})", limits.body_bytes_max),
            "raise it, or lower limits.body_bytes_max: the longest body must fit",
        ));
    }
    if journal.buffers < journal.writes_in_flight_max + 2 {
        return Err(conflict(
            "journal.buffers",
            journal.buffers,
            format!(
                "at least journal.writes_in_flight_max + 2 ({})",
                journal.writes_in_flight_max + 2
            ),
            "raise it, or lower journal.writes_in_flight_max",
        ));
    }
    let two_segments = 2 * journal.segment_bytes;
    if journal.backlog_bytes_max != 0 && journal.backlog_bytes_max < two_segments {
        return Err(conflict(
            "journal.backlog_bytes_max",
            journal.backlog_bytes_max,
            format!("0, or at least two segments ({two_segments})"),
            "raise it, or lower journal.segment_bytes",
        ));
    }
    if clickhouse.retry_max_ms < clickhouse.retry_min_ms {
        return Err(conflict(
            "clickhouse.retry_max_ms",
            clickhouse.retry_max_ms,
            format!("at least clickhouse.retry_min_ms ({})", clickhouse.retry_min_ms),
            "raise it, or lower clickhouse.retry_min_ms",
        ));
    }
    check_kafka(config)?;
    if config.admin.listen == config.server.listen && config.server.listen.port() != 0 {
        return Err(conflict(
            "admin.listen",
            config.admin.listen,
            "another address than server.listen",
            "give it a port of its own",
        ));
    }
    Ok(())
}

fn check_kafka(config: &Config) -> Result<(), ConfigError> {
    let kafka = &config.kafka;
    if kafka.ack == Ack::Kafka && !kafka.is_configured() {
        return Err(conflict(
            "kafka.ack",
            "kafka",
            "auto or journal while kafka.brokers is empty",
            "name the brokers, or leave it out",
        ));
    }
    if kafka.direct_insert_after_ms < kafka.stall_ms {
        return Err(conflict(
            "kafka.direct_insert_after_ms",
            kafka.direct_insert_after_ms,
            format!("at least kafka.stall_ms ({})", kafka.stall_ms),
            "raise it, or lower kafka.stall_ms",
        ));
    }
    Ok(())
}
