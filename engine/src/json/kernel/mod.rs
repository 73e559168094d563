//! The instructions below both stages, once per instruction set, and the choice among them.
//!
//! The stages are written once, generic over [`Isa`]; each instruction set's file instantiates them
//! inside functions that are compiled for it. A value of an `Isa` type is proof that the CPU has
//! the instructions: only [`Kernel::detect`] leads to one. `scalar` serves other CPUs and is what
//! every other kernel is compared with. This folder knows bytes and masks, nothing of the schema.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod sse42;
#[cfg(test)]
mod tests;

use super::event::{self, Events, Progress};
use super::index::{self, Scan};

/// What both stages ask of an instruction set. The masks have bit `n` for byte `n`.
pub trait Isa: Copy {
    /// 64 bytes in registers.
    type Block: Copy;

    fn load(self, bytes: &[u8; 64]) -> Self::Block;
    fn equal_to(self, block: Self::Block, byte: u8) -> u64;
    /// Whether there is a backslash, a byte below 0x20 or one from 0x80 up: rare, and all that a
    /// string may be wrong in.
    fn has_odd(self, block: Self::Block) -> bool;
    /// Bytes below 0x20.
    fn controls(self, block: Self::Block) -> u64;
    /// Bytes from 0x80 up.
    fn non_ascii(self, block: Self::Block) -> u64;
    /// Bit `n` of the answer is the parity of bits `0..=n`.
    fn prefix_xor(self, bits: u64) -> u64;
    /// A UUID in its 8-4-4-4-12 form as row layout 1 stores it.
    fn uuid(self, text: &[u8; 36]) -> Option<[u8; 16]>;
    /// Backslashes and non-ASCII bytes: what keeps a text from being copied as it is.
    fn unplain(self, text: &[u8; 32]) -> u32;
    /// ASCII digits.
    fn digits(self, text: &[u8; 16]) -> u32;
}

/// The instruction set that was chosen, and the way into the stages compiled for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Sse42,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Kernel {
    /// The best that this CPU has.
    pub fn detect() -> Kernel {
        #[cfg(target_arch = "x86_64")]
        {
            if avx512::detected() {
                return Kernel(Level::Avx512);
            }
            if avx2::detected() {
                return Kernel(Level::Avx2);
            }
            if sse42::detected() {
                return Kernel(Level::Sse42);
            }
        }
        Kernel::SCALAR
    }

    pub const SCALAR: Kernel = Kernel(Level::Scalar);

    /// Every kernel that runs on this CPU, the oracle first.
    pub fn all() -> Vec<Kernel> {
        let best = Kernel::detect().0;
        let levels = [
            Level::Scalar,
            #[cfg(target_arch = "x86_64")]
            Level::Sse42,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512,
        ];
        levels.into_iter().filter(|level| *level <= best).map(Kernel).collect()
    }

    /// Stage 1 over a part of the body.
    pub fn scan(self, scan: &mut Scan<'_>) {
        match self.0 {
            Level::Scalar => index::scan(scalar::Scalar, scan),
            // SAFETY: a `Kernel` of this level comes only from `detect`, which saw its features.
            #[cfg(target_arch = "x86_64")]
            Level::Sse42 => unsafe { sse42::scan(scan) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2::scan(scan) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512::scan(scan) },
        }
    }

    /// Stage 2 over the events that need no second look.
    pub fn events(self, events: &mut Events<'_>) -> Progress {
        match self.0 {
            Level::Scalar => event::run(scalar::Scalar, events),
            // SAFETY: as in `scan`.
            #[cfg(target_arch = "x86_64")]
            Level::Sse42 => unsafe { sse42::events(events) },
            // SAFETY: as in `scan`.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2::events(events) },
            // SAFETY: as in `scan`.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512::events(events) },
        }
    }
}

/// A UUID in any CPU's instructions: also for the slower path, where one more microsecond is nothing.
pub fn parse_uuid(text: &[u8; 36]) -> Option<[u8; 16]> {
    scalar::Scalar.uuid(text)
}
