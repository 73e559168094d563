//! How busy a thread was: the time it ran, and the time it could have run and waited for a core.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Since the thread began.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadLoad {
    ran: Duration,
    waited: Duration,
}

impl ThreadLoad {
    /// Of the calling thread. Where the kernel keeps no such statistics, waiting counts as nothing.
    pub fn now() -> Self {
        let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let mut fields = text.split_ascii_whitespace().map(str::parse);
        if let (Some(Ok(ran_ns)), Some(Ok(waited_ns))) = (fields.next(), fields.next()) {
            let (ran, waited) = (Duration::from_nanos(ran_ns), Duration::from_nanos(waited_ns));
            return ThreadLoad { ran, waited };
        }
        let ran = clock_gettime(ClockId::ThreadCPUTime);
        let ran = Duration::new(ran.tv_sec as u64, ran.tv_nsec as u32);
        ThreadLoad { ran, waited: Duration::ZERO }
    }

    /// The part of `elapsed` in which the thread ran or wanted to, since `before`.
    pub fn busy_share(self, before: ThreadLoad, elapsed: Duration) -> f64 {
        let busy = self.ran.saturating_sub(before.ran) + self.waited.saturating_sub(before.waited);
        busy.as_secs_f64() / elapsed.as_secs_f64().max(1e-9)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_thread_that_spins_is_busy_and_one_that_waits_is_not() {
        let share = |work: &dyn Fn()| {
            let (start, before) = (Instant::now(), ThreadLoad::now());
            work();
            ThreadLoad::now().busy_share(before, start.elapsed())
        };
        let spin = || {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(100) {}
        };
        assert!(share(&spin) > 0.5);
        let (_never, nothing) = std::sync::mpsc::channel::<()>();
        let wait = move || {
            let _ = nothing.recv_timeout(Duration::from_millis(100));
        };
        assert!(share(&wait) < 0.5);
    }
}
