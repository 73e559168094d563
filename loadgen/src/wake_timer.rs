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

    /// All in nanoseconds after the same moment; `latest_ns` lies after `now_ns`. A timer that is
    /// set to a moment between the two is left alone: setting one is a system call.
    pub fn wake_between(
        &mut self,
        earliest_ns: u64,
        latest_ns: u64,
        now_ns: u64,
    ) -> io::Result<()> {
        if self.armed_for_ns.is_some_and(|at_ns| (earliest_ns..=latest_ns).contains(&at_ns)) {
            return Ok(());
        }
        let wait_ns = latest_ns - now_ns;
        let it_value = Timespec {
            tv_sec: (wait_ns / 1_000_000_000) as i64,
            tv_nsec: (wait_ns % 1_000_000_000) as i64,
        };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let once = Itimerspec { it_interval: never, it_value };
        // Setting forgets an expiry that was not read, so the next one is an edge again.
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &once)?;
        self.armed_for_ns = Some(latest_ns);
        Ok(())
    }

    /// To be called when the timer's event was seen.
    pub fn fired(&mut self) {
        self.armed_for_ns = None;
    }
}
