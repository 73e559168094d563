//! What befalls the files of a journal at rest, edit by edit, and what of them is still as it was.

use std::path::{Path, PathBuf};

use engine::journal::simulated_disk::SimulatedDisk;
use engine::journal::storage::Storage;
use proto::BlockHeader;
use proto::block::HEADER_BYTES;

use super::ROOT;
use super::history::{History, PAGE_BYTES};

const EDITS_MAX: usize = 12;
const EDIT_BYTES: usize = 6;
const ID_FILE: &str = "journal.id";
const CHECKPOINT_FILE: &str = "forwarded.ckpt";
/// What a segment's header has before its padding; its floor and the checksum end it.
const SEGMENT_HEADER_BYTES: usize = 64;
const FLOOR_OFFSET: usize = 48;
const FORWARDED_OFFSET: usize = 24;

/// A whole block on a page's boundary.
pub struct Frame {
    pub offset: usize,
    pub header: BlockHeader,
    /// Header and payload.
    pub bytes: Vec<u8>,
}

/// Every whole block behind a segment's first page, whatever it belongs to.
pub fn frames_of(segment: &[u8]) -> Vec<Frame> {
    (PAGE_BYTES..segment.len())
        .step_by(PAGE_BYTES)
        .filter_map(|offset| {
            let (header, _) = BlockHeader::decode_block(&segment[offset..]).ok()?;
            let bytes = segment[offset..offset + header.block_bytes()].to_vec();
            Some(Frame { offset, header, bytes })
        })
        .collect()
}

fn is_segment(name: &Path) -> bool {
    name.extension().is_some_and(|extension| extension == "jnl")
}

/// A journal's files after the edits.
pub struct Edited {
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// Every file is there and as long as it was, and no edit has made up a right checksum.
    pub in_place: bool,
    pub is_untouched: bool,
    before: Vec<(PathBuf, Vec<u8>)>,
}

/// One edit: what, to which file and page, where in it, and a value.
struct Edit<'a> {
    what: u8,
    file: usize,
    page: usize,
    place: usize,
    value: u8,
    /// The bytes behind the edit.
    rest: &'a [u8],
}

impl Edited {
    pub fn new(history: &History, edits: &[u8]) -> Edited {
        let before = history.files.clone();
        let mut edited =
            Edited { files: before.clone(), in_place: true, is_untouched: false, before };
        let mut rest = edits;
        for _ in 0..EDITS_MAX {
            let Some((edit, after)) = rest.split_first_chunk::<EDIT_BYTES>() else { break };
            let [what, file, page, low, high, value] = *edit;
            rest = after;
            if edited.files.is_empty() {
                break;
            }
            let file = usize::from(file) % edited.files.len();
            let place = usize::from(u16::from_le_bytes([low, high]));
            edited.apply(&Edit { what, file, page: usize::from(page), place, value, rest });
            if what % 10 == 3 {
                rest = &rest[rest.len().min(usize::from(value % 64))..];
            }
        }
        edited.is_untouched = edited.files == edited.before;
        edited
    }

    fn apply(&mut self, edit: &Edit<'_>) {
        let files = self.files.len();
        let bytes = &mut self.files[edit.file].1;
        // A small file has one page, and no edit lengthens any.
        let pages = bytes.len().div_ceil(PAGE_BYTES).max(1);
        let page = edit.page % pages * PAGE_BYTES;
        let page_end = bytes.len().min(page + PAGE_BYTES);
        let at = page + edit.place % (page_end - page).max(1);
        match edit.what % 10 {
            _ if bytes.is_empty() => {}
            0 => bytes[at] ^= 1 << (edit.value % 8),
            1 => bytes[at] = edit.value,
            2 => bytes[page..page_end].fill(0),
            3 => {
                let length =
                    edit.rest.len().min(usize::from(edit.value % 64)).min(bytes.len() - at);
                bytes[at..at + length].copy_from_slice(&edit.rest[..length]);
            }
            4 => bytes[page + edit.place % HEADER_BYTES.min(page_end - page)] ^= edit.value.max(1),
            5 => {
                let (from_file, from_page) = (edit.place % 256 % files, edit.place / 256);
                self.in_place = false;
                self.copy_page(from_file, from_page, edit.file, page);
            }
            6 => {
                self.in_place = false;
                bytes.truncate(page + edit.place % 4097);
            }
            7 => {
                self.in_place = false;
                self.files.remove(edit.file);
            }
            8 => {
                self.in_place = false;
                reseal(&mut bytes[page..], edit.place, edit.value);
            }
            _ => {
                self.in_place = false;
                let other = edit.place % files;
                let taken = std::mem::take(&mut self.files[other].1);
                self.files[other].1 = std::mem::replace(&mut self.files[edit.file].1, taken);
            }
        }
    }

    fn copy_page(&mut self, from_file: usize, from_page: usize, to_file: usize, to: usize) {
        let from = &self.files[from_file].1;
        let start = from_page % from.len().div_ceil(PAGE_BYTES).max(1) * PAGE_BYTES;
        let page = from[start.min(from.len())..from.len().min(start + PAGE_BYTES)].to_vec();
        let target = &mut self.files[to_file].1[to..];
        let length = page.len().min(target.len());
        target[..length].copy_from_slice(&page[..length]);
    }

    pub fn disk(&self) -> SimulatedDisk {
        let disk = SimulatedDisk::default();
        let dir = Path::new(ROOT).join("shard-00");
        disk.create_dir(Path::new(ROOT)).expect("a sound disk");
        disk.create_dir(&dir).expect("a sound disk");
        for (name, bytes) in &self.files {
            disk.replace_file(&dir.join(name), bytes, true).expect("a sound disk");
        }
        disk
    }

    fn pairs(&self) -> impl Iterator<Item = (&Path, &[u8], &[u8])> {
        self.before.iter().filter_map(|(name, before)| {
            let (_, now) = self.files.iter().find(|(now, _)| now == name)?;
            Some((name.as_path(), &before[..], &now[..]))
        })
    }

    /// The journal's id is in its own file, or in a segment's header.
    pub fn knows_its_name(&self) -> bool {
        self.pairs().any(|(name, before, now)| {
            let kept = if is_segment(name) { SEGMENT_HEADER_BYTES } else { before.len() };
            (is_segment(name) || name == Path::new(ID_FILE))
                && now.get(..kept) == before.get(..kept)
        })
    }

    /// Whether a block still lies where it lay.
    pub fn holds(&self, block: &[u8]) -> bool {
        self.pairs().filter(|(name, ..)| is_segment(name)).any(|(_, before, now)| {
            frames_of(before).iter().any(|frame| {
                frame.bytes == block
                    && now.get(frame.offset..frame.offset + block.len()) == Some(block)
            })
        })
    }

    /// The highest sequence that something whole says was durable: a frame that was acknowledged, a
    /// segment's header, or the checkpoint.
    pub fn vouched_through(&self, history: &History) -> u64 {
        let is_acknowledged =
            |frame: &&Frame| history.acknowledged.values().any(|block| *block == frame.bytes);
        let of_frames = |frames: Vec<Frame>| {
            let acknowledged = frames.iter().filter(is_acknowledged);
            acknowledged.map(|frame| frame.header.durable_through).max().unwrap_or(0)
        };
        self.of_small_files_and_headers()
            .chain(self.whole_frames().map(of_frames))
            .max()
            .unwrap_or(0)
    }

    /// Nothing whole says of a higher sequence that it was durable. Before a later start's first frame
    /// all is durable or was dropped for good.
    pub fn vouched_at_most(&self) -> u64 {
        let all: Vec<Frame> = self.whole_frames().flatten().collect();
        let first_epoch = 1;
        let of_frame = |frame: &Frame| {
            let begins =
                if frame.header.id.epoch > first_epoch { frame.header.id.sequence - 1 } else { 0 };
            frame.header.durable_through.max(begins)
        };
        self.of_small_files_and_headers().chain(all.iter().map(of_frame)).max().unwrap_or(0)
    }

    fn whole_frames(&self) -> impl Iterator<Item = Vec<Frame>> {
        self.pairs().filter(|(name, ..)| is_segment(name)).map(|(_, _, now)| frames_of(now))
    }

    fn of_small_files_and_headers(&self) -> impl Iterator<Item = u64> {
        let number = |bytes: &[u8], at: usize| {
            u64::from_le_bytes(*bytes[at..].first_chunk().expect("a header has eight bytes here"))
        };
        self.pairs().map(move |(name, before, now)| {
            let is_same = |bytes: usize| before.get(..bytes) == now.get(..bytes);
            if name == Path::new(CHECKPOINT_FILE) && is_same(before.len()) {
                number(now, FORWARDED_OFFSET)
            } else if is_segment(name) && is_same(SEGMENT_HEADER_BYTES) {
                number(now, FLOOR_OFFSET).max(1) - 1
            } else {
                0
            }
        })
    }
}

/// Changes one field of a frame a little and makes its checksum right again.
fn reseal(page: &mut [u8], field: usize, value: u8) {
    let Ok((mut header, payload)) = BlockHeader::decode_block(page) else { return };
    let payload = payload.to_vec();
    let moved = |number: u64| number.saturating_add(u64::from(value)).saturating_sub(8);
    match field % 6 {
        0 => header.id.epoch = moved(header.id.epoch),
        1 => header.id.sequence = moved(header.id.sequence),
        2 => header.durable_through = moved(header.durable_through),
        3 => header.flags ^= u16::from(value) & 1,
        4 => header.row_count = u32::from(value),
        _ => header.id.journal_id.0[0] ^= value,
    }
    let sealed = BlockHeader::seal(
        header.id,
        header.durable_through,
        header.lane,
        header.flags,
        header.row_count,
        &payload,
    );
    page[..HEADER_BYTES].copy_from_slice(&sealed.encode());
}
