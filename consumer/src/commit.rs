//! Commits offsets on a thread of its own: librdkafka tells the outcome of a commit only to whoever
//! waits for it, and who polls must not wait.

use crate::fault::{self, Point};
use crate::kafka::{self, Reader};
use anyhow::Context as _;
use crossbeam_channel::{Receiver, Sender};
use rdkafka::consumer::{CommitMode, Consumer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// `(partition, next offset to read)`.
pub type Offsets = Vec<(i32, i64)>;

struct Job {
    term: u64,
    offsets: Offsets,
}

/// Ends, with its thread, when it is dropped. What is queued is bounded by the desk: it has one commit
/// of a partition under way at a time.
pub struct Committer {
    jobs: Sender<Job>,
    /// Counts up when partitions are lost: what was asked for before is not committed any more.
    term: Arc<AtomicU64>,
    /// Offsets and whether they are committed.
    pub outcomes: Receiver<(Offsets, bool)>,
}

impl Committer {
    pub fn start(reader: Reader, topic: &str) -> anyhow::Result<Committer> {
        let (jobs, queue) = crossbeam_channel::unbounded::<Job>();
        let (report, outcomes) = crossbeam_channel::unbounded();
        let term = Arc::new(AtomicU64::new(0));
        let (current, topic) = (Arc::clone(&term), topic.to_owned());
        let work = move || {
            for Job { term, offsets } in queue {
                fault::pass(Point::BeforeCommit);
                let is_current = current.load(Ordering::Acquire) == term;
                let done = is_current && commit(reader, &topic, &offsets);
                if report.send((offsets, done)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("commit".to_owned());
        thread.spawn(work).context("cannot start a thread")?;
        Ok(Committer { jobs, term, outcomes })
    }

    pub fn commit(&self, offsets: Offsets) {
        let term = self.term.load(Ordering::Acquire);
        self.jobs.send(Job { term, offsets }).expect("the thread ends after this sender");
    }

    pub fn forget(&self) {
        self.term.fetch_add(1, Ordering::AcqRel);
    }
}

fn commit(reader: Reader, topic: &str, offsets: &Offsets) -> bool {
    let list = kafka::list(topic, offsets.iter().copied());
    match reader.commit(&list, CommitMode::Sync) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, ?offsets, "cannot commit; tried again");
            false
        }
    }
}
