//! One connection: sends requests as its pipeline and schedule allow, matches answers to them in
//! order, and says when it is lost. Does not poll and does not decide when to reconnect.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use thiserror::Error;

use crate::ledger::Ledger;
use crate::mix::Mix;
use crate::response::{ResponseError, ResponseReader};
use crate::schedule::Schedule;
use crate::send_buffer::{BufferPool, SendBuffer};
use crate::tally::{Asked, Tally};
use crate::template::Stamp;

const RETRY_NS_MIN: u64 = 10_000_000;
const RETRY_NS_MAX: u64 = 1_000_000_000;

/// What connections of one worker share; borrowed for each call.
pub struct Pace<'a> {
    pub mix: &'a Mix,
    pub pipeline: usize,
    /// A connection that was asked so many is closed and made again.
    pub requests_per_connection: u64,
    pub schedule: Option<&'a Schedule>,
    pub stamp: Stamp,
    /// Requests meant to be sent from this moment on are not begun.
    pub send_until_ns: u64,
    /// With a ledger, every acknowledged request can be told afterwards.
    pub keep_ledger: bool,
}

/// Why a connection broke; the caller calls [`Connection::lose`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Lost {
    #[error("the server closed the connection")]
    Closed,
    #[error("the server announced that it closes the connection")]
    Announced,
    #[error("it was asked all that one connection is to be asked")]
    Retired,
    #[error("the server answered what was not asked")]
    Unasked,
    #[error("unreadable answer: {0}")]
    Response(#[from] ResponseError),
    #[error("{0}")]
    Io(io::ErrorKind),
}

enum Link {
    Down,
    Connecting(TcpStream),
    Open(TcpStream),
}

pub struct Connection {
    /// Among all connections of the run.
    index: u64,
    link: Link,
    failures_in_row: u32,
    /// Held while something in it is unwritten.
    buffer: Option<SendBuffer>,
    reader: ResponseReader,
    in_flight: VecDeque<Asked>,
    /// Requests in flight of which no byte has been written yet: the last ones of `in_flight`.
    unbegun: usize,
    /// Since when a request that is due could have been begun: the connection stood and had room.
    free_since_ns: u64,
    /// Requests begun since this connection was made.
    begun_here: u64,
    pub ledger: Ledger,
}

impl Connection {
    pub fn new(index: u64, pipeline: usize) -> Self {
        Connection {
            index,
            link: Link::Down,
            failures_in_row: 0,
            buffer: None,
            reader: ResponseReader::default(),
            in_flight: VecDeque::with_capacity(pipeline),
            unbegun: 0,
            free_since_ns: 0,
            begun_here: 0,
            ledger: Ledger::default(),
        }
    }

    pub fn index(&self) -> u64 {
        self.index
    }

    pub fn is_open(&self) -> bool {
        matches!(self.link, Link::Open(_))
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub fn connect(
        &mut self,
        address: SocketAddr,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        // Without it a request's last segment may wait for the answer to an earlier one.
        stream.set_nodelay(true)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.link = Link::Connecting(stream);
        self.begun_here = 0;
        Ok(())
    }

    /// Looks whether a connection that was being made is there. False: not yet.
    pub fn finish_connect(&mut self, now_ns: u64) -> io::Result<bool> {
        let Link::Connecting(stream) = &self.link else { return Ok(self.is_open()) };
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(false),
            Err(error) => return Err(error),
        }
        if let Link::Connecting(stream) = std::mem::replace(&mut self.link, Link::Down) {
            self.link = Link::Open(stream);
        }
        self.free_since_ns = now_ns;
        Ok(true)
    }

    /// The clock begins again at 0; nothing was sent yet.
    pub fn restart_clock(&mut self) {
        self.free_since_ns = 0;
    }

    /// Drops the connection with all that is in flight. Says after how long to connect again:
    /// at once after one that had worked, later and later while none does.
    pub fn lose(&mut self, tally: &mut Tally) -> u64 {
        self.link = Link::Down;
        // What was never begun was never sent: those requests keep their numbers and are sent next.
        tally.lost += (self.in_flight.len() - self.unbegun) as u64;
        self.ledger.request_count -= self.unbegun as u64;
        self.in_flight.clear();
        self.unbegun = 0;
        self.buffer = None;
        self.reader = ResponseReader::default();
        let failures = self.failures_in_row;
        self.failures_in_row = failures.saturating_add(1);
        match failures {
            0 => 0,
            _ => (RETRY_NS_MIN << (failures - 1).min(20)).min(RETRY_NS_MAX),
        }
    }

    /// Reads what has come. `until_end`: the peer has closed, so read up to that.
    pub fn receive(
        &mut self,
        scratch: &mut [u8],
        until_end: bool,
        pace: &Pace<'_>,
        tally: &mut Tally,
        now_ns: impl Fn() -> u64,
    ) -> Result<(), Lost> {
        let Link::Open(stream) = &mut self.link else { return Ok(()) };
        loop {
            let count = match stream.read(scratch) {
                Ok(0) => return Err(Lost::Closed),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Lost::Io(error.kind())),
            };
            let now_ns = now_ns();
            if self.in_flight.len() == pace.pipeline {
                self.free_since_ns = now_ns;
            }
            let (in_flight, unbegun) = (&mut self.in_flight, self.unbegun);
            let (ledger, mut lost) = (&mut self.ledger, None);
            let fed = self.reader.feed(&scratch[..count], |head| {
                // An answer to nothing that was sent (a time-out's 408, say) belongs to no request.
                if lost.is_some() || in_flight.len() == unbegun {
                    lost = lost.or(Some(Lost::Unasked));
                    return;
                }
                let request = ledger.request_count - in_flight.len() as u64;
                let asked = in_flight.pop_front().expect("more are in flight than are unbegun");
                tally.answered(head.status, now_ns, asked);
                if head.status == 200 && pace.keep_ledger {
                    ledger.acknowledge(request);
                }
                self.failures_in_row = 0;
                lost = head.closes.then_some(Lost::Announced);
            });
            if let Some(lost) = lost {
                return Err(lost);
            }
            fed?;
            if self.begun_here >= pace.requests_per_connection && self.in_flight.is_empty() {
                return Err(Lost::Retired);
            }
            // A short read means that the socket is empty, unless its end is still to be read.
            if count < scratch.len() && !until_end {
                return Ok(());
            }
        }
    }

    /// Begins as many requests as may be begun now and writes what the socket takes.
    pub fn send(
        &mut self,
        pace: &Pace<'_>,
        buffers: &mut BufferPool<'_>,
        tally: &mut Tally,
        now_ns: impl Fn() -> u64,
    ) -> Result<(), Lost> {
        if !self.is_open() || (self.buffer.is_none() && !self.may_begin(pace)) {
            return Ok(());
        }
        let mut buffer = match self.buffer.take() {
            Some(buffer) => {
                // The socket was full: nothing could be begun before now.
                self.free_since_ns = now_ns();
                buffer
            }
            None => buffers.take(),
        };
        let written = self.write_requests(&mut buffer, pace, tally, now_ns);
        if written.is_err() || buffer.unwritten().is_empty() {
            buffers.put_back(buffer);
        } else {
            self.buffer = Some(buffer);
        }
        written
    }

    fn may_begin(&self, pace: &Pace<'_>) -> bool {
        pace.send_until_ns > 0
            && self.in_flight.len() < pace.pipeline
            && self.begun_here < pace.requests_per_connection
    }

    fn write_requests(
        &mut self,
        buffer: &mut SendBuffer,
        pace: &Pace<'_>,
        tally: &mut Tally,
        now_ns: impl Fn() -> u64,
    ) -> Result<(), Lost> {
        loop {
            self.begin_requests(buffer, pace, tally, &now_ns);
            let unwritten = buffer.unwritten();
            let Link::Open(stream) = &mut self.link else { return Ok(()) };
            if unwritten.is_empty() {
                return Ok(());
            }
            let sent_ns = now_ns();
            match stream.write(unwritten) {
                Ok(count) => {
                    tally.sent_bytes += count as u64;
                    let begun = buffer.advance(count);
                    let first = self.in_flight.len() - self.unbegun;
                    for request in self.in_flight.range_mut(first..first + begun) {
                        request.sent_ns = sent_ns;
                    }
                    self.unbegun -= begun;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Lost::Io(error.kind())),
            }
        }
    }

    fn begin_requests(
        &mut self,
        buffer: &mut SendBuffer,
        pace: &Pace<'_>,
        tally: &mut Tally,
        now_ns: impl Fn() -> u64,
    ) {
        if !self.may_begin(pace) || !buffer.has_room() {
            return;
        }
        let now_ns = now_ns();
        while self.may_begin(pace) && buffer.has_room() {
            let request = self.ledger.request_count;
            // Without a schedule a request is meant to be sent the moment there is room for it.
            let mut intended_ns = now_ns;
            if let Some(schedule) = pace.schedule {
                intended_ns = schedule.due_ns(self.index, request);
                if intended_ns > now_ns || intended_ns >= pace.send_until_ns {
                    return;
                }
                let late_ns = now_ns - intended_ns.max(self.free_since_ns).min(now_ns);
                tally.lateness_ns.saturating_record(late_ns);
            } else if now_ns >= pace.send_until_ns {
                return;
            }
            let choice = pace.mix.choose(self.index, request);
            buffer.fill(pace.mix, choice, self.index, request, &pace.stamp);
            let made = pace.mix.get(choice);
            self.in_flight.push_back(Asked {
                intended_ns,
                sent_ns: now_ns,
                events: made.template.event_count() as u32,
                expected_status: made.expected_status,
            });
            self.begun_here += 1;
            self.unbegun += 1;
            self.ledger.request_count += 1;
        }
    }

    /// Counts what is still open when the run ends at `now_ns`; `sending_ns` is how long requests
    /// were to be sent.
    pub fn close(&mut self, pace: &Pace<'_>, tally: &mut Tally, sending_ns: u64, now_ns: u64) {
        self.lose(tally);
        let Some(schedule) = pace.schedule else { return };
        let due = schedule.due_before(self.index, sending_ns);
        let begun = self.ledger.request_count;
        if begun < due {
            let due_ns = |number| schedule.due_ns(self.index, begun + number);
            tally.record_unsent(due - begun, now_ns, due_ns);
        }
    }
}
