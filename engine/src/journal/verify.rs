//! What a journal's directory holds, for people. Reads only, takes no lock: of a running engine the
//! last blocks may look torn because they are being written.

use std::fmt;
use std::path::{Path, PathBuf};

use super::identity::{self, BootId, CheckpointState};
use super::recovery::{io_error, list_segments};
use super::resolve::{Damage, Known, resolve};
use super::scan::{FrameReader, scan_segment};
use super::storage::{DiskStorage, Storage};
use super::{JournalError, shard_dirs};
use crate::environment::Machine;

#[derive(Clone, Debug)]
pub struct SegmentReport {
    pub number: u64,
    pub epoch: u64,
    pub bytes: u64,
    /// Whole frames, those that do not count (see [`ShardReport::dropped_blocks`]) included.
    pub blocks: u64,
    pub rows: u64,
    pub block_bytes: u64,
    pub first_sequence: Option<u64>,
    pub last_sequence: Option<u64>,
    pub header_damaged: bool,
    /// Checksum right, rows not walkable or not as many as the header says: a bug, not the disk.
    pub blocks_with_bad_rows: u64,
}

#[derive(Clone, Debug)]
pub struct ShardReport {
    pub dir: PathBuf,
    pub journal_id: proto::JournalId,
    pub checkpoint: CheckpointState,
    pub forwarded_through: u64,
    pub last_sequence: u64,
    /// Whole blocks behind a torn tail.
    pub dropped_blocks: u64,
    pub damage: Vec<Damage>,
    pub segments: Vec<SegmentReport>,
}

#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    pub shards: Vec<ShardReport>,
}

impl VerifyReport {
    /// Nothing that was acknowledged is damaged.
    pub fn is_good(&self) -> bool {
        self.shards.iter().all(|shard| {
            shard.damage.is_empty()
                && shard
                    .segments
                    .iter()
                    .all(|segment| !segment.header_damaged && segment.blocks_with_bad_rows == 0)
        })
    }
}

/// Reads a journal's directory, or that of one shard.
pub fn verify(dir: &Path) -> Result<VerifyReport, JournalError> {
    verify_on(&DiskStorage, dir)
}

pub fn verify_on(storage: &dyn Storage, dir: &Path) -> Result<VerifyReport, JournalError> {
    let dirs = shard_dirs(storage, dir)?;
    if dirs.is_empty() {
        return Ok(VerifyReport { shards: vec![verify_shard(storage, dir)?] });
    }
    let shards = dirs.iter().map(|(_, dir)| verify_shard(storage, dir));
    Ok(VerifyReport { shards: shards.collect::<Result<_, _>>()? })
}

fn verify_shard(storage: &dyn Storage, dir: &Path) -> Result<ShardReport, JournalError> {
    let paths = list_segments(storage, dir)?;
    let named = identity::read_id(storage, dir).map_err(io_error("read", dir))?;
    let journal_id = match named {
        Some(id) => id,
        None => id_of_segments(storage, dir, &paths)?,
    };
    let boot_id = BootId::current(&Machine);
    let (checkpoint, forwarded_through) =
        identity::read_checkpoint(storage, dir, journal_id, boot_id)
            .map_err(io_error("read", dir))?;
    let mut found = Vec::with_capacity(paths.len());
    for (number, path) in &paths {
        let mut reader = FrameReader::open(storage, path).map_err(io_error("open", path))?;
        let segment = scan_segment(&mut reader, path, *number, journal_id, true);
        found.push(segment.map_err(io_error("read", path))?);
    }
    let of_this_boot = checkpoint == CheckpointState::Good;
    let known = Known {
        first_sequence: None,
        durable_through: forwarded_through,
        next_to_forward: of_this_boot.then_some(forwarded_through + 1),
    };
    let resolved = resolve(&found, known);
    let segments = found.iter().map(|segment| SegmentReport {
        number: segment.number,
        epoch: segment.epoch,
        bytes: segment.bytes,
        blocks: segment.blocks,
        rows: segment.rows,
        block_bytes: segment.block_bytes,
        first_sequence: segment.runs.first().map(|run| run.first_sequence),
        last_sequence: segment.runs.last().map(|run| run.last_sequence),
        header_damaged: segment.header.is_none(),
        blocks_with_bad_rows: segment.blocks_with_bad_rows,
    });
    Ok(ShardReport {
        dir: dir.to_path_buf(),
        journal_id,
        checkpoint,
        forwarded_through,
        last_sequence: resolved.last_sequence,
        dropped_blocks: resolved.dropped_blocks,
        damage: resolved.damage,
        segments: segments.collect(),
    })
}

fn id_of_segments(
    storage: &dyn Storage,
    dir: &Path,
    paths: &[(u64, PathBuf)],
) -> Result<proto::JournalId, JournalError> {
    if paths.is_empty() {
        return Err(JournalError::NoShard(dir.to_path_buf()));
    }
    for (_, path) in paths {
        let mut reader = FrameReader::open(storage, path).map_err(io_error("open", path))?;
        if let Some(header) = reader.header().map_err(io_error("read", path))? {
            return Ok(header.journal_id);
        }
    }
    Err(JournalError::Identity { dir: dir.to_path_buf() })
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for shard in &self.shards {
            writeln!(f, "{}: journal {}", shard.dir.display(), shard.journal_id)?;
            for segment in &shard.segments {
                write!(f, "  {segment}")?;
            }
            writeln!(
                f,
                "  log ends at block {}, forwarded through {} (checkpoint: {:?})",
                shard.last_sequence, shard.forwarded_through, shard.checkpoint
            )?;
            if shard.dropped_blocks > 0 {
                writeln!(
                    f,
                    "  torn tail: {} whole blocks behind an end of the log, never acknowledged",
                    shard.dropped_blocks
                )?;
            }
            for gap in &shard.damage {
                writeln!(
                    f,
                    "  DAMAGE: acknowledged blocks {} to {} cannot be read (segments {} to {})",
                    gap.first_sequence, gap.last_sequence, gap.first_segment, gap.last_segment
                )?;
            }
        }
        writeln!(f, "{}", if self.is_good() { "good" } else { "DAMAGED" })
    }
}

impl fmt::Display for SegmentReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {}: epoch {}, ", self.number, self.epoch)?;
        match (self.first_sequence, self.last_sequence) {
            (Some(first), Some(last)) => write!(f, "blocks {first} to {last}: ")?,
            _ => write!(f, "no blocks: ")?,
        }
        write!(f, "{} blocks, {} rows, {} bytes", self.blocks, self.rows, self.block_bytes)?;
        if self.header_damaged {
            write!(f, ", HEADER DAMAGED")?;
        }
        if self.blocks_with_bad_rows > 0 {
            write!(f, ", {} blocks WITH BAD ROWS", self.blocks_with_bad_rows)?;
        }
        writeln!(f)
    }
}
