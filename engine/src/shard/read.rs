//! Bytes through a connection's phases.

use super::Shard;
use crate::connection::{Closing, Connection, ConnectionId, Phase, Request};
use crate::http::{ChunkedStep, HeadStatus};
use crate::metrics;

/// Output buffers above this are given back to the allocator, not kept for the next answers: a
/// connection may hold two of them, whatever it was answered.
const SPARE_BUFFER_BYTES_MAX: usize = 16 * 1024;
/// Of all that are kept together. Short answers to a thousand clients at once fit; a bound on their
/// number would keep few of those, or too much of longer ones.
const SPARE_BYTES_MAX: usize = 1024 * 1024;

/// Held input of a connection that is not counted: longer than almost every head.
pub const HELD_FREE_BYTES: usize = 4 * 1024;

/// A body's reservation begins with this much and doubles as the body arrives, so that a client pays
/// for what it sends and not for what it announces.
const BODY_RESERVE_BYTES_MIN: usize = 64 * 1024;

/// Holders of at most this much may use all of the budget; a quarter of it is theirs alone, so that
/// a few long bodies do not turn everyone away.
const SMALL_HOLDER_BYTES_MAX: usize = 128 * 1024;

impl Shard {
    /// Consumes what the connection can use of `input` now and gives how much that was. The rest is
    /// to be held by the caller.
    pub(super) fn consume(
        &mut self,
        id: ConnectionId,
        connection: &mut Connection,
        input: &[u8],
    ) -> usize {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            let wants_more = match connection.phase {
                Phase::Head => self.read_head(connection, rest, &mut at),
                Phase::Body { request, left } => {
                    self.read_body(id, connection, request, left, rest, &mut at)
                }
                Phase::ChunkedBody { .. } => self.read_chunks(id, connection, rest, &mut at),
                Phase::Skip { left } => {
                    let taken = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    at += taken;
                    connection.body_received_bytes += taken as u64;
                    self.skipped(connection, left - taken as u64)
                }
                Phase::SkipChunked { .. } => self.skip_chunks(connection, rest, &mut at),
                Phase::Drain { left } => {
                    connection.phase = Phase::Drain { left: left.saturating_sub(rest.len()) };
                    return input.len();
                }
                Phase::Waiting { .. } | Phase::Working { .. } => return at,
            };
            if wants_more {
                return at;
            }
        }
    }

    pub(super) fn consume_held(&mut self, id: ConnectionId, connection: &mut Connection) {
        let mut held = std::mem::take(&mut connection.held);
        let consumed = self.consume(id, connection, &held);
        if consumed == held.len() {
            self.recycle(held);
        } else {
            held.drain(..consumed);
            connection.held = held;
        }
    }

    /// Takes no spare buffer: what is held is counted by its length.
    pub(super) fn hold(&mut self, connection: &mut Connection, input: &[u8]) {
        connection.held.reserve_exact(input.len());
        connection.held.extend_from_slice(input);
    }

    /// Each of these readers moves `at` over what it consumed and says whether it can do no more
    /// with the input there is.
    fn read_head(&mut self, connection: &mut Connection, rest: &[u8], at: &mut usize) -> bool {
        if rest.is_empty() || !connection.wants_input(self.limits.pipeline_max) || self.draining {
            return true;
        }
        if !connection.head_begun {
            connection.head_begun = true;
            connection.phase_since_us = self.now.monotonic_us;
        }
        match connection.parser.parse(rest, &self.limits.head) {
            Ok(HeadStatus::Partial) => true,
            Ok(HeadStatus::Complete(head)) => {
                connection.parser.reset();
                connection.head_begun = false;
                let (head_bytes, after) = rest.split_at(head.head_bytes as usize);
                *at += head_bytes.len();
                self.admit(connection, &head, head_bytes, after.len());
                false
            }
            Err(reject) => {
                self.reject(connection, reject);
                false
            }
        }
    }

    fn read_body(
        &mut self,
        id: ConnectionId,
        connection: &mut Connection,
        request: Request,
        left: u64,
        rest: &[u8],
        at: &mut usize,
    ) -> bool {
        let taken = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let whole = taken as u64 == left;
        *at += taken;
        if whole && connection.body.is_empty() {
            self.begin_store(id, connection, request, Some(&rest[..taken]));
            return false;
        }
        let arrived_bytes = connection.body.len() + taken;
        let whole_bytes = connection.body.len().saturating_add(left as usize);
        if !self.grow_body(connection, arrived_bytes, whole_bytes) {
            self.refuse_for_budget(connection, &request);
            self.forget_body_read_on(connection);
            return self.skipped(connection, left - taken as u64);
        }
        connection.body.extend_from_slice(&rest[..taken]);
        connection.body_received_bytes += taken as u64;
        if whole {
            self.begin_store(id, connection, request, None);
            return false;
        }
        connection.phase = Phase::Body { request, left: left - taken as u64 };
        true
    }

    fn read_chunks(
        &mut self,
        id: ConnectionId,
        connection: &mut Connection,
        rest: &[u8],
        at: &mut usize,
    ) -> bool {
        let Phase::ChunkedBody { request, decoder } = &mut connection.phase else { return true };
        let request = *request;
        if rest.is_empty() {
            return true;
        }
        let step = match decoder.decode(rest) {
            Ok(step) => step,
            Err(reject) => {
                self.reject(connection, reject);
                return false;
            }
        };
        let ChunkedStep { consumed_bytes, data, ended } = step;
        *at += consumed_bytes;
        let data = &rest[data];
        let announced = match &connection.phase {
            Phase::ChunkedBody { decoder, .. } => decoder.announced_bytes(),
            _ => 0,
        };
        // A chunk may announce almost 2^64 bytes.
        let least_bytes = announced.saturating_add((connection.body.len() + data.len()) as u64);
        if least_bytes > self.limits.body_bytes_max as u64 {
            self.refuse_too_large(connection, &request);
            return false;
        }
        let arrived_bytes = connection.body.len() + data.len();
        if !self.grow_body(connection, arrived_bytes, self.limits.body_bytes_max) {
            self.refuse_for_budget(connection, &request);
            self.skip_rest_of_chunks(connection, ended);
            return false;
        }
        connection.body.extend_from_slice(data);
        connection.body_received_bytes += consumed_bytes as u64;
        if ended {
            self.begin_store(id, connection, request, None);
        }
        false
    }

    fn skip_rest_of_chunks(&mut self, connection: &mut Connection, ended: bool) {
        let Phase::ChunkedBody { decoder, .. } = connection.phase else { return };
        if ended {
            self.next_request(connection);
            return;
        }
        self.forget_body_read_on(connection);
        connection.phase = Phase::SkipChunked { decoder };
    }

    /// Gives up what arrived of a body whose rest is still to be read: its rate goes on counting.
    fn forget_body_read_on(&mut self, connection: &mut Connection) {
        let received_bytes = connection.body_received_bytes;
        self.forget_body(connection);
        connection.body_received_bytes = received_bytes;
    }

    /// Makes room for the first `arrived_bytes` of a body of at most `whole_bytes`; `false` where the
    /// budget has none.
    fn grow_body(
        &mut self,
        connection: &mut Connection,
        arrived_bytes: usize,
        whole_bytes: usize,
    ) -> bool {
        let reserved_bytes = connection.reserved_bytes;
        if arrived_bytes > reserved_bytes {
            let doubled = (2 * reserved_bytes).max(BODY_RESERVE_BYTES_MIN).max(arrived_bytes);
            if !self.reserve(connection, doubled.min(whole_bytes) - reserved_bytes) {
                return false;
            }
            let body = &mut connection.body;
            body.reserve_exact(connection.reserved_bytes - body.len());
        }
        true
    }

    fn skip_chunks(&mut self, connection: &mut Connection, rest: &[u8], at: &mut usize) -> bool {
        let Phase::SkipChunked { decoder } = &mut connection.phase else { return true };
        if rest.is_empty() {
            return true;
        }
        match decoder.decode(rest) {
            Ok(step) => {
                *at += step.consumed_bytes;
                connection.body_received_bytes += step.consumed_bytes as u64;
                if step.ended {
                    return self.skipped(connection, 0);
                }
                if connection.body_received_bytes > self.limits.body_bytes_max as u64 {
                    // The answer is out already; an endless body is not worth reading.
                    self.close_after_answers(connection, Closing::AfterDrain);
                }
                false
            }
            Err(_) => {
                // Its request is answered: after a framing error no further answer may appear.
                self.close_after_answers(connection, Closing::AfterDrain);
                false
            }
        }
    }

    /// A refused request's body: `left` bytes are still to come.
    fn skipped(&mut self, connection: &mut Connection, left: u64) -> bool {
        if left > 0 {
            connection.phase = Phase::Skip { left };
            return true;
        }
        self.next_request(connection);
        false
    }

    /// The peer's FIN inside a request is that request's framing error; between requests it is the
    /// end of the connection.
    pub(super) fn end_input(&mut self, connection: &mut Connection) {
        match connection.phase {
            Phase::Head if connection.held.is_empty() => {
                self.close_after_answers(connection, Closing::AtOnce);
            }
            Phase::Head if connection.wants_input(self.limits.pipeline_max) => {
                self.refuse_cut_short(connection);
            }
            Phase::Body { .. } | Phase::ChunkedBody { .. } => self.refuse_cut_short(connection),
            Phase::Skip { .. } | Phase::SkipChunked { .. } | Phase::Drain { .. } => {
                self.close_after_answers(connection, Closing::AtOnce);
            }
            // Whole requests that wait are answered first; `settle` comes back here.
            Phase::Head | Phase::Waiting { .. } | Phase::Working { .. } => {}
        }
    }

    /// Back to the next head, with nothing left of the request before.
    pub(super) fn next_request(&mut self, connection: &mut Connection) {
        self.forget_body(connection);
        connection.phase = Phase::Head;
        connection.phase_since_us = self.now.monotonic_us;
    }

    /// Gives the body's memory and its share of the budget back.
    pub(super) fn forget_body(&mut self, connection: &mut Connection) {
        let body = std::mem::take(&mut connection.body);
        self.recycle(body);
        self.body_reserved_bytes -= connection.reserved_bytes;
        connection.reserved_bytes = 0;
        connection.body_received_bytes = 0;
    }

    /// Takes `bytes` of the shard's budget for this connection's body, or nothing.
    pub(super) fn reserve(&mut self, connection: &mut Connection, bytes: usize) -> bool {
        if self.body_reserved_bytes + bytes > self.allowed(connection.reserved_bytes + bytes) {
            return false;
        }
        self.body_reserved_bytes += bytes;
        connection.reserved_bytes += bytes;
        true
    }

    /// How much of the budget may be in use once a holder has `bytes`.
    fn allowed(&self, bytes: usize) -> usize {
        let budget = self.limits.body_budget_bytes;
        if bytes <= SMALL_HOLDER_BYTES_MAX { budget } else { budget - budget / 4 }
    }

    /// Input that is held, an unfinished head or what waits behind a request, counts against the
    /// budget of bodies but for its first few kilobytes. Without room a head is answered 503; what
    /// waits behind a request is dropped, and the connection ends after the answers before it.
    pub(super) fn bound_held(&mut self, connection: &mut Connection) {
        if connection.closing.is_some() {
            // Nothing of it is going to be read as a request.
            connection.held = Vec::new();
        }
        let excess = connection.held.len().saturating_sub(HELD_FREE_BYTES);
        let others = self.body_reserved_bytes - connection.held_reserved_bytes;
        let has_room = others + excess <= self.allowed(excess);
        let reserved = if has_room { excess } else { 0 };
        self.body_reserved_bytes = others + reserved;
        connection.held_reserved_bytes = reserved;
        if has_room {
            return;
        }
        metrics::add(&self.counters.body_budget_refused, 1);
        connection.held = Vec::new();
        if matches!(connection.phase, Phase::Head) {
            self.refuse_head_for_budget(connection);
        } else {
            connection.input_ended = true;
        }
    }

    pub(super) fn recycle(&mut self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        if (1..=SPARE_BUFFER_BYTES_MAX).contains(&bytes)
            && self.spare_bytes + bytes <= SPARE_BYTES_MAX
        {
            buffer.clear();
            self.spare_bytes += bytes;
            self.spare_buffers.push(buffer);
        }
    }

    /// An empty buffer, one of those that were recycled where there is one.
    pub(super) fn take_spare(&mut self) -> Vec<u8> {
        let spare = self.spare_buffers.pop().unwrap_or_default();
        self.spare_bytes -= spare.capacity();
        spare
    }
}
