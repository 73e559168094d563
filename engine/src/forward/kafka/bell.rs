//! Wakes a lane's thread: rung by shards when blocks become durable, by librdkafka's reports, and by
//! the direct route.
//!
//! A ring never blocks and is never lost: it costs an atomic swap, and a system call only when the
//! thread sleeps. Before the thread has taken its place a ring does nothing; it looks at everything
//! when it comes.

use std::sync::OnceLock;
use std::thread::Thread;
use std::time::Duration;

#[derive(Debug, Default)]
pub struct Bell {
    sleeper: OnceLock<Thread>,
}

impl Bell {
    /// The calling thread is the one to be woken from now on.
    pub fn answer_here(&self) {
        let first = self.sleeper.set(std::thread::current()).is_ok();
        assert!(first, "a bell wakes one thread");
    }

    pub fn ring(&self) {
        if let Some(sleeper) = self.sleeper.get() {
            sleeper.unpark();
        }
    }

    /// Until somebody rings, or already has, or the time is up; now and then for no reason.
    pub fn wait(&self, at_most: Duration) {
        std::thread::park_timeout(at_most);
    }
}
