//! One core's share of the system as a state machine: connections in, blocks and answers out.
//!
//! The driver calls in with bytes, completions and the time; the shard answers with [`Action`]s and
//! journal writes. It owns no socket, reads no clock, spawns nothing and shares nothing but its
//! counters and the immutable snapshots it was given.
//!
//! - `read`: bytes through a connection's phases
//! - `admit`: the judgement of a head, in the contract's order
//! - `store`: bodies into rows, rows into the journal
//! - `answer`: answers in order, and the ends of connections
//! - `ack`: answers that wait for Kafka
//! - `watch`: deadlines
//!
//! Invariants: a 200 leaves only after every block of its events is synced, whatever else it waits
//! for; a refused request
//! leaves no row; every queue is bounded by the limits; no call works longer than one slice.

mod ack;
mod admit;
mod answer;
mod limits;
mod read;
mod store;
mod watch;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::admin::Health;
use crate::connection::{Closing, Connection, ConnectionId, ConnectionTable, Phase};
use crate::http::DateCache;
use crate::journal::{Appender, JournalFailed, Write};
use crate::json::BatchPass;
use crate::keys::KeyCache;
use crate::metrics::{self, ShardCounters};

pub use ack::DeliveryWatch;
pub use limits::ShardLimits;
pub use read::HELD_FREE_BYTES;
pub use store::INFLATING_MAX;

/// What the driver is to do. Each is for a connection that was open when it was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// [`Shard::take_output`] has bytes.
    Send(ConnectionId),
    /// Start or stop reading.
    Read(ConnectionId, bool),
    /// Send our FIN; go on reading.
    HalfClose(ConnectionId),
    /// Close the socket; the id is dead.
    Close(ConnectionId),
}

/// The time, read once per turn of the loop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Monotonic.
    pub monotonic_us: u64,
    /// Since 1970-01-01 UTC.
    pub unix_ns: i64,
}

/// What grows with the load and is bounded by the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub connections: usize,
    /// Reserved for bodies.
    pub body_bytes: usize,
    /// Requests whose blocks are not acknowledged yet.
    pub unacknowledged: usize,
}

pub struct Shard {
    limits: ShardLimits,
    cors_origins: Arc<[String]>,
    connections: ConnectionTable,
    journal: Appender,
    keys: KeyCache,
    pass: BatchPass,
    health: Arc<Health>,
    counters: Arc<ShardCounters>,
    now: Now,
    date: DateCache,
    /// Of the last batch's last row; see [`Shard::received_at`].
    last_received_ns: i64,
    index: usize,
    /// Since the journal refused for want of space: the largest body that it refused. `/readyz` says
    /// so until there is room for one like it.
    full_for_bytes: Option<usize>,
    /// `None`: a sync is all that an answer waits for.
    delivery: Option<ack::DeliveryWait>,
    /// Requests whose block is not yet acknowledged, in the order of their sequences.
    unacked: VecDeque<(u64, ConnectionId)>,
    /// Journal writes under way, by number, and when they were given out.
    writing: Vec<(u64, u64)>,
    /// Connections whose body waits for room in the journal, first come first served.
    waiting: VecDeque<ConnectionId>,
    /// Connections whose body is worked on in slices, in rotation.
    working: VecDeque<ConnectionId>,
    /// Slices since the last that moved something: when every piece of `working` had its turn,
    /// nothing can move before the next sync.
    stalls_in_row: usize,
    /// There is one, so one long body is parsed at a time: a chain's buffers are taken one by one,
    /// and two half-built chains could wait for each other for ever.
    long_pass: Option<Box<BatchPass>>,
    inflating_count: usize,
    body_reserved_bytes: usize,
    spare_buffers: Vec<Vec<u8>>,
    /// What the spare buffers can hold, together.
    spare_bytes: usize,
    /// For the words of an answer that are made and not fixed.
    words: String,
    actions: Vec<Action>,
    watch_cursor: usize,
    draining: bool,
}

impl Shard {
    pub fn new(
        index: usize,
        limits: ShardLimits,
        cors_origins: Arc<[String]>,
        journal: Appender,
        keys: KeyCache,
        health: Arc<Health>,
        counters: Arc<ShardCounters>,
    ) -> Shard {
        Shard {
            limits,
            cors_origins,
            connections: ConnectionTable::new(),
            journal,
            keys,
            pass: BatchPass::new(),
            health,
            counters,
            now: Now::default(),
            date: DateCache::default(),
            last_received_ns: 0,
            index,
            full_for_bytes: None,
            delivery: None,
            unacked: VecDeque::new(),
            writing: Vec::new(),
            waiting: VecDeque::new(),
            working: VecDeque::new(),
            stalls_in_row: 0,
            long_pass: Some(Box::new(BatchPass::new())),
            inflating_count: 0,
            body_reserved_bytes: 0,
            spare_buffers: Vec::new(),
            spare_bytes: 0,
            words: String::new(),
            actions: Vec::new(),
            watch_cursor: 0,
            draining: false,
        }
    }

    /// Answers wait for Kafka, too, but not longer than `deadline_us` from when their rows went to
    /// the journal. The lane that sends this shard's blocks has the other end of `watch`.
    pub fn wait_for_delivery(mut self, watch: Arc<DeliveryWatch>, deadline_us: u64) -> Shard {
        let synced_through = self.journal.synced_through();
        self.delivery = Some(ack::DeliveryWait::new(watch, deadline_us, synced_through));
        self
    }

    /// When [`Self::turn`] must be called though nothing happens; `u64::MAX` for never.
    #[inline]
    pub fn next_deadline_us(&self) -> u64 {
        self.delivery.as_ref().map_or(u64::MAX, ack::DeliveryWait::next_deadline_us)
    }

    /// The driver read the clock; called once per turn, before anything else of that turn.
    pub fn set_now(&mut self, now: Now) {
        debug_assert!(now.monotonic_us >= self.now.monotonic_us, "monotonic time never goes back");
        self.now = now;
    }

    /// A client connected. `None` when the shard is full: close the socket.
    pub fn on_accept(&mut self) -> Option<ConnectionId> {
        if self.connections.open_count() >= self.limits.connections_max
            || self.draining
            || self.journal.failed().is_some()
        {
            metrics::add(&self.counters.connections_refused, 1);
            return None;
        }
        metrics::add(&self.counters.connections_accepted, 1);
        let id = self.connections.insert(Connection::new(self.now.monotonic_us));
        metrics::set(&self.counters.connections_open, self.connections.open_count() as u64);
        Some(id)
    }

    /// Bytes arrived. The driver may reuse `input` when this returns.
    pub fn on_bytes(&mut self, id: ConnectionId, input: &[u8]) {
        let Some(mut connection) = self.connections.take(id) else { return };
        if connection.input_ended {
            // Given up on its input already: what comes now follows a gap.
            self.connections.put(id, connection);
            return;
        }
        if connection.held.is_empty() {
            let consumed = self.consume(id, &mut connection, input);
            if consumed < input.len() {
                self.hold(&mut connection, &input[consumed..]);
            }
        } else {
            connection.held.extend_from_slice(input);
            self.consume_held(id, &mut connection);
        }
        self.settle(id, connection);
    }

    /// The peer sent its FIN. What it asked before is still answered.
    pub fn on_input_end(&mut self, id: ConnectionId) {
        let Some(mut connection) = self.connections.take(id) else { return };
        connection.input_ended = true;
        self.end_input(&mut connection);
        self.settle(id, connection);
    }

    /// The socket failed: nothing can be sent any more.
    pub fn on_lost(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.take(id) {
            self.retire(id, connection);
        }
    }

    /// The bytes to send next; the driver gives the buffer back through [`Self::on_sent`].
    pub fn take_output(&mut self, id: ConnectionId) -> Option<Vec<u8>> {
        let now_us = self.now.monotonic_us;
        let spare = self.take_spare();
        let Some(connection) = self.connections.get_mut(id) else {
            self.recycle(spare);
            return None;
        };
        connection.send_queued = false;
        if connection.sending || connection.out.is_empty() {
            self.recycle(spare);
            return None;
        }
        connection.sending = true;
        connection.sending_count = std::mem::take(&mut connection.out_count);
        connection.send_since_us = now_us;
        Some(std::mem::replace(&mut connection.out, spare))
    }

    /// Part of the output left: the peer is alive.
    pub fn on_send_progress(&mut self, id: ConnectionId) {
        let now_us = self.now.monotonic_us;
        if let Some(connection) = self.connections.get_mut(id) {
            connection.send_since_us = now_us;
        }
    }

    /// All of the buffer that [`Self::take_output`] gave was sent.
    pub fn on_sent(&mut self, id: ConnectionId, buffer: Vec<u8>) {
        self.recycle(buffer);
        let Some(mut connection) = self.connections.take(id) else { return };
        connection.sending = false;
        connection.sending_count = 0;
        if connection.out.is_empty() {
            let empty = std::mem::take(&mut connection.out);
            self.recycle(empty);
        }
        if !connection.held.is_empty() {
            self.consume_held(id, &mut connection);
        }
        self.settle(id, connection);
    }

    /// The next journal write to submit, if one pays now.
    pub fn next_write(&mut self) -> Option<Write> {
        let write = self.journal.next_write()?;
        self.writing.push((write.id(), self.now.monotonic_us));
        metrics::add(&self.counters.journal_writes, 1);
        metrics::add(&self.counters.journal_bytes, write.bytes() as u64);
        metrics::add(&self.counters.blocks_sealed, write.slices().len() as u64);
        Some(write)
    }

    /// A journal write ended. An error is the end of this shard: every request that waits for a
    /// sync is answered 503, every connection closes, and the driver closes the listener.
    pub fn on_write_done(
        &mut self,
        write: Write,
        result: std::io::Result<usize>,
    ) -> Result<(), JournalFailed> {
        if let Some(at) = self.writing.iter().position(|(id, _)| *id == write.id()) {
            let (_, since_us) = self.writing.swap_remove(at);
            self.counters.journal_sync_us.record(self.now.monotonic_us - since_us);
        }
        match self.journal.on_write_done(write, result) {
            Ok(_) => {
                self.stalls_in_row = 0;
                self.release_acked();
                self.retry_waiting();
                Ok(())
            }
            Err(failed) => {
                self.fail_all();
                Err(failed)
            }
        }
    }

    /// Whether [`Self::turn`] has something to do at once.
    pub fn has_work(&self) -> bool {
        self.stalls_in_row < self.working.len()
    }

    /// A few slices of the long work, and what changed outside: segments made ready, blocks that
    /// arrived in Kafka.
    pub fn turn(&mut self) {
        self.journal.poll_segments();
        if self.delivery.as_ref().is_some_and(ack::DeliveryWait::is_waiting) {
            self.release_acked();
        }
        // A segment that was made ready, or a buffer that came home, is room for those who wait: each
        // gets its turn anew, but only when all had theirs, else the driver would never sleep.
        if !self.has_work() {
            self.stalls_in_row = 0;
        }
        if !self.waiting.is_empty() {
            self.retry_waiting();
        }
        for _ in 0..store::SLICES_PER_TURN {
            if !self.has_work() {
                break;
            }
            self.work_one_slice();
        }
    }

    /// Deadlines of some of the connections; call every [`watch::TICK_US`].
    pub fn tick(&mut self) {
        self.stalls_in_row = 0;
        self.watch();
        self.retry_waiting();
        self.probe_full();
    }

    /// Stop taking new requests: idle connections close now, others after their answers.
    pub fn begin_drain(&mut self) {
        self.draining = true;
        for index in 0..self.connections.slot_count() {
            if let Some(id) = self.connections.id_at(index)
                && let Some(mut connection) = self.connections.take(id)
            {
                let is_idle = matches!(connection.phase, Phase::Head) && connection.is_quiet();
                if is_idle && connection.held.is_empty() && connection.closing.is_none() {
                    connection.closing = Some(Closing::AtOnce);
                }
                self.settle(id, connection);
            }
        }
    }

    /// After [`Self::begin_drain`]: nothing is open and nothing waits for a sync that may come.
    pub fn is_drained(&self) -> bool {
        let settled = self.journal.failed().is_some() || !self.journal.has_unsynced();
        self.connections.open_count() == 0 && settled
    }

    /// Whether the driver should read from this connection; `None` when it is gone.
    pub fn is_reading(&mut self, id: ConnectionId) -> Option<bool> {
        self.connections.get_mut(id).map(|connection| connection.reading)
    }

    /// Every [`ConnectionId`]'s index is below it.
    pub fn connections_max(&self) -> usize {
        self.limits.connections_max
    }

    pub fn load(&self) -> Load {
        Load {
            connections: self.connections.open_count(),
            body_bytes: self.body_reserved_bytes,
            unacknowledged: self.unacked.len(),
        }
    }

    pub fn failed(&self) -> Option<&JournalFailed> {
        self.journal.failed()
    }

    /// Moves the actions since the last call into `actions`, which must be empty.
    pub fn take_actions(&mut self, actions: &mut Vec<Action>) {
        debug_assert!(actions.is_empty());
        std::mem::swap(&mut self.actions, actions);
    }

    pub fn tick_interval_us() -> u64 {
        watch::TICK_US
    }
}
