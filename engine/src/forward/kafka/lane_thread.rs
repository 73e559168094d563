//! A lane's thread: brings it the time and sleeps until somebody rings. Decides nothing.

use super::bell::Bell;
use super::lane::Lane;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

pub struct LaneThread {
    pub lane: Lane,
    pub index: usize,
    /// Rung by shards, by the sink and by the direct route.
    pub bell: Arc<Bell>,
    pub idle: Arc<AtomicBool>,
    /// Set to the last moment once it shall end.
    pub stop: Arc<OnceLock<Instant>>,
}

impl LaneThread {
    pub fn run(mut self) {
        self.bell.answer_here();
        loop {
            if let Some(deadline) = self.stop.get() {
                self.lane.stop_by(*deadline);
            }
            let now = Instant::now();
            let turn = self.lane.turn(now);
            self.idle.store(turn.idle, Ordering::Release);
            if turn.ended {
                return;
            }
            if !turn.more {
                self.bell.wait(turn.rest_until.saturating_duration_since(now));
            }
        }
    }
}

/// A lane that panics is told of while the engine goes on: nobody joins it before the stop. In
/// builds where a panic aborts, the process ends instead.
impl Drop for LaneThread {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let text = "a lane ended by a panic: its blocks wait in the journal for a restart";
        tracing::error!(lane = self.index, "{text}");
        self.idle.store(false, Ordering::Release);
        self.lane.abandon(text);
    }
}
