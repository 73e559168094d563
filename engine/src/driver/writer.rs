//! Threads that carry out one shard's journal writes for a driver without asynchronous file I/O.
//! As many threads as writes in flight, so that the disk sees them side by side.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Control;
use crate::journal::Write;

pub struct Writers {
    /// `None` only while the threads are being ended.
    submit: Option<Sender<Write>>,
    done: Receiver<(Write, io::Result<usize>)>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// `control` wakes the shard's loop after each write.
    pub fn start(count: usize, control: &Arc<Control>) -> io::Result<Writers> {
        let (submit, to_write) = bounded::<Write>(count);
        let (report, done) = bounded(count);
        let mut threads = Vec::with_capacity(count);
        for _ in 0..count {
            let (to_write, report) = (to_write.clone(), report.clone());
            let control = Arc::clone(control);
            let thread = std::thread::Builder::new().name("journal-write".into());
            threads.push(thread.spawn(move || {
                for write in to_write {
                    let result = write.write_blocking();
                    if report.send((write, result)).is_err() {
                        return;
                    }
                    control.wake();
                }
            })?);
        }
        Ok(Writers { submit: Some(submit), done, threads })
    }

    /// Never blocks: the appender has no more writes out than there are threads.
    pub fn submit(&self, write: Write) {
        let submit = self.submit.as_ref().expect("set until the writers are dropped");
        submit.send(write).expect("the threads live as long as their channel");
    }

    pub fn next_done(&self) -> Option<(Write, io::Result<usize>)> {
        self.done.try_recv().ok()
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.submit = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
