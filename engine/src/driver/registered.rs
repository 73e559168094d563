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
    ///
    /// Before Linux 6.13 a file that was taken out stays open until every request that began before it
    /// has ended, and a receive may be armed for as long as a client likes: there the table stays empty. The
    /// nearest feature that the kernel tells of is of 6.15.
    pub fn register(ring: &IoUring, count: usize) -> RegisteredFiles {
        let frees_at_once = ring.params().is_feature_no_iowait();
        let granted = frees_at_once
            && u32::try_from(count).is_ok_and(|count| {
                count > 0 && ring.submitter().register_files_sparse(count).is_ok()
            });
        RegisteredFiles { places: vec![NONE; if granted { count } else { 0 }].into() }
    }

    /// The operation that puts `fd` into its place; `None` where there is no place. When it fails the place
    /// is empty, and the first operation on it says so.
    pub fn fill(&mut self, index: usize, fd: RawFd) -> Option<squeue::Entry> {
        self.update(index, fd)
    }

    /// The operation that empties a place, after all that were queued before it.
    pub fn empty(&mut self, index: usize) -> Option<squeue::Entry> {
        self.update(index, NONE)
    }

    /// The kernel reads the place when it carries the update out, at its submission. One that was not submitted
    /// before the next came does what the next says. That takes a place emptied and filled again within a turn, and
    /// what was queued for the first socket in between to be unsubmitted, too: a socket is accepted, closed and replaced
    /// in three turns at least, and each submits.
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

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    fn submit(ring: &mut IoUring, entry: &squeue::Entry) {
        // SAFETY: the tests' buffers and tables outlive the call that submits and waits.
        unsafe { ring.submission().push(entry) }.expect("the queue is empty");
        ring.submit().expect("the ring takes it");
    }

    /// Our descriptor is closed, the table has the socket: it is used by its place, and ends with it.
    #[test]
    fn a_socket_lives_in_its_place_until_that_is_emptied() {
        let mut ring = IoUring::new(8).expect("io_uring is allowed where this is tested");
        let mut files = RegisteredFiles::register(&ring, 4);
        if files.places.is_empty() {
            assert!(!ring.params().is_feature_no_iowait(), "this kernel frees at once");
            return;
        }
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        theirs.set_read_timeout(Some(Duration::from_millis(300))).expect("a time-out");
        let fd = ours.as_raw_fd();
        submit(&mut ring, &files.fill(3, fd).expect("there is a place"));
        let target = files.target(3, fd);
        drop(ours);
        let send = opcode::Send::new(target.fd, b"x".as_ptr(), 1).build().flags(target.flags);
        submit(&mut ring, &send);
        let mut byte = [0];
        assert_eq!(theirs.read(&mut byte).expect("it was sent by its place"), 1);
        assert!(theirs.read(&mut byte).is_err(), "the table keeps it open");
        submit(&mut ring, &files.empty(3).expect("there is a place"));
        assert_eq!(theirs.read(&mut byte).expect("it has ended"), 0);
    }

    #[test]
    fn a_socket_without_a_place_is_used_by_its_descriptor() {
        let mut files = RegisteredFiles { places: Box::default() };
        assert!(files.fill(0, 7).is_none() && files.empty(0).is_none());
        let by_descriptor = files.target(0, 7);
        assert_eq!((by_descriptor.fd.0, by_descriptor.flags), (7, squeue::Flags::empty()));
        let mut files = RegisteredFiles { places: vec![NONE; 2].into() };
        assert!(files.fill(1, 7).is_some() && files.fill(2, 8).is_none());
        assert_eq!(files.target(1, 7).flags, squeue::Flags::FIXED_FILE);
        assert_eq!(files.target(1, 8).flags, squeue::Flags::empty());
        assert!(files.empty(1).is_some());
        assert_eq!(files.target(1, 7).flags, squeue::Flags::empty());
    }
}
