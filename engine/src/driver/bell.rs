//! Wakes a task of an executor from other threads, for a driver that cannot wait on a descriptor of
//! ours. Rings that nobody has heard yet are one: what an executor queues for us stays bounded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

#[derive(Default)]
pub struct Bell {
    is_ringing: AtomicBool,
    listener: Mutex<Option<Waker>>,
}

impl Bell {
    /// False where no task listens: the caller must find another way.
    pub fn ring(&self) -> bool {
        let listener = self.listener();
        let Some(task) = &*listener else { return false };
        if !self.is_ringing.swap(true, Ordering::AcqRel) {
            task.wake_by_ref();
        }
        true
    }

    /// The task calls this before it looks at what may have changed: a later change rings again.
    pub fn answer(&self) {
        self.is_ringing.swap(false, Ordering::AcqRel);
    }

    pub fn listen(&self, task: Option<Waker>) {
        let before = std::mem::replace(&mut *self.listener(), task);
        drop(before);
    }

    fn listener(&self) -> MutexGuard<'_, Option<Waker>> {
        // A waker that panicked has left the place as it was.
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
