//! From what the segments hold to what the log is: which frames count, where the log ends, and what
//! acknowledged data is damaged. No I/O: recovery and `journal verify` share it.
//!
//! See the folder's header for why `durable_through`, the floors and the checkpoint decide between
//! damage and a torn tail.

use std::ops::Range;

use super::catalog::{Run, Segment};
use super::scan::{FoundRun, FoundSegment};
use super::segment::FRAMES_OFFSET;

/// Acknowledged blocks that are not readable any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    pub first_sequence: u64,
    pub last_sequence: u64,
    /// The bad frames lie in these segments or between them.
    pub first_segment: u64,
    pub last_segment: u64,
}

impl Damage {
    pub fn blocks(&self) -> u64 {
        self.last_sequence - self.first_sequence + 1
    }
}

#[derive(Debug)]
pub struct Resolved {
    /// In the order of what was found.
    pub segments: Vec<Segment>,
    pub damage: Vec<Damage>,
    /// The end of the log; the next epoch begins behind it.
    pub last_sequence: u64,
    /// Whole blocks behind an end of the log, never acknowledged.
    pub dropped_blocks: u64,
    pub epoch_max: u64,
}

struct Walk<'a> {
    found: &'a [FoundSegment],
    accepted: Vec<Vec<FoundRun>>,
    damage: Vec<Damage>,
    dropped_blocks: u64,
    known: Known,
    /// The next sequence, once a first one is known.
    expected: Option<u64>,
    /// Where the last accepted frame lies.
    at: usize,
}

/// What is known besides the segments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// The sequence of the first frame, where a segment before it was skipped.
    pub first_sequence: Option<u64>,
    /// All up to here was forwarded once, so it was durable.
    pub durable_through: u64,
    /// What comes after the checkpoint, if that is of this boot: an older one may be behind what has
    /// been removed since.
    pub next_to_forward: Option<u64>,
}

pub fn resolve(found: &[FoundSegment], known: Known) -> Resolved {
    let epochs = epochs_of(found);
    let mut walk = Walk {
        found,
        accepted: vec![Vec::new(); found.len()],
        damage: Vec::new(),
        dropped_blocks: 0,
        expected: known.first_sequence.or_else(|| first_of_all(found)),
        known,
        at: 0,
    };
    for group in groups(&epochs) {
        let cut = Cut::before(found.get(group.end));
        walk.epoch(group, cut);
    }
    let end = walk.expected.unwrap_or(known.durable_through + 1) - 1;
    let last_sequence = walk.trim_incomplete_chain(end);
    Resolved {
        segments: catalog_of(found, &epochs, &walk.accepted),
        damage: walk.damage,
        last_sequence,
        dropped_blocks: walk.dropped_blocks,
        epoch_max: epochs.last().copied().unwrap_or(0),
    }
}

/// A segment without a header and without frames counts to the epoch before it.
fn epochs_of(found: &[FoundSegment]) -> Vec<u64> {
    let mut epoch = 0;
    found
        .iter()
        .map(|segment| {
            epoch = segment.epoch.max(epoch);
            epoch
        })
        .collect()
}

fn groups(epochs: &[u64]) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (index, epoch) in epochs.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if epochs[group.start] == *epoch => group.end = index + 1,
            _ => groups.push(index..index + 1),
        }
    }
    groups
}

/// The first segment of a journal begins with 1. Of an older one nobody knows: what its predecessor
/// held is gone.
fn first_of_all(found: &[FoundSegment]) -> Option<u64> {
    found.first().filter(|segment| segment.number == 1).map(|_| 1)
}

/// Where the epoch after the one in question begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// There is none, or nothing of its beginning can be read.
    Unknown,
    /// The start that began there took all below it for good.
    At(u64),
    /// Its first frame is not readable, nor its header: here, or before.
    AtMost(u64),
}

impl Cut {
    /// `next`: the first segment of the epoch behind.
    fn before(next: Option<&FoundSegment>) -> Cut {
        let Some(next) = next else { return Cut::Unknown };
        match (next.header, next.runs.first()) {
            (Some(header), _) => Cut::At(header.sequence_floor),
            (None, Some(run)) if run.offset == FRAMES_OFFSET => Cut::At(run.first_sequence),
            (None, Some(run)) => Cut::AtMost(run.first_sequence),
            (None, None) => Cut::Unknown,
        }
    }

    /// No frame of the epoch from there on counts.
    fn bound(self) -> Option<u64> {
        match self {
            Cut::Unknown => None,
            Cut::At(cut) | Cut::AtMost(cut) => Some(cut),
        }
    }
}

impl Walk<'_> {
    fn epoch(&mut self, group: Range<usize>, cut: Cut) {
        let durable_through = match cut {
            Cut::At(cut) => cut - 1,
            Cut::AtMost(_) | Cut::Unknown => self.found[group.clone()]
                .iter()
                .map(|segment| segment.durable_through.max(segment.sequence_floor().max(1) - 1))
                .fold(self.known.durable_through, u64::max),
        };
        let mut ended = false;
        for index in group.clone() {
            let found = self.found;
            for run in &found[index].runs {
                ended = ended || !self.accept(index, *run, cut, durable_through);
                if ended {
                    self.dropped_blocks += run.last_sequence - run.first_sequence + 1;
                }
            }
        }
        if let Cut::AtMost(_) = cut
            && let Some(expected) = self.expected
        {
            // The start behind it dropped an unfinished chain; where it began does not say so now.
            self.expected = Some(self.trim_incomplete_chain(expected - 1) + 1);
        }
        if self.expected.is_none() {
            // Nothing of the oldest segment counts, but a frame whose rows cannot be read still says
            // which it is.
            let broken = group.clone().filter_map(|index| self.found[index].broken_from);
            self.expected = broken.min().filter(|first| *first <= durable_through);
        }
        if let Some(expected) = self.expected.or(self.known.next_to_forward)
            && expected <= durable_through
        {
            self.report(expected, durable_through, group.end - 1);
        }
        self.expected = match cut {
            Cut::At(cut) => Some(cut),
            Cut::AtMost(_) | Cut::Unknown => {
                Some(self.expected.unwrap_or(0).max(durable_through + 1))
            }
        };
    }

    /// False: the log ends before this run.
    fn accept(&mut self, index: usize, mut run: FoundRun, cut: Cut, durable_through: u64) -> bool {
        if let Some(bound) = cut.bound() {
            if run.first_sequence >= bound {
                return false;
            }
            if run.last_sequence >= bound {
                self.dropped_blocks += run.last_sequence - (bound - 1);
                run.last_sequence = bound - 1;
                run.last_whole = match cut {
                    Cut::At(_) => Some(run.last_sequence),
                    _ => run.last_whole.map(|whole| whole.min(run.last_sequence)),
                };
            }
        }
        let expected = match self.expected {
            Some(expected) => expected,
            None if index == 0 && run.offset == FRAMES_OFFSET => run.first_sequence,
            // Something bad opens the oldest segment. What it was begins at the floor, or later.
            None if run.first_sequence - 1 > durable_through => return false,
            None => {
                let floor = self.found[0].sequence_floor().max(1);
                floor.max(self.known.next_to_forward.unwrap_or(0)).min(run.first_sequence)
            }
        };
        if run.first_sequence < expected {
            self.dropped_blocks += run.last_sequence - run.first_sequence + 1;
            return true;
        }
        if run.first_sequence > expected {
            if run.first_sequence - 1 > durable_through {
                return false;
            }
            self.report(expected, run.first_sequence - 1, index);
        }
        self.expected = Some(run.last_sequence + 1);
        self.accepted[index].push(run);
        self.at = index;
        true
    }

    fn report(&mut self, first_sequence: u64, last_sequence: u64, index: usize) {
        self.damage.push(Damage {
            first_sequence,
            last_sequence,
            first_segment: self.found[self.at].number,
            last_segment: self.found[index].number,
        });
    }

    /// A request whose last block is missing at the end of the log was never acknowledged.
    fn trim_incomplete_chain(&mut self, mut end: u64) -> u64 {
        for runs in self.accepted.iter_mut().rev() {
            while let Some(run) = runs.last_mut() {
                if run.last_sequence != end {
                    return end;
                }
                if let Some(whole) = run.last_whole {
                    self.dropped_blocks += end - whole;
                    run.last_sequence = whole;
                    return whole;
                }
                self.dropped_blocks += end - (run.first_sequence - 1);
                end = run.first_sequence - 1;
                runs.pop();
            }
        }
        end
    }
}

fn catalog_of(found: &[FoundSegment], epochs: &[u64], accepted: &[Vec<FoundRun>]) -> Vec<Segment> {
    let mut last_sequence = 0;
    let mut segments = Vec::with_capacity(found.len());
    for ((segment, epoch), runs) in found.iter().zip(epochs).zip(accepted) {
        last_sequence = runs.last().map_or(last_sequence, |run| run.last_sequence);
        segments.push(Segment {
            number: segment.number,
            path: segment.path.clone(),
            epoch: *epoch,
            bytes: segment.bytes,
            used_bytes: runs.last().map_or(FRAMES_OFFSET, |run| run.end),
            runs: runs
                .iter()
                .map(|run| Run {
                    offset: run.offset,
                    first_sequence: run.first_sequence,
                    last_sequence: run.last_sequence,
                })
                .collect(),
            last_sequence,
            forwarded_at: None,
        });
    }
    segments
}
