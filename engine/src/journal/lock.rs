//! One engine per journal. The lock goes with the process, however it ends.

use std::fs::File;
use std::io;
use std::path::Path;

use super::JournalError;
use super::recovery::io_error;
use super::storage::Storage;

pub(super) struct RootLock {
    /// None on a simulated disk.
    _file: Option<File>,
}

impl RootLock {
    pub fn take(storage: &dyn Storage, root: &Path) -> Result<RootLock, JournalError> {
        let path = root.join("LOCK");
        match storage.lock(&path) {
            Ok(file) => Ok(RootLock { _file: file }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let holder = storage.read_file(&path).unwrap_or_default();
                let pid = String::from_utf8_lossy(&holder).trim().to_owned();
                let pid = if pid.is_empty() { "unknown".to_owned() } else { pid };
                Err(JournalError::Locked { root: root.to_path_buf(), pid })
            }
            Err(error) => Err(io_error("lock", &path)(error)),
        }
    }
}
