//! Gets a shard going again that glommio has put to sleep with tasks in its queue, as it does when its
//! own preempt timer rings before the first of them has run (`docs/adr/020-glommio.md`). A thread, because
//! in such a sleep no task of the executor runs, and its timers may all have rung.
//!
//! Knows no shard. A shard that turns at least once between two looks is never woken; to wake one that
//! is only slow is no harm.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::Duration;

pub struct Watch {
    has_turned: Arc<AtomicBool>,
    /// `None` only while the thread is being ended.
    until_dropped: Option<Sender<()>>,
    thread: Option<JoinHandle<Waker>>,
}

impl Watch {
    /// A shard that stands still is woken after one to two `look_every`, and again after each further one.
    pub fn start(shard: Waker, look_every: Duration) -> io::Result<Watch> {
        let has_turned = Arc::new(AtomicBool::new(false));
        let (until_dropped, ended) = channel::<()>();
        let turned = Arc::clone(&has_turned);
        let thread = std::thread::Builder::new().name("shard-watch".into()).spawn(move || {
            while ended.recv_timeout(look_every) == Err(RecvTimeoutError::Timeout) {
                if !turned.swap(false, Ordering::Relaxed) {
                    tracing::debug!("the shard stands still and is woken");
                    shard.wake_by_ref();
                }
            }
            shard
        })?;
        Ok(Watch { has_turned, until_dropped: Some(until_dropped), thread: Some(thread) })
    }

    pub fn on_turn(&self) {
        self.has_turned.store(true, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    /// The last waker of a task goes on the thread of its executor: glommio has other rules elsewhere.
    fn drop(&mut self) {
        self.until_dropped = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
