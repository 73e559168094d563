//! Sockets by their place in a table that the ring keeps, so that an operation on one does not look
//! its descriptor up. A place is filled and emptied by operations of the ring itself, in order with
//! those that use it: neither costs a system call.

use std::os::fd::RawFd;

use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};

const NONE: RawFd = -1;

/// What an operation is to work on: put into its entry, with these flags.
#[derive(Clone, Copy)]
pub struct Target {
    pub fd: Fd,
    pub flags: squeue::Flags,
}

pub struct RegisteredFiles {
    /// What each place is to hold. The kernel reads from here when it carries an update out, so this
    /// neither moves nor goes before the ring does.
    places: Box<[RawFd]>,
}

impl RegisteredFiles {
    /// A table of `count` empty places; of none where the kernel refuses it, for want of memory or
    /// because the limit of open files is lower. Sockets without a place are used by descriptor.
    pub fn register(ring: &IoUring, count: usize) -> RegisteredFiles {
        let granted = u32::try_from(count)
            .is_ok_and(|count| count > 0 && ring.submitter().register_files_sparse(count).is_ok());
        RegisteredFiles { places: vec![NONE; if granted { count } else { 0 }].into() }
    }

    /// The operation that puts `fd` into its place; `None` where there is no place.
    pub fn fill(&mut self, index: usize, fd: RawFd) -> Option<squeue::Entry> {
        self.update(index, fd)
    }

    /// The operation that empties a place, after all that were queued before it.
    pub fn empty(&mut self, index: usize) -> Option<squeue::Entry> {
        self.update(index, NONE)
    }

    /// An update that has not been carried out yet reads what a later one says, which it then says
    /// again: the place ends as the last one wants it, and in between nobody uses the first's.
    fn update(&mut self, index: usize, fd: RawFd) -> Option<squeue::Entry> {
        let place = self.places.get_mut(index)?;
        *place = fd;
        let offset = i32::try_from(index).ok()?;
        let entry = opcode::FilesUpdate::new(place, 1).offset(offset).build();
        Some(entry.flags(squeue::Flags::SKIP_SUCCESS))
    }

    /// `fd` by its place, if it has one.
    pub fn target(&self, index: usize, fd: RawFd) -> Target {
        if self.places.get(index) == Some(&fd) {
            Target { fd: Fd(index as RawFd), flags: squeue::Flags::FIXED_FILE }
        } else {
            Target { fd: Fd(fd), flags: squeue::Flags::empty() }
        }
    }
}
