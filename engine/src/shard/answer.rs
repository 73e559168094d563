//! Answers, in the order of their requests, and the ends of connections.

use proto::ErrorCode;
use proto::planted::{Planted, is_planted};

use super::{Action, Shard};
use crate::admin::readiness_body;
use crate::connection::{Answer, AnswerKind, AnswerStyle, Closing, Connection, ConnectionId};
use crate::connection::{Phase, Request};
use crate::http::respond::{self, RejectedEvent, ResponseContext};
use crate::http::{Reject, Version};
use crate::inflate::Undecodable;
use crate::metrics;

/// What a client that was turned away for want of room should wait before it tries again.
const RETRY_AFTER_S: u32 = 1;

/// The style of an answer to a head that could not be read.
const STYLE_OF_REJECTS: AnswerStyle = AnswerStyle {
    version: Version::Http11,
    keep_alive: false,
    head_only: false,
    cors_origin: None,
};

impl Shard {
    /// Queues an answer; it leaves at once when nothing is before it and it waits for no sync.
    pub(super) fn push_answer(&mut self, connection: &mut Connection, answer: Answer) {
        if connection.closing.is_some() {
            return;
        }
        if !answer.style.keep_alive {
            connection.closing = Some(Closing::AfterDrain);
        }
        connection.answers.push_back(answer);
        self.render_ready(connection);
    }

    /// All blocks up to here are acknowledged.
    #[inline]
    pub(super) fn acked_through(&self) -> u64 {
        if is_planted(Planted::AckBeforeSync) {
            return u64::MAX;
        }
        match &self.delivery {
            None => self.journal.synced_through(),
            Some(delivery) => delivery.acked_through(),
        }
    }

    /// Renders the answers at the front whose blocks are acknowledged.
    fn render_ready(&mut self, connection: &mut Connection) {
        let acked_through = self.acked_through();
        while connection.answers.front().is_some_and(|first| first.sequence <= acked_through) {
            let answer = connection.answers.pop_front().expect("there is a first one");
            if connection.out.capacity() == 0 {
                connection.out = self.take_spare();
            }
            self.render(&mut connection.out, &answer);
            if let AnswerKind::Rendered(bytes) = answer.kind {
                self.recycle(bytes);
            }
            connection.out_count += 1;
        }
    }

    fn render(&mut self, out: &mut Vec<u8>, answer: &Answer) {
        let elapsed_us = self.now.monotonic_us.saturating_sub(answer.started_us);
        match &answer.kind {
            AnswerKind::Stored(events) => {
                self.counters.ack_latency_us.record(elapsed_us);
                self.counters.count_request(None);
                respond::push_success(
                    out,
                    &self.context(answer.style),
                    *events as usize,
                    elapsed_us,
                );
            }
            AnswerKind::Partial(batch) => {
                self.counters.ack_latency_us.record(elapsed_us);
                self.counters.count_request(None);
                let context = self.context(answer.style);
                let messages = batch
                    .rejections
                    .iter()
                    .map(|rejection| (rejection, rejection.error().to_string()));
                let messages: Vec<_> = messages.collect();
                let errors = messages.iter().map(|(rejection, message)| RejectedEvent {
                    index: rejection.index as usize,
                    field: rejection.field.name(),
                    code: ErrorCode::ValidationError,
                    message,
                });
                let (stored, rejected) = (batch.stored as usize, batch.rejected as usize);
                respond::push_partial(out, &context, stored, rejected, errors, elapsed_us);
            }
            AnswerKind::Rendered(bytes) => out.extend_from_slice(bytes),
        }
    }

    fn context(&mut self, style: AnswerStyle) -> ResponseContext<'_> {
        ResponseContext {
            date: self.date.at(self.now.unix_ns as u64 / 1_000_000_000),
            version: style.version,
            keep_alive: style.keep_alive,
            cors_origin: style
                .cors_origin
                .map(|index| self.cors_origins[usize::from(index)].as_bytes()),
        }
    }

    fn push_rendered(&mut self, connection: &mut Connection, style: AnswerStyle, bytes: Vec<u8>) {
        let kind = AnswerKind::Rendered(bytes);
        let now_us = self.now.monotonic_us;
        let answer = Answer { sequence: 0, started_us: now_us, queued_us: now_us, style, kind };
        self.push_answer(connection, answer);
    }

    pub(super) fn answer_error(
        &mut self,
        connection: &mut Connection,
        style: AnswerStyle,
        code: ErrorCode,
        error: &str,
        details: &str,
        allow: Option<&str>,
    ) {
        self.counters.count_request(Some(code));
        let retry_after_s = matches!(code, ErrorCode::Unavailable | ErrorCode::RateLimited)
            .then_some(RETRY_AFTER_S);
        let mut bytes = self.take_spare();
        let context = self.context(style);
        respond::push_error(&mut bytes, &context, code, error, details, allow, retry_after_s);
        if style.head_only {
            let head_end = bytes.windows(4).position(|end| end == b"\r\n\r\n");
            bytes.truncate(head_end.expect("an answer has a head") + 4);
        }
        self.push_rendered(connection, style, bytes);
    }

    /// [`Self::answer_error`] whose words are made for it: one text for both, with a place in it where
    /// the details begin, in memory that is kept.
    pub(super) fn answer_made_error(
        &mut self,
        connection: &mut Connection,
        style: AnswerStyle,
        code: ErrorCode,
        error: std::fmt::Arguments<'_>,
        details: std::fmt::Arguments<'_>,
    ) {
        use std::fmt::Write;
        let mut words = std::mem::take(&mut self.words);
        words.clear();
        words.write_fmt(error).expect("a String takes any text");
        let error_bytes = words.len();
        words.write_fmt(details).expect("a String takes any text");
        let (error, details) = words.split_at(error_bytes);
        self.answer_error(connection, style, code, error, details, None);
        self.words = words;
    }

    pub(super) fn answer_preflight(
        &mut self,
        connection: &mut Connection,
        style: AnswerStyle,
        allow: &str,
    ) {
        let mut bytes = self.take_spare();
        respond::push_preflight(&mut bytes, &self.context(style), allow);
        self.counters.count_request(None);
        self.push_rendered(connection, style, bytes);
    }

    pub(super) fn answer_health(
        &mut self,
        connection: &mut Connection,
        style: AnswerStyle,
        readiness: bool,
    ) {
        let (is_healthy, body) = if readiness { self.readiness() } else { (true, LIVE.to_vec()) };
        let mut bytes = Vec::new();
        let context = self.context(style);
        respond::push_health(&mut bytes, &context, is_healthy, &body, style.head_only);
        self.push_rendered(connection, style, bytes);
    }

    fn readiness(&self) -> (bool, Vec<u8>) {
        let report = self.health.report();
        (report.ready, readiness_body(&report))
    }

    /// The interim answer to `Expect: 100-continue`, in its turn.
    pub(super) fn answer_continue(&mut self, connection: &mut Connection, style: AnswerStyle) {
        if style.version != Version::Http11 {
            return;
        }
        let interim = AnswerStyle { keep_alive: true, ..style };
        self.push_rendered(connection, interim, respond::CONTINUE.to_vec());
    }

    /// A framing error: the answer is the last one of this connection.
    pub(super) fn reject(&mut self, connection: &mut Connection, reject: Reject) {
        metrics::add(&self.counters.framing_rejects[reject as usize], 1);
        let code = reject.error_code();
        self.answer_error(connection, STYLE_OF_REJECTS, code, reject.message(), "", None);
        self.close_after_answers(connection, Closing::AfterDrain);
    }

    pub(super) fn refuse_too_large(&mut self, connection: &mut Connection, request: &Request) {
        let limit = self.limits.body_bytes_max;
        self.answer_error(
            connection,
            AnswerStyle { keep_alive: false, ..request.style },
            ErrorCode::PayloadTooLarge,
            "the body is too large",
            &format!("a body may have {limit} bytes, as sent and inflated; send smaller batches"),
            None,
        );
        self.close_after_answers(connection, Closing::AfterDrain);
    }

    pub(super) fn refuse_for_budget(&mut self, connection: &mut Connection, request: &Request) {
        metrics::add(&self.counters.body_budget_refused, 1);
        self.answer_error(
            connection,
            request.style,
            ErrorCode::Unavailable,
            "too many large bodies are under way",
            "nothing of this batch was stored; try again after Retry-After seconds",
            None,
        );
    }

    pub(super) fn refuse_head_for_budget(&mut self, connection: &mut Connection) {
        self.answer_error(
            connection,
            STYLE_OF_REJECTS,
            ErrorCode::Unavailable,
            "too many long requests are under way",
            "this one was not read to its end; try again after Retry-After seconds",
            None,
        );
        self.close_after_answers(connection, Closing::AfterDrain);
    }

    pub(super) fn refuse_unavailable(&mut self, connection: &mut Connection, request: &Request) {
        metrics::add(&self.counters.journal_full_refused, 1);
        self.answer_error(
            connection,
            request.style,
            ErrorCode::Unavailable,
            "the journal takes no events just now",
            "nothing of this batch was stored; try again after Retry-After seconds",
            None,
        );
    }

    pub(super) fn refuse_undecodable(
        &mut self,
        connection: &mut Connection,
        request: &Request,
        undecodable: Undecodable,
    ) {
        let Undecodable { offset } = undecodable;
        self.answer_made_error(
            connection,
            request.style,
            ErrorCode::InvalidRequest,
            format_args!("the body is not what its Content-Encoding says"),
            format_args!("at byte {offset} of the body as sent"),
        );
    }

    pub(super) fn refuse_cut_short(&mut self, connection: &mut Connection) {
        self.answer_error(
            connection,
            STYLE_OF_REJECTS,
            ErrorCode::InvalidRequest,
            "the request ended early",
            "the connection was closed before the whole request had arrived",
            None,
        );
        self.close_after_answers(connection, Closing::AtOnce);
    }

    pub(super) fn refuse_too_slow(&mut self, connection: &mut Connection, what: &'static str) {
        self.answer_error(
            connection,
            STYLE_OF_REJECTS,
            ErrorCode::RequestTimeout,
            "the request came too slowly",
            what,
            None,
        );
        self.close_after_answers(connection, Closing::AfterDrain);
    }

    /// No answer is taken after those that are queued; what still arrives is dropped.
    pub(super) fn close_after_answers(&mut self, connection: &mut Connection, closing: Closing) {
        self.drop_work(connection);
        self.forget_body(connection);
        connection.held = Vec::new();
        connection.head_begun = false;
        if connection.closing != Some(Closing::AtOnce) {
            connection.closing = Some(closing);
        }
        connection.phase = Phase::Drain { left: self.limits.drain_bytes_max };
        connection.phase_since_us = self.now.monotonic_us;
    }

    fn drop_work(&mut self, connection: &mut Connection) {
        if let Phase::Working { work, .. } = std::mem::replace(&mut connection.phase, Phase::Head) {
            self.end_work(*work);
        }
    }

    /// Blocks became durable, or arrived in Kafka, or time has passed: what is acknowledged by it goes.
    pub(super) fn release_acked(&mut self) {
        let synced_through = self.journal.synced_through();
        if let Some(delivery) = &mut self.delivery {
            let journal = &self.journal;
            let now_us = self.now.monotonic_us;
            delivery.advance(synced_through, || journal.forwarded_through(), now_us);
        }
        let acked_through = self.acked_through();
        while let Some((sequence, id)) = self.unacked.front().copied() {
            if sequence > acked_through {
                return;
            }
            self.unacked.pop_front();
            let Some(mut connection) = self.connections.take(id) else { continue };
            self.render_ready(&mut connection);
            if !connection.held.is_empty() {
                self.consume_held(id, &mut connection);
            }
            self.settle(id, connection);
        }
    }

    /// The journal failed: what waits for a sync has an unknown outcome, and every connection ends.
    pub(super) fn fail_all(&mut self) {
        // What is synced stays good; Kafka is no longer waited for.
        self.delivery = None;
        self.release_acked();
        self.unacked.clear();
        self.waiting.clear();
        for index in 0..self.connections.slot_count() {
            let Some(id) = self.connections.id_at(index) else { continue };
            let Some(mut connection) = self.connections.take(id) else { continue };
            self.fail_answers(&mut connection);
            self.close_after_answers(&mut connection, Closing::AfterDrain);
            self.settle(id, connection);
        }
    }

    /// Every answer that waits becomes a 503 that closes: its events may or may not be stored, and a
    /// resend of the same ids is safe.
    pub(super) fn fail_answers(&mut self, connection: &mut Connection) {
        let in_work = matches!(connection.phase, Phase::Waiting { .. } | Phase::Working { .. });
        if connection.answers.is_empty() && !in_work {
            return;
        }
        connection.answers.clear();
        connection.closing = None;
        self.answer_error(
            connection,
            STYLE_OF_REJECTS,
            ErrorCode::Unavailable,
            "the batch could not be made durable",
            "its outcome is unknown; send the same batch again, with the same event ids",
            None,
        );
    }

    /// Puts a connection back after work on it and tells the driver what follows from its state.
    pub(super) fn settle(&mut self, id: ConnectionId, mut connection: Box<Connection>) {
        if connection.held.len() + connection.held_reserved_bytes > 0 {
            self.bound_held(&mut connection);
        }
        // While draining, what is held was not looked at and may be a whole request.
        let is_cut_short = connection.held.is_empty() || !self.draining;
        if connection.input_ended && connection.closing.is_none() && is_cut_short {
            self.end_input(&mut connection);
        }
        if self.draining
            && connection.closing.is_none()
            && matches!(connection.phase, Phase::Head)
            && connection.is_quiet()
        {
            // It was just answered and may be sending already: a reset would eat the answer.
            connection.closing = Some(Closing::AfterDrain);
        }
        if !connection.out.is_empty() && !connection.sending && !connection.send_queued {
            connection.send_queued = true;
            self.actions.push(Action::Send(id));
        }
        if connection.is_quiet() && self.is_over(id, &mut connection) {
            self.retire(id, connection);
            return;
        }
        let reading = !connection.input_ended && connection.wants_input(self.limits.pipeline_max);
        if reading != connection.reading {
            connection.reading = reading;
            self.actions.push(Action::Read(id, reading));
        }
        self.connections.put(id, connection);
    }

    /// Whether a connection with nothing left to send is at its end; begins the half close of one
    /// that must linger.
    fn is_over(&mut self, id: ConnectionId, connection: &mut Connection) -> bool {
        let busy = matches!(connection.phase, Phase::Waiting { .. } | Phase::Working { .. });
        match connection.closing {
            None => false,
            Some(_) if busy => false,
            Some(Closing::AtOnce) => true,
            Some(Closing::AfterDrain) if connection.input_ended => true,
            Some(Closing::AfterDrain) => {
                if !connection.half_closed {
                    connection.half_closed = true;
                    self.close_after_answers(connection, Closing::AfterDrain);
                    self.actions.push(Action::HalfClose(id));
                }
                matches!(connection.phase, Phase::Drain { left: 0 })
            }
        }
    }

    /// The end of a connection: gives back everything it held.
    pub(super) fn retire(&mut self, id: ConnectionId, mut connection: Box<Connection>) {
        self.drop_work(&mut connection);
        self.forget_body(&mut connection);
        self.body_reserved_bytes -= connection.held_reserved_bytes;
        self.connections.retire(id);
        metrics::set(&self.counters.connections_open, self.connections.open_count() as u64);
        self.actions.push(Action::Close(id));
    }
}

const LIVE: &[u8] = b"{\"status\":\"ok\"}";
