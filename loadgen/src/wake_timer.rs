//! Wakes a poller at a moment. The poller's own time-out is rounded up to whole milliseconds, which
//! at a constant rate would send in bursts and add up to a millisecond to the corrected latency.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

pub struct WakeTimer {
    fd: OwnedFd,
    /// What the timer is set to, so that it is not set to the same again and again.
    armed_for_ns: Option<u64>,
}

impl WakeTimer {
    pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        Ok(WakeTimer { fd, armed_for_ns: None })
    }

    /// Both in nanoseconds after the same moment; `at_ns` lies after `now_ns`.
    pub fn wake_at(&mut self, at_ns: u64, now_ns: u64) -> io::Result<()> {
        if self.armed_for_ns == Some(at_ns) {
            return Ok(());
        }
        let wait_ns = at_ns - now_ns;
        let it_value = Timespec {
            tv_sec: (wait_ns / 1_000_000_000) as i64,
            tv_nsec: (wait_ns % 1_000_000_000) as i64,
        };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let once = Itimerspec { it_interval: never, it_value };
        // Setting forgets an expiry that was not read, so the next one is an edge again.
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &once)?;
        self.armed_for_ns = Some(at_ns);
        Ok(())
    }

    /// To be called when the timer's event was seen.
    pub fn fired(&mut self) {
        self.armed_for_ns = None;
    }
}
