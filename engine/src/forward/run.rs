//! The forwarder's loop: clock, sockets and the stop around a [`DirectForwarder`], which decides.
//!
//! Cancel-safety: an INSERT's task may be dropped at any point; its blocks are then unmarked and
//! still in the journal.

use super::DirectForwarder;
use super::insert::Inserter;
use proto::insert::Failure;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

/// How often the sources are asked while they have nothing.
const POLL: Duration = Duration::from_millis(20);

/// What ClickHouse was asked, and how that ended.
enum Answer {
    Insert { id: u64, outcome: Result<(), Failure> },
    Ping(Result<(), Failure>),
}

pub(super) struct Runner {
    pub forwarder: DirectForwarder,
    pub inserter: Arc<Inserter>,
    pub idle: Arc<AtomicBool>,
    /// The last moment, once it shall end.
    pub stop: watch::Receiver<Option<Instant>>,
}

impl Runner {
    pub async fn run(mut self) {
        let mut asked: JoinSet<Answer> = JoinSet::new();
        loop {
            let deadline = *self.stop.borrow_and_update();
            while let Some(answer) = asked.try_join_next() {
                self.hear(answer);
            }
            let now = Instant::now();
            let more = self.forwarder.turn(now, unix_ms(), deadline.is_some());
            self.ask(&mut asked);
            self.idle.store(self.forwarder.is_idle(), Ordering::Release);
            if deadline.is_some_and(|deadline| self.forwarder.may_end(now, deadline)) {
                break;
            }
            if more {
                tokio::task::yield_now().await;
                continue;
            }
            let pause = self.forwarder.due().saturating_duration_since(Instant::now()).min(POLL);
            tokio::select! {
                Some(answer) = asked.join_next() => self.hear(answer),
                _ = self.stop.changed(), if deadline.is_none() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn hear(&mut self, answer: Result<Answer, JoinError>) {
        let now = Instant::now();
        match answer.expect("an exchange does not panic") {
            Answer::Insert { id, outcome } => self.forwarder.on_outcome(id, outcome, now),
            Answer::Ping(outcome) => self.forwarder.on_ping(outcome, now),
        }
    }

    fn ask(&mut self, asked: &mut JoinSet<Answer>) {
        while let Some(insert) = self.forwarder.next_insert(Instant::now()) {
            let (inserter, id) = (Arc::clone(&self.inserter), insert.id);
            asked.spawn(
                async move { Answer::Insert { id, outcome: inserter.insert(insert).await } },
            );
        }
        if self.forwarder.take_ping() {
            let inserter = Arc::clone(&self.inserter);
            asked.spawn(async move { Answer::Ping(inserter.ping().await) });
        }
    }
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}
