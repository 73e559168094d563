//! Aligned memory: the buffers that rows are encoded into and that the disk takes them from.
//!
//! Owns the only `unsafe` code of the journal. A [`BlockBuffer`] is one frame's worth of memory at
//! a 4096-aligned address, which O_DIRECT demands, zeroed once when it is made. The pool is owned by
//! one shard and bounded; a buffer may be dropped on any thread and finds its way home.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crossbeam_channel::{Receiver, Sender, bounded};
use proto::block::{BlockHeader, HEADER_BYTES};
use proto::limits::{BLOCK_BYTES_MAX, BLOCK_PAYLOAD_BYTES_MAX};

/// Alignment of addresses, offsets and lengths in everything that goes to the disk.
pub const PAGE_BYTES: usize = 4096;

/// Bytes behind a payload's last that a SIMD store may overwrite; they are never written to disk.
pub const SLACK_BYTES: usize = 64;

const BUFFER_BYTES: usize = BLOCK_BYTES_MAX + PAGE_BYTES;
const _: () = assert!(BLOCK_BYTES_MAX.is_multiple_of(PAGE_BYTES));
const _: () = assert!(SLACK_BYTES <= PAGE_BYTES);

/// Zeroed memory at a page-aligned address.
pub struct AlignedBytes {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory is owned by this value alone and holds plain bytes; nothing in it is tied to
// the thread that allocated it.
unsafe impl Send for AlignedBytes {}
// SAFETY: a shared reference gives out shared slices only.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    pub fn zeroed(bytes: usize) -> AlignedBytes {
        assert!(bytes > 0, "an allocation has a size");
        let layout = Self::layout(bytes);
        // SAFETY: the layout's size is not zero, asserted above.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        AlignedBytes { start, bytes }
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, PAGE_BYTES).expect("a few megabytes never overflow isize")
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `start` points to `bytes` bytes that were zeroed when allocated and live as long
        // as `self`; `&self` keeps writers away.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl DerefMut for AlignedBytes {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        // SAFETY: `start` came from `alloc_zeroed` with this very layout and is freed once, here.
        unsafe { dealloc(self.start.as_ptr(), Self::layout(self.bytes)) }
    }
}

/// One block's memory: header, payload, padding, and [`SLACK_BYTES`] behind it.
pub struct BlockBuffer {
    /// None only while it is being dropped.
    memory: Option<AlignedBytes>,
    home: Sender<AlignedBytes>,
}

impl BlockBuffer {
    #[inline]
    fn memory(&self) -> &AlignedBytes {
        self.memory.as_ref().expect("memory leaves its buffer only in drop")
    }

    #[inline]
    fn memory_mut(&mut self) -> &mut AlignedBytes {
        self.memory.as_mut().expect("memory leaves its buffer only in drop")
    }

    /// Where rows go: [`BLOCK_PAYLOAD_BYTES_MAX`] bytes and the slack behind them.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.memory_mut()[HEADER_BYTES..HEADER_BYTES + BLOCK_PAYLOAD_BYTES_MAX + SLACK_BYTES]
    }

    pub fn payload(&self, payload_bytes: usize) -> &[u8] {
        &self.memory()[HEADER_BYTES..HEADER_BYTES + payload_bytes]
    }

    /// Puts the header before the payload and zeros behind it, up to the frame's end.
    pub(super) fn seal(&mut self, header: &BlockHeader) {
        let block_bytes = header.block_bytes();
        let memory = self.memory_mut();
        memory[..HEADER_BYTES].copy_from_slice(&header.encode());
        memory[block_bytes..frame_bytes(block_bytes)].fill(0);
    }

    /// A sealed block with its padding, as it goes to the disk.
    pub(super) fn frame(&self, block_bytes: usize) -> &[u8] {
        &self.memory()[..frame_bytes(block_bytes)]
    }

    /// A sealed block without its padding.
    pub(super) fn block(&self, block_bytes: usize) -> &[u8] {
        &self.memory()[..block_bytes]
    }
}

impl Drop for BlockBuffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            // The channel holds as many as the pool may make, so it is never full; when the pool is
            // gone the memory is freed here.
            let _ = self.home.try_send(memory);
        }
    }
}

/// Bytes on disk of a block of `block_bytes`.
pub fn frame_bytes(block_bytes: usize) -> usize {
    block_bytes.next_multiple_of(PAGE_BYTES)
}

/// At most `buffers_max` buffers, made when first needed.
pub struct BufferPool {
    returned: Receiver<AlignedBytes>,
    home: Sender<AlignedBytes>,
    made: usize,
    buffers_max: usize,
}

impl BufferPool {
    pub fn new(buffers_max: usize) -> BufferPool {
        let (home, returned) = bounded(buffers_max);
        BufferPool { returned, home, made: 0, buffers_max }
    }

    pub fn take(&mut self) -> Option<BlockBuffer> {
        let memory = match self.returned.try_recv() {
            Ok(memory) => memory,
            Err(_) if self.made < self.buffers_max => {
                self.made += 1;
                AlignedBytes::zeroed(BUFFER_BYTES)
            }
            Err(_) => return None,
        };
        Some(BlockBuffer { memory: Some(memory), home: self.home.clone() })
    }

    /// Buffers that [`BufferPool::take`] could give now.
    pub fn available(&self) -> usize {
        self.returned.len() + (self.buffers_max - self.made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_zero() {
        for bytes in [1, PAGE_BYTES, BUFFER_BYTES] {
            let memory = AlignedBytes::zeroed(bytes);
            assert_eq!(memory.as_ptr() as usize % PAGE_BYTES, 0);
            assert_eq!(memory.len(), bytes);
            assert!(memory.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn every_byte_of_a_buffer_is_its_own() {
        let mut pool = BufferPool::new(2);
        let (mut a, mut b) = (pool.take().unwrap(), pool.take().unwrap());
        a.payload_mut().fill(0xaa);
        b.payload_mut().fill(0xbb);
        assert!(a.payload(BLOCK_PAYLOAD_BYTES_MAX).iter().all(|byte| *byte == 0xaa));
        assert!(b.payload(BLOCK_PAYLOAD_BYTES_MAX).iter().all(|byte| *byte == 0xbb));
        assert_eq!(a.payload_mut().len(), BLOCK_PAYLOAD_BYTES_MAX + SLACK_BYTES);
    }

    #[test]
    fn the_pool_is_bounded_and_takes_back_from_any_thread() {
        let mut pool = BufferPool::new(2);
        let a = pool.take().unwrap();
        let b = pool.take().unwrap();
        assert!(pool.take().is_none());
        assert_eq!(pool.available(), 0);
        std::thread::spawn(move || drop(a)).join().unwrap();
        assert_eq!(pool.available(), 1);
        drop(b);
        assert!(pool.take().is_some() && pool.take().is_some());
        assert_eq!(pool.made, 2);
    }

    #[test]
    fn a_buffer_outlives_its_pool() {
        let mut pool = BufferPool::new(1);
        let mut buffer = pool.take().unwrap();
        drop(pool);
        buffer.payload_mut()[0] = 1;
        drop(buffer);
    }

    #[test]
    fn sealing_clears_what_an_earlier_block_left() {
        let mut pool = BufferPool::new(1);
        let mut buffer = pool.take().unwrap();
        buffer.payload_mut().fill(0xff);
        let id = proto::BlockId { journal_id: proto::JournalId([1; 16]), epoch: 1, sequence: 1 };
        let header = BlockHeader::seal(id, 0, 0, 0, 1, buffer.payload(100));
        buffer.seal(&header);
        let frame = buffer.frame(header.block_bytes());
        assert_eq!(frame.len(), PAGE_BYTES);
        assert!(frame[header.block_bytes()..].iter().all(|byte| *byte == 0));
        assert_eq!(BlockHeader::decode_block(frame).unwrap().0, header);
    }
}
