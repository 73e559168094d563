//! Deadlines. A few connections are looked at on each tick, so that a full shard is covered twice a
//! second and no tick takes long. Nothing waits for ever: each phase has its bound.

use super::Shard;
use crate::connection::{Closing, Connection, ConnectionId, Phase};
use crate::metrics::TimeoutKind;

/// How often the driver calls [`Shard::tick`].
pub(super) const TICK_US: u64 = 50_000;

/// Ticks in which every connection is looked at once.
const TICKS_PER_ROUND: usize = 10;

/// A body's rate is judged after so long, once a slow start is over.
const RATE_GRACE_US: u64 = 5_000_000;

impl Shard {
    pub(super) fn watch(&mut self) {
        let slots = self.connections.slot_count();
        for _ in 0..slots.div_ceil(TICKS_PER_ROUND) {
            self.watch_cursor =
                if self.watch_cursor + 1 < slots { self.watch_cursor + 1 } else { 0 };
            let Some(id) = self.connections.id_at(self.watch_cursor) else { continue };
            let Some(connection) = self.connections.take(id) else { continue };
            match self.overdue(&connection) {
                None => self.connections.put(id, connection),
                Some(overdue) => self.end_overdue(id, connection, overdue),
            }
        }
    }

    fn overdue(&self, connection: &Connection) -> Option<TimeoutKind> {
        let limits = &self.limits;
        let now_us = self.now.monotonic_us;
        let since = |start_us: u64| now_us.saturating_sub(start_us);
        if connection.sending && since(connection.send_since_us) > limits.send_timeout_us {
            return Some(TimeoutKind::Write);
        }
        let oldest = connection.answers.front().map(|answer| answer.queued_us);
        if oldest.is_some_and(|queued_us| since(queued_us) > limits.ack_timeout_us) {
            return Some(TimeoutKind::Ack);
        }
        let elapsed_us = since(connection.phase_since_us);
        match &connection.phase {
            // Answers that have not left have deadlines of their own.
            Phase::Head | Phase::Drain { .. } if !connection.is_quiet() => None,
            Phase::Head if connection.held.is_empty() => {
                (elapsed_us > limits.idle_timeout_us).then_some(TimeoutKind::Idle)
            }
            Phase::Head => (elapsed_us > limits.head_timeout_us).then_some(TimeoutKind::Head),
            Phase::Body { .. }
            | Phase::ChunkedBody { .. }
            | Phase::Skip { .. }
            | Phase::SkipChunked { .. } => {
                let expected = limits.body_rate_min_bytes_per_s * elapsed_us / 1_000_000;
                if elapsed_us > limits.body_timeout_us {
                    Some(TimeoutKind::Body)
                } else if elapsed_us > RATE_GRACE_US && connection.body_received_bytes < expected {
                    Some(TimeoutKind::BodyRate)
                } else {
                    None
                }
            }
            Phase::Waiting { .. } | Phase::Working { .. } => {
                (elapsed_us > limits.ack_timeout_us).then_some(TimeoutKind::Ack)
            }
            Phase::Drain { .. } => {
                (elapsed_us > limits.drain_timeout_us).then_some(TimeoutKind::Drain)
            }
        }
    }

    fn end_overdue(
        &mut self,
        id: ConnectionId,
        mut connection: Box<Connection>,
        overdue: TimeoutKind,
    ) {
        self.counters.count_timeout(overdue);
        match overdue {
            TimeoutKind::Idle if connection.is_quiet() => {
                connection.closing = Some(Closing::AtOnce)
            }
            TimeoutKind::Idle | TimeoutKind::Drain | TimeoutKind::Write => {
                self.retire(id, connection);
                return;
            }
            TimeoutKind::Head => {
                self.refuse_too_slow(&mut connection, "the head did not arrive in time");
            }
            TimeoutKind::Body | TimeoutKind::BodyRate
                if matches!(connection.phase, Phase::Skip { .. } | Phase::SkipChunked { .. }) =>
            {
                self.close_after_answers(&mut connection, Closing::AfterDrain);
            }
            TimeoutKind::Body => {
                self.refuse_too_slow(&mut connection, "the body did not arrive in time");
            }
            TimeoutKind::BodyRate => {
                self.refuse_too_slow(&mut connection, "the body came below the minimum rate");
            }
            TimeoutKind::Ack => {
                self.fail_answers(&mut connection);
                self.close_after_answers(&mut connection, Closing::AfterDrain);
            }
        }
        self.settle(id, connection);
    }
}
