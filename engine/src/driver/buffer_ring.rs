//! Receive buffers that the kernel picks from as data arrives, so that a connection without data
//! holds none.
//!
//! The kernel owns a buffer from [`BufferRing::give_back`] until a completion names it; from then on
//! it is ours, as a [`Received`], until it is given back. Each `Received` exists once.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{IoUring, cqueue};

use crate::journal::AlignedBytes;

pub const GROUP: u16 = 0;
const BUFFER_COUNT: u16 = 128;
const BUFFER_BYTES: usize = 64 * 1024;
/// From one buffer to the next: buffers a power of two apart would begin in the same sets of the
/// caches, and a few of them with short requests would drive each other out.
const BUFFER_STRIDE_BYTES: usize = BUFFER_BYTES + 17 * 64;

/// A buffer that the kernel has filled and we have not given back.
#[must_use = "a buffer that is not given back is lost to the ring"]
pub struct Received {
    buffer: u16,
    length: usize,
}

pub struct BufferRing {
    /// `BUFFER_COUNT` entries shared with the kernel; the first one's last field is the tail.
    entries: AlignedBytes,
    /// `BUFFER_COUNT` buffers one behind the other.
    buffers: AlignedBytes,
    tail: u16,
}

impl BufferRing {
    /// Makes the buffers and hands all of them to the kernel. The ring must be dropped, or all of
    /// its receives ended, before this is.
    pub fn register(ring: &IoUring) -> io::Result<BufferRing> {
        let entry_bytes = size_of::<BufRingEntry>();
        let mut this = BufferRing {
            entries: AlignedBytes::zeroed(usize::from(BUFFER_COUNT) * entry_bytes),
            buffers: AlignedBytes::zeroed(usize::from(BUFFER_COUNT) * BUFFER_STRIDE_BYTES),
            tail: 0,
        };
        // SAFETY: the entries are page-aligned, zeroed, as many as announced, and live in `this`
        // until the ring is gone (see above).
        unsafe {
            let address = this.entries.as_ptr() as u64;
            ring.submitter().register_buf_ring_with_flags(address, BUFFER_COUNT, GROUP, 0)?;
        }
        for buffer in 0..BUFFER_COUNT {
            this.hand_over(buffer);
        }
        Ok(this)
    }

    /// The buffer that a completion of a receive carries, if it carries one.
    pub fn received(&self, result: i32, flags: u32) -> Option<Received> {
        let buffer = cqueue::buffer_select(flags)?;
        let length = usize::try_from(result).unwrap_or(0).min(BUFFER_BYTES);
        Some(Received { buffer, length })
    }

    pub fn bytes(&self, received: &Received) -> &[u8] {
        let start = usize::from(received.buffer) * BUFFER_STRIDE_BYTES;
        &self.buffers[start..start + received.length]
    }

    pub fn give_back(&mut self, received: Received) {
        self.hand_over(received.buffer);
    }

    fn hand_over(&mut self, buffer: u16) {
        let at = usize::from(self.tail & (BUFFER_COUNT - 1));
        let address = self.buffers.as_ptr() as u64 + u64::from(buffer) * BUFFER_STRIDE_BYTES as u64;
        let base = self.entries.as_mut_ptr().cast::<BufRingEntry>();
        // SAFETY: `at` is below the number of entries and the memory is aligned for them. The kernel
        // reads an entry only after the tail has passed it, which the release store below does; the
        // tail lies in a field of entry 0 that `set_*` do not touch, and 2-byte aligned.
        unsafe {
            let entry = &mut *base.add(at);
            entry.set_addr(address);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(base).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}
