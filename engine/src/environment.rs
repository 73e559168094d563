//! Where time and randomness come from, for those parts that run in a simulation as well. There the
//! seed says everything; here it is the machine.
//!
//! Parts that are called often get the time as an argument instead.

use std::time::Instant;

pub trait Environment: Send + Sync {
    fn now(&self) -> Instant;
    fn fill_random(&self, bytes: &mut [u8]);
}

/// The machine's clock and the kernel's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine;

impl Environment for Machine {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the kernel's random source works");
    }
}
