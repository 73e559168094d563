//! The forwarder of the engine's process: the real direct forwarder over ClickHouse, and in runs with
//! Kafka the real lanes before it. What they read is looked at on its way.

use crate::clock::us_of;
use crate::faults::Fault;
use crate::lanes::Lanes;
use crate::table::timed_out;
use crate::world::{Event, World};
use bytes::Bytes;
use engine::admin::Health;
use engine::feed_source::FeedSource;
use engine::forward::{
    BatchLimits, Blocks, DeadFile, DirectForwarder, DirectLimits, DirectParts, Frame, FrameSource,
    SourceError,
};
use engine::journal::Feed;
use engine::metrics::ForwardCounters;
use proto::backoff::Backoff;
use proto::insert::{DeadRow, Failure, Insert};
use proto::limits::BLOCK_BYTES_MAX;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often the forwarder's loop asks its sources.
const POLL_US: u64 = 20_000;

pub struct Forwarding {
    direct: DirectForwarder,
    pub lanes: Option<Lanes>,
    /// What was read from the journals since the world last looked.
    seen: Arc<Mutex<Seen>>,
    /// Whether all that the journals hold has arrived.
    drained: bool,
}

/// What left the journals.
#[derive(Default)]
struct Seen {
    frames: Vec<(usize, Frame)>,
    /// Shard, first and last sequence: acknowledged and unreadable.
    lost: Vec<(usize, u64, u64)>,
}

/// A journal as the forwarder sees it, with an eye on it.
struct Watched {
    shard: usize,
    feed: FeedSource,
    seen: Arc<Mutex<Seen>>,
}

/// A run that panicked is over: what it left behind is looked at by nobody.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FrameSource for Watched {
    fn next_frame(&mut self) -> Result<Option<Frame>, SourceError> {
        let next = self.feed.next_frame();
        match &next {
            Ok(Some(frame)) => lock(&self.seen).frames.push((self.shard, frame.clone())),
            Err(SourceError::Lost { first_sequence, last_sequence }) => {
                lock(&self.seen).lost.push((self.shard, *first_sequence, *last_sequence));
            }
            _ => {}
        }
        next
    }

    fn seek(&mut self, sequence: Option<u64>) {
        self.feed.seek(sequence);
    }

    fn has_unread(&self) -> bool {
        self.feed.has_unread()
    }

    fn mark_forwarded(&mut self, sequence: u64) -> Result<(), SourceError> {
        self.feed.mark_forwarded(sequence)
    }
}

/// Where the engine puts rows aside. It is durable when it says so, and may be unwritable.
#[derive(Clone, Default)]
pub struct DeadRows {
    rows: Arc<Mutex<Vec<DeadRow>>>,
    fails: Arc<AtomicBool>,
}

impl DeadRows {
    pub fn set_fails(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }
}

impl DeadFile for DeadRows {
    fn append(&mut self, rows: &[DeadRow], _at_ms: i64) -> io::Result<()> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        lock(&self.rows).extend_from_slice(rows);
        Ok(())
    }
}

impl Forwarding {
    pub fn new(world: &mut World, feeds: Vec<Feed>, health: Arc<Health>) -> Forwarding {
        let seen = Arc::<Mutex<Seen>>::default();
        let watched = |(shard, feed)| {
            let source = Watched { shard, feed: FeedSource(feed), seen: Arc::clone(&seen) };
            Box::new(source) as Box<dyn FrameSource>
        };
        let sources: Vec<Box<dyn FrameSource>> =
            feeds.into_iter().enumerate().map(watched).collect();
        let (lanes, sources) = if world.kafka.is_some() {
            let (lanes, sources) = Lanes::new(world, sources, &health);
            (Some(lanes), sources)
        } else {
            let blocks = |frames| Box::new(Blocks(frames)) as Box<_>;
            (None, sources.into_iter().map(blocks).collect())
        };
        let waits = lanes.as_ref().map(|_| Duration::from_secs(1));
        let limits = DirectLimits {
            batch: BatchLimits {
                rows_max: world.build.insert_rows_max,
                bytes_max: 4 << 20,
                chain_bytes_max: (16 << 20) + 2 * BLOCK_BYTES_MAX,
                linger: Duration::from_millis(world.build.linger_ms),
                chain_wait: waits,
            },
            inserts_in_flight_max: 2,
            backoff: Backoff { min: Duration::from_millis(5), max: Duration::from_secs(5) },
            breaker_failures: 5,
            breaker_open_for: Duration::from_millis(200),
        };
        let parts = DirectParts {
            limits,
            sources,
            dead: Box::new(world.dead.clone()),
            counters: Arc::<ForwardCounters>::default(),
            health,
            seed: world.random.next_u64(),
        };
        let direct = DirectForwarder::new(parts, world.now());
        Forwarding { direct, lanes, seen, drained: false }
    }

    pub fn is_idle(&self) -> bool {
        let lanes = self.lanes.as_ref().is_none_or(Lanes::is_idle);
        self.drained && lanes && self.direct.is_idle()
    }
}

impl World {
    pub fn turn_forwarding(&mut self) {
        if self.engine.is_none() {
            return;
        }
        self.turn_lanes();
        let (now, unix_ms) = (self.now(), self.unix_ns() / 1_000_000);
        for _ in 0..10_000 {
            let Some(engine) = &mut self.engine else { return };
            let more = engine.forwarding.direct.turn(now, unix_ms, false);
            while let Some(engine) = &mut self.engine
                && let Some(insert) = engine.forwarding.direct.next_insert(now)
            {
                self.send_insert(insert);
            }
            if let Some(engine) = &mut self.engine
                && engine.forwarding.direct.take_ping()
            {
                let at = self.now_us + self.between(100, 2_000);
                self.at(at, Event::Pinged(self.incarnation));
            }
            if !more {
                self.look_at_reads();
                self.take_dead_rows();
                return self.rest_forwarding();
            }
        }
        panic!("the forwarder turns for ever");
    }

    fn rest_forwarding(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        let forwarding = &mut engine.forwarding;
        let synced = engine.shards.iter().all(|seat| {
            seat.status.forwarded_through() >= seat.status.released_through()
                && !seat.shard.has_work()
        });
        forwarding.drained = synced;
        let due = us_of(forwarding.direct.due());
        assert!(due > self.now_us, "a deadline is over, and nothing was done about it");
        self.turn_forwarding_at(due.min(self.now_us + POLL_US));
    }

    fn look_at_reads(&mut self) {
        let Some(engine) = &self.engine else { return };
        let Seen { frames, lost } = std::mem::take(&mut *lock(&engine.forwarding.seen));
        for (shard, frame) in frames {
            let header = frame.header;
            self.oracle.on_block(shard, &header, &frame.into_block().payload);
        }
        for (shard, first, last) in lost {
            self.oracle.on_lost(shard, first, last, &"the feed");
        }
    }

    /// What is in the file survives everything.
    pub fn take_dead_rows(&mut self) {
        for row in std::mem::take(&mut *lock(&self.dead.rows)) {
            self.oracle.on_dead(&row.bytes);
        }
    }

    fn send_insert(&mut self, insert: Insert) {
        self.note("insert", insert.id, insert.rows as u64);
        let Insert { id, payloads, rows, token } = insert;
        let what = Arc::new((payloads, rows, token));
        self.carry_insert(Asker::Engine(self.incarnation), id, what);
    }

    /// An INSERT's way to ClickHouse and back, whoever asked.
    pub fn carry_insert(&mut self, asker: Asker, id: u64, what: Arc<(Vec<Bytes>, usize, String)>) {
        let unknown = self.strikes(Fault::InsertUnknown);
        let delay = if unknown { self.between(200, 500_000) } else { self.between(100, 3_000) };
        let at = self.now_us + delay;
        self.at(at, Event::InsertArrives(asker, id, what, unknown));
        if unknown {
            let at = self.now_us + self.between(1_000, 300_000);
            self.at(at, Event::InsertAnswered(asker, id, Err(timed_out())));
        }
    }

    pub fn on_insert_arrives(
        &mut self,
        asker: Asker,
        id: u64,
        insert: &(Vec<Bytes>, usize, String),
        loses_answer: bool,
    ) {
        let outcome = self.table.insert(&insert.0, insert.1, &insert.2);
        self.note("inserted", id, u64::from(outcome.is_ok()));
        if !loses_answer {
            let at = self.now_us + self.between(50, 1_000);
            self.at(at, Event::InsertAnswered(asker, id, outcome));
        }
    }

    pub fn on_insert_answered(&mut self, asker: Asker, id: u64, outcome: Result<(), Failure>) {
        match asker {
            Asker::Engine(incarnation) => {
                let now = self.now();
                if let Some(engine) = &mut self.engine
                    && incarnation == self.incarnation
                {
                    engine.forwarding.direct.on_outcome(id, outcome, now);
                    self.turn_forwarding();
                }
            }
            Asker::Consumer(member) => self.on_consumer_insert(member, id, &outcome),
        }
    }

    pub fn on_pinged(&mut self) {
        let (now, outcome) = (self.now(), self.table.ping());
        if let Some(engine) = &mut self.engine {
            engine.forwarding.direct.on_ping(outcome, now);
            self.turn_forwarding();
        }
    }
}

/// Whose INSERT it is: which life of the engine, or which consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asker {
    Engine(u64),
    Consumer(u64),
}
