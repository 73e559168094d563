//! How a driver comes to its end: told to stop, it drains until a deadline; or its journal failed,
//! and then it drains as well, so that every client is told. Knows no sockets.

use std::time::{Duration, Instant};

use super::{Exit, OnJournalFailed};
use crate::journal::JournalFailed;

#[derive(Default)]
pub struct Ending {
    stop_at: Option<Instant>,
    failed: bool,
}

impl Ending {
    /// True for the first call: listener and idle connections are to be closed.
    pub fn begin(&mut self, drain_deadline: Duration) -> bool {
        let first = self.stop_at.is_none();
        if first {
            self.stop_at = Some(Instant::now() + drain_deadline);
        }
        first
    }

    pub fn has_begun(&self) -> bool {
        self.stop_at.is_some()
    }

    /// The journal is out. Only the first failure is told.
    pub fn fail(&mut self, failed: &JournalFailed, tell: &mut Option<OnJournalFailed>) {
        self.failed = true;
        if let Some(tell) = tell.take() {
            tell(failed);
        }
    }

    /// How the driver ends, if it ends now.
    pub fn exit(&self, is_drained: bool) -> Option<Exit> {
        let stop_at = self.stop_at?;
        if !is_drained && Instant::now() < stop_at {
            return None;
        }
        Some(match (self.failed, is_drained) {
            (true, _) => Exit::JournalFailed,
            (false, true) => Exit::Drained,
            (false, false) => Exit::DeadlinePassed,
        })
    }
}
