//! The clocks, read once per turn of a driver's loop.

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
