//! Sends to the disk, a little at a time, what ClickHouse's merges have left in the page cache.
//!
//! A merge does not sync what it writes. Linux leaves such pages for half a minute and then sends
//! 50 MB and more at once, which keeps every other write of the disk waiting for as long as that
//! takes: a journal on the same disk, and whoever waits for its syncs.
//!
//! Owns one thread, which ends when this is dropped.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;

pub struct WriteBack {
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl WriteBack {
    /// Rests for `every` after each time. The kernel's call is for a whole file system, the one that
    /// `data` is on.
    pub fn start(data: &Path, every: Duration) -> anyhow::Result<WriteBack> {
        let folder = File::open(data).with_context(|| format!("--data {}", data.display()))?;
        WriteBack::start_with(every, move || Ok(rustix::fs::syncfs(&folder)?))
    }

    fn start_with(
        every: Duration,
        sync: impl Fn() -> io::Result<()> + Send + 'static,
    ) -> anyhow::Result<WriteBack> {
        let (stop, stopped) = channel::<()>();
        let work = move || {
            let mut failing = false;
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                match sync() {
                    Ok(()) => failing = false,
                    // What was to be durable has syncs of its own, which fail where this does.
                    Err(error) if !failing => {
                        failing = true;
                        tracing::warn!(%error, "the disk does not take what waits in memory");
                    }
                    Err(_) => {}
                }
            }
        };
        let thread = std::thread::Builder::new().name("write-back".to_owned()).spawn(work)?;
        Ok(WriteBack { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for WriteBack {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn it_goes_on_over_failures_until_it_is_dropped() {
        let (called, calls) = sync_channel(0);
        let write_back = WriteBack::start_with(Duration::from_millis(1), move || {
            called.send(()).map_err(io::Error::other)?;
            Err(io::ErrorKind::StorageFull.into())
        });
        for _ in 0..3 {
            calls.recv_timeout(PATIENCE).expect("it syncs again and again");
        }
        // The thread may be in a call, which ends when nobody takes it any more.
        let ended = std::thread::spawn(move || drop(write_back));
        drop(calls);
        ended.join().expect("the thread ends");
    }

    #[test]
    fn a_folder_is_written_back_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = File::open(folder.path()).expect("it can be opened");
        assert_eq!(rustix::fs::syncfs(&opened), Ok(()));
        drop(
            WriteBack::start(folder.path(), PATIENCE)
                .expect("it starts, and ends without its rest"),
        );
        let missing = WriteBack::start(&folder.path().join("missing"), PATIENCE);
        let error = missing.err().expect("there is nothing to write back").to_string();
        assert!(error.contains("--data") && error.contains("missing"), "{error}");
    }
}
