//! Small file systems of the tests' own, mounted from a file: they fill, and they fail. Needs root.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small ext4 file system in a file, mounted.
pub struct SmallDisk {
    folder: tempfile::TempDir,
    /// Where the file lies, if that is a file system of its own.
    backing: Option<PathBuf>,
}

pub fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?} (needs root): {errors}");
}

pub fn path_text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("unmogrowp-disk-").tempdir().expect("folder")
}

impl SmallDisk {
    pub fn mount(mib: u64) -> SmallDisk {
        let folder = folder();
        let image = folder.path().join("image");
        let disk = SmallDisk { folder, backing: None };
        disk.mount_image(&image, mib, &["-q", "-m", "0"]);
        disk
    }

    /// A disk that can be made to fail: its file lies in a tmpfs that has no room to spare, so once
    /// the file's zeros are given back ([`Self::begin_to_fail`]) writing over them is an I/O error.
    pub fn mount_failing(mib: u64) -> SmallDisk {
        let folder = folder();
        let backing = folder.path().join("backing");
        std::fs::create_dir(&backing).expect("mount point");
        let size = format!("size={}m", mib + 8);
        run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", path_text(&backing)]);
        let disk = SmallDisk { folder, backing: Some(backing.clone()) };
        // Without a journal of its own, so that a failing write is the writer's business alone.
        disk.mount_image(&backing.join("image"), mib, &["-q", "-m", "0", "-O", "^has_journal"]);
        disk
    }

    fn mount_image(&self, image: &Path, mib: u64, make: &[&str]) {
        File::create(image).expect("image").set_len(mib * 1024 * 1024).expect("image");
        run("mkfs.ext4", &[make, &[path_text(image)]].concat());
        std::fs::create_dir(self.path()).expect("mount point");
        run("mount", &["-o", "loop,noatime", path_text(image), path_text(&self.path())]);
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn ballast(&self) -> PathBuf {
        self.backing.as_ref().expect("a disk that can fail").join("ballast")
    }

    /// From now on a write over blocks that hold only zeros fails with an I/O error.
    pub fn begin_to_fail(&self) {
        let backing = self.backing.as_ref().expect("a disk that can fail");
        run("sync", &["-f", path_text(&self.path())]);
        run("fallocate", &["--dig-holes", path_text(&backing.join("image"))]);
        let mut ballast = File::create(self.ballast()).expect("ballast");
        let page = [1; 4096];
        while ballast.write_all(&page).is_ok() {}
    }

    pub fn heal(&self) {
        std::fs::remove_file(self.ballast()).expect("the disk was failing");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        for mounted in [Some(self.path()), self.backing.clone()].into_iter().flatten() {
            let _ = Command::new("umount").arg("-l").arg(mounted).status();
        }
    }
}
