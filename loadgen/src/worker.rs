//! One thread with its poller and its share of the connections: connects them, keeps the schedule
//! until the end, waits for the answers that are still open, and hands back what it counted.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::connection::{Connection, Lost, Pace};
use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::progress::{Progress, Publisher};
use crate::schedule::Schedule;
use crate::send_buffer::BufferPool;
use crate::tally::Tally;
use crate::template::Stamp;
use crate::thread_load::ThreadLoad;
use crate::timeline::Timeline;
use crate::wake_timer::WakeTimer;

/// How long connections may take to be made before the run starts without the missing ones.
const CONNECT_NS_MAX: u64 = 5_000_000_000;
/// How long answers are waited for once the last request was sent.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Requests that are due within so short a time of each other go out together: waking up for each
/// would take more of the processor than sending it.
const GROUP_NS: u64 = 25_000;
const SCRATCH_BYTES: usize = 64 * 1024;
const NS_PER_S: u64 = 1_000_000_000;

/// How a worker and whoever started it talk before the load begins.
pub struct StartLine {
    /// How many connections stand, and why the last one that failed did.
    pub ready: mpsc::Sender<(usize, Option<String>)>,
    /// The start; closed without one when there is nothing to run on.
    pub start: mpsc::Receiver<Instant>,
}

pub struct Share {
    pub tally: Tally,
    /// (connection index, its ledger); empty when no ledgers were asked for.
    pub ledgers: Vec<(u64, Ledger)>,
    /// The part of the sending time in which the thread ran or waited for a core.
    pub busy_share: f64,
}

pub struct Worker<'a> {
    plan: &'a Plan,
    address: SocketAddr,
    progress: &'a Progress,
    poll: Poll,
    timer: WakeTimer,
    connections: Vec<Connection>,
    buffers: BufferPool<'a>,
    pace: Pace<'a>,
    cursor: Option<Cursor<'a>>,
    tally: Tally,
    publisher: Publisher,
    busy_share: f64,
    /// The run's zero; until it is known, when this worker was made.
    zero: Instant,
    /// Connections that are down, and when to try them again.
    down: Vec<(usize, u64)>,
}

impl<'a> Worker<'a> {
    /// Worker `thread` has every `plan.threads`th connection.
    pub fn new(
        plan: &'a Plan,
        address: SocketAddr,
        thread: u64,
        progress: &'a Progress,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let pipeline = plan.pipeline as usize;
        let indexes = (thread..plan.connections).step_by(plan.threads as usize);
        let connections: Vec<_> = indexes.map(|index| Connection::new(index, pipeline)).collect();
        Ok(Worker {
            timer: WakeTimer::new(poll.registry(), Token(connections.len()))?,
            poll,
            pace: Pace {
                mix: &plan.mix,
                pipeline,
                requests_per_connection: plan.requests_per_connection.unwrap_or(u64::MAX),
                schedule: plan.schedule(),
                stamp: Stamp::new(time::OffsetDateTime::now_utc(), 1),
                send_until_ns: 0,
                keep_ledger: plan.verify.is_some(),
            },
            buffers: BufferPool::new(&plan.mix, plan.pipeline),
            cursor: plan.schedule().map(Cursor::new),
            plan,
            address,
            progress,
            down: (0..connections.len()).map(|slot| (slot, 0)).collect(),
            connections,
            tally: Tally::new(Timeline::new(plan.duration, DRAIN_MAX)),
            publisher: Publisher::default(),
            busy_share: 0.0,
            zero: Instant::now(),
        })
    }

    /// None when the start never came.
    pub fn run(mut self, line: StartLine) -> io::Result<Option<Share>> {
        let mut events = Events::with_capacity(1_024);
        let mut scratch = vec![0; SCRATCH_BYTES];
        self.connect_all(&mut events, &mut scratch)?;
        let open = self.connections.iter().filter(|connection| connection.is_open()).count();
        let StartLine { ready, start } = line;
        // If nobody listens, the channel of the start is closed too.
        let _ = ready.send((open, self.tally.last_connection_error.clone()));
        // Whoever waits for all reports waits for all senders to be gone.
        drop(ready);
        let Ok(start) = start.recv() else { return Ok(None) };
        self.restart_clock(start);
        let before = ThreadLoad::now();
        self.send_until_end(&mut events, &mut scratch)?;
        self.busy_share = ThreadLoad::now().busy_share(before, self.zero.elapsed());
        self.drain(&mut events, &mut scratch)?;
        Ok(Some(self.finish()))
    }

    fn now_ns(&self) -> u64 {
        self.zero.elapsed().as_nanos() as u64
    }

    /// Tries every connection once.
    fn connect_all(&mut self, events: &mut Events, scratch: &mut [u8]) -> io::Result<()> {
        self.reconnect(0);
        let still_trying = |worker: &Self| {
            let open = worker.connections.iter().filter(|c| c.is_open()).count();
            open + worker.down.len() < worker.connections.len()
        };
        while still_trying(self) && self.now_ns() < CONNECT_NS_MAX {
            self.turn(events, scratch, CONNECT_NS_MAX)?;
        }
        Ok(())
    }

    fn restart_clock(&mut self, start: Instant) {
        self.zero = start;
        self.timer.fired();
        self.publisher = Publisher::default();
        for connection in &mut self.connections {
            connection.restart_clock();
        }
        for (_, retry_ns) in &mut self.down {
            *retry_ns = 0;
        }
    }

    fn send_until_end(&mut self, events: &mut Events, scratch: &mut [u8]) -> io::Result<()> {
        let end_ns = self.plan.duration_ns();
        let mut next_stamp_ns = 0;
        self.pace.send_until_ns = end_ns;
        for slot in 0..self.connections.len() {
            self.send(slot);
        }
        loop {
            let now_ns = self.now_ns();
            if now_ns >= end_ns {
                // What was due just before the end still goes out, then no more.
                for slot in 0..self.connections.len() {
                    self.send(slot);
                }
                self.pace.send_until_ns = 0;
                return Ok(());
            }
            if now_ns >= next_stamp_ns {
                let refresh = self.pace.stamp.refresh + 1;
                self.pace.stamp = Stamp::new(time::OffsetDateTime::now_utc(), refresh);
                next_stamp_ns += NS_PER_S;
            }
            self.reconnect(now_ns);
            let next_due_ns = self.send_due(now_ns);
            let retry_ns = self.down.iter().map(|&(_, retry_ns)| retry_ns).min();
            let wake_ns = end_ns.min(next_stamp_ns).min(next_due_ns);
            self.turn(events, scratch, wake_ns.min(retry_ns.unwrap_or(wake_ns)))?;
        }
    }

    /// Writes out what was begun and waits for the answers.
    fn drain(&mut self, events: &mut Events, scratch: &mut [u8]) -> io::Result<()> {
        let end_ns = (self.plan.duration + DRAIN_MAX).as_nanos() as u64;
        while self.connections.iter().any(|connection| connection.in_flight() > 0)
            && self.now_ns() < end_ns
        {
            self.turn(events, scratch, end_ns)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Share {
        let now_ns = self.now_ns();
        let sending_ns = self.plan.duration_ns();
        for connection in &mut self.connections {
            connection.close(&self.pace, &mut self.tally, sending_ns, now_ns);
        }
        let keep = self.pace.keep_ledger;
        let ledgers = self.connections.into_iter().filter(|_| keep);
        Share {
            tally: self.tally,
            ledgers: ledgers.map(|c| (c.index(), c.ledger)).collect(),
            busy_share: self.busy_share,
        }
    }

    /// One wait for events, at most until `wake_ns`, and all that follows from them.
    fn turn(&mut self, events: &mut Events, scratch: &mut [u8], wake_ns: u64) -> io::Result<()> {
        let now_ns = self.now_ns();
        self.publisher.publish(now_ns, &self.tally, self.progress);
        let timeout = if wake_ns <= now_ns {
            Some(Duration::ZERO)
        } else {
            self.timer.wake_between(wake_ns, wake_ns.max(now_ns + GROUP_NS), now_ns)?;
            None
        };
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &*events {
            let Token(slot) = event.token();
            if slot == self.connections.len() {
                self.timer.fired();
                continue;
            }
            if !self.finish_connect(slot) {
                continue;
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.receive(slot, scratch, event.is_read_closed() || event.is_error());
            }
            self.send(slot);
        }
        Ok(())
    }

    /// True when the connection stands.
    fn finish_connect(&mut self, slot: usize) -> bool {
        if self.connections[slot].is_open() {
            return true;
        }
        let now_ns = self.now_ns();
        let connection = &mut self.connections[slot];
        match connection.finish_connect(now_ns) {
            Ok(open) => {
                self.tally.connections_opened += u64::from(open);
                open
            }
            Err(error) => {
                self.connect_failed(slot, &error);
                false
            }
        }
    }

    fn connect_failed(&mut self, slot: usize, error: &io::Error) {
        self.tally.connect_errors += 1;
        self.tally.last_connection_error = Some(error.to_string());
        self.lose(slot);
    }

    fn receive(&mut self, slot: usize, scratch: &mut [u8], until_end: bool) {
        let zero = self.zero;
        let now_ns = || zero.elapsed().as_nanos() as u64;
        let connection = &mut self.connections[slot];
        let received = connection.receive(scratch, until_end, &self.pace, &mut self.tally, now_ns);
        if let Err(why) = received {
            self.broken(slot, why);
        }
    }

    fn send(&mut self, slot: usize) {
        let zero = self.zero;
        let now_ns = || zero.elapsed().as_nanos() as u64;
        let connection = &mut self.connections[slot];
        let sent = connection.send(&self.pace, &mut self.buffers, &mut self.tally, now_ns);
        if let Err(why) = sent {
            self.broken(slot, why);
        }
    }

    fn broken(&mut self, slot: usize, why: Lost) {
        if why == Lost::Retired {
            self.tally.connections_retired += 1;
        } else {
            self.tally.connections_lost += 1;
            self.tally.last_connection_error = Some(why.to_string());
        }
        self.lose(slot);
    }

    fn lose(&mut self, slot: usize) {
        let wait_ns = self.connections[slot].lose(&mut self.tally);
        let retry_ns = self.now_ns() + wait_ns;
        self.down.push((slot, retry_ns));
    }

    fn reconnect(&mut self, now_ns: u64) {
        if self.down.is_empty() {
            return;
        }
        let (due, later) = self.down.iter().partition(|&&(_, retry_ns)| retry_ns <= now_ns);
        let due: Vec<_> = due;
        self.down = later;
        for (slot, _) in due {
            let connection = &mut self.connections[slot];
            if let Err(error) = connection.connect(self.address, self.poll.registry(), Token(slot))
            {
                self.connect_failed(slot, &error);
            }
        }
    }

    /// Sends on every connection that has a request due; says when the next one is.
    fn send_due(&mut self, now_ns: u64) -> u64 {
        let Some(mut cursor) = self.cursor else { return u64::MAX };
        // One round is enough: a connection that is sent on sends all that it owes.
        for _ in 0..self.connections.len() {
            if cursor.due_ns(&self.connections) > now_ns {
                break;
            }
            let slot = cursor.slot;
            cursor.advance(self.connections.len());
            self.send(slot);
        }
        self.cursor = Some(cursor);
        cursor.due_ns(&self.connections)
    }
}

/// The next send of the schedule among a worker's connections; their due times come in turn.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    schedule: &'a Schedule,
    slot: usize,
    request: u64,
}

impl<'a> Cursor<'a> {
    fn new(schedule: &'a Schedule) -> Self {
        Cursor { schedule, slot: 0, request: 0 }
    }

    fn due_ns(&self, connections: &[Connection]) -> u64 {
        self.schedule.due_ns(connections[self.slot].index(), self.request)
    }

    fn advance(&mut self, connection_count: usize) {
        self.slot += 1;
        if self.slot == connection_count {
            self.slot = 0;
            self.request += 1;
        }
    }
}
