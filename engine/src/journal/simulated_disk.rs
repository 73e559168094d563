//! A disk in memory that fails when told to and forgets at a power cut what was not synced. For
//! tests and the deterministic simulation; nothing else opens it.
//!
//! Rules: a write to a file opened for appending is durable when it returns; other writes after a
//! sync of the file; names after a sync of their directory. A power cut undoes any of the unsynced
//! writes, and the unsynced changes of names from some point on. Alignment is asserted as O_DIRECT
//! demands it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::buffer::PAGE_BYTES;
use super::storage::{Access, Storage, StorageFile};
use proto::random::SplitMix64;

/// What befalls the next append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendFault {
    /// Nothing is written; EIO.
    Fail,
    /// So many whole pages are written, and their number is reported.
    Short { pages: usize },
    /// Each page is written or not, as the seed has it; EIO.
    Torn { seed: u64 },
}

/// `None` is a page of zeros, so that segments made of zeros cost nothing.
type Page = Option<Arc<[u8; PAGE_BYTES]>>;

/// Pages are shared by the disk and its forks until one of them writes.
#[derive(Clone, Default)]
struct Content {
    bytes: usize,
    pages: Vec<Page>,
    /// Pages before unsynced writes, in order.
    unsynced: Vec<(usize, Page)>,
}

impl Content {
    fn of(bytes: &[u8]) -> Content {
        let pages = bytes.chunks(PAGE_BYTES).map(page_of).collect();
        Content { bytes: bytes.len(), pages, unsynced: Vec::new() }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.bytes];
        self.read(&mut bytes, 0);
        bytes
    }

    /// Whole pages from an aligned offset; gives the bytes read.
    fn read(&self, buffer: &mut [u8], offset: usize) -> usize {
        let count = self.bytes.saturating_sub(offset).min(buffer.len());
        let pages = self.pages.iter().skip(offset / PAGE_BYTES);
        for (target, page) in buffer[..count].chunks_mut(PAGE_BYTES).zip(pages) {
            match page {
                Some(page) => target.copy_from_slice(&page[..target.len()]),
                None => target.fill(0),
            }
        }
        count
    }
}

/// Shorter than a page, it is filled up with zeros.
fn page_of(bytes: &[u8]) -> Page {
    if bytes.iter().all(|byte| *byte == 0) {
        return None;
    }
    let mut page = [0; PAGE_BYTES];
    page[..bytes.len()].copy_from_slice(bytes);
    Some(Arc::new(page))
}

#[derive(Clone)]
enum NameChange {
    Set { path: PathBuf, before: Option<u64> },
    Renamed { from: PathBuf, to: PathBuf, before: Option<u64> },
}

impl NameChange {
    fn is_in(&self, dir: &Path) -> bool {
        let (NameChange::Set { path, .. } | NameChange::Renamed { to: path, .. }) = self;
        path.parent() == Some(dir)
    }
}

#[derive(Clone, Default)]
struct State {
    contents: BTreeMap<u64, Content>,
    names: BTreeMap<PathBuf, u64>,
    dirs: Vec<PathBuf>,
    unsynced_names: Vec<NameChange>,
    next_id: u64,
    bytes_max: Option<u64>,
    append_fault: Option<AppendFault>,
    syncs_fail: bool,
}

/// Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

struct SimulatedFile {
    disk: SimulatedDisk,
    id: u64,
    access: Access,
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no {}", path.display()))
}

fn os_error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

impl SimulatedDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All files together; None: as much as one likes.
    pub fn set_bytes_max(&self, bytes_max: Option<u64>) {
        self.state().bytes_max = bytes_max;
    }

    pub fn fault_next_append(&self, fault: AppendFault) {
        self.state().append_fault = Some(fault);
    }

    pub fn set_syncs_fail(&self, fail: bool) {
        self.state().syncs_fail = fail;
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.state().bytes()
    }

    pub fn flip_bit(&self, path: &Path, offset: usize, bit: u32) {
        let mut state = self.state();
        let id = state.names[path];
        let content = state.contents.get_mut(&id).expect("a name has its content");
        let mut page =
            content.pages[offset / PAGE_BYTES].as_deref().map_or([0; PAGE_BYTES], |p| *p);
        page[offset % PAGE_BYTES] ^= 1 << bit;
        content.pages[offset / PAGE_BYTES] = page_of(&page);
    }

    /// The page at an aligned offset becomes zeros.
    pub fn erase_page(&self, path: &Path, offset: usize) {
        let mut state = self.state();
        let id = state.names[path];
        let content = state.contents.get_mut(&id).expect("a name has its content");
        content.pages[offset / PAGE_BYTES] = None;
    }

    /// The disk as it is now, apart from what still has the old one open: what a killed process
    /// leaves behind.
    pub fn fork(&self) -> SimulatedDisk {
        let mut state = self.state().clone();
        state.forget_removed();
        SimulatedDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// What is not synced may be lost, as the seed has it.
    pub fn power_cut(&self, seed: u64) {
        let mut random = SplitMix64::new(seed);
        let mut state = self.state();
        let changes = std::mem::take(&mut state.unsynced_names);
        let kept = random.below(changes.len() as u64 + 1) as usize;
        for change in changes.into_iter().skip(kept).rev() {
            state.undo(change);
        }
        for content in state.contents.values_mut() {
            for (index, before) in std::mem::take(&mut content.unsynced).into_iter().rev() {
                if random.below(2) == 0 {
                    content.pages[index] = before;
                }
            }
        }
    }
}

impl State {
    fn bytes(&self) -> u64 {
        self.names.values().map(|id| self.contents[id].bytes as u64).sum()
    }

    /// What no name leads to any more, whatever a power cut undoes.
    fn forget_removed(&mut self) {
        let undone = self.unsynced_names.iter().filter_map(|change| match change {
            NameChange::Set { before, .. } | NameChange::Renamed { before, .. } => *before,
        });
        let reachable: BTreeSet<u64> = self.names.values().copied().chain(undone).collect();
        self.contents.retain(|id, _| reachable.contains(id));
    }

    fn set_name(&mut self, path: &Path, id: Option<u64>) -> Option<u64> {
        match id {
            Some(id) => self.names.insert(path.to_path_buf(), id),
            None => self.names.remove(path),
        }
    }

    fn undo(&mut self, change: NameChange) {
        match change {
            NameChange::Set { path, before } => {
                self.set_name(&path, before);
            }
            NameChange::Renamed { from, to, before } => {
                let id = self.set_name(&to, before);
                self.set_name(&from, id);
            }
        }
    }

    /// A new content under this name, which the next loss of power may take back.
    fn put(&mut self, path: &Path, content: Content) -> u64 {
        self.next_id += 1;
        self.contents.insert(self.next_id, content);
        let before = self.set_name(path, Some(self.next_id));
        self.unsynced_names.push(NameChange::Set { path: path.to_path_buf(), before });
        self.next_id
    }

    /// A sync of a directory is of all names in it.
    fn sync_names(&mut self, dir: &Path) {
        self.unsynced_names.retain(|change| !change.is_in(dir));
    }
}

fn assert_aligned(slice: &[u8], offset: u64) {
    assert_eq!(slice.as_ptr() as usize % PAGE_BYTES, 0, "O_DIRECT wants aligned memory");
    assert_eq!(slice.len() % PAGE_BYTES, 0, "O_DIRECT wants whole pages");
    assert_eq!(offset % PAGE_BYTES as u64, 0, "O_DIRECT wants aligned offsets");
}

impl StorageFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        assert_aligned(buffer, offset);
        let state = self.disk.state();
        Ok(state.contents[&self.id].read(buffer, offset as usize))
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let fault = match self.access {
            Access::Append => state.append_fault.take(),
            Access::Prepare => None,
            Access::Read => return Err(os_error(libc::EBADF)),
        };
        if fault == Some(AppendFault::Fail) {
            return Err(os_error(libc::EIO));
        }
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let used = state.bytes();
        let bytes_max = state.bytes_max.unwrap_or(u64::MAX);
        let content = state.contents.get_mut(&self.id).expect("an open file has its content");
        let end = offset as usize + total;
        let grown = end.saturating_sub(content.bytes);
        if used + grown as u64 > bytes_max {
            return Err(os_error(libc::ENOSPC));
        }
        content.bytes = content.bytes.max(end);
        content.pages.resize(content.bytes.div_ceil(PAGE_BYTES), None);
        let (mut at, mut page_index) = (offset as usize, 0);
        for slice in slices {
            assert_aligned(slice, at as u64);
            for page in slice.chunks(PAGE_BYTES) {
                let written = match fault {
                    Some(AppendFault::Short { pages }) => page_index < pages,
                    Some(AppendFault::Torn { seed }) => {
                        SplitMix64::new(seed ^ page_index as u64).below(2) == 0
                    }
                    Some(AppendFault::Fail) | None => true,
                };
                if written {
                    let index = at / PAGE_BYTES;
                    let before = std::mem::replace(&mut content.pages[index], page_of(page));
                    if self.access == Access::Prepare {
                        content.unsynced.push((index, before));
                    }
                }
                at += PAGE_BYTES;
                page_index += 1;
            }
        }
        match fault {
            Some(AppendFault::Short { pages }) => Ok(pages.min(page_index) * PAGE_BYTES),
            Some(_) => Err(os_error(libc::EIO)),
            None => Ok(total),
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.syncs_fail {
            return Err(os_error(libc::EIO));
        }
        state.contents.get_mut(&self.id).expect("an open file has its content").unsynced.clear();
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.disk.state().contents[&self.id].bytes as u64)
    }

    fn raw_fd(&self) -> Option<RawFd> {
        None
    }
}

impl Storage for SimulatedDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.dirs.iter().any(|known| known == dir) {
            state.dirs.push(dir.to_path_buf());
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let paths = state.names.keys().chain(&state.dirs);
        let mut names: Vec<String> = paths
            .filter(|path| path.parent() == Some(dir))
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let mut state = self.state();
        let id = match state.names.get(path) {
            Some(id) => *id,
            None if access == Access::Prepare => state.put(path, Content::default()),
            None => return Err(not_found(path)),
        };
        Ok(Arc::new(SimulatedFile { disk: self.clone(), id, access }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let id = state.names.remove(from).ok_or_else(|| not_found(from))?;
        let before = state.set_name(to, Some(id));
        let (from, to) = (from.to_path_buf(), to.to_path_buf());
        state.unsynced_names.push(NameChange::Renamed { from, to, before });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let before = Some(state.names.remove(path).ok_or_else(|| not_found(path))?);
        state.unsynced_names.push(NameChange::Set { path: path.to_path_buf(), before });
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.state().dirs.retain(|known| known != dir);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.syncs_fail {
            return Err(os_error(libc::EIO));
        }
        state.sync_names(dir);
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let state = self.state();
        Ok(state.bytes_max.map_or(1 << 40, |max| max.saturating_sub(state.bytes())))
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        let bytes = self.read_file(from)?;
        let mut state = self.state();
        if state.syncs_fail {
            return Err(os_error(libc::EIO));
        }
        state.put(to, Content::of(&bytes));
        Ok(())
    }

    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        let id = state.names.get(path).ok_or_else(|| not_found(path))?;
        Ok(state.contents[id].to_bytes())
    }

    fn replace_file(&self, path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
        let mut state = self.state();
        let mut content = Content::of(bytes);
        if !durable {
            content.unsynced = (0..content.pages.len()).map(|index| (index, None)).collect();
        } else if state.syncs_fail {
            return Err(os_error(libc::EIO));
        }
        state.put(path, content);
        if durable && let Some(dir) = path.parent() {
            state.sync_names(dir);
        }
        Ok(())
    }

    fn lock(&self, _path: &Path) -> io::Result<Option<File>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the files `old` and `new` are there after a loss of power, over many of them.
    fn after_power_cuts(change: impl Fn(&SimulatedDisk)) -> BTreeSet<(bool, bool)> {
        let there = |disk: &SimulatedDisk, name: &str| disk.read_file(Path::new(name)).is_ok();
        let cut = |seed| {
            let disk = SimulatedDisk::default();
            disk.replace_file(Path::new("/dir/old"), b"1", true).unwrap();
            change(&disk);
            disk.power_cut(seed);
            (there(&disk, "/dir/old"), there(&disk, "/dir/new"))
        };
        (0..64).map(cut).collect()
    }

    #[test]
    fn a_durable_file_makes_all_names_of_its_directory_durable() {
        let remove = |disk: &SimulatedDisk| disk.remove(Path::new("/dir/old")).unwrap();
        let add = |disk: &SimulatedDisk, durable| {
            disk.replace_file(Path::new("/dir/new"), b"2", durable).unwrap();
        };
        assert_eq!(after_power_cuts(remove), BTreeSet::from([(true, false), (false, false)]));
        let unsynced = after_power_cuts(|disk| {
            remove(disk);
            add(disk, false);
        });
        // In their order, like a file system with a journal.
        assert_eq!(unsynced, BTreeSet::from([(true, false), (false, false), (false, true)]));
        let synced = after_power_cuts(|disk| {
            remove(disk);
            add(disk, true);
        });
        assert_eq!(synced, BTreeSet::from([(false, true)]));
    }

    #[test]
    fn a_copy_is_durable_when_its_directory_is_synced() {
        let copy = |disk: &SimulatedDisk| {
            disk.copy(Path::new("/dir/old"), Path::new("/dir/new")).unwrap();
        };
        assert_eq!(after_power_cuts(copy), BTreeSet::from([(true, false), (true, true)]));
        let synced = after_power_cuts(|disk| {
            copy(disk);
            disk.sync_dir(Path::new("/dir")).unwrap();
        });
        assert_eq!(synced, BTreeSet::from([(true, true)]));
    }
}
