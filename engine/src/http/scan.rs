//! Finds where a token, a request target, a host's name or a header value ends, 64 bytes at a time.
//!
//! Owns the four byte classes of a head and the choice of a SIMD kernel. It must not know what the
//! bytes mean. A kernel turns a window of input into one bit a byte and class, set where the class
//! must stop; the scanner keeps the window, so that the many short fields of a head share one pass
//! instead of paying a call each. The kernels' only `unsafe` is in their own files; [`scalar`] is
//! the oracle that they are tested against, and serves every other CPU.
//!
//! Invariant: bits past the end of the input are set, so that every search ends inside the window
//! or needs a further one.

use std::sync::OnceLock;

mod classes;
mod scalar;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod sse42;

pub use classes::{is_host_name, is_target, is_token, is_value};

const BLOCK_BYTES: usize = 64;
/// Larger windows classify more of a body that follows its head in the buffer; smaller ones pay
/// more calls.
const WINDOW_BLOCKS: usize = 4;
const WINDOW_BYTES: usize = BLOCK_BYTES * WINDOW_BLOCKS;

/// One bit a byte: set where a run of the class stops.
#[derive(Clone, Copy)]
struct Stops {
    token: u64,
    target: u64,
    host_name: u64,
    value: u64,
}

impl Stops {
    const NONE: Stops = Stops { token: 0, target: 0, host_name: 0, value: 0 };
    const ALL: Stops = Stops { token: !0, target: !0, host_name: !0, value: !0 };

    /// The last `count` (1..=63) bytes of the block as if they stood at its start, all else stops.
    #[inline(always)]
    fn of_last(self, count: usize) -> Stops {
        let shift = BLOCK_BYTES - count;
        let past_end = !0 << count;
        Stops {
            token: self.token >> shift | past_end,
            target: self.target >> shift | past_end,
            host_name: self.host_name >> shift | past_end,
            value: self.value >> shift | past_end,
        }
    }
}

/// The stops of [`WINDOW_BYTES`] bytes of input.
type Window = [Stops; WINDOW_BLOCKS];

/// A way to classify bytes that this CPU can run: a value of it is the proof.
#[derive(Clone, Copy, Debug)]
pub struct Kernel(Isa);

#[derive(Clone, Copy, Debug)]
enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    #[cfg(target_arch = "x86_64")]
    Sse42(sse42::Sse42),
    Scalar,
}

impl Kernel {
    pub const SCALAR: Kernel = Kernel(Isa::Scalar);

    /// The fastest kernel of this CPU; the CPU is asked once a process.
    pub fn best() -> Kernel {
        static BEST: OnceLock<Kernel> = OnceLock::new();
        *BEST.get_or_init(|| Kernel::available().next().unwrap_or(Kernel::SCALAR))
    }

    /// Every kernel that this CPU can run, the fastest first.
    pub fn available() -> impl Iterator<Item = Kernel> {
        #[cfg(target_arch = "x86_64")]
        let simd = [
            avx512::Avx512::detect().map(Isa::Avx512),
            avx2::Avx2::detect().map(Isa::Avx2),
            sse42::Sse42::detect().map(Isa::Sse42),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let simd = [None::<Isa>];
        simd.into_iter().flatten().chain([Isa::Scalar]).map(Kernel)
    }

    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => "avx512bw",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Isa::Sse42(_) => "sse4.2",
            Isa::Scalar => "scalar",
        }
    }

    #[inline]
    fn classify(self, buf: &[u8], base: usize, window: &mut Window) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(kernel) => kernel.classify(buf, base, window),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(kernel) => kernel.classify(buf, base, window),
            #[cfg(target_arch = "x86_64")]
            Isa::Sse42(kernel) => kernel.classify(buf, base, window),
            Isa::Scalar => scalar::classify(buf, base, window),
        }
    }
}

/// No position, as no slice is that long, is within a window of it.
const NO_WINDOW: usize = 1 << (usize::BITS - 1);

/// Searches one buffer. Made for searches that mostly go forward; any order is right.
pub struct Scanner<'a> {
    buf: &'a [u8],
    kernel: Kernel,
    /// Where in `buf` the window begins; [`NO_WINDOW`] before the first one.
    base: usize,
    window: Window,
}

impl<'a> Scanner<'a> {
    #[inline]
    pub fn new(kernel: Kernel, buf: &'a [u8]) -> Scanner<'a> {
        Scanner { buf, kernel, base: NO_WINDOW, window: [Stops::ALL; WINDOW_BLOCKS] }
    }

    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.buf
    }

    /// The first position from `from` on that holds no [`is_token`] byte, or the buffer's length.
    #[inline]
    pub fn token_end(&mut self, from: usize) -> usize {
        self.end(from, |stops| stops.token)
    }

    /// The first position from `from` on that holds no [`is_target`] byte, or the buffer's length.
    #[inline]
    pub fn target_end(&mut self, from: usize) -> usize {
        self.end(from, |stops| stops.target)
    }

    /// The first position from `from` on that holds no [`is_host_name`] byte, or the buffer's length.
    #[inline]
    pub fn host_name_end(&mut self, from: usize) -> usize {
        self.end(from, |stops| stops.host_name)
    }

    /// The first position from `from` on that holds no [`is_value`] byte, or the buffer's length.
    #[inline]
    pub fn value_end(&mut self, from: usize) -> usize {
        self.end(from, |stops| stops.value)
    }

    #[inline(always)]
    fn end(&mut self, from: usize, class: impl Fn(&Stops) -> u64 + Copy) -> usize {
        let offset = from.wrapping_sub(self.base);
        if offset < WINDOW_BYTES {
            let stops = class(&self.window[offset / BLOCK_BYTES]) >> (offset % BLOCK_BYTES);
            if stops != 0 {
                return from + stops.trailing_zeros() as usize;
            }
        }
        self.end_across_blocks(from, class)
    }

    #[inline(never)]
    fn end_across_blocks(&mut self, from: usize, class: impl Fn(&Stops) -> u64) -> usize {
        let mut at = from;
        while at < self.buf.len() {
            let mut offset = at.wrapping_sub(self.base);
            if offset >= WINDOW_BYTES {
                self.kernel.classify(self.buf, at, &mut self.window);
                self.base = at;
                offset = 0;
            }
            let bit = offset % BLOCK_BYTES;
            let stops = class(&self.window[offset / BLOCK_BYTES]) >> bit;
            if stops != 0 {
                return at + stops.trailing_zeros() as usize;
            }
            at += BLOCK_BYTES - bit;
        }
        self.buf.len()
    }
}

/// Fills a window block by block; `block` is a kernel's 64 bytes. Inlined into each kernel, so that
/// its constants stay in registers.
#[inline(always)]
fn fill(buf: &[u8], base: usize, window: &mut Window, block: impl Fn(&[u8; BLOCK_BYTES]) -> Stops) {
    let mut rest = &buf[base..];
    for stops in window {
        *stops = if let Some((whole, after)) = rest.split_first_chunk() {
            rest = after;
            block(whole)
        } else if rest.is_empty() {
            Stops::ALL
        } else {
            let count = rest.len();
            rest = &[];
            match buf.last_chunk() {
                Some(last) => block(last).of_last(count),
                None => {
                    let mut padded = [0; BLOCK_BYTES];
                    padded[BLOCK_BYTES - count..].copy_from_slice(&buf[buf.len() - count..]);
                    block(&padded).of_last(count)
                }
            }
        };
    }
}
