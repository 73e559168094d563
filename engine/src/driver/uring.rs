//! The default driver on Linux 6.1 and later: one ring per shard carries accepts, receives, sends
//! and the journal's writes. Accept and receive are multishot, receives take their buffers from a
//! ring that the kernel picks from, and one system call per turn submits everything and waits.
//!
//! Memory that the kernel may touch — send buffers, journal buffers, their vectors, the receive
//! buffers — is owned by this driver until the completion that ends its use, and leaked rather than
//! freed if the ring must go before that.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Instant;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::buffer_ring::{BufferRing, GROUP};
use super::clock::{Clock, Spin};
use super::registered::RegisteredFiles;
use super::{Exit, Seat, system};
use crate::connection::ConnectionId;
use crate::journal::{WRITE_BLOCKS_MAX, Write};
use crate::shard::{Action, Shard};

const SUBMISSIONS: u32 = 1024;
const COMPLETIONS: u32 = 8192;

/// So many completions end the gathering early.
const GATHERED_MAX: usize = 64;

/// What a completion is for, in the top bits of its user data; the rest says whose.
const KIND_SHIFT: u32 = 60;
const KIND_ACCEPT: u64 = 1;
const KIND_WAKE: u64 = 2;
const KIND_RECEIVE: u64 = 3;
const KIND_SEND: u64 = 4;
const KIND_WRITE: u64 = 5;
const KIND_CANCEL: u64 = 6;
const KIND_FILES: u64 = 7;
const GENERATION_MASK: u32 = 0x0fff_ffff;

pub struct Uring {
    seat: Seat,
    ring: IoUring,
    buffers: BufferRing,
    files: RegisteredFiles,
    clock: Clock,
    /// [`Seat::gather_us`] where the kernel can (Linux 6.12), else 0.
    gather_us: u32,
    stop_at: Option<Instant>,
    failed: bool,
    accepting: bool,
    sockets: Vec<Option<Socket>>,
    /// Shut down, and kept open until all submissions that name them are in the kernel's hands: another
    /// thread could get the number, and what was meant for a client would reach a stranger.
    closed: Vec<OwnedFd>,
    /// Receives that ended for want of buffers or otherwise and are to be armed again.
    to_arm: Vec<ConnectionId>,
    sends: Vec<Option<Send>>,
    free_sends: Vec<u32>,
    writes: Vec<WriteSlot>,
    actions: Vec<Action>,
}

struct Socket {
    fd: OwnedFd,
    generation: u32,
    /// A receive is armed in the kernel.
    receiving: bool,
    /// A cancel of that receive is on its way.
    cancelling: bool,
    wanted: bool,
}

struct Send {
    id: ConnectionId,
    buffer: Vec<u8>,
    sent: usize,
}

/// Room for a journal write in the kernel's hands.
struct WriteSlot {
    write: Option<Write>,
    /// Points into `write`'s buffers; boxed, so that it stays where the kernel was told it is.
    slices: Box<[libc::iovec; WRITE_BLOCKS_MAX]>,
}

impl WriteSlot {
    fn new() -> WriteSlot {
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        WriteSlot { write: None, slices: Box::new([empty; WRITE_BLOCKS_MAX]) }
    }
}

impl Uring {
    /// Fails where the kernel is too old or io_uring is forbidden, giving the seat back.
    pub fn new(seat: Seat) -> Result<Uring, (io::Error, Box<Seat>)> {
        match Uring::set_up() {
            Ok((ring, buffers)) => {
                let files = RegisteredFiles::register(&ring, seat.shard.connections_max());
                let writes = (0..seat.writes_in_flight_max).map(|_| WriteSlot::new()).collect();
                let can_gather = ring.params().is_feature_min_timeout();
                let gather_us = if can_gather { seat.gather_us } else { 0 };
                Ok(Uring {
                    seat,
                    ring,
                    buffers,
                    files,
                    clock: Clock::new(),
                    gather_us,
                    stop_at: None,
                    failed: false,
                    accepting: false,
                    sockets: Vec::new(),
                    closed: Vec::new(),
                    to_arm: Vec::new(),
                    sends: Vec::new(),
                    free_sends: Vec::new(),
                    writes,
                    actions: Vec::new(),
                })
            }
            Err(error) => Err((error, Box::new(seat))),
        }
    }

    fn set_up() -> io::Result<(IoUring, BufferRing)> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(COMPLETIONS)
            .setup_clamp()
            .build(SUBMISSIONS)?;
        let buffers = BufferRing::register(&ring)?;
        Ok((ring, buffers))
    }

    pub fn run(mut self) -> io::Result<Exit> {
        let outcome = self.run_loop();
        self.tear_down();
        outcome
    }

    fn run_loop(&mut self) -> io::Result<Exit> {
        let mut completed: Vec<(u64, i32, u32)> = Vec::with_capacity(COMPLETIONS as usize);
        let mut next_tick_us = 0u64;
        let mut spin = Spin::new(self.seat.spin_us);
        self.arm_wake();
        self.arm_accept();
        loop {
            let wait_us = spin.wait_us(self.seat.wait_us(next_tick_us, &self.clock));
            self.submit_and_wait(wait_us)?;
            let now = self.clock.now();
            self.shard().set_now(now);
            completed.clear();
            let done = self.ring.completion();
            completed.extend(done.map(|entry| (entry.user_data(), entry.result(), entry.flags())));
            spin.on_turn(!completed.is_empty(), now.monotonic_us);
            for &(user_data, result, flags) in &completed {
                self.on_completion(user_data, result, flags);
            }
            self.shard().turn();
            if now.monotonic_us >= next_tick_us {
                next_tick_us = now.monotonic_us + Shard::tick_interval_us();
                self.shard().tick();
                self.arm_accept();
            }
            if self.seat.control.is_stopping() {
                self.begin_stop();
            }
            while let Some(write) = self.shard().next_write() {
                self.submit_write(write);
            }
            self.perform_actions();
            self.arm_again();
            if let Some(exit) = self.exit() {
                return Ok(exit);
            }
        }
    }

    fn shard(&mut self) -> &mut Shard {
        &mut self.seat.shard
    }

    /// Waits for a completion, and from then on for more, but not longer in all than `gather_us`: a
    /// turn that has several costs one system call and one journal write for all of them.
    fn submit_and_wait(&mut self, wait_us: u64) -> io::Result<()> {
        let timeout =
            Timespec::new().sec(wait_us / 1_000_000).nsec((wait_us % 1_000_000 * 1_000) as u32);
        let gather_us = wait_us.min(u64::from(self.gather_us)) as u32;
        let want = match (wait_us, gather_us) {
            (0, _) => 0,
            (_, 0) => 1,
            _ => GATHERED_MAX,
        };
        let arguments = SubmitArgs::new().timespec(&timeout).min_wait_usec(gather_us);
        let submitted = self.ring.submitter().submit_with_args(want, &arguments);
        if self.ring.submission().is_empty() {
            self.closed.clear();
        }
        match submitted {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Time is up; a signal; or the completion queue must be read first.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Queues one submission; a full queue is submitted first.
    fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: whoever builds an entry keeps what it points to alive until its completion:
            // sends and writes own their memory in slots of this driver, receives use the buffer
            // ring, updates of registered files that table's, the rest points to nothing.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            // An error here is the same as the next wait's, which reports it.
            let _ = self.ring.submit();
        }
    }

    /// Of the registered files, for a socket that has a place there.
    fn push_update(&mut self, update: Option<squeue::Entry>) {
        if let Some(entry) = update {
            self.push(entry.user_data(KIND_FILES << KIND_SHIFT));
        }
    }

    fn on_completion(&mut self, user_data: u64, result: i32, flags: u32) {
        match user_data >> KIND_SHIFT {
            KIND_ACCEPT => self.on_accept(result, flags),
            // Each signal completes the poll again, so the count need not be read in between.
            KIND_WAKE if !cqueue::more(flags) => {
                self.seat.control.wake.clear();
                self.arm_wake();
            }
            KIND_RECEIVE => self.on_receive(connection_id(user_data), result, flags),
            KIND_SEND => self.on_send(user_data as u32, result),
            KIND_WRITE => self.on_write(user_data as u32, result),
            _ => {}
        }
    }

    fn arm_wake(&mut self) {
        let fd = Fd(self.seat.control.wake.raw());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build();
        self.push(entry.user_data(KIND_WAKE << KIND_SHIFT));
    }

    fn arm_accept(&mut self) {
        if self.accepting {
            return;
        }
        if let Some(listener) = &self.seat.listener {
            let fd = Fd(listener.as_raw_fd());
            let entry = opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build();
            self.accepting = true;
            self.push(entry.user_data(KIND_ACCEPT << KIND_SHIFT));
        }
    }

    /// An accept that failed, for want of descriptors or otherwise, is armed again on the next tick.
    fn on_accept(&mut self, result: i32, flags: u32) {
        self.accepting = cqueue::more(flags);
        if result < 0 {
            return;
        }
        // SAFETY: a completed accept gives a new descriptor that nobody else has.
        let fd = unsafe { OwnedFd::from_raw_fd(result) };
        if self.stop_at.is_some() {
            return;
        }
        let Some(id) = self.shard().on_accept() else { return };
        let index = id.index as usize;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        let replaced = self.sockets[index].replace(Socket {
            fd,
            generation: id.generation,
            receiving: false,
            cancelling: false,
            wanted: true,
        });
        if let Some(socket) = replaced {
            self.close(socket);
        }
        let update = self.files.fill(index, result);
        self.push_update(update);
        self.arm_receive(id);
    }

    fn socket(&mut self, id: ConnectionId) -> Option<&mut Socket> {
        let socket = self.sockets.get_mut(id.index as usize)?.as_mut()?;
        (socket.generation & GENERATION_MASK == id.generation & GENERATION_MASK).then_some(socket)
    }

    /// Completions carry only part of the generation; the socket has all of it.
    fn whole_id(&mut self, id: ConnectionId) -> Option<ConnectionId> {
        let generation = self.socket(id)?.generation;
        Some(ConnectionId { index: id.index, generation })
    }

    fn arm_receive(&mut self, id: ConnectionId) {
        let Some(socket) = self.socket(id) else { return };
        if socket.receiving || !socket.wanted {
            return;
        }
        socket.receiving = true;
        let fd = socket.fd.as_raw_fd();
        let target = self.files.target(id.index as usize, fd);
        let entry = opcode::RecvMulti::new(target.fd, GROUP).build().flags(target.flags);
        self.push(entry.user_data(user_data(KIND_RECEIVE, id)));
    }

    fn arm_again(&mut self) {
        let mut to_arm = std::mem::take(&mut self.to_arm);
        for id in to_arm.drain(..) {
            self.arm_receive(id);
        }
        self.to_arm = to_arm;
    }

    fn on_receive(&mut self, id: ConnectionId, result: i32, flags: u32) {
        let received = self.buffers.received(result, flags);
        let id = self.whole_id(id);
        if let (Some(id), Some(received)) = (id, &received) {
            self.seat.shard.on_bytes(id, self.buffers.bytes(received));
        }
        if let Some(received) = received {
            self.buffers.give_back(received);
        }
        let Some(id) = id else { return };
        let more = cqueue::more(flags);
        let Some(socket) = self.socket(id) else { return };
        socket.receiving = more;
        if !more {
            socket.cancelling = false;
        }
        match result {
            0 => {
                socket.wanted = false;
                self.shard().on_input_end(id);
            }
            count if count > 0 => self.after_bytes(id),
            _ if matches!(
                -result,
                libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN
            ) =>
            {
                if !more {
                    self.to_arm.push(id);
                }
            }
            _ => self.shard().on_lost(id),
        }
    }

    /// A connection that is not to be read and still gets data has its receive cancelled; most are
    /// read again before any comes, and cost nothing.
    fn after_bytes(&mut self, id: ConnectionId) {
        let reading = self.shard().is_reading(id) == Some(true);
        let Some(socket) = self.socket(id) else { return };
        socket.wanted = reading;
        if !socket.receiving {
            if reading {
                self.to_arm.push(id);
            }
        } else if !reading && !socket.cancelling {
            socket.cancelling = true;
            let entry = opcode::AsyncCancel::new(user_data(KIND_RECEIVE, id)).build();
            self.push(entry.user_data(KIND_CANCEL << KIND_SHIFT));
        }
    }

    fn begin_send(&mut self, id: ConnectionId) {
        let Some(buffer) = self.shard().take_output(id) else { return };
        let slot = self.free_sends.pop().unwrap_or_else(|| {
            self.sends.push(None);
            self.sends.len() as u32 - 1
        });
        self.sends[slot as usize] = Some(Send { id, buffer, sent: 0 });
        self.submit_send(slot);
    }

    fn submit_send(&mut self, slot: u32) {
        let Some(send) = &self.sends[slot as usize] else { return };
        let rest = &send.buffer[send.sent..];
        let (start, length, id) = (rest.as_ptr(), rest.len() as u32, send.id);
        let Some(socket) = self.socket(id) else {
            self.end_send(slot);
            return;
        };
        let fd = socket.fd.as_raw_fd();
        let target = self.files.target(id.index as usize, fd);
        // Not MSG_WAITALL: what a slow peer has taken must show, it is the sign that it lives.
        let entry = opcode::Send::new(target.fd, start, length).flags(libc::MSG_NOSIGNAL).build();
        self.push(entry.flags(target.flags).user_data(KIND_SEND << KIND_SHIFT | u64::from(slot)));
    }

    fn end_send(&mut self, slot: u32) -> Option<Send> {
        let send = self.sends[slot as usize].take();
        if send.is_some() {
            self.free_sends.push(slot);
        }
        send
    }

    fn on_send(&mut self, slot: u32, result: i32) {
        let Some(send) = &mut self.sends[slot as usize] else { return };
        let id = send.id;
        let interrupted = matches!(-result, libc::EINTR | libc::EAGAIN);
        if result < 0 && !interrupted {
            self.end_send(slot);
            self.shard().on_lost(id);
            return;
        }
        send.sent += usize::try_from(result).unwrap_or(0);
        if send.sent < send.buffer.len() {
            self.seat.shard.on_send_progress(id);
            self.submit_send(slot);
        } else if let Some(send) = self.end_send(slot) {
            self.shard().on_sent(id, send.buffer);
        }
    }

    fn submit_write(&mut self, write: Write) {
        let at = self.writes.iter().position(|slot| slot.write.is_none());
        let at = at.expect("the appender has no more writes out than there are slots");
        let slot = &mut self.writes[at];
        let fd = write.segment().raw_fd().expect("a segment on a real disk has a descriptor");
        let mut count = 0;
        for (slice, frame) in slot.slices.iter_mut().zip(write.slices()) {
            // The kernel only reads through this pointer.
            *slice =
                libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() };
            count += 1;
        }
        let entry =
            opcode::Writev::new(Fd(fd), slot.slices.as_ptr(), count).offset(write.offset()).build();
        slot.write = Some(write);
        self.push(entry.user_data(KIND_WRITE << KIND_SHIFT | at as u64));
    }

    fn on_write(&mut self, slot: u32, result: i32) {
        let Some(write) = self.writes[slot as usize].write.take() else { return };
        let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        let Err(failed) = self.shard().on_write_done(write, result) else { return };
        if !std::mem::replace(&mut self.failed, true) {
            self.begin_stop();
            if let Some(on_failed) = self.seat.on_journal_failed.take() {
                on_failed(&failed);
            }
        }
    }

    fn perform_actions(&mut self) {
        let mut actions = std::mem::take(&mut self.actions);
        loop {
            self.shard().take_actions(&mut actions);
            if actions.is_empty() {
                break;
            }
            for action in actions.drain(..) {
                match action {
                    Action::Send(id) => self.begin_send(id),
                    Action::Read(id, wanted) => {
                        if let Some(socket) = self.socket(id) {
                            socket.wanted = wanted;
                            self.arm_receive(id);
                        }
                    }
                    Action::HalfClose(id) => {
                        if let Some(socket) = self.socket(id) {
                            system::shut_down_write(socket.fd.as_raw_fd());
                        }
                    }
                    Action::Close(id) => {
                        if self.socket(id).is_some_and(|socket| socket.generation == id.generation)
                            && let Some(socket) = self.sockets[id.index as usize].take()
                        {
                            self.close(socket);
                            let update = self.files.empty(id.index as usize);
                            self.push_update(update);
                        }
                    }
                }
            }
        }
        self.actions = actions;
    }

    /// Ends what the kernel still has armed on the socket; closing alone would not, because each
    /// operation under way holds the socket open.
    fn close(&mut self, socket: Socket) {
        system::shut_down_both(socket.fd.as_raw_fd());
        self.closed.push(socket.fd);
    }

    fn begin_stop(&mut self) {
        if self.stop_at.is_some() {
            return;
        }
        self.stop_at = Some(Instant::now() + self.seat.drain_deadline);
        if let Some(listener) = self.seat.listener.take() {
            // Ends the armed accept, too.
            system::shut_down_read(listener.as_raw_fd());
            self.closed.push(OwnedFd::from(listener));
        }
        self.shard().begin_drain();
    }

    fn exit(&mut self) -> Option<Exit> {
        let stop_at = self.stop_at?;
        let drained = self.shard().is_drained();
        if !drained && Instant::now() < stop_at {
            return None;
        }
        Some(match (self.failed, drained) {
            (true, _) => Exit::JournalFailed,
            (false, true) => Exit::Drained,
            (false, false) => Exit::DeadlinePassed,
        })
    }

    /// Ends every operation before the memory under it goes. What cannot be ended is leaked.
    fn tear_down(self) {
        let Uring { ring, buffers, files, sends, writes, sockets, .. } = self;
        for socket in sockets.iter().flatten() {
            system::shut_down_both(socket.fd.as_raw_fd());
        }
        let wait = Timespec::new().sec(2);
        let any = io_uring::types::CancelBuilder::any();
        let ended = ring.submitter().register_sync_cancel(Some(wait), any);
        let none_left = matches!(&ended, Err(error) if error.raw_os_error() == Some(libc::ENOENT));
        drop(ring);
        if ended.is_err() && !none_left {
            std::mem::forget((buffers, files, sends, writes));
        }
    }
}

fn user_data(kind: u64, id: ConnectionId) -> u64 {
    kind << KIND_SHIFT | u64::from(id.generation & GENERATION_MASK) << 32 | u64::from(id.index)
}

fn connection_id(user_data: u64) -> ConnectionId {
    let generation = (user_data >> 32) as u32 & GENERATION_MASK;
    ConnectionId { index: user_data as u32, generation }
}
