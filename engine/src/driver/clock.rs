//! The clocks, read once per turn of a driver's loop, and whether it polls or sleeps.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::shard::Now;

pub struct Clock {
    start: Instant,
}

impl Clock {
    pub fn new() -> Clock {
        Clock { start: Instant::now() }
    }

    pub fn now(&self) -> Now {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        Now {
            // From 1, so that 0 can stand for "never".
            monotonic_us: self.start.elapsed().as_micros() as u64 + 1,
            unix_ns: since_epoch.map_or(0, |elapsed| elapsed.as_nanos() as i64),
        }
    }
}

/// Polls for a while after the last turn that had something, instead of sleeping: a thread that is
/// not put to sleep need not be woken.
pub struct Spin {
    spin_us: u64,
    until_us: u64,
    now_us: u64,
}

impl Spin {
    /// With 0 it always sleeps.
    pub fn new(spin_us: u32) -> Spin {
        Spin { spin_us: u64::from(spin_us), until_us: 0, now_us: 0 }
    }

    pub fn on_turn(&mut self, had_something: bool, now_us: u64) {
        self.now_us = now_us;
        if had_something {
            self.until_us = now_us + self.spin_us;
        }
    }

    /// How long to wait instead of `wait_us`.
    pub fn wait_us(&self, wait_us: u64) -> u64 {
        if self.now_us < self.until_us { 0 } else { wait_us }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_only_for_a_while_after_something_came() {
        let mut spin = Spin::new(50);
        assert_eq!(spin.wait_us(700), 700);
        spin.on_turn(true, 1_000);
        assert_eq!(spin.wait_us(700), 0);
        spin.on_turn(false, 1_049);
        assert_eq!(spin.wait_us(700), 0);
        spin.on_turn(false, 1_050);
        assert_eq!(spin.wait_us(700), 700);
        let mut never = Spin::new(0);
        never.on_turn(true, 1_000);
        assert_eq!(never.wait_us(700), 700);
    }
}
