//! What a start makes of a shard's directory. Reads; beyond that it only removes half-made segments,
//! names a new journal, and puts copies of damaged segments aside.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use proto::JournalId;

use super::JournalError;
use super::catalog::Segment;
use super::identity::{self, BootId, CHECKPOINT_FILE, CheckpointState};
use super::resolve::{Damage, Known, resolve};
use super::scan::{FoundSegment, FrameReader, scan_segment};
use super::segment::{FRAMES_OFFSET, segment_number};
use super::storage::{Access, Storage};
use crate::environment::Environment;

/// What was found, for the log, `/readyz` and metrics.
#[derive(Clone, Debug)]
pub struct RecoveryReport {
    pub journal_id: JournalId,
    /// The highest epoch on disk; 0 for a new journal.
    pub epoch_found: u64,
    pub segments: usize,
    /// Of these, wholly forwarded and not read again.
    pub segments_skipped: usize,
    pub checkpoint: CheckpointState,
    pub last_sequence: u64,
    /// Blocks that the feed is going to deliver.
    pub blocks_to_forward: u64,
    /// Whole blocks behind a torn tail: never acknowledged, never forwarded.
    pub dropped_blocks: u64,
    /// Acknowledged data that cannot be read: alert.
    pub damage: Vec<Damage>,
    pub damaged_headers: Vec<u64>,
    pub quarantined: Vec<PathBuf>,
}

impl RecoveryReport {
    pub fn damaged_blocks(&self) -> u64 {
        self.damage.iter().map(Damage::blocks).sum()
    }
}

pub(super) struct Recovered {
    pub segments: VecDeque<Segment>,
    /// Prepared by an earlier start; nothing in them counts.
    pub free: Vec<(PathBuf, u64)>,
    pub next_number: u64,
    pub forwarded_through: u64,
    pub report: RecoveryReport,
}

pub(super) fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> JournalError + 'a {
    move |cause| JournalError::Io { action, path: path.to_path_buf(), cause }
}

/// The numbers and paths of a directory's segments, oldest first.
pub(super) fn list_segments(
    storage: &dyn Storage,
    dir: &Path,
) -> Result<Vec<(u64, PathBuf)>, JournalError> {
    let names = storage.list(dir).map_err(io_error("list", dir))?;
    // The names are sorted and their numbers have a fixed width.
    Ok(names.iter().filter_map(|name| Some((segment_number(name)?, dir.join(name)))).collect())
}

pub(super) fn recover(
    storage: &dyn Storage,
    environment: &dyn Environment,
    dir: &Path,
    boot_id: BootId,
) -> Result<Recovered, JournalError> {
    remove_half_made(storage, dir)?;
    let paths = list_segments(storage, dir)?;
    let journal_id = find_id(storage, environment, dir, &paths)?;
    let (checkpoint, checkpoint_through) =
        identity::read_checkpoint(storage, dir, journal_id, boot_id)
            .map_err(io_error("read", &dir.join(CHECKPOINT_FILE)))?;

    let forwarded = if checkpoint == CheckpointState::Good { checkpoint_through } else { 0 };
    let mut reader = None;
    let (skipped, first_sequence) =
        skip_forwarded(storage, &mut reader, &paths, journal_id, forwarded)?;
    let mut found = Vec::with_capacity(paths.len());
    for (number, path) in &paths[skipped.len()..] {
        let reader = open_next(&mut reader, storage, path)?;
        let segment = scan_segment(reader, path, *number, journal_id, false)
            .map_err(io_error("read", path))?;
        found.push(segment);
    }
    drop(reader);
    let known = Known {
        first_sequence,
        durable_through: checkpoint_through,
        next_to_forward: (checkpoint == CheckpointState::Good).then_some(forwarded + 1),
    };
    let mut resolved = resolve(&found, known);
    let damaged_headers: Vec<u64> = found
        .iter()
        .filter(|segment| segment.header.is_none())
        .map(|segment| segment.number)
        .collect();
    let quarantined = quarantine(storage, &found, &resolved.damage, &damaged_headers);
    let free = take_unused(&found, &mut resolved.segments);
    // What is lost is given out too, as an error.
    let first_kept = resolved
        .segments
        .iter()
        .flat_map(|segment| &segment.runs)
        .map(|run| run.first_sequence)
        .chain(resolved.damage.iter().map(|gap| gap.first_sequence));
    let forwarded_through = match checkpoint {
        CheckpointState::Good => forwarded,
        _ => first_kept.min().map_or(resolved.last_sequence, |first| first - 1),
    };
    let report = RecoveryReport {
        journal_id,
        epoch_found: resolved.epoch_max,
        segments: paths.len(),
        segments_skipped: skipped.len(),
        checkpoint,
        last_sequence: resolved.last_sequence,
        blocks_to_forward: blocks_after(&resolved.segments, forwarded_through),
        dropped_blocks: resolved.dropped_blocks,
        damage: resolved.damage,
        damaged_headers,
        quarantined,
    };
    for gap in &report.damage {
        let (first, last) = (gap.first_sequence, gap.last_sequence);
        tracing::error!(dir = %dir.display(), first, last, "acknowledged blocks are damaged");
    }
    for number in &report.damaged_headers {
        tracing::error!(dir = %dir.display(), number, "a segment's header is damaged");
    }
    Ok(Recovered {
        segments: skipped.into_iter().chain(resolved.segments).collect(),
        free,
        next_number: paths.last().map_or(1, |(number, _)| number + 1),
        forwarded_through,
        report,
    })
}

fn blocks_after(segments: &[Segment], forwarded_through: u64) -> u64 {
    let runs = segments.iter().flat_map(|segment| &segment.runs);
    runs.map(|run| {
        (run.last_sequence + 1).saturating_sub(run.first_sequence.max(forwarded_through + 1))
    })
    .sum()
}

/// A segment gets its name only when it is complete, so these hold nothing.
fn remove_half_made(storage: &dyn Storage, dir: &Path) -> Result<(), JournalError> {
    for name in storage.list(dir).map_err(io_error("list", dir))? {
        if name.ends_with(".tmp") {
            let path = dir.join(name);
            storage.remove(&path).map_err(io_error("remove", &path))?;
        }
    }
    Ok(())
}

/// One window of memory serves all segments in turn.
fn open_next<'a>(
    reader: &'a mut Option<FrameReader>,
    storage: &dyn Storage,
    path: &Path,
) -> Result<&'a mut FrameReader, JournalError> {
    let opened = match reader.take() {
        Some(last) => last.reopen(storage, path),
        None => FrameReader::open(storage, path),
    };
    Ok(reader.insert(opened.map_err(io_error("open", path))?))
}

/// A directory without segments gets a new name: nobody knows which sequences the old one has used.
fn find_id(
    storage: &dyn Storage,
    environment: &dyn Environment,
    dir: &Path,
    paths: &[(u64, PathBuf)],
) -> Result<JournalId, JournalError> {
    let path = dir.join(identity::ID_FILE);
    if paths.is_empty() {
        let id = identity::random_id(environment);
        match storage.remove(&dir.join(CHECKPOINT_FILE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io_error("remove", &path)(error));
            }
            _ => {}
        }
        identity::write_id(storage, dir, id).map_err(io_error("write", &path))?;
        return Ok(id);
    }
    if let Some(id) = identity::read_id(storage, dir).map_err(io_error("read", &path))? {
        return Ok(id);
    }
    for (_, segment) in paths {
        let mut reader = FrameReader::open(storage, segment).map_err(io_error("open", segment))?;
        if let Some(header) = reader.header().map_err(io_error("read", segment))? {
            identity::write_id(storage, dir, header.journal_id)
                .map_err(io_error("write", &path))?;
            return Ok(header.journal_id);
        }
    }
    Err(JournalError::Identity { dir: dir.to_path_buf() })
}

/// Segments below one whose first frame is at most the next to be forwarded need not be read. Gives
/// them, and that frame's sequence.
fn skip_forwarded(
    storage: &dyn Storage,
    reader: &mut Option<FrameReader>,
    paths: &[(u64, PathBuf)],
    journal_id: JournalId,
    forwarded_through: u64,
) -> Result<(Vec<Segment>, Option<u64>), JournalError> {
    for index in (1..paths.len()).rev() {
        let path = &paths[index].1;
        let reader = open_next(reader, storage, path)?;
        let Some(header) = reader.header().map_err(io_error("read", path))? else { continue };
        let Ok((block, _)) = reader.block_at(FRAMES_OFFSET).map_err(io_error("read", path))? else {
            continue;
        };
        if header.journal_id == journal_id
            && header.number == paths[index].0
            && block.id.journal_id == journal_id
            && block.id.epoch == header.epoch
            && block.id.sequence >= header.sequence_floor
            && block.id.sequence <= forwarded_through + 1
        {
            let first = block.id.sequence;
            let skipped = paths[..index].iter().map(|(number, path)| {
                let file = storage.open(path, Access::Read).map_err(io_error("open", path))?;
                Ok(Segment {
                    number: *number,
                    path: path.clone(),
                    epoch: header.epoch,
                    bytes: file.bytes().map_err(io_error("measure", path))?,
                    used_bytes: FRAMES_OFFSET,
                    runs: Vec::new(),
                    last_sequence: first - 1,
                    forwarded_at: None,
                })
            });
            return Ok((skipped.collect::<Result<_, JournalError>>()?, Some(first)));
        }
    }
    Ok((Vec::new(), None))
}

/// Takes the segments at the end that hold nothing that counts: paths and bytes. The keeper uses them
/// from the last to the first, so that a kill in between leaves a log with the same end. One with a
/// damaged header is not among them.
fn take_unused(found: &[FoundSegment], segments: &mut Vec<Segment>) -> Vec<(PathBuf, u64)> {
    let used = found
        .iter()
        .zip(&*segments)
        .rposition(|(found, segment)| found.header.is_none() || !segment.runs.is_empty())
        .map_or(0, |index| index + 1);
    segments.drain(used..).map(|segment| (segment.path, segment.bytes)).collect()
}

/// Copies, because the good frames are still to be forwarded from the segment, which is then used
/// again. A copy of an earlier start is kept as it is.
fn quarantine(
    storage: &dyn Storage,
    found: &[FoundSegment],
    damage: &[Damage],
    damaged_headers: &[u64],
) -> Vec<PathBuf> {
    let mut copies = Vec::new();
    for segment in found {
        let number = segment.number;
        let damaged = damaged_headers.contains(&number)
            || damage.iter().any(|gap| (gap.first_segment..=gap.last_segment).contains(&number));
        if !damaged {
            continue;
        }
        let copy = segment.path.with_extension("jnl.quarantined");
        if storage.open(&copy, Access::Read).is_err()
            && let Err(error) = storage.copy(&segment.path, &copy)
        {
            // The copy is for people; the good blocks must not wait for room on the disk.
            tracing::error!(segment = %segment.path.display(), %error, "cannot quarantine");
            continue;
        }
        copies.push(copy);
    }
    copies
}
