//! The only place that touches sockets, pollers and rings. A driver moves bytes, journal writes and
//! the time between the kernel and one [`Shard`]; it decides nothing.
//!
//! One driver runs on one pinned thread with a listener of its own (SO_REUSEPORT): nothing is shared
//! between shards.

#[cfg(feature = "glommio")]
mod bell;
mod buffer_ring;
mod clock;
mod ending;
mod epoll;
#[cfg(feature = "glommio")]
mod glommio;
mod registered;
mod socket;
mod system;
mod uring;
mod writer;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::journal::JournalFailed;
use crate::shard::Shard;

pub use socket::{bind_listeners, raise_file_limit};
pub use system::{available_cores, pin_to_core};

/// How a shard's thread is told to stop.
pub struct Control {
    stop: AtomicBool,
    wake: system::EventFd,
    /// Rung instead while a driver listens to it.
    #[cfg(feature = "glommio")]
    bell: bell::Bell,
}

impl Control {
    pub fn new() -> io::Result<Arc<Control>> {
        Ok(Arc::new(Control {
            stop: AtomicBool::new(false),
            wake: system::EventFd::new()?,
            #[cfg(feature = "glommio")]
            bell: bell::Bell::default(),
        }))
    }

    /// Takes no new connections, answers what was asked, then ends.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    /// Makes the shard's loop turn once: something outside has changed.
    pub fn wake(&self) {
        #[cfg(feature = "glommio")]
        if self.bell.ring() {
            return;
        }
        self.wake.signal();
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// How a driver ended.
#[derive(Debug)]
pub enum Exit {
    /// Told to stop; everything asked before was answered.
    Drained,
    /// Told to stop; something was still open when the time was up.
    DeadlinePassed,
    /// The journal failed, and every client was told.
    JournalFailed,
}

pub type OnJournalFailed = Box<dyn FnOnce(&JournalFailed) + Send>;

/// What a driver runs with.
pub struct Seat {
    pub shard: Shard,
    /// Taken when the shard stops accepting.
    pub listener: Option<TcpListener>,
    pub control: Arc<Control>,
    /// Journal writes under way at once.
    pub writes_in_flight_max: usize,
    /// How long a turn gathers completions before it works on them; only `uring` can.
    pub gather_us: u32,
    /// How long a shard polls after it last had something, before it sleeps. Not for `glommio`.
    pub spin_us: u32,
    /// From the stop to the moment when open connections are dropped.
    pub drain_deadline: Duration,
    /// Called once, on the shard's thread, when its journal has failed.
    pub on_journal_failed: Option<OnJournalFailed>,
}

impl Seat {
    /// When the shard is to turn though nothing happens.
    fn next_turn_us(&self, next_tick_us: u64) -> u64 {
        next_tick_us.min(self.shard.next_deadline_us())
    }

    /// From now until then; not at all where the shard has work.
    fn wait_us(&self, next_tick_us: u64, clock: &clock::Clock) -> u64 {
        if self.shard.has_work() {
            return 0;
        }
        self.next_turn_us(next_tick_us).saturating_sub(clock.now().monotonic_us)
    }
}

/// Which driver to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// io_uring where the kernel has what it takes, else epoll.
    Auto,
    Uring,
    Epoll,
    /// The baseline; there with the feature of that name.
    Glommio,
}

impl Choice {
    pub const ALL: [Choice; 4] = [Choice::Auto, Choice::Uring, Choice::Epoll, Choice::Glommio];

    /// As in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Choice::Auto => "auto",
            Choice::Uring => "uring",
            Choice::Epoll => "epoll",
            Choice::Glommio => "glommio",
        }
    }

    /// Whether this build has it.
    pub const fn is_built_in(self) -> bool {
        !matches!(self, Choice::Glommio) || cfg!(feature = "glommio")
    }
}

/// Runs a shard on the calling thread until it ends. `on_start` is told which driver it is.
pub fn run(choice: Choice, seat: Seat, on_start: impl FnOnce(&'static str)) -> io::Result<Exit> {
    let seat = match choice {
        Choice::Epoll => seat,
        Choice::Glommio => return run_glommio(seat, on_start),
        Choice::Uring | Choice::Auto => match uring::Uring::new(seat) {
            Ok(driver) => {
                on_start("uring");
                return driver.run();
            }
            Err((error, _)) if choice == Choice::Uring => return Err(error),
            Err((error, seat)) => {
                tracing::info!(%error, "io_uring is not to be had here; epoll serves");
                *seat
            }
        },
    };
    let driver = epoll::Epoll::new(seat)?;
    on_start("epoll");
    driver.run()
}

#[cfg(feature = "glommio")]
fn run_glommio(seat: Seat, on_start: impl FnOnce(&'static str)) -> io::Result<Exit> {
    let driver = glommio::Glommio::new(seat)?;
    on_start("glommio");
    driver.run()
}

#[cfg(not(feature = "glommio"))]
fn run_glommio(_: Seat, _: impl FnOnce(&'static str)) -> io::Result<Exit> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this build has no driver glommio"))
}
