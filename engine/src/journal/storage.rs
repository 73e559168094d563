//! The files under the journal. [`DiskStorage`] is the real thing; tests put a simulated disk in its
//! place that fails, tears and forgets.
//!
//! Knows paths, bytes and syncs; nothing of blocks. One call here moves kilobytes to megabytes, so
//! the dynamic dispatch costs nothing that can be measured, and an io_uring driver goes past it
//! with the raw descriptor.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write as _};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading frames; past the page cache where the file system can.
    Read,
    /// Making a segment: the file is created where it is missing; durable after `sync`.
    Prepare,
    /// Appending frames: a write that returned is durable.
    Append,
}

/// Offsets, lengths and addresses are multiples of 4096.
pub trait StorageFile: Send + Sync {
    /// Fills `buffer` from `offset`; fewer bytes mean the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// One vectored write; may write less than it was given.
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    fn sync(&self) -> io::Result<()>;
    fn bytes(&self) -> io::Result<u64>;
    /// None where there is no kernel behind the file.
    fn raw_fd(&self) -> Option<RawFd>;
}

pub trait Storage: Send + Sync + 'static {
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Names in `dir`, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// A small file, whole.
    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Replaces a small file in one step. Without `durable` a power cut may undo or empty it.
    fn replace_file(&self, path: &Path, bytes: &[u8], durable: bool) -> io::Result<()>;
    /// Takes the exclusive lock that lives as long as the returned file. `WouldBlock`: another
    /// process holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<File>>;
}

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskStorage;

struct DiskFile(File);

impl StorageFile for DiskFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.0, slices, offset)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn raw_fd(&self) -> Option<RawFd> {
        Some(self.0.as_raw_fd())
    }
}

impl Storage for DiskStorage {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        let flags = match access {
            Access::Read => 0,
            Access::Prepare => {
                options.write(true).create(true);
                0
            }
            Access::Append => {
                options.write(true);
                libc::O_DSYNC
            }
        };
        // A file system without direct I/O refuses the flag at open with EINVAL.
        let file = match options.custom_flags(flags | libc::O_DIRECT).open(path) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                options.custom_flags(flags).open(path)?
            }
            other => other?,
        };
        Ok(Arc::new(DiskFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::copy(from, to)?;
        File::open(to)?.sync_all()
    }

    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn replace_file(&self, path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
        let replaced = replace_by_rename(path, bytes, durable);
        if durable {
            replaced?;
            return path.parent().map_or(Ok(()), |dir| self.sync_dir(dir));
        }
        // A full disk has no room for a second file, and stays full while the checkpoint cannot say
        // that segments are free.
        replaced.or_else(|error| overwrite(path, bytes).map_err(|_| error))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<File>> {
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.try_lock().map_err(io::Error::from)?;
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Some(file))
    }
}

fn replace_by_rename(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    if durable {
        file.sync_all()?;
    }
    std::fs::rename(&beside, path)
}

/// In place, with one write, only where no byte more is needed than the file has.
fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    if file.metadata()?.len() != bytes.len() as u64 {
        return Err(io::ErrorKind::StorageFull.into());
    }
    file.write_all_at(bytes, 0)
}

/// One segment open for appending.
pub struct SegmentFile {
    pub number: u64,
    pub bytes: u64,
    file: Arc<dyn StorageFile>,
}

impl SegmentFile {
    pub fn new(number: u64, bytes: u64, file: Arc<dyn StorageFile>) -> SegmentFile {
        SegmentFile { number, bytes, file }
    }

    /// For a driver that writes by itself; None on a simulated disk.
    pub fn raw_fd(&self) -> Option<RawFd> {
        self.file.raw_fd()
    }

    /// Durable when it returns. May write less than it was given.
    pub fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.file.write_at(slices, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_even_where_there_is_no_room_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("forwarded.ckpt");
        DiskStorage.replace_file(&path, b"one", false).unwrap();
        DiskStorage.replace_file(&path, b"longer", false).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"longer");
        // Nothing can be written under the name of the second file.
        std::fs::create_dir(dir.path().join("forwarded.tmp")).unwrap();
        DiskStorage.replace_file(&path, b"LONGER", false).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"LONGER");
        assert!(DiskStorage.replace_file(&path, b"longest", false).is_err(), "it may not grow");
        assert!(DiskStorage.replace_file(&path, b"longer", true).is_err(), "not in one step");
        assert_eq!(std::fs::read(&path).unwrap(), b"LONGER");
    }
}
