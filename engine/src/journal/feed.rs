//! The reading end of a shard's journal, owned by the forwarder's thread: durable blocks in order of
//! their sequences, from memory where they still are, else from disk.
//!
//! Never gives a block before its whole chain is durable, never waits for new data, and never skips a
//! block silently: what cannot be read is an error first.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use proto::{BlockHeader, JournalId};

use super::buffer::{PAGE_BYTES, frame_bytes};
use super::catalog::{Backlog, Shared};
use super::identity::{BootId, CHECKPOINT_FILE, Checkpoint};
use super::scan::FrameReader;
use super::storage::Storage;
use super::tail::{Body, Delivery};
use crate::environment::Environment;

#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// Try again later.
    #[error("cannot {action} {path}: {cause}")]
    Io { action: &'static str, path: PathBuf, cause: io::Error },
    /// These acknowledged blocks are lost; the next call goes on behind them. Alert.
    #[error("acknowledged blocks {first_sequence} to {last_sequence} cannot be read")]
    Damaged { first_sequence: u64, last_sequence: u64 },
}

/// A durable block. Dropping it gives its memory back to the shard.
pub struct FeedBlock {
    pub header: BlockHeader,
    body: Body,
}

impl FeedBlock {
    /// The rows.
    pub fn payload(&self) -> &[u8] {
        self.body.payload()
    }

    /// Header and payload, as they lie in the journal.
    pub fn bytes(&self) -> &[u8] {
        self.body.block()
    }
}

/// Where the next frame lies if it follows the last one.
#[derive(Clone, Copy)]
struct Position {
    segment_number: u64,
    offset: u64,
    sequence: u64,
}

struct OpenSegment {
    number: u64,
    reader: FrameReader,
}

pub(super) struct FeedParts {
    pub storage: Arc<dyn Storage>,
    pub dir: PathBuf,
    pub journal_id: JournalId,
    pub boot_id: BootId,
    pub environment: Arc<dyn Environment>,
    pub shared: Arc<Shared>,
    pub tail: Receiver<Delivery>,
    pub checkpoint_interval: Duration,
}

pub struct Feed {
    parts: FeedParts,
    next_sequence: u64,
    /// The first that was never given out, where [`Feed::seek`] went back before it.
    unread: u64,
    /// Taken from the tail and ahead of what comes next.
    ahead: Option<Delivery>,
    position: Option<Position>,
    open: Option<OpenSegment>,
    /// The last forwarded sequence that the checkpoint does not say yet.
    unsaved: Option<u64>,
    saved_at: Option<Instant>,
}

/// The run that a sequence lies in.
struct Place {
    number: u64,
    path: PathBuf,
    epoch: u64,
    offset: u64,
    first_sequence: u64,
    last_sequence: u64,
}

impl Feed {
    pub(super) fn new(parts: FeedParts) -> Feed {
        Feed {
            next_sequence: parts.shared.forwarded_through() + 1,
            unread: 0,
            parts,
            ahead: None,
            position: None,
            open: None,
            unsaved: None,
            saved_at: None,
        }
    }

    /// The next durable block, if there is one. After an [`FeedError::Io`] the same block is tried
    /// again.
    pub fn next_block(&mut self) -> Result<Option<FeedBlock>, FeedError> {
        if self.next_sequence > self.parts.shared.released_through() {
            self.save_if_due()?;
            return Ok(None);
        }
        self.look_ahead();
        if let Some(delivery) =
            self.ahead.take_if(|ahead| ahead.header.id.sequence == self.next_sequence)
        {
            self.position = Some(Position {
                segment_number: delivery.segment_number,
                offset: delivery.end,
                sequence: self.next_sequence + 1,
            });
            self.next_sequence += 1;
            return Ok(Some(FeedBlock { header: delivery.header, body: delivery.body }));
        }
        self.read_disk().map(Some)
    }

    /// All up to `sequence` has arrived where it was sent. The checkpoint says so with this
    /// call or, where the last was just written, with a later one of any method; then segments are
    /// free.
    pub fn mark_forwarded(&mut self, sequence: u64) -> Result<(), FeedError> {
        assert!(sequence < self.first_unread(), "only what was given out can have arrived");
        if sequence > self.parts.shared.forwarded_through() {
            self.parts.shared.set_forwarded(sequence);
            self.unsaved = Some(sequence);
        }
        self.save_if_due()
    }

    /// Begins again behind the last forwarded block.
    pub fn rewind(&mut self) {
        self.seek(self.parts.shared.forwarded_through() + 1);
        self.position = None;
    }

    /// The next block is the one of `sequence`, which was given out before, or is
    /// [`Feed::first_unread`].
    pub fn seek(&mut self, sequence: u64) {
        self.unread = self.first_unread();
        assert!(sequence <= self.unread, "what was never given out comes in order");
        self.next_sequence = sequence;
    }

    /// The first sequence that was never given out.
    pub fn first_unread(&self) -> u64 {
        self.unread.max(self.next_sequence)
    }

    /// Whether there is a block that was never given out.
    pub fn has_unread(&self) -> bool {
        self.first_unread() <= self.parts.shared.released_through()
    }

    pub fn backlog(&self) -> Backlog {
        self.parts.shared.backlog()
    }

    /// Whether all that is durable has been forwarded.
    pub fn is_drained(&self) -> bool {
        self.parts.shared.forwarded_through() >= self.parts.shared.released_through()
    }

    pub fn journal_id(&self) -> JournalId {
        self.parts.journal_id
    }

    pub(super) fn dir(&self) -> &Path {
        &self.parts.dir
    }

    fn save_if_due(&mut self) -> Result<(), FeedError> {
        let FeedParts { environment, checkpoint_interval, .. } = &self.parts;
        let rests = |at| environment.now().saturating_duration_since(at) < *checkpoint_interval;
        if self.unsaved.is_none() || self.saved_at.is_some_and(rests) {
            return Ok(());
        }
        self.save_checkpoint()
    }

    /// Writes the checkpoint now, if it is behind.
    pub fn save_checkpoint(&mut self) -> Result<(), FeedError> {
        let Some(forwarded_through) = self.unsaved else { return Ok(()) };
        let checkpoint = Checkpoint {
            journal_id: self.parts.journal_id,
            forwarded_through,
            boot_id: self.parts.boot_id,
        };
        let path = self.parts.dir.join(CHECKPOINT_FILE);
        self.saved_at = Some(self.parts.environment.now());
        self.parts
            .storage
            .replace_file(&path, &checkpoint.encode(), false)
            .map_err(io_error("write", &path))?;
        self.parts.shared.set_saved(forwarded_through);
        self.unsaved = None;
        Ok(())
    }

    fn look_ahead(&mut self) {
        let next = self.next_sequence;
        let behind = |ahead: &Delivery| ahead.header.id.sequence < next;
        while self.ahead.as_ref().is_none_or(behind) {
            match self.parts.tail.try_recv() {
                Ok(delivery) => self.ahead = Some(delivery),
                Err(_) => {
                    self.ahead = self.ahead.take().filter(|ahead| !behind(ahead));
                    return;
                }
            }
        }
    }

    fn read_disk(&mut self) -> Result<FeedBlock, FeedError> {
        let wanted = self.next_sequence;
        let place = match self.place(wanted) {
            Ok(place) => place,
            Err(next) => return Err(self.give_up(next)),
        };
        let journal_id = self.parts.journal_id;
        let mut segment = match self.open.take().filter(|open| open.number == place.number) {
            Some(open) => open,
            None => OpenSegment {
                number: place.number,
                reader: FrameReader::open(&*self.parts.storage, &place.path)
                    .map_err(io_error("open", &place.path))?,
            },
        };
        let follows = self.position.filter(|position| {
            position.segment_number == place.number && position.sequence == wanted
        });
        let from = follows.map_or(place.offset, |position| position.offset);
        let found = find_block(&mut segment.reader, journal_id, &place, from, wanted)
            .map_err(io_error("read", &place.path))?;
        let next = match found {
            Some((offset, header)) if header.id.sequence == wanted => {
                let body = match segment.reader.block_at(offset) {
                    Ok(Ok((_, block))) => Body::from_disk(block),
                    Ok(Err(_)) => return Err(self.give_up(wanted + 1)),
                    Err(error) => return Err(io_error("read", &place.path)(error)),
                };
                let offset = offset + frame_bytes(header.block_bytes()) as u64;
                let segment_number = place.number;
                self.position = Some(Position { segment_number, offset, sequence: wanted + 1 });
                self.open = Some(segment);
                self.next_sequence += 1;
                return Ok(FeedBlock { header, body });
            }
            Some((_, header)) => header.id.sequence,
            None => place.last_sequence + 1,
        };
        Err(self.give_up(next))
    }

    /// The run of `sequence`, or the first sequence behind it that lies in one.
    fn place(&self, sequence: u64) -> Result<Place, u64> {
        let released = self.parts.shared.released_through();
        let segments = self.parts.shared.segments();
        let behind = segments.partition_point(|segment| segment.last_sequence < sequence);
        for segment in segments.range(behind..) {
            for run in &segment.runs {
                let last_sequence = run.last_sequence.min(released);
                if last_sequence < sequence {
                    continue;
                }
                if run.first_sequence > sequence {
                    return Err(run.first_sequence);
                }
                return Ok(Place {
                    number: segment.number,
                    path: segment.path.clone(),
                    epoch: segment.epoch,
                    offset: run.offset,
                    first_sequence: run.first_sequence,
                    last_sequence,
                });
            }
        }
        Err(released + 1)
    }

    /// Goes on at `next` and says what was left out.
    fn give_up(&mut self, next: u64) -> FeedError {
        let first_sequence = std::mem::replace(&mut self.next_sequence, next);
        FeedError::Damaged { first_sequence, last_sequence: next - 1 }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // Without it the last blocks are forwarded twice.
        if let Err(error) = self.save_checkpoint() {
            tracing::warn!(%error, "the checkpoint is behind");
        }
    }
}

/// The block `wanted`, or the first readable one behind it in its run, looking from `from` on.
fn find_block(
    reader: &mut FrameReader,
    journal_id: JournalId,
    place: &Place,
    from: u64,
    wanted: u64,
) -> io::Result<Option<(u64, BlockHeader)>> {
    let belongs = |header: &BlockHeader| {
        header.id.journal_id == journal_id
            && header.id.epoch == place.epoch
            && (place.first_sequence..=place.last_sequence).contains(&header.id.sequence)
    };
    if let Ok((header, _)) = reader.block_at(from)?
        && belongs(&header)
        && header.id.sequence == wanted
    {
        return Ok(Some((from, header)));
    }
    // What is in the window may have been read before the frame was written.
    reader.forget();
    let mut at = from;
    while at < reader.bytes() {
        at += match reader.peek_at(at)? {
            Ok(header) if belongs(&header) => {
                if header.id.sequence >= wanted && reader.block_at(at)?.is_ok() {
                    return Ok(Some((at, header)));
                }
                match header.id.sequence < wanted {
                    true => frame_bytes(header.block_bytes()) as u64,
                    false => PAGE_BYTES as u64,
                }
            }
            Ok(_) | Err(_) => PAGE_BYTES as u64,
        };
    }
    Ok(None)
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FeedError + 'a {
    move |cause| FeedError::Io { action, path: path.to_path_buf(), cause }
}
