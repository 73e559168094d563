//! The appending end of a shard's journal: rows go in, writes come out, completions move the
//! watermark. Sans-I/O: whoever drives it performs the writes, in any order, on any thread.
//!
//! Owned by the shard's thread. Knows no HTTP and no ring. Invariants:
//! - sequences are given in the order in which blocks begin, without holes; a frame has its place
//!   in a segment before its first row is committed, so what was committed can always be written;
//! - `synced_through` moves over whole writes, in order, never past one that has not completed;
//! - after a failed or short write nothing is written, released or acknowledged any more.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use proto::block::{FLAG_CONTINUES, HEADER_BYTES};
use proto::limits::BLOCK_PAYLOAD_BYTES_MAX;
use proto::planted::{Planted, is_planted};
use proto::{BlockHeader, BlockId, JournalId};

use super::buffer::{BlockBuffer, BufferPool, SLACK_BYTES, frame_bytes};
use super::catalog::{Segment, Shared, SpaceState};
use super::keeper::Waker;
use super::segment::FRAMES_OFFSET;
use super::storage::SegmentFile;
use super::tail::{TailBlock, TailSender};

/// Blocks in one write.
pub const WRITE_BLOCKS_MAX: usize = 8;

/// Buffers that long requests leave to the open block and its successor.
const RESERVED_BUFFERS: usize = 2;

/// Why nothing can be appended now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// All buffers are in use, or the next segment is still being prepared: it passes with the next
    /// completed write, returned buffer, or call of the journal's waker.
    Busy,
    /// The backlog limit is reached or the disk is full: answer 503.
    Full,
    /// The journal has failed for good.
    Failed,
}

/// A write did not make its blocks durable. Nothing after it will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalFailed {
    #[error("writing block {sequence} failed with {kind} (os error {os_error:?})")]
    Write { sequence: u64, kind: io::ErrorKind, os_error: Option<i32> },
    #[error("a write beginning with block {sequence} stopped after {written} of {expected} bytes")]
    Short { sequence: u64, written: usize, expected: usize },
}

/// A private buffer of a long request, filled.
pub struct FilledBuffer {
    pub buffer: BlockBuffer,
    /// Bytes of its payload.
    pub written: usize,
    pub rows: u32,
}

/// A segment that the keeper made ready.
pub(super) struct PreparedSegment {
    pub file: Arc<SegmentFile>,
    pub path: PathBuf,
}

struct SealedBlock {
    buffer: BlockBuffer,
    header: BlockHeader,
    segment: Arc<SegmentFile>,
    offset: u64,
}

impl SealedBlock {
    fn frame(&self) -> &[u8] {
        self.buffer.frame(self.header.block_bytes())
    }

    fn end(&self) -> u64 {
        self.offset + frame_bytes(self.header.block_bytes()) as u64
    }
}

/// Consecutive blocks, contiguous in one segment; owns their memory until it is handed back.
pub struct Write {
    id: u64,
    blocks: Vec<SealedBlock>,
}

impl Write {
    /// Unique within this start of the shard.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn segment(&self) -> &Arc<SegmentFile> {
        &self.blocks[0].segment
    }

    pub fn offset(&self) -> u64 {
        self.blocks[0].offset
    }

    /// What to write, 4096-aligned in address and length; at most [`WRITE_BLOCKS_MAX`] slices. They
    /// stay where they are until the write is given to [`Appender::on_write_done`].
    pub fn slices(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.blocks.iter().map(SealedBlock::frame)
    }

    pub fn bytes(&self) -> usize {
        self.slices().map(<[u8]>::len).sum()
    }

    /// For a writer thread: durable when it returns as many bytes as [`Write::bytes`].
    pub fn write_blocking(&self) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); WRITE_BLOCKS_MAX];
        for (slot, frame) in slices.iter_mut().zip(self.slices()) {
            *slot = IoSlice::new(frame);
        }
        self.segment().write_at(&slices[..self.blocks.len()], self.offset())
    }
}

struct OpenBlock {
    buffer: BlockBuffer,
    payload_bytes: usize,
    rows: u32,
    /// What the segment has room for, at most a block's payload.
    payload_bytes_max: usize,
}

struct InFlight {
    id: u64,
    first_sequence: u64,
    bytes: usize,
    /// The blocks came back: this write is durable.
    done: Option<Vec<SealedBlock>>,
}

/// What the appender is made from.
pub(super) struct AppenderParts {
    pub journal_id: JournalId,
    pub epoch: u64,
    pub lane: u16,
    pub next_sequence: u64,
    pub buffers_max: usize,
    pub writes_in_flight_max: usize,
    pub shared: Arc<Shared>,
    pub spares: Receiver<PreparedSegment>,
    /// Wakes the keeper when a spare was taken.
    pub keeper: Sender<()>,
    pub tail: TailSender,
    /// Told when blocks are there for the feed.
    pub on_release: Option<(Waker, usize)>,
}

pub struct Appender {
    parts: AppenderParts,
    pool: BufferPool,
    open: Option<OpenBlock>,
    sealed: VecDeque<SealedBlock>,
    in_flight: VecDeque<InFlight>,
    /// Empty lists of completed writes, so that a write allocates nothing.
    lists: Vec<Vec<SealedBlock>>,
    current: Option<(Arc<SegmentFile>, u64)>,
    spares: VecDeque<PreparedSegment>,
    /// Sequence of the open block, or of the next one to be opened.
    next_sequence: u64,
    next_write_id: u64,
    synced_through: u64,
    released_through: u64,
    /// What the last [`Appender::room`] promised and no commit has used.
    promised: usize,
    failed: Option<JournalFailed>,
}

impl Appender {
    pub(super) fn new(parts: AppenderParts) -> Appender {
        let last = parts.next_sequence - 1;
        Appender {
            pool: BufferPool::new(parts.buffers_max),
            open: None,
            sealed: VecDeque::with_capacity(parts.buffers_max),
            in_flight: VecDeque::with_capacity(parts.writes_in_flight_max),
            lists: Vec::new(),
            current: None,
            spares: VecDeque::new(),
            next_sequence: parts.next_sequence,
            next_write_id: 0,
            synced_through: last,
            released_through: last,
            promised: 0,
            failed: None,
            parts,
        }
    }

    /// At least `bytes`, and 64 more that may be scribbled over, in the open block.
    #[inline]
    pub fn room(&mut self, bytes: usize) -> Result<&mut [u8], Stall> {
        assert!(bytes <= BLOCK_PAYLOAD_BYTES_MAX, "longer requests are appended as chains");
        let fits = match &self.open {
            Some(open) => open.payload_bytes + bytes <= open.payload_bytes_max,
            None => false,
        };
        if !fits || self.failed.is_some() {
            self.open_block(bytes)?;
        }
        let open = self.open.as_mut().expect("open_block leaves an open block or an error");
        self.promised = open.payload_bytes_max - open.payload_bytes;
        let end = open.payload_bytes_max + SLACK_BYTES;
        Ok(&mut open.buffer.payload_mut()[open.payload_bytes..end])
    }

    /// Ends a request whose rows are the first `written` bytes of the last [`Appender::room`]: gives
    /// the sequence whose sync makes it durable. Without it the rows are dropped.
    #[inline]
    pub fn commit(&mut self, written: usize, rows: u32) -> u64 {
        assert!(written <= self.promised, "rows were written past their room");
        self.promised = 0;
        if rows == 0 {
            assert_eq!(written, 0, "bytes without rows");
            return self.synced_through;
        }
        let open = self.open.as_mut().expect("room left an open block");
        open.payload_bytes += written;
        open.rows += rows;
        self.next_sequence
    }

    /// A private buffer for a request that is longer than a block.
    pub fn take_buffer(&mut self) -> Result<BlockBuffer, Stall> {
        if self.failed.is_some() {
            return Err(Stall::Failed);
        }
        if self.pool.available() <= RESERVED_BUFFERS {
            return Err(Stall::Busy);
        }
        self.pool.take().ok_or(Stall::Busy)
    }

    /// Appends a long request, whole or not at all; gives the sequence whose sync makes it durable.
    pub fn append_chain(
        &mut self,
        chain: Vec<FilledBuffer>,
    ) -> Result<u64, (Stall, Vec<FilledBuffer>)> {
        assert!(!chain.is_empty(), "a request has rows");
        if let Err(stall) = self.chain_fits(&chain) {
            return Err((stall, chain));
        }
        self.seal_open();
        // An open block without rows has its place where the chain goes now.
        self.open = None;
        self.promised = 0;
        let count = chain.len();
        for (index, filled) in chain.into_iter().enumerate() {
            let bytes = frame_bytes(HEADER_BYTES + filled.written) as u64;
            if self.left_in_segment() < bytes {
                let switched = self.switch_segment();
                assert!(switched, "the spares were counted before the first block was sealed");
            }
            let flags = if index + 1 < count { FLAG_CONTINUES } else { 0 };
            self.seal(filled.buffer, filled.written, filled.rows, flags);
        }
        Ok(self.next_sequence - 1)
    }

    /// The next write to submit, while fewer than `writes_in_flight_max` are on their way. The open
    /// block goes along: a group is what came in while the last writes were syncing.
    pub fn next_write(&mut self) -> Option<Write> {
        if self.failed.is_some() || self.in_flight.len() >= self.parts.writes_in_flight_max {
            return None;
        }
        self.promised = 0;
        if self.sealed.len() < WRITE_BLOCKS_MAX {
            self.seal_open();
        }
        let first = self.sealed.pop_front()?;
        let mut blocks = self.lists.pop().unwrap_or_else(|| Vec::with_capacity(WRITE_BLOCKS_MAX));
        let (number, mut end) = (first.segment.number, first.end());
        let mut bytes = first.frame().len();
        let first_sequence = first.header.id.sequence;
        blocks.push(first);
        while blocks.len() < WRITE_BLOCKS_MAX
            && let Some(next) = self.sealed.front()
            && next.segment.number == number
        {
            assert_eq!(next.offset, end, "blocks of one segment lie one behind the other");
            end = next.end();
            bytes += next.frame().len();
            blocks.extend(self.sealed.pop_front());
        }
        let id = self.next_write_id;
        self.next_write_id += 1;
        self.in_flight.push_back(InFlight { id, first_sequence, bytes, done: None });
        Some(Write { id, blocks })
    }

    /// Takes a write back with its outcome: the bytes written, or the error. Gives the watermark,
    /// which has moved if all writes before this one are done too.
    pub fn on_write_done(
        &mut self,
        write: Write,
        result: io::Result<usize>,
    ) -> Result<u64, JournalFailed> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let entry = self
            .in_flight
            .iter_mut()
            .find(|entry| entry.id == write.id && entry.done.is_none())
            .expect("a write is completed once, by the appender that gave it out");
        let (sequence, expected) = (entry.first_sequence, entry.bytes);
        let result = if is_planted(Planted::FailedSyncRetried) { Ok(expected) } else { result };
        let failed = match result {
            Ok(written) if written == expected => {
                entry.done = Some(write.blocks);
                self.advance();
                return Ok(self.synced_through);
            }
            Ok(written) => JournalFailed::Short { sequence, written, expected },
            Err(error) => JournalFailed::Write {
                sequence,
                kind: error.kind(),
                os_error: error.raw_os_error(),
            },
        };
        self.failed = Some(failed);
        self.parts.shared.set_failed();
        Err(failed)
    }

    fn advance(&mut self) {
        while let Some(mut blocks) = self.in_flight.front_mut().and_then(|entry| entry.done.take())
        {
            self.in_flight.pop_front();
            let mut live_end = FRAMES_OFFSET;
            for block in blocks.drain(..) {
                let header = block.header;
                assert_eq!(header.id.sequence, self.synced_through + 1, "no block is skipped");
                self.synced_through = header.id.sequence;
                if !header.continues() {
                    self.released_through = header.id.sequence;
                }
                live_end = block.end();
                self.parts.tail.offer(TailBlock {
                    header,
                    segment_number: block.segment.number,
                    end: live_end,
                    buffer: block.buffer,
                });
            }
            self.parts.shared.publish(self.synced_through, self.released_through, live_end);
            self.lists.push(blocks);
        }
        if let Some((waker, shard)) = &self.parts.on_release {
            waker(*shard);
        }
    }

    pub fn synced_through(&self) -> u64 {
        if is_planted(Planted::AckBeyondPrefix) {
            return self.completed_through();
        }
        self.synced_through
    }

    /// The end of the last write that completed, whatever lies before it: what must never be taken
    /// for the watermark.
    #[cold]
    fn completed_through(&self) -> u64 {
        let done = self.in_flight.iter().filter_map(|entry| entry.done.as_ref()).flatten();
        let sequences = done.map(|block| block.header.id.sequence);
        sequences.chain([self.synced_through]).max().expect("there is at least the watermark")
    }

    /// All up to here has arrived where the feed's owner sent it.
    pub fn forwarded_through(&self) -> u64 {
        self.parts.shared.forwarded_through()
    }

    pub fn failed(&self) -> Option<&JournalFailed> {
        self.failed.as_ref()
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether anything committed is not yet durable.
    pub fn has_unsynced(&self) -> bool {
        !self.in_flight.is_empty()
            || !self.sealed.is_empty()
            || self.open.as_ref().is_some_and(|open| open.rows > 0)
    }

    /// Takes over the segments that the keeper has made ready. Never blocks.
    pub fn poll_segments(&mut self) {
        while let Ok(spare) = self.parts.spares.try_recv() {
            self.spares.push_back(spare);
        }
    }

    /// Leaves an open block with room for `bytes`.
    #[cold]
    fn open_block(&mut self, bytes: usize) -> Result<(), Stall> {
        self.promised = 0;
        if self.failed.is_some() {
            return Err(Stall::Failed);
        }
        self.seal_open();
        let buffer = match self.open.take() {
            Some(empty) => empty.buffer,
            None => self.pool.take().ok_or(Stall::Busy)?,
        };
        if self.left_in_segment() < frame_bytes(HEADER_BYTES + bytes) as u64
            && !self.switch_segment()
        {
            return Err(self.no_segment());
        }
        let left = usize::try_from(self.left_in_segment()).unwrap_or(usize::MAX);
        self.open = Some(OpenBlock {
            buffer,
            payload_bytes: 0,
            rows: 0,
            payload_bytes_max: (left - HEADER_BYTES).min(BLOCK_PAYLOAD_BYTES_MAX),
        });
        Ok(())
    }

    /// An open block without rows stays open.
    fn seal_open(&mut self) {
        if let Some(open) = self.open.take_if(|open| open.rows > 0) {
            self.seal(open.buffer, open.payload_bytes, open.rows, 0);
        }
    }

    fn seal(&mut self, mut buffer: BlockBuffer, payload_bytes: usize, rows: u32, flags: u16) {
        let id = BlockId {
            journal_id: self.parts.journal_id,
            epoch: self.parts.epoch,
            sequence: self.next_sequence,
        };
        let payload = buffer.payload(payload_bytes);
        let header =
            BlockHeader::seal(id, self.synced_through, self.parts.lane, flags, rows, payload);
        buffer.seal(&header);
        let (segment, offset) =
            self.current.as_mut().expect("a block has its place before its first row");
        let block = SealedBlock { buffer, header, segment: Arc::clone(segment), offset: *offset };
        *offset = block.end();
        assert!(*offset <= segment.bytes, "a frame never crosses the end of its segment");
        self.sealed.push_back(block);
        self.next_sequence += 1;
    }

    fn left_in_segment(&self) -> u64 {
        self.current.as_ref().map_or(0, |(segment, offset)| segment.bytes - offset)
    }

    /// Whether every block of `chain` has a place in this segment or in the spares.
    fn chain_fits(&mut self, chain: &[FilledBuffer]) -> Result<(), Stall> {
        if self.failed.is_some() {
            return Err(Stall::Failed);
        }
        self.poll_segments();
        let mut left = self.left_in_segment();
        if let Some(open) = self.open.as_ref().filter(|open| open.rows > 0) {
            left -= frame_bytes(HEADER_BYTES + open.payload_bytes) as u64;
        }
        let mut spares = self.spares.iter();
        for filled in chain {
            let bytes = frame_bytes(HEADER_BYTES + filled.written) as u64;
            if left < bytes {
                match spares.next() {
                    Some(spare) => left = spare.file.bytes - FRAMES_OFFSET,
                    None => return Err(self.no_segment()),
                }
            }
            left -= bytes;
        }
        Ok(())
    }

    fn no_segment(&self) -> Stall {
        match self.parts.shared.space() {
            SpaceState::Ready => Stall::Busy,
            SpaceState::BacklogLimit | SpaceState::Disk { .. } => Stall::Full,
        }
    }

    /// Goes on in the next spare; nothing is open when this is called.
    fn switch_segment(&mut self) -> bool {
        self.poll_segments();
        let Some(PreparedSegment { file, path }) = self.spares.pop_front() else { return false };
        let used_bytes = self.current.as_ref().map_or(0, |(_, offset)| *offset);
        let next =
            Segment::live(file.number, path, self.parts.epoch, file.bytes, self.next_sequence);
        self.parts.shared.switch_segment(used_bytes, next);
        self.current = Some((file, FRAMES_OFFSET));
        self.parts.shared.spares.fetch_sub(1, std::sync::atomic::Ordering::AcqRel);
        // A full channel means that the keeper is going to look anyway.
        let _ = self.parts.keeper.try_send(());
        true
    }
}
