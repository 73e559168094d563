//! The driver for kernels and containers where io_uring is not to be had: level-triggered epoll,
//! one receive buffer per shard, journal writes on threads of their own.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::clock::{Clock, Spin};
use super::ending::Ending;
use super::system::{self, HANGUP, Poller, READABLE, WRITABLE};
use super::writer::Writers;
use super::{Exit, Seat};
use crate::connection::ConnectionId;
use crate::shard::{Action, Shard};

const EVENTS_MAX: usize = 1024;
const RECEIVE_BYTES: usize = 256 * 1024;

/// Receives from one connection in one turn, so that a fast one does not starve the rest.
const RECEIVES_PER_TURN: usize = 4;
const ACCEPTS_PER_TURN: usize = 64;

const TOKEN_LISTENER: u64 = u64::MAX;
const TOKEN_WAKE: u64 = u64::MAX - 1;

pub struct Epoll {
    seat: Seat,
    poller: Poller,
    clock: Clock,
    writers: Writers,
    /// Out of descriptors: no accept before the next tick.
    accept_paused: bool,
    ending: Ending,
    sockets: Vec<Option<Socket>>,
    receive: Vec<u8>,
    actions: Vec<Action>,
}

struct Socket {
    fd: OwnedFd,
    generation: u32,
    interest: u32,
    /// Output under way and how much of it has left.
    sending: Option<(Vec<u8>, usize)>,
}

impl Epoll {
    pub fn new(seat: Seat) -> io::Result<Epoll> {
        let poller = Poller::new()?;
        if let Some(listener) = &seat.listener {
            poller.add(listener.as_raw_fd(), TOKEN_LISTENER, READABLE)?;
        }
        poller.add(seat.control.wake.raw(), TOKEN_WAKE, READABLE)?;
        let writers = Writers::start(seat.writes_in_flight_max, &seat.control)?;
        Ok(Epoll {
            seat,
            poller,
            clock: Clock::new(),
            writers,
            accept_paused: false,
            ending: Ending::default(),
            sockets: Vec::new(),
            receive: vec![0; RECEIVE_BYTES],
            actions: Vec::new(),
        })
    }

    pub fn run(mut self) -> io::Result<Exit> {
        let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        let mut next_tick_us = 0u64;
        let mut spin = Spin::new(self.seat.spin_us);
        loop {
            let wait_us = spin.wait_us(self.seat.wait_us(next_tick_us, &self.clock));
            let timeout_ms = wait_us.div_ceil(1_000) as i32;
            let count = self.poller.wait(&mut events, timeout_ms)?;
            let now = self.clock.now();
            spin.on_turn(count > 0, now.monotonic_us);
            self.shard().set_now(now);
            for event in &events[..count] {
                self.on_event(event.u64, event.events);
            }
            self.finish_writes();
            self.shard().turn();
            if now.monotonic_us >= next_tick_us {
                next_tick_us = now.monotonic_us + Shard::tick_interval_us();
                self.shard().tick();
                self.resume_accepting();
            }
            if self.seat.control.is_stopping() {
                self.begin_stop();
            }
            while let Some(write) = self.shard().next_write() {
                self.writers.submit(write);
            }
            self.perform_actions();
            if let Some(exit) = self.ending.exit(self.seat.shard.is_drained()) {
                return Ok(exit);
            }
        }
    }

    /// Journal writes that ended. A failed one is the end of this shard: its listener closes at
    /// once, its clients are told, then the thread ends.
    fn finish_writes(&mut self) {
        while let Some((write, result)) = self.writers.next_done() {
            if let Err(failed) = self.shard().on_write_done(write, result) {
                self.ending.fail(&failed, &mut self.seat.on_journal_failed);
                self.begin_stop();
            }
        }
    }

    /// Closes the listener; a connection that the kernel had queued there is reset, and its client
    /// finds another shard or another engine.
    fn begin_stop(&mut self) {
        if !self.ending.begin(self.seat.drain_deadline) {
            return;
        }
        if let Some(listener) = self.seat.listener.take() {
            let _ = self.poller.remove(listener.as_raw_fd());
        }
        self.shard().begin_drain();
    }

    fn shard(&mut self) -> &mut Shard {
        &mut self.seat.shard
    }

    fn on_event(&mut self, token: u64, ready: u32) {
        match token {
            TOKEN_LISTENER => self.accept(),
            TOKEN_WAKE => self.seat.control.wake.clear(),
            _ => {
                let id = connection_id(token);
                if ready & (READABLE | HANGUP) != 0 {
                    self.receive(id);
                }
                if ready & WRITABLE != 0 {
                    self.send(id);
                }
            }
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = &self.seat.listener else { return };
            let fd = match system::accept(listener.as_raw_fd()) {
                Ok(fd) => fd,
                Err(error) if is_out_of_descriptors(&error) => return self.pause_accepting(),
                Err(_) => return,
            };
            let Some(id) = self.seat.shard.on_accept() else { continue };
            if self.poller.add(fd.as_raw_fd(), token(id), READABLE).is_err() {
                self.seat.shard.on_lost(id);
                continue;
            }
            let index = id.index as usize;
            if self.sockets.len() <= index {
                self.sockets.resize_with(index + 1, || None);
            }
            let generation = id.generation;
            self.sockets[index] =
                Some(Socket { fd, generation, interest: READABLE, sending: None });
        }
    }

    /// The listener stays readable while there is no descriptor for its next connection: waiting on
    /// it would spin.
    fn pause_accepting(&mut self) {
        if let Some(listener) = &self.seat.listener {
            self.accept_paused = self.poller.remove(listener.as_raw_fd()).is_ok();
        }
    }

    fn resume_accepting(&mut self) {
        if let Some(listener) = &self.seat.listener
            && self.accept_paused
        {
            self.accept_paused =
                self.poller.add(listener.as_raw_fd(), TOKEN_LISTENER, READABLE).is_err();
        }
    }

    fn socket(&mut self, id: ConnectionId) -> Option<&mut Socket> {
        let socket = self.sockets.get_mut(id.index as usize)?.as_mut()?;
        (socket.generation == id.generation).then_some(socket)
    }

    fn raw(&mut self, id: ConnectionId) -> Option<RawFd> {
        self.socket(id).map(|socket| socket.fd.as_raw_fd())
    }

    fn receive(&mut self, id: ConnectionId) {
        for _ in 0..RECEIVES_PER_TURN {
            let Some(socket) = self.socket(id) else { return };
            if socket.interest & READABLE == 0 {
                // A hang-up is told even to those who do not listen.
                self.seat.shard.on_lost(id);
                return;
            }
            let fd = socket.fd.as_raw_fd();
            match system::receive(fd, &mut self.receive) {
                Ok(0) => {
                    self.set_interest(id, |interest| interest & !READABLE);
                    self.seat.shard.on_input_end(id);
                    return;
                }
                Ok(count) => {
                    self.seat.shard.on_bytes(id, &self.receive[..count]);
                    if count < RECEIVE_BYTES {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.seat.shard.on_lost(id);
                    return;
                }
            }
            if self.seat.shard.is_reading(id) != Some(true) {
                return;
            }
        }
    }

    fn set_interest(&mut self, id: ConnectionId, change: impl FnOnce(u32) -> u32) {
        let Some(socket) = self.socket(id) else { return };
        let interest = change(socket.interest);
        if interest != socket.interest {
            socket.interest = interest;
            let fd = socket.fd.as_raw_fd();
            if self.poller.change(fd, token(id), interest).is_err() {
                self.seat.shard.on_lost(id);
            }
        }
    }

    fn send(&mut self, id: ConnectionId) {
        loop {
            let Some(socket) = self.socket(id) else { return };
            let (buffer, mut sent) = match socket.sending.take() {
                Some(under_way) => under_way,
                None => match self.seat.shard.take_output(id) {
                    Some(buffer) => (buffer, 0),
                    None => return self.set_interest(id, |interest| interest & !WRITABLE),
                },
            };
            let Some(fd) = self.raw(id) else { return };
            while sent < buffer.len() {
                match system::send(fd, &buffer[sent..]) {
                    Ok(count) => sent += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if sent > 0 {
                            self.seat.shard.on_send_progress(id);
                        }
                        if let Some(socket) = self.socket(id) {
                            socket.sending = Some((buffer, sent));
                        }
                        return self.set_interest(id, |interest| interest | WRITABLE);
                    }
                    Err(_) => return self.seat.shard.on_lost(id),
                }
            }
            self.seat.shard.on_sent(id, buffer);
        }
    }

    fn perform_actions(&mut self) {
        let mut actions = std::mem::take(&mut self.actions);
        loop {
            self.seat.shard.take_actions(&mut actions);
            if actions.is_empty() {
                break;
            }
            for action in actions.drain(..) {
                match action {
                    Action::Send(id) => self.send(id),
                    Action::Read(id, true) => self.set_interest(id, |interest| interest | READABLE),
                    Action::Read(id, false) => {
                        self.set_interest(id, |interest| interest & !READABLE);
                    }
                    Action::HalfClose(id) => {
                        if let Some(fd) = self.raw(id) {
                            system::shut_down_write(fd);
                        }
                    }
                    Action::Close(id) => {
                        if self.socket(id).is_some() {
                            self.sockets[id.index as usize] = None;
                        }
                    }
                }
            }
        }
        self.actions = actions;
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

fn token(id: ConnectionId) -> u64 {
    u64::from(id.generation) << 32 | u64::from(id.index)
}

fn connection_id(token: u64) -> ConnectionId {
    ConnectionId { index: token as u32, generation: (token >> 32) as u32 }
}
