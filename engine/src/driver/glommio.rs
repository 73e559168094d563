//! The driver on glommio's executor: a task for each connection and one that turns the shard. It is
//! the baseline that the other two are measured against; `docs/adr/020-glommio.md` says what of it
//! glommio does not do.
//!
//! Sockets and time are glommio's. Its files are not used: they take bytes only from buffers that
//! glommio has made, and the journal's lie in the journal's own; threads write them, as for epoll.
//!
//! All tasks share one [`Core`] and borrow it only between two waits, never across one. No task is
//! dropped while the kernel works for it: sockets are shut down first, and the task sees that. A
//! [`Watch`] wakes the executor where it sleeps over tasks that could run.

mod core;
mod socket;
#[cfg(test)]
mod tests;
mod watch;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use ::glommio::timer::Timer;
use ::glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use self::core::Core;
use self::watch::Watch;
use super::{Exit, Seat};
use crate::connection::ConnectionId;
use crate::shard::Shard;

type Stream = ::glommio::net::TcpStream;
type Listener = ::glommio::net::TcpListener;

/// Of each of glommio's three rings.
const RING_ENTRIES: usize = 1024;

/// glommio looks at its rings when every task that could run has run, or when this is over: a task
/// that always has work, such as a long body, would keep the others waiting until then.
const LOOK_AT_RINGS_AFTER: Duration = Duration::from_millis(1);

/// Without a pause after so many a storm of connections would keep the rest waiting.
const ACCEPTS_IN_ROW: usize = 64;

/// At the end, for tasks whose sockets are shut down already.
const TASKS_END_WITHIN: Duration = Duration::from_secs(1);

pub struct Glommio {
    executor: LocalExecutor,
    seat: Seat,
}

impl Glommio {
    pub fn new(seat: Seat) -> io::Result<Glommio> {
        Glommio::looking_at_rings_after(LOOK_AT_RINGS_AFTER, seat)
    }

    fn looking_at_rings_after(delay: Duration, seat: Seat) -> io::Result<Glommio> {
        is_supported()?;
        let builder = LocalExecutorBuilder::new(Placement::Unbound)
            .name("shard")
            .ring_depth(RING_ENTRIES)
            // For files alone, and registered memory counts against a limit; it takes the least.
            .io_memory(0)
            .preempt_timer(delay);
        Ok(Glommio { executor: builder.make()?, seat })
    }

    pub fn run(self) -> io::Result<Exit> {
        let Glommio { executor, seat } = self;
        // A shard's turns are a tick apart at most.
        let look_every = Duration::from_micros(2 * Shard::tick_interval_us());
        let watch = Watch::start(waker_of(&executor), look_every)?;
        executor.run(drive(seat, watch))
    }
}

/// Gets the executor out of its sleep even before its first task has run. It is of a task that has
/// ended: nothing runs for it.
fn waker_of(executor: &LocalExecutor) -> Waker {
    let waker = Rc::new(Cell::new(None));
    let place = Rc::clone(&waker);
    let task = poll_fn(move |context| {
        place.set(Some(context.waker().clone()));
        Poll::Ready(())
    });
    executor.spawn(task).detach();
    waker.take().expect("a task spawned from outside runs at once")
}

/// Where io_uring is forbidden glommio panics, and where it lacks an operation it ends the process.
fn is_supported() -> io::Result<()> {
    use io_uring::{IoUring, Probe, opcode};
    let ring = IoUring::new(2)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [
        opcode::PollAdd::CODE,
        opcode::Accept::CODE,
        opcode::Read::CODE,
        opcode::Write::CODE,
        opcode::Timeout::CODE,
        opcode::LinkTimeout::CODE,
        opcode::AsyncCancel::CODE,
        opcode::Statx::CODE,
    ];
    if needed.iter().all(|&code| probe.is_supported(code)) {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the kernel's io_uring is too old for glommio",
        ))
    }
}

async fn drive(seat: Seat, watch: Watch) -> io::Result<Exit> {
    let control = seat.control.clone();
    let task = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
    let listener = seat.listener.as_ref().map(listen_on).transpose()?;
    let core = Rc::new(RefCell::new(Core::new(seat, task.clone())?));
    control.bell.listen(Some(task));
    if let Some(listener) = listener {
        core.borrow_mut().task_count += 1;
        ::glommio::spawn_local(accept(Rc::clone(&core), listener)).detach();
    }
    let mut alarm = Alarm::new();
    let exit = poll_fn(|context| {
        watch.on_turn();
        turn(&core, &mut alarm, context)
    })
    .await;
    core.borrow_mut().close_all();
    end_tasks(&core).await;
    // Here, because glommio has other rules for a waker dropped on a foreign thread.
    control.bell.listen(None);
    Ok(exit)
}

/// The same listening socket under a descriptor of its own: shutting down ours ends the accept of
/// glommio's, which would otherwise have to be dropped with a connection perhaps in it.
fn listen_on(listener: &TcpListener) -> io::Result<Listener> {
    // It must not block: glommio tries a plain accept first, and the whole shard would wait in it.
    listener.set_nonblocking(true)?;
    let fd = listener.try_clone()?.into_raw_fd();
    // SAFETY: a new descriptor of a listening socket that nobody else has; glommio closes it.
    Ok(unsafe { Listener::from_raw_fd(fd) })
}

/// One turn of the shard, each time that the task is woken; for no reason is no harm.
fn turn(core: &RefCell<Core>, alarm: &mut Alarm, context: &mut Context<'_>) -> Poll<Exit> {
    let mut core = core.borrow_mut();
    core.turn();
    if let Some(exit) = core.exit() {
        return Poll::Ready(exit);
    }
    if core.has_work() {
        context.waker().wake_by_ref();
    }
    let (now_us, until_us) = core.next_turn_us();
    alarm.set(now_us, until_us, context);
    Poll::Pending
}

/// A timer that is set anew only when it would ring too late, which is rarely: setting one is a walk
/// through two maps.
struct Alarm {
    timer: Timer,
    at_us: u64,
}

impl Alarm {
    fn new() -> Alarm {
        Alarm { timer: Timer::new(Duration::ZERO), at_us: 0 }
    }

    /// Wakes the task of `context` at `at_us` or earlier.
    fn set(&mut self, now_us: u64, at_us: u64, context: &mut Context<'_>) {
        if self.at_us > now_us && self.at_us <= at_us {
            return;
        }
        self.at_us = at_us;
        self.timer.reset(Duration::from_micros(at_us.saturating_sub(now_us)));
        if Pin::new(&mut self.timer).poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
    }
}

async fn accept(core: Rc<RefCell<Core>>, listener: Listener) {
    let mut in_row = 0;
    loop {
        let accepted = listener.accept().await;
        if core.borrow().is_stopping() {
            break;
        }
        match accepted {
            Ok(stream) => {
                let admitted = core.borrow_mut().admit(stream);
                if let Some(id) = admitted {
                    ::glommio::spawn_local(serve(Rc::clone(&core), id)).detach();
                }
            }
            // Out of descriptors, as a rule: the next try would fail at once.
            Err(_) => drop(Timer::new(Duration::from_micros(Shard::tick_interval_us())).await),
        }
        in_row += 1;
        if in_row % ACCEPTS_IN_ROW == 0 {
            let_others_run().await;
        }
    }
    core.borrow_mut().end_task();
}

async fn serve(core: Rc<RefCell<Core>>, id: ConnectionId) {
    poll_fn(|context| core.borrow_mut().poll_socket(id, context)).await;
    core.borrow_mut().end_task();
}

async fn let_others_run() {
    let mut has_waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// What still runs when the executor goes is never dropped, nor are its sockets.
async fn end_tasks(core: &RefCell<Core>) {
    let deadline = Instant::now() + TASKS_END_WITHIN;
    let mut alarm = Timer::new(TASKS_END_WITHIN);
    poll_fn(|context| {
        if core.borrow().task_count == 0 || Instant::now() >= deadline {
            return Poll::Ready(());
        }
        // Registers the task; the last of the others wakes it, too.
        Pin::new(&mut alarm).poll(context).map(drop)
    })
    .await;
}
