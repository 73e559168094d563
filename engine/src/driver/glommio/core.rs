//! What the tasks of one shard share: the shard, the table of sockets, the journal's writers. Knows
//! no tasks but by their wakers, and does not wait.

use std::io;
use std::os::fd::AsRawFd;
use std::task::{Context, Poll, Waker};

use super::super::clock::Clock;
use super::super::ending::Ending;
use super::super::system;
use super::super::writer::Writers;
use super::super::{Exit, Seat};
use super::Stream;
use super::socket::{RECEIVE_BYTES, Received, Sent, Socket};
use crate::connection::ConnectionId;
use crate::shard::{Action, Now, Shard};

/// Receives from one connection in one go, so that a fast one does not starve the rest.
const RECEIVES_IN_ROW: usize = 4;

pub struct Core {
    seat: Seat,
    clock: Clock,
    now: Now,
    /// The shard was told the time since the last turn.
    is_timed: bool,
    writers: Writers,
    ending: Ending,
    next_tick_us: u64,
    sockets: Vec<Option<Socket>>,
    receive: Vec<u8>,
    actions: Vec<Action>,
    /// The task that turns the shard.
    turner: Waker,
    /// It was woken since it last ran.
    is_turner_woken: bool,
    /// Tasks beside it.
    pub task_count: usize,
}

impl Core {
    pub fn new(seat: Seat, turner: Waker) -> io::Result<Core> {
        let writers = Writers::start(seat.writes_in_flight_max, &seat.control)?;
        let clock = Clock::new();
        let now = clock.now();
        Ok(Core {
            seat,
            clock,
            now,
            is_timed: false,
            writers,
            ending: Ending::default(),
            next_tick_us: 0,
            sockets: Vec::new(),
            receive: vec![0; RECEIVE_BYTES],
            actions: Vec::new(),
            turner,
            is_turner_woken: false,
            task_count: 0,
        })
    }

    pub fn turn(&mut self) {
        self.seat.control.bell.answer();
        self.is_turner_woken = false;
        self.is_timed = false;
        self.tell_time();
        self.finish_writes();
        self.seat.shard.turn();
        if self.now.monotonic_us >= self.next_tick_us {
            self.next_tick_us = self.now.monotonic_us + Shard::tick_interval_us();
            self.seat.shard.tick();
        }
        if self.seat.control.is_stopping() {
            self.begin_stop();
        }
        self.submit_writes();
        self.perform_actions();
        // An answer that left may have let in what waited behind it.
        self.submit_writes();
        self.is_timed = false;
    }

    /// Once for all that happens between two turns.
    fn tell_time(&mut self) {
        if !std::mem::replace(&mut self.is_timed, true) {
            self.now = self.clock.now();
            self.seat.shard.set_now(self.now);
        }
    }

    /// What time it is, and when the next turn is due though nothing happens.
    pub fn next_turn_us(&self) -> (u64, u64) {
        (self.clock.now().monotonic_us, self.seat.next_turn_us(self.next_tick_us))
    }

    pub fn has_work(&self) -> bool {
        self.seat.shard.has_work()
    }

    pub fn is_stopping(&self) -> bool {
        self.ending.has_begun()
    }

    pub fn exit(&self) -> Option<Exit> {
        self.ending.exit(self.seat.shard.is_drained())
    }

    fn submit_writes(&mut self) {
        while let Some(write) = self.seat.shard.next_write() {
            self.writers.submit(write);
        }
    }

    fn finish_writes(&mut self) {
        while let Some((write, result)) = self.writers.next_done() {
            if let Err(failed) = self.seat.shard.on_write_done(write, result) {
                self.ending.fail(&failed, &mut self.seat.on_journal_failed);
                self.begin_stop();
            }
        }
    }

    fn begin_stop(&mut self) {
        if self.ending.begin(self.seat.drain_deadline) {
            if let Some(listener) = self.seat.listener.take() {
                // Ends the accept under way, too, and with it the task that holds the other descriptor.
                system::shut_down_read(listener.as_raw_fd());
            }
            self.seat.shard.begin_drain();
        }
    }

    /// A new connection, if there is room; its task is the caller's to start.
    pub fn admit(&mut self, stream: Stream) -> Option<ConnectionId> {
        self.tell_time();
        let Some(id) = self.seat.shard.on_accept() else {
            // Its poll is armed already, and would keep it open for another way around.
            system::shut_down_both(stream.as_raw_fd());
            return None;
        };
        let index = id.index as usize;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        self.sockets[index] = Some(Socket::new(stream, id.generation));
        self.task_count += 1;
        Some(id)
    }

    pub fn end_task(&mut self) {
        self.task_count -= 1;
        if self.task_count == 0 {
            self.turner.wake_by_ref();
        }
    }

    /// Whatever the connection's socket is ready for; ready when the connection is closed.
    pub fn poll_socket(&mut self, id: ConnectionId, context: &mut Context<'_>) -> Poll<()> {
        let Some(socket) = find(&mut self.sockets, id) else { return Poll::Ready(()) };
        socket.serve_with(context.waker());
        let is_sending = socket.is_sending();
        self.tell_time();
        if is_sending {
            self.send(id);
        }
        self.receive(id, context);
        if !std::mem::replace(&mut self.is_turner_woken, true) {
            self.turner.wake_by_ref();
        }
        Poll::Pending
    }

    fn receive(&mut self, id: ConnectionId, context: &mut Context<'_>) {
        for _ in 0..RECEIVES_IN_ROW {
            let Some(socket) = find(&mut self.sockets, id) else { return };
            match socket.receive(&mut self.receive, context) {
                Received::Nothing => return,
                Received::Bytes(count) => {
                    self.seat.shard.on_bytes(id, &self.receive[..count]);
                    socket.is_wanted = self.seat.shard.is_reading(id) == Some(true);
                }
                Received::End => return self.seat.shard.on_input_end(id),
                Received::Lost => return self.seat.shard.on_lost(id),
            }
        }
        context.waker().wake_by_ref();
    }

    fn send(&mut self, id: ConnectionId) {
        loop {
            let Some(socket) = find(&mut self.sockets, id) else { return };
            if !socket.is_sending() {
                let Some(buffer) = self.seat.shard.take_output(id) else { return };
                socket.begin_send(buffer);
            }
            match socket.send() {
                Sent::All(buffer) => self.seat.shard.on_sent(id, buffer),
                Sent::Some => return self.seat.shard.on_send_progress(id),
                Sent::Nothing => return,
                Sent::Lost => return self.seat.shard.on_lost(id),
            }
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
                self.perform(action);
            }
        }
        self.actions = actions;
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Send(id) => self.send(id),
            Action::Read(id, is_wanted) => {
                if let Some(socket) = find(&mut self.sockets, id) {
                    socket.want(is_wanted);
                }
            }
            Action::HalfClose(id) => {
                if let Some(socket) = find(&mut self.sockets, id) {
                    system::shut_down_write(socket.as_raw_fd());
                }
            }
            Action::Close(id) => {
                if find(&mut self.sockets, id).is_some() {
                    drop(self.sockets[id.index as usize].take());
                }
            }
        }
    }

    pub fn close_all(&mut self) {
        self.sockets.clear();
    }
}

/// Not a method, so that the shard can be used beside the socket.
fn find(sockets: &mut [Option<Socket>], id: ConnectionId) -> Option<&mut Socket> {
    let socket = sockets.get_mut(id.index as usize)?.as_mut()?;
    (socket.generation == id.generation).then_some(socket)
}
