//! The journal on a file system that is really full. In a binary of its own: mounting forks, and a
//! child holds the locks of its parent until it has become another program.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

mod journal_support;

use std::path::Path;
use std::process::Command;

use engine::journal::{Journal, OpenedJournal, SpaceState, Stall};
use journal_support::{MIB, drain, sync, threaded, try_commit, wait_for};

/// A small file system of its own; unmounted when dropped.
struct SmallDisk<'a>(&'a Path);

impl SmallDisk<'_> {
    fn mount(dir: &Path, megabytes: u64) -> SmallDisk<'_> {
        let options = format!("size={megabytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "unmogrowp-test"])
            .arg(dir)
            .status()
            .unwrap();
        assert!(mounted.success(), "mounting a small tmpfs failed");
        SmallDisk(dir)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// Without root's rights the same is tested on the simulated disk alone.
#[test]
fn a_really_full_disk_stalls_and_passes() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let _small = SmallDisk::mount(dir.path(), 5);
    let filler = dir.path().join("filler");
    std::fs::write(&filler, vec![1; 2 * MIB as usize]).unwrap();
    let journal = Journal::open(&dir.path().join("journal"), threaded()).unwrap();
    let mut shard = journal.open_shard(0).unwrap();
    let mut number = 0;
    let mut fill = |shard: &mut OpenedJournal| {
        wait_for("full disk", || match try_commit(shard, number, 60_000) {
            Ok(_) => {
                number += 1;
                sync(shard);
                false
            }
            Err(stall) => stall == Stall::Full,
        });
        number
    };
    let before = fill(&mut shard);
    assert_eq!(shard.status.space(), SpaceState::Disk { os_error: 28 });
    std::fs::remove_file(&filler).unwrap();
    wait_for("space", || shard.status.space() == SpaceState::Ready);
    let after = fill(&mut shard);
    assert!(after > before);
    assert_eq!(drain(&mut shard.feed).0, (0..after).collect::<Vec<u64>>());
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
