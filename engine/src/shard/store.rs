//! Bodies into rows, rows into the journal.
//!
//! A body that fits a block is parsed straight into the open block, in one go. A longer one is
//! parsed in slices into private buffers that reach the journal as one chain, so that a refused
//! request leaves nothing and no other request waits for it. A compressed body is inflated first,
//! in slices.

use proto::ErrorCode;
use proto::limits::{BLOCK_PAYLOAD_BYTES_MAX, EVENTS_PER_BATCH_MAX, TIMESTAMP_FUTURE_MS_MAX};

use super::Shard;
use crate::admin::{Component, Level};
use crate::connection::{Answer, AnswerKind, Connection, ConnectionId, Phase};
use crate::connection::{Request, StoredBatch, Work};
use crate::inflate::{Coding, Inflation, Slice};
use crate::journal::{FilledBuffer, Stall};
use crate::json::{BatchStart, Step, Verdict};
use crate::metrics;

/// A body of at most this many bytes is parsed in one go, straight into the open block: its rows
/// are never longer than its JSON. About 0.2 ms.
const DIRECT_BYTES_MAX: usize = BLOCK_PAYLOAD_BYTES_MAX;

/// JSON of a long body in one slice, and inflated bytes of a compressed one: well under 1 ms each.
const PARSE_SLICE_BYTES: usize = 512 * 1024;
const INFLATE_SLICE_BYTES: usize = 128 * 1024;

/// The first slice of an inflation: enough for most, and a small share of the budget.
const INFLATE_FIRST_SLICE_BYTES: usize = 32 * 1024;

pub(super) const SLICES_PER_TURN: usize = 2;

/// How far the moments given to rows may run ahead of the clock.
const CLOCK_STEP_NS_MAX: i64 = 1_000_000_000;

/// Bodies being inflated at once; each holds a window of at most 8 MiB.
pub const INFLATING_MAX: usize = 4;

/// What one slice of work came to.
enum Progress {
    Moved,
    /// It waits for a sync, or for what another piece of work has.
    Stalled,
    Ended,
}

impl Shard {
    /// A body is whole: in `arrived`, or in the connection's own buffer.
    pub(super) fn begin_store(
        &mut self,
        id: ConnectionId,
        connection: &mut Connection,
        request: Request,
        arrived: Option<&[u8]>,
    ) {
        let length = arrived.map_or(connection.body.len(), <[u8]>::len);
        metrics::add(&self.counters.body_bytes, length as u64);
        connection.phase_since_us = self.now.monotonic_us;
        if request.coding.is_none() && length <= DIRECT_BYTES_MAX && self.waiting.is_empty() {
            let stored = match arrived {
                Some(body) => self.store_direct(id, connection, &request, body),
                None => {
                    let body = std::mem::take(&mut connection.body);
                    let stored = self.store_direct(id, connection, &request, &body);
                    if stored {
                        self.recycle(body);
                    } else {
                        connection.body = body;
                    }
                    stored
                }
            };
            if stored {
                return;
            }
        }
        if let Some(body) = arrived
            && !self.keep_body(connection, &request, body)
        {
            return;
        }
        match request.coding {
            Some(coding) => self.begin_inflation(id, connection, request, coding),
            None => self.queue_identity(id, connection, request),
        }
    }

    /// Copies a body that must outlive the driver's buffer.
    fn keep_body(&mut self, connection: &mut Connection, request: &Request, body: &[u8]) -> bool {
        if !self.reserve(connection, body.len()) {
            self.refuse_for_budget(connection, request);
            self.next_request(connection);
            return false;
        }
        connection.body.reserve_exact(body.len());
        connection.body.extend_from_slice(body);
        true
    }

    fn queue_identity(&mut self, id: ConnectionId, connection: &mut Connection, request: Request) {
        if connection.body.len() <= DIRECT_BYTES_MAX {
            connection.phase = Phase::Waiting { request };
            self.waiting.push_back(id);
        } else {
            let work = Box::new(Work::Parse { pass: None, chain: Vec::new() });
            self.begin_work(id, connection, request, work);
        }
    }

    /// Whether the journal has room again for what it refused, asked now and then while it does not.
    pub(super) fn probe_full(&mut self) {
        if let Some(bytes) = self.full_for_bytes
            && self.journal.room(bytes).is_ok()
        {
            self.full_for_bytes = None;
            self.health.set(Component::Shard(self.index), Level::Ok, "");
        }
    }

    fn note_full(&mut self, body_bytes: usize) {
        if self.journal.failed().is_some() {
            return;
        }
        let bytes = body_bytes.min(DIRECT_BYTES_MAX);
        if self.full_for_bytes.is_none() {
            let reason = "the journal is full: the backlog limit or the disk's end is reached";
            self.health.set(Component::Shard(self.index), Level::Down, reason);
        }
        self.full_for_bytes = self.full_for_bytes.max(Some(bytes));
    }

    /// Parses `body` into the open block. `false` when the journal has no room just now.
    fn store_direct(
        &mut self,
        id: ConnectionId,
        connection: &mut Connection,
        request: &Request,
        body: &[u8],
    ) -> bool {
        let start = self.batch_start(request);
        let out = match self.journal.room(body.len()) {
            Ok(out) => out,
            Err(Stall::Busy) => {
                metrics::add(&self.counters.buffers_busy_stalls, 1);
                return false;
            }
            Err(Stall::Full | Stall::Failed) => {
                self.note_full(body.len());
                self.refuse_unavailable(connection, request);
                self.next_request(connection);
                return true;
            }
        };
        let received_at_ns = start.received_at_ns;
        self.pass.begin(start);
        let Step::Done { written, rows, verdict } = self.pass.run(body, out, usize::MAX) else {
            unreachable!("with room for the whole body a pass ends in one run");
        };
        if let Verdict::Accepted { stored, rejected } = verdict {
            let rejections = self.pass.rejections().to_vec();
            let sequence = if rows > 0 { self.journal.commit(written, rows) } else { 0 };
            self.last_received_ns = received_at_ns + i64::from(rows);
            let batch = StoredBatch { stored, rejected, rejections };
            self.accept(id, connection, request, sequence, batch);
        } else {
            self.refuse_body(connection, request, verdict);
        }
        self.next_request(connection);
        true
    }

    /// When the first row of the next batch is received; each row after it counts one nanosecond on.
    /// No two rows of a shard share a moment, so of two copies one was first, also within one batch
    /// and within one turn of the loop, whose time is read once.
    fn received_at(&self) -> i64 {
        let now_ns = self.now.unix_ns;
        let ahead_ns = self.last_received_ns + 1 - now_ns;
        // A clock that was set back by more is followed, not waited for.
        if (0..CLOCK_STEP_NS_MAX).contains(&ahead_ns) { now_ns + ahead_ns } else { now_ns }
    }

    fn batch_start(&self, request: &Request) -> BatchStart {
        let unix_ms = self.now.unix_ns / 1_000_000;
        BatchStart {
            app_id: request.app_id,
            received_at_ns: self.received_at(),
            timestamp_min_ms: unix_ms - self.limits.timestamp_past_ms_max,
            timestamp_max_ms: unix_ms + TIMESTAMP_FUTURE_MS_MAX,
            partial: request.partial,
        }
    }

    /// Every row is in the journal's hands: the answer waits for block `sequence`.
    fn accept(
        &mut self,
        id: ConnectionId,
        connection: &mut Connection,
        request: &Request,
        sequence: u64,
        batch: StoredBatch,
    ) {
        metrics::add(&self.counters.events_accepted, u64::from(batch.stored));
        metrics::add(&self.counters.events_rejected, u64::from(batch.rejected));
        let kind = if request.partial {
            AnswerKind::Partial(Box::new(batch))
        } else {
            AnswerKind::Stored(batch.stored)
        };
        let Request { started_us, style, .. } = *request;
        let queued_us = self.now.monotonic_us;
        self.push_answer(connection, Answer { sequence, started_us, queued_us, style, kind });
        if let Some(delivery) = &mut self.delivery {
            delivery.on_accepted(sequence, self.now.monotonic_us);
        }
        if sequence > self.acked_through() && self.unacked.back() != Some(&(sequence, id)) {
            self.unacked.push_back((sequence, id));
        }
    }

    /// Gives the bodies that wait their turn, in order, while there is room.
    pub(super) fn retry_waiting(&mut self) {
        while let Some(id) = self.waiting.front().copied() {
            let Some(mut connection) = self.connections.take(id) else {
                self.waiting.pop_front();
                continue;
            };
            let Phase::Waiting { request } = connection.phase else {
                self.waiting.pop_front();
                self.connections.put(id, connection);
                continue;
            };
            let body = std::mem::take(&mut connection.body);
            let stored = self.store_direct(id, &mut connection, &request, &body);
            if stored {
                self.recycle(body);
                self.waiting.pop_front();
                self.consume_held(id, &mut connection);
            } else {
                connection.body = body;
            }
            self.settle(id, connection);
            if !stored {
                return;
            }
        }
    }

    fn begin_inflation(
        &mut self,
        id: ConnectionId,
        connection: &mut Connection,
        request: Request,
        coding: Coding,
    ) {
        let work = Box::new(Work::Inflate { coding, inflation: None, inflated: Vec::new() });
        self.begin_work(id, connection, request, work);
    }

    fn begin_work(
        &mut self,
        id: ConnectionId,
        connection: &mut Connection,
        request: Request,
        work: Box<Work>,
    ) {
        connection.phase = Phase::Working { request, work };
        self.working.push_back(id);
        self.stalls_in_row = 0;
    }

    /// Takes the next long work in rotation and does one slice of it.
    pub(super) fn work_one_slice(&mut self) {
        let Some(id) = self.working.pop_front() else { return };
        let Some(mut connection) = self.connections.take(id) else { return };
        let phase = std::mem::replace(&mut connection.phase, Phase::Head);
        let Phase::Working { request, mut work } = phase else {
            connection.phase = phase;
            self.connections.put(id, connection);
            return;
        };
        let progress = match &mut *work {
            Work::Inflate { coding, inflation, inflated } => {
                if inflation.is_none() && self.inflating_count < INFLATING_MAX {
                    self.inflating_count += 1;
                    *inflation = Some(Inflation::new(*coding, &connection.body));
                }
                match inflation {
                    Some(inflation) => {
                        self.inflate_slice(id, &mut connection, &request, inflation, inflated)
                    }
                    None => Progress::Stalled,
                }
            }
            Work::Parse { .. } => self.parse_slice(&mut connection, &request, &mut work),
            Work::Append { chain, stored } => {
                self.append_slice(id, &mut connection, &request, chain, stored)
            }
        };
        match progress {
            Progress::Ended => {
                self.end_work(*work);
                self.consume_held(id, &mut connection);
            }
            Progress::Moved | Progress::Stalled => {
                let stalled = matches!(progress, Progress::Stalled);
                self.stalls_in_row = if stalled { self.stalls_in_row + 1 } else { 0 };
                connection.phase = Phase::Working { request, work };
                self.working.push_back(id);
            }
        }
        self.settle(id, connection);
    }

    /// Gives back what a piece of work held of the shard's.
    pub(super) fn end_work(&mut self, work: Work) {
        self.stalls_in_row = 0;
        match work {
            Work::Parse { pass: Some(pass), .. } => self.long_pass = Some(pass),
            Work::Inflate { inflation: Some(_), .. } => self.inflating_count -= 1,
            _ => {}
        }
    }

    fn inflate_slice(
        &mut self,
        id: ConnectionId,
        connection: &mut Connection,
        request: &Request,
        inflation: &mut Inflation,
        inflated: &mut Vec<u8>,
    ) -> Progress {
        let length = inflated.len();
        let slice_bytes = if length == 0 { INFLATE_FIRST_SLICE_BYTES } else { INFLATE_SLICE_BYTES };
        if inflated.capacity() < length + slice_bytes {
            if !self.reserve(connection, slice_bytes) {
                self.refuse_for_budget(connection, request);
                self.next_request(connection);
                return Progress::Ended;
            }
            inflated.reserve_exact(slice_bytes);
        }
        inflated.resize(length + slice_bytes, 0);
        let slice = inflation.run(&connection.body, &mut inflated[length..]);
        let (written, done) = match slice {
            Ok(Slice::More { written }) => (written, false),
            Ok(Slice::Done { written }) => (written, true),
            Err(undecodable) => {
                self.refuse_undecodable(connection, request, undecodable);
                self.next_request(connection);
                return Progress::Ended;
            }
        };
        inflated.truncate(length + written);
        metrics::add(&self.counters.inflated_bytes, written as u64);
        if inflated.len() > self.limits.body_bytes_max {
            self.refuse_too_large(connection, request);
            return Progress::Ended;
        }
        if !done {
            return Progress::Moved;
        }
        // The inflated bytes become the body; both lengths stay reserved until it is stored.
        let compressed = std::mem::replace(&mut connection.body, std::mem::take(inflated));
        self.recycle(compressed);
        let identity = Request { coding: None, ..*request };
        connection.phase = Phase::Head;
        self.begin_store_inflated(id, connection, identity);
        Progress::Ended
    }

    fn begin_store_inflated(
        &mut self,
        id: ConnectionId,
        connection: &mut Connection,
        request: Request,
    ) {
        if connection.body.len() <= DIRECT_BYTES_MAX && self.waiting.is_empty() {
            let body = std::mem::take(&mut connection.body);
            if self.store_direct(id, connection, &request, &body) {
                self.recycle(body);
                return;
            }
            connection.body = body;
        }
        self.queue_identity(id, connection, request);
    }

    fn parse_slice(
        &mut self,
        connection: &mut Connection,
        request: &Request,
        work: &mut Work,
    ) -> Progress {
        let Work::Parse { pass: own_pass, chain } = work else { return Progress::Moved };
        if own_pass.is_none() {
            let Some(mut free) = self.long_pass.take() else { return Progress::Stalled };
            let start = self.batch_start(request);
            self.last_received_ns = start.received_at_ns + EVENTS_PER_BATCH_MAX as i64;
            free.begin(start);
            *own_pass = Some(free);
        }
        let pass = own_pass.as_mut().expect("taken above when it was not there");
        let mut buffer = match self.journal.take_buffer() {
            Ok(buffer) => buffer,
            Err(stall) => return self.stalled(connection, request, stall),
        };
        let step = pass.run(&connection.body, buffer.payload_mut(), PARSE_SLICE_BYTES);
        let (written, rows) = match step {
            Step::Paused { written, rows } | Step::Done { written, rows, .. } => (written, rows),
        };
        if rows > 0 {
            chain.push(FilledBuffer { buffer, written, rows });
        }
        let Step::Done { verdict, .. } = step else { return Progress::Moved };
        let Verdict::Accepted { stored, rejected } = verdict else {
            self.refuse_body(connection, request, verdict);
            self.next_request(connection);
            return Progress::Ended;
        };
        let stored = StoredBatch { stored, rejected, rejections: pass.rejections().to_vec() };
        self.long_pass = own_pass.take();
        *work = Work::Append { chain: std::mem::take(chain), stored };
        Progress::Moved
    }

    fn append_slice(
        &mut self,
        id: ConnectionId,
        connection: &mut Connection,
        request: &Request,
        chain: &mut Vec<FilledBuffer>,
        stored: &mut StoredBatch,
    ) -> Progress {
        let appended = match std::mem::take(chain) {
            empty if empty.is_empty() => Ok(0),
            whole => self.journal.append_chain(whole),
        };
        match appended {
            Ok(sequence) => {
                let rejections = std::mem::take(&mut stored.rejections);
                let batch = StoredBatch { rejections, ..*stored };
                self.accept(id, connection, request, sequence, batch);
                self.next_request(connection);
                Progress::Ended
            }
            Err((stall, whole)) => {
                *chain = whole;
                self.stalled(connection, request, stall)
            }
        }
    }

    fn stalled(
        &mut self,
        connection: &mut Connection,
        request: &Request,
        stall: Stall,
    ) -> Progress {
        match stall {
            Stall::Busy => {
                metrics::add(&self.counters.buffers_busy_stalls, 1);
                Progress::Stalled
            }
            Stall::Full | Stall::Failed => {
                self.note_full(connection.body.len());
                self.refuse_unavailable(connection, request);
                self.next_request(connection);
                Progress::Ended
            }
        }
    }

    fn refuse_body(&mut self, connection: &mut Connection, request: &Request, verdict: Verdict) {
        match verdict {
            Verdict::Accepted { .. } => unreachable!("an accepted body is not refused"),
            Verdict::Malformed { offset, error } => self.answer_made_error(
                connection,
                request.style,
                ErrorCode::InvalidRequest,
                format_args!("invalid JSON: {error}"),
                format_args!("at byte {offset} of the body"),
            ),
            Verdict::WrongApp => self.answer_error(
                connection,
                request.style,
                ErrorCode::Forbidden,
                "the API key belongs to another app",
                "app_id must be the app that the key in X-API-Key was made for",
                None,
            ),
            Verdict::Invalid(rule) => self.answer_made_error(
                connection,
                request.style,
                ErrorCode::ValidationError,
                format_args!("{rule}"),
                format_args!(
                    "nothing of this batch was stored; ?partial=1 stores the events that are valid"
                ),
            ),
        }
    }
}
