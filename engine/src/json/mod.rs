//! The body of `POST /api/v1/events` to rows of `proto::row` layout 1, in two stages.
//!
//! Stage 1 (`index`) finds, part by part, where strings begin and end and checks their insides.
//! Stage 2 goes from quote to quote: `event` takes usual events straight to rows, `member` the values
//! in them that only the grammar cares for; `walk` knows the whole grammar and schema and takes, token
//! by token, everything else. What `event` takes, `walk` would take with the same result. `kernel`
//! has the instructions of both stages, chosen once for the CPU. Nothing here knows sockets, HTTP or
//! what becomes of the rows.
//!
//! Order of judgement: the JSON grammar of the whole body, then the application, then the rules in
//! the order of the body. Nothing is allocated after [`BatchPass::new`].

mod error;
mod escape;
mod event;
mod index;
mod kernel;
mod member;
mod row;
mod rules;
mod timestamp;
mod token;
mod value;
mod walk;

#[cfg(test)]
mod tests;

use proto::limits::{EVENT_BYTES_MAX, PARTIAL_ERRORS_MAX};

pub use error::{Field, JsonError, Rejection, Rule, RuleError};
pub use row::OUT_SLACK_BYTES;

use event::{Events, Stop, room_needed};
use index::{BLOCK_BYTES, BlockQuotes, Carry, Scan};
use kernel::Kernel;
use row::Shared;
use timestamp::DateMemo;
use token::{Quotes, Tokens};
use value::{Malformed, byte_at};
use walk::Walk;

/// What stage 1 scans at a time, so that stage 2 finds it in the core's own cache.
const PART_BYTES: usize = 32 * 1024;

/// How much of an event that one part ends in may wait for the next part: no good event is longer.
const WAITING_BYTES_MAX: usize = EVENT_BYTES_MAX;

/// The facts of a request that its body is judged by.
#[derive(Clone, Copy, Debug)]
pub struct BatchStart {
    /// The application of the request's key, big-endian.
    pub app_id: [u8; 16],
    /// Of the first row; each row after it counts one nanosecond on.
    pub received_at_ns: i64,
    /// The earliest and the latest timestamp that an event may have.
    pub timestamp_min_ms: i64,
    pub timestamp_max_ms: i64,
    /// Whether good events are stored although others are not.
    pub partial: bool,
}

/// What one call of [`BatchPass::run`] came to. `written` and `rows` are of this call alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Call again with the same body.
    Paused { written: usize, rows: u32 },
    /// Unless the verdict is `Accepted`, all rows of the batch are to be dropped.
    Done { written: usize, rows: u32, verdict: Verdict },
}

/// The judgement of a whole body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted {
        stored: u32,
        /// Only in partial mode.
        rejected: u32,
    },
    /// Not JSON, at this byte.
    Malformed {
        offset: usize,
        error: JsonError,
    },
    /// Meant for another application than the key's.
    WrongApp,
    Invalid(RuleError),
}

/// The pass over one body at a time, and its scratch memory. One per shard is enough for bodies that
/// are done in one call; a body that pauses keeps its own.
pub struct BatchPass {
    kernel: Kernel,
    start: BatchStart,
    shared: Shared,
    memo: DateMemo,
    carry: Carry,
    walk: Walk,
    /// The quotes of `body[base..scanned]`, and eight bytes of zero.
    quotes: Vec<BlockQuotes>,
    /// A multiple of [`BLOCK_BYTES`].
    base: usize,
    /// The token that stage 2 takes next; the body's length when it has taken all.
    token: Option<u32>,
    tokens: Tokens,
    /// The body is scanned up to here.
    scanned: usize,
    /// Nothing past the fault is scanned or walked.
    fault: Option<Malformed>,
    rejections: Vec<Rejection>,
    state: State,
    /// Switches `event` off, so that tests can compare.
    walk_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// The body's length, which must stay the same.
    Running(Option<usize>),
}

impl Default for BatchPass {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchPass {
    pub fn new() -> Self {
        Self::with_kernel(Kernel::detect())
    }

    /// One pass for each way that this CPU can go through a body, for tests. The first is the oracle
    /// of the others: no vector instructions, and `walk` for every event.
    pub fn every_way() -> Vec<Self> {
        let ways = Kernel::all().into_iter().flat_map(|kernel| [(kernel, true), (kernel, false)]);
        ways.map(|(kernel, walk_only)| BatchPass { walk_only, ..Self::with_kernel(kernel) })
            .collect()
    }

    fn with_kernel(kernel: Kernel) -> Self {
        let start = BatchStart {
            app_id: [0; 16],
            received_at_ns: 0,
            timestamp_min_ms: 0,
            timestamp_max_ms: 0,
            partial: false,
        };
        BatchPass {
            kernel,
            start,
            shared: Shared::default(),
            memo: DateMemo::EMPTY,
            carry: Carry::default(),
            walk: Walk::new(&start),
            // Those zeros, and up to a block less than a whole one in front of what waits.
            quotes: vec![[0; 8]; (PART_BYTES + WAITING_BYTES_MAX) / BLOCK_BYTES + 2],
            base: 0,
            token: None,
            tokens: Tokens::from(0),
            scanned: 0,
            fault: None,
            rejections: Vec::with_capacity(PARTIAL_ERRORS_MAX),
            state: State::Idle,
            walk_only: false,
        }
    }

    /// Makes ready for a new body; what was left of another is forgotten.
    pub fn begin(&mut self, start: BatchStart) {
        self.start = start;
        self.shared = Shared {
            app_id: proto::row::uuid_to_row(start.app_id),
            received_at_ns: start.received_at_ns,
        };
        self.carry = Carry::default();
        self.walk = Walk::new(&start);
        self.base = 0;
        self.token = None;
        self.tokens = Tokens::from(0);
        self.scanned = 0;
        self.fault = None;
        self.rejections.clear();
        self.state = State::Running(None);
    }

    /// The events that a partial batch leaves out, the first hundred.
    pub fn rejections(&self) -> &[Rejection] {
        &self.rejections
    }

    /// Works on about `budget_bytes` of `body`, which is the same in each call until `Done`, and
    /// writes rows to `out[..written]`. Pauses when the budget is used up, or when `out` has less
    /// room than the next event may need: the lesser of `ROW_BYTES_MAX` and what is left of the
    /// body, and [`OUT_SLACK_BYTES`]. Each call ends the event that it finds begun, or gets a part
    /// of the body further, if `out` has that room.
    ///
    /// With `out.len() >= body.len() + OUT_SLACK_BYTES` and no bound on the budget one call is `Done`.
    pub fn run(&mut self, body: &[u8], out: &mut [u8], budget_bytes: usize) -> Step {
        match self.state {
            State::Running(None) => self.state = State::Running(Some(body.len())),
            State::Running(Some(length)) => assert_eq!(length, body.len(), "the same body"),
            State::Idle => panic!("a pass begins before it runs"),
        }
        assert!(body.len() < u32::MAX as usize, "offsets are 32 bits wide");
        let mut call = Call { written: 0, rows: 0, pause_at: usize::MAX, advanced: false };
        let verdict = self.go_on(body, out, budget_bytes, &mut call);
        let Call { written, rows, .. } = call;
        match verdict {
            None => Step::Paused { written, rows },
            Some(verdict) => {
                self.state = State::Idle;
                Step::Done { written, rows, verdict }
            }
        }
    }

    /// `None` to pause.
    fn go_on(
        &mut self,
        body: &[u8],
        out: &mut [u8],
        budget_bytes: usize,
        call: &mut Call,
    ) -> Option<Verdict> {
        if body.starts_with(b"\xef\xbb\xbf") {
            return Some(Verdict::Malformed { offset: 0, error: JsonError::ByteOrderMark });
        }
        call.pause_at = self.position().saturating_add(budget_bytes.max(1));
        if let Some(start) = self.walk.event_start()
            && out.len() < room_needed(body, start as usize)
        {
            return None;
        }
        loop {
            let pause = match self.take_tokens(body, out, call) {
                Ok(pause) => pause,
                Err(Malformed { offset, error }) => {
                    return Some(Verdict::Malformed { offset, error });
                }
            };
            if pause {
                return None;
            }
            if let Some(Malformed { offset, error }) = self.fault {
                return Some(Verdict::Malformed { offset, error });
            }
            if self.token == Some(body.len() as u32) {
                return Some(self.walk.finish(body, &self.start));
            }
            if call.advanced && self.scanned >= call.pause_at {
                return None;
            }
            self.scan_part(body);
            call.advanced = true;
        }
    }

    /// Where stage 2 stands, in bytes of the body.
    fn position(&self) -> usize {
        self.token.unwrap_or(self.tokens.at()) as usize
    }

    /// Takes tokens until one whose end is not known yet, or the body's end. True to pause.
    fn take_tokens(
        &mut self,
        body: &[u8],
        out: &mut [u8],
        call: &mut Call,
    ) -> Result<bool, Malformed> {
        // Set when an event has waited for more of the body, or is not usual.
        let mut look_closely = None;
        while let Some(token) = self.token.or_else(|| self.next_token(body)) {
            self.token = Some(token);
            let start = token as usize;
            if start == body.len() {
                break;
            }
            if self.walk.before_event() && byte_at(body, token) == b'{' {
                if !self.walk_only && look_closely != Some(start) && start >= self.base {
                    match self.take_usual_events(body, start, out, call) {
                        Stop::Pause => return Ok(true),
                        Stop::AfterEvent => {}
                        Stop::AtEvent if self.may_wait(body) => return Ok(false),
                        Stop::AtEvent => look_closely = Some(self.position()),
                    }
                    continue;
                }
                if start >= call.pause_at || out.len() - call.written < room_needed(body, start) {
                    return Ok(true);
                }
            }
            let Some(next) = self.next_token(body) else { break };
            let taken = self.walk.take(body, token, next, &self.start, &mut self.rejections)?;
            self.token = Some(next);
            call.advanced = true;
            if let Some(event) = taken {
                call.written = row::write(body, &event, self.shared, out, call.written);
                self.shared.received_at_ns += 1;
                call.rows += 1;
            }
        }
        Ok(false)
    }

    /// The next token of what is scanned and sound; in the end the body's length.
    fn next_token(&mut self, body: &[u8]) -> Option<u32> {
        let limit = self.limit();
        let quotes = Quotes::new(known(&self.quotes, self.base, self.scanned));
        let token = self.tokens.next(body, quotes, self.base as u32, limit as u32);
        let at_end = self.fault.is_none() && self.scanned == body.len();
        token.or(at_end.then_some(body.len() as u32))
    }

    /// Up to here quotes mean something.
    fn limit(&self) -> usize {
        self.fault.map_or(self.scanned, |fault| fault.offset)
    }

    /// Whether the event at hand may wait for the next part.
    fn may_wait(&self, body: &[u8]) -> bool {
        self.fault.is_none()
            && self.scanned < body.len()
            && self.scanned - self.position() <= WAITING_BYTES_MAX
    }

    fn take_usual_events(
        &mut self,
        body: &[u8],
        start: usize,
        out: &mut [u8],
        call: &mut Call,
    ) -> Stop {
        let base = self.base;
        let mut events = Events {
            body: &body[base..],
            quotes: Quotes::new(known(&self.quotes, base, self.scanned)),
            start: (start - base) as u32,
            limit: (self.limit() - base) as u32,
            out,
            written: call.written,
            event_count: self.walk.event_count(),
            pause_at: call.pause_at.saturating_sub(base),
            timestamp_min_ms: self.start.timestamp_min_ms,
            timestamp_max_ms: self.start.timestamp_max_ms,
            shared: self.shared,
            memo: &mut self.memo,
        };
        let progress = self.kernel.events(&mut events);
        if progress.events > 0 {
            self.walk.skip_events(progress.events, progress.stop != Stop::AfterEvent);
            self.tokens = Tokens::from(progress.at + base as u32);
            self.token = None;
            call.written = progress.written;
            call.rows += progress.events;
            self.shared.received_at_ns += i64::from(progress.events);
            call.advanced = true;
        }
        progress.stop
    }

    /// Stage 1 over the next part, behind what waits.
    fn scan_part(&mut self, body: &[u8]) {
        let waiting = self.token.map(|token| token as usize);
        let from = waiting
            .filter(|token| self.scanned - token <= WAITING_BYTES_MAX)
            .unwrap_or(self.tokens.at() as usize)
            .max(self.base);
        let blocks = |bytes: usize| bytes / BLOCK_BYTES;
        let (from, scanned) = (blocks(from), blocks(self.scanned));
        self.quotes.copy_within(from - blocks(self.base)..scanned - blocks(self.base), 0);
        self.base = from * BLOCK_BYTES;
        let to = body.len().min(self.scanned + PART_BYTES);
        self.kernel.scan(&mut Scan {
            body,
            from: self.scanned,
            to,
            carry: &mut self.carry,
            quotes: &mut self.quotes[scanned - from..],
            fault: &mut self.fault,
        });
        self.scanned = to;
        self.quotes[to.div_ceil(BLOCK_BYTES) - from] = [0; 8];
    }
}

/// The quotes from `base` to `scanned`, with the zeros past them.
#[inline(always)]
fn known(quotes: &[BlockQuotes], base: usize, scanned: usize) -> &[u8] {
    quotes[..(scanned - base).div_ceil(BLOCK_BYTES) + 1].as_flattened()
}

/// The bounds and the result of one call.
struct Call {
    written: usize,
    rows: u32,
    /// No event is begun from here on, and no part is scanned once the call has `advanced`.
    pause_at: usize,
    advanced: bool,
}
