//! The thread behind the keeper: wakes when a spare was taken, and once a second for what time and
//! the forwarder have changed, or to try again on a disk that was full.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::keeper::ShardKeeper;
use crate::environment::Environment;

const INTERVAL: Duration = Duration::from_secs(1);

/// All shards of one journal.
#[derive(Default)]
pub(super) struct Shards(Mutex<Vec<ShardKeeper>>);

impl Shards {
    fn lock(&self) -> MutexGuard<'_, Vec<ShardKeeper>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, mut shard: ShardKeeper, now: Instant) {
        // The first segment is there before the shard takes its first request; if the disk is full
        // the shard starts without and answers 503.
        shard.tick(now);
        self.lock().push(shard);
    }

    /// Looks after every shard once. One that is short of space gets it from what the others keep
    /// of forwarded segments.
    pub fn tick(&self, now: Instant) {
        let mut shards = self.lock();
        for index in 0..shards.len() {
            while !shards[index].tick(now) {
                let freed = shards.iter_mut().any(ShardKeeper::remove_oldest_forwarded);
                if !freed {
                    break;
                }
            }
        }
    }
}

pub(super) struct KeeperThread {
    thread: Option<JoinHandle<()>>,
    /// Dropped to stop the thread.
    stop: Option<Sender<()>>,
    wake: Sender<()>,
}

impl KeeperThread {
    /// Without a thread nothing happens until [`Shards::tick`] is called.
    pub fn new(
        shards: &Arc<Shards>,
        environment: &Arc<dyn Environment>,
        threaded: bool,
    ) -> io::Result<KeeperThread> {
        let (wake, woken) = bounded(1);
        if !threaded {
            return Ok(KeeperThread { thread: None, stop: None, wake });
        }
        let (stop, stopped) = bounded(0);
        let (shards, environment) = (Arc::clone(shards), Arc::clone(environment));
        let thread = std::thread::Builder::new()
            .name("journal-keeper".into())
            .spawn(move || run(&shards, &*environment, &woken, &stopped))?;
        Ok(KeeperThread { thread: Some(thread), stop: Some(stop), wake })
    }

    pub fn wake(&self) -> Sender<()> {
        self.wake.clone()
    }

    pub fn stop(&mut self) {
        self.stop = None;
        let _ = self.wake.try_send(());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the journal's keeper has panicked");
        }
    }
}

impl Drop for KeeperThread {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(
    shards: &Shards,
    environment: &dyn Environment,
    woken: &Receiver<()>,
    stopped: &Receiver<()>,
) {
    loop {
        let wait = woken.recv_timeout(INTERVAL);
        let stop = stopped.try_recv() == Err(crossbeam_channel::TryRecvError::Disconnected);
        if stop || wait == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        shards.tick(environment.now());
    }
}
