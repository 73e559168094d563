//! One client's connection as a state machine without I/O: what was received and not yet consumed,
//! the request being read, the answers that wait for their turn, the bytes to send.
//!
//! Owns no socket and no clock. The shard moves a connection through its phases; the driver moves
//! bytes. Invariants: answers leave in the order of their requests; after an answer that closes, no
//! other answer follows; an idle connection holds no buffer.

use std::collections::VecDeque;

use crate::http::{ChunkedDecoder, HeadParser, Version};
use crate::inflate::{Coding, Inflation};
use crate::journal::FilledBuffer;
use crate::json::{BatchPass, Rejection};

/// A connection's place in its shard. The generation tells a place's present owner from past ones,
/// so that a late completion never reaches a stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    pub index: u32,
    pub generation: u32,
}

/// How an answer to one request is to be framed.
#[derive(Clone, Copy, Debug)]
pub struct AnswerStyle {
    pub version: Version,
    pub keep_alive: bool,
    /// The request's method is HEAD: no answer to it has a body (RFC 9110 §9.3.2).
    pub head_only: bool,
    /// Which of the configured origins the request named.
    pub cors_origin: Option<u16>,
}

/// What the head said, once it was judged good.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Of the key, big-endian.
    pub app_id: [u8; 16],
    pub started_us: u64,
    pub coding: Option<Coding>,
    pub partial: bool,
    pub style: AnswerStyle,
}

/// Where a connection stands in its input.
pub enum Phase {
    Head,
    /// A body of declared length; `left` bytes have not arrived.
    Body {
        request: Request,
        left: u64,
    },
    ChunkedBody {
        request: Request,
        decoder: ChunkedDecoder,
    },
    /// The answer is given already; the body is read and dropped, the connection stays.
    Skip {
        left: u64,
    },
    SkipChunked {
        decoder: ChunkedDecoder,
    },
    /// The body is whole and waits for room in the journal.
    Waiting {
        request: Request,
    },
    /// The body is whole and is worked on in slices.
    Working {
        request: Request,
        work: Box<Work>,
    },
    /// Answered and half closed: input is dropped until the peer closes or a bound is reached.
    Drain {
        left: usize,
    },
}

/// Work on one body that may take longer than one stretch.
pub enum Work {
    /// `inflation` is made when its turn comes: each holds a window, so their number is bounded.
    Inflate { coding: Coding, inflation: Option<Inflation>, inflated: Vec<u8> },
    /// A body longer than a block: rows go to private buffers.
    Parse { pass: Option<Box<BatchPass>>, chain: Vec<FilledBuffer> },
    /// The rows of a long body, all good, wait to reach the journal as one chain.
    Append { chain: Vec<FilledBuffer>, stored: StoredBatch },
}

/// What became of an accepted batch.
pub struct StoredBatch {
    pub stored: u32,
    pub rejected: u32,
    /// The first of the rejected; empty unless the request asked for partial storing.
    pub rejections: Vec<Rejection>,
}

/// One answer in the queue of a connection.
pub struct Answer {
    /// The block whose sync lets it go; 0 when it waits for nothing but its turn.
    pub sequence: u64,
    pub started_us: u64,
    /// In the queue since then: an upload's time is not the journal's.
    pub queued_us: u64,
    pub style: AnswerStyle,
    pub kind: AnswerKind,
}

pub enum AnswerKind {
    /// So many events were stored, none refused.
    Stored(u32),
    Partial(Box<StoredBatch>),
    /// Already in its final bytes.
    Rendered(Vec<u8>),
}

/// How a connection ends once its last answer is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The peer sent its last byte: nothing to wait for.
    AtOnce,
    /// Half close, then read and drop for a while, so that a reset does not eat the answer.
    AfterDrain,
}

pub struct Connection {
    pub phase: Phase,
    pub parser: HeadParser,
    /// The first byte of a head has come.
    pub head_begun: bool,
    /// Received and not consumed: the beginning of a head, or input that must wait.
    pub held: Vec<u8>,
    pub body: Vec<u8>,
    /// Of the shard's budget of body bytes: for the body, and for what `held` has past a head.
    pub reserved_bytes: usize,
    pub held_reserved_bytes: usize,
    pub answers: VecDeque<Answer>,
    pub out: Vec<u8>,
    /// Answers in `out`, and answers in the buffer that the driver is sending.
    pub out_count: u32,
    pub sending_count: u32,
    pub sending: bool,
    pub send_queued: bool,
    pub reading: bool,
    pub input_ended: bool,
    pub closing: Option<Closing>,
    pub half_closed: bool,
    /// When the present phase began, or the first byte of the present head came.
    pub phase_since_us: u64,
    pub body_received_bytes: u64,
    /// When the driver last moved output, or was first given some.
    pub send_since_us: u64,
}

impl Connection {
    pub fn new(now_us: u64) -> Connection {
        Connection {
            phase: Phase::Head,
            parser: HeadParser::default(),
            head_begun: false,
            held: Vec::new(),
            body: Vec::new(),
            reserved_bytes: 0,
            held_reserved_bytes: 0,
            answers: VecDeque::new(),
            out: Vec::new(),
            out_count: 0,
            sending_count: 0,
            sending: false,
            send_queued: false,
            reading: true,
            input_ended: false,
            closing: None,
            half_closed: false,
            phase_since_us: now_us,
            body_received_bytes: 0,
            send_since_us: now_us,
        }
    }

    /// Answers that have not left: those in the queue and those on their way out.
    pub fn unanswered_count(&self) -> usize {
        self.answers.len() + self.out_count as usize + self.sending_count as usize
    }

    /// Whether more input could be used now.
    pub fn wants_input(&self, pipeline_max: usize) -> bool {
        match self.phase {
            Phase::Waiting { .. } | Phase::Working { .. } => false,
            Phase::Head => self.closing.is_none() && self.unanswered_count() < pipeline_max,
            _ => true,
        }
    }

    /// Whether every answer has left, in both senses.
    pub fn is_quiet(&self) -> bool {
        self.answers.is_empty() && self.out.is_empty() && !self.sending
    }
}

/// The connections of one shard.
pub struct ConnectionTable {
    slots: Vec<Slot>,
    free: Vec<u32>,
    open_count: usize,
}

struct Slot {
    generation: u32,
    connection: Option<Box<Connection>>,
}

impl ConnectionTable {
    pub fn new() -> ConnectionTable {
        ConnectionTable { slots: Vec::new(), free: Vec::new(), open_count: 0 }
    }

    pub fn insert(&mut self, connection: Connection) -> ConnectionId {
        self.open_count += 1;
        let connection = Some(Box::new(connection));
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.connection = connection;
            return ConnectionId { index, generation: slot.generation };
        }
        let index = self.slots.len() as u32;
        self.slots.push(Slot { generation: 0, connection });
        ConnectionId { index, generation: 0 }
    }

    /// Takes a connection out to work on it; [`Self::put`] puts it back, [`Self::retire`] does not.
    pub fn take(&mut self, id: ConnectionId) -> Option<Box<Connection>> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation == id.generation { slot.connection.take() } else { None }
    }

    pub fn put(&mut self, id: ConnectionId, connection: Box<Connection>) {
        let slot = &mut self.slots[id.index as usize];
        debug_assert!(slot.generation == id.generation && slot.connection.is_none());
        slot.connection = Some(connection);
    }

    /// Ends the place of a connection that was taken out.
    pub fn retire(&mut self, id: ConnectionId) {
        let slot = &mut self.slots[id.index as usize];
        debug_assert!(slot.generation == id.generation && slot.connection.is_none());
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        self.open_count -= 1;
    }

    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation == id.generation { slot.connection.as_deref_mut() } else { None }
    }

    pub fn open_count(&self) -> usize {
        self.open_count
    }

    /// Places, used or not: the range of indexes.
    pub fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// The connection at a place, if one is open there.
    pub fn id_at(&self, index: usize) -> Option<ConnectionId> {
        let slot = self.slots.get(index)?;
        slot.connection.as_ref()?;
        Some(ConnectionId { index: index as u32, generation: slot.generation })
    }
}

impl Default for ConnectionTable {
    fn default() -> Self {
        Self::new()
    }
}
