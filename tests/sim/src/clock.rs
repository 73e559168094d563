//! Virtual time. The machines under test want [`Instant`]s, which cannot be made from nothing: all are
//! counted from one moment of the process's, and only differences ever decide anything.

use engine::environment::Environment;
use proto::random::SplitMix64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub fn instant(now_us: u64) -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now) + Duration::from_micros(now_us)
}

/// The moment on the virtual clock, rounded up.
pub fn us_of(moment: Instant) -> u64 {
    moment.saturating_duration_since(instant(0)).as_nanos().div_ceil(1000) as u64
}

/// What the parts under test get for the machine's clock and randomness.
pub struct SimulatedEnvironment {
    now_us: AtomicU64,
    random: Mutex<SplitMix64>,
}

impl SimulatedEnvironment {
    pub fn new(seed: u64) -> SimulatedEnvironment {
        SimulatedEnvironment {
            now_us: AtomicU64::new(0),
            random: Mutex::new(SplitMix64::new(seed)),
        }
    }

    pub fn set_now(&self, now_us: u64) {
        self.now_us.store(now_us, Ordering::Relaxed);
    }
}

impl Environment for SimulatedEnvironment {
    fn now(&self) -> Instant {
        instant(self.now_us.load(Ordering::Relaxed))
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&random.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }
}
