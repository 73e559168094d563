//! Reads frames from a segment: one at a place, or all that are whole.
//!
//! A scan judges nothing. It lists the frames that belong to this segment (journal, epoch, at or
//! above the header's floor, checksum right, sequences rising) as runs, looking at every page that
//! no such frame covers, because a bad frame hides neither the good ones behind it nor what they
//! say about it (`durable_through`). What the runs mean is recovery's business.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::block::{BlockError, HEADER_BYTES};
use proto::limits::BLOCK_BYTES_MAX;
use proto::planted::{Planted, is_planted};
use proto::row::Rows;
use proto::{BlockHeader, JournalId};

use super::buffer::{AlignedBytes, PAGE_BYTES, frame_bytes};
use super::segment::{FRAMES_OFFSET, SegmentHeader};
use super::storage::{Access, Storage, StorageFile};

/// One read holds the longest frame whole.
const WINDOW_BYTES: usize = BLOCK_BYTES_MAX;

/// A segment open for reading, with one window of it in memory.
pub struct FrameReader {
    file: Arc<dyn StorageFile>,
    bytes: u64,
    window: AlignedBytes,
    window_start: u64,
    window_bytes: usize,
}

impl FrameReader {
    pub fn open(storage: &dyn Storage, path: &Path) -> io::Result<FrameReader> {
        let file = storage.open(path, Access::Read)?;
        let bytes = file.bytes()?;
        Ok(FrameReader {
            file,
            bytes,
            window: AlignedBytes::zeroed(WINDOW_BYTES),
            window_start: 0,
            window_bytes: 0,
        })
    }

    /// The same for another segment, with the memory of this one.
    pub fn reopen(self, storage: &dyn Storage, path: &Path) -> io::Result<FrameReader> {
        let file = storage.open(path, Access::Read)?;
        let bytes = file.bytes()?;
        Ok(FrameReader { file, bytes, window_start: 0, window_bytes: 0, ..self })
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Forgets what was read: the file may have grown into it.
    pub fn forget(&mut self) {
        self.window_bytes = 0;
    }

    /// `want` bytes from `offset`, fewer only at the end of the file.
    fn bytes_at(&mut self, offset: u64, want: usize) -> io::Result<&[u8]> {
        let want = want.min(usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(want));
        let window_end = self.window_start + self.window_bytes as u64;
        if offset < self.window_start || offset + want as u64 > window_end {
            self.window_bytes = 0;
            self.window_bytes = self.file.read_at(&mut self.window, offset)?;
            self.window_start = offset;
        }
        let start = (offset - self.window_start) as usize;
        Ok(&self.window[start..self.window_bytes.min(start + want).max(start)])
    }

    pub fn header(&mut self) -> io::Result<Option<SegmentHeader>> {
        Ok(SegmentHeader::decode(self.bytes_at(0, PAGE_BYTES)?))
    }

    /// What the frame at `offset` says of itself; its payload is not looked at.
    pub fn peek_at(&mut self, offset: u64) -> io::Result<Result<BlockHeader, BlockError>> {
        Ok(BlockHeader::decode(self.bytes_at(offset, HEADER_BYTES)?))
    }

    /// The block whose frame begins at `offset`, header and payload.
    pub fn block_at(
        &mut self,
        offset: u64,
    ) -> io::Result<Result<(BlockHeader, &[u8]), BlockError>> {
        let header = match BlockHeader::decode(self.bytes_at(offset, HEADER_BYTES)?) {
            Ok(header) => header,
            Err(error) => return Ok(Err(error)),
        };
        let block = self.bytes_at(offset, header.block_bytes())?;
        Ok(BlockHeader::decode_block(block).map(|(header, _)| (header, block)))
    }
}

/// Consecutive whole frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundRun {
    pub offset: u64,
    /// Offset behind its last frame.
    pub end: u64,
    pub first_sequence: u64,
    pub last_sequence: u64,
    /// The last of its sequences that ends a request; None where all of it is inside one chain.
    pub last_whole: Option<u64>,
}

/// All that one segment holds.
#[derive(Clone, Debug)]
pub struct FoundSegment {
    pub number: u64,
    pub path: PathBuf,
    pub bytes: u64,
    /// None: damaged. Its frames are believed if they fit between its neighbours'.
    pub header: Option<SegmentHeader>,
    /// The header's, or that of the first frame where there is no header.
    pub epoch: u64,
    pub runs: Vec<FoundRun>,
    /// The lowest sequence of a frame of this segment's whose header can be read, and not its rows.
    pub broken_from: Option<u64>,
    /// The highest of its frames' `durable_through`.
    pub durable_through: u64,
    pub blocks: u64,
    pub rows: u64,
    /// Headers and payloads, without padding.
    pub block_bytes: u64,
    /// Blocks whose checksum is right but whose rows cannot be walked or counted; only looked for
    /// where asked.
    pub blocks_with_bad_rows: u64,
}

impl FoundSegment {
    pub fn sequence_floor(&self) -> u64 {
        self.header.map_or(0, |header| header.sequence_floor)
    }

    fn add(&mut self, offset: u64, header: &BlockHeader) {
        let sequence = header.id.sequence;
        let end = offset + frame_bytes(header.block_bytes()) as u64;
        let whole = (!header.continues()).then_some(sequence);
        match self.runs.last_mut() {
            Some(run) if run.end == offset && run.last_sequence + 1 == sequence => {
                run.end = end;
                run.last_sequence = sequence;
                run.last_whole = whole.or(run.last_whole);
            }
            _ => self.runs.push(FoundRun {
                offset,
                end,
                first_sequence: sequence,
                last_sequence: sequence,
                last_whole: whole,
            }),
        }
        self.durable_through = self.durable_through.max(header.durable_through);
        self.blocks += 1;
        self.rows += u64::from(header.row_count);
        self.block_bytes += header.block_bytes() as u64;
    }
}

/// Reads the whole segment. `walk_rows` checks the rows inside the blocks too.
pub fn scan_segment(
    reader: &mut FrameReader,
    path: &Path,
    number: u64,
    journal_id: JournalId,
    walk_rows: bool,
) -> io::Result<FoundSegment> {
    let header = reader
        .header()?
        .filter(|header| header.journal_id == journal_id && header.number == number);
    let mut found = FoundSegment {
        number,
        path: path.to_path_buf(),
        bytes: reader.bytes(),
        header,
        epoch: header.map_or(0, |header| header.epoch),
        runs: Vec::new(),
        broken_from: None,
        durable_through: 0,
        blocks: 0,
        rows: 0,
        block_bytes: 0,
        blocks_with_bad_rows: 0,
    };
    let mut last_sequence = found.sequence_floor().saturating_sub(1);
    let mut offset = FRAMES_OFFSET;
    while offset < found.bytes {
        let belongs = |block: &BlockHeader| {
            block.id.journal_id == journal_id
                && block.id.sequence > last_sequence
                && (block.id.epoch == found.epoch
                    || (header.is_none() && found.epoch == 0)
                    || is_planted(Planted::StaleFrame))
        };
        match reader.block_at(offset)? {
            Ok((block, bytes)) if belongs(&block) => {
                if walk_rows {
                    let (mut good, mut bad) = (0, 0);
                    for row in Rows::new(&bytes[HEADER_BYTES..]) {
                        *(if row.is_ok() { &mut good } else { &mut bad }) += 1;
                    }
                    found.blocks_with_bad_rows += u64::from(bad > 0 || good != block.row_count);
                }
                found.epoch = block.id.epoch;
                last_sequence = block.id.sequence;
                found.add(offset, &block);
                offset += frame_bytes(block.block_bytes()) as u64;
            }
            Ok(_) => offset += PAGE_BYTES as u64,
            Err(_) => {
                if let Ok(broken) = reader.peek_at(offset)?
                    && belongs(&broken)
                {
                    let sequence = broken.id.sequence;
                    found.broken_from =
                        Some(found.broken_from.map_or(sequence, |at| at.min(sequence)));
                }
                offset += PAGE_BYTES as u64;
            }
        }
    }
    Ok(found)
}
