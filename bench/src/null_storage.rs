//! A disk that takes every write at once, says that it is synced, and keeps nothing.
//!
//! Only for the bench of what the engine costs without a disk. The engine has no such storage, and no
//! flag leads here: this crate is in no release. Writes go to /dev/null, so that the driver submits
//! and completes them as it does all others.
//!
//! Invariant: what is read back is empty. Only names, and the two small files of a journal, are kept.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::journal::storage::{Access, Storage, StorageFile};

/// Nothing is stored, so any number will do that no bench reaches.
const FREE_BYTES: u64 = 1 << 50;

pub struct NullStorage {
    null: Arc<File>,
    /// Content of the small files; nothing for segments.
    names: Mutex<BTreeMap<PathBuf, Vec<u8>>>,
}

struct NullFile {
    null: Arc<File>,
}

impl NullStorage {
    pub fn new() -> io::Result<NullStorage> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        Ok(NullStorage { null: Arc::new(null), names: Mutex::default() })
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Vec<u8>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Storage for NullStorage {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let names = self.names();
        let inside = names.keys().filter(|path| path.parent() == Some(dir));
        let name = |path: &PathBuf| Some(path.file_name()?.to_string_lossy().into_owned());
        Ok(inside.filter_map(name).collect())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let mut names = self.names();
        if access == Access::Prepare {
            names.entry(path.to_owned()).or_default();
        } else if !names.contains_key(path) {
            return Err(not_found());
        }
        Ok(Arc::new(NullFile { null: Arc::clone(&self.null) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = self.names();
        let content = names.remove(from).ok_or_else(not_found)?;
        names.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.names().remove(path).map(drop).ok_or_else(not_found)
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(FREE_BYTES)
    }

    fn copy(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.names().get(path).cloned().ok_or_else(not_found)
    }

    fn replace_file(&self, path: &Path, bytes: &[u8], _durable: bool) -> io::Result<()> {
        self.names().insert(path.to_owned(), bytes.to_owned());
        Ok(())
    }

    /// Nobody else can have what is in this process alone.
    fn lock(&self, _: &Path) -> io::Result<Option<File>> {
        Ok(None)
    }
}

impl StorageFile for NullFile {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], _: u64) -> io::Result<usize> {
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn raw_fd(&self) -> Option<RawFd> {
        Some(self.null.as_raw_fd())
    }
}
