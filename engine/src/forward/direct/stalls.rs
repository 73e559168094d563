//! What waits for somebody's hand, and the word on `/readyz` that says so.

use crate::admin::{Component, Health, Level};
use crate::metrics::{ForwardCounters, set};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a source that is out is listed: the ids of batches begin at 1.
pub(super) const SOURCE: u64 = 0;

pub(super) struct Stalls {
    reasons: BTreeMap<u64, String>,
    counters: Arc<ForwardCounters>,
    health: Arc<Health>,
}

impl Stalls {
    pub fn new(counters: Arc<ForwardCounters>, health: Arc<Health>) -> Stalls {
        Stalls { reasons: BTreeMap::new(), counters, health }
    }

    pub fn add(&mut self, batch: u64, reason: &str) {
        let known = self.reasons.insert(batch, reason.to_owned());
        if known.as_deref() != Some(reason) {
            tracing::error!(batch, reason, "forwarding needs attention; nothing is lost");
        }
        set(&self.counters.stopped, 1);
        self.health.set(Component::Forwarder, Level::Degraded, reason);
    }

    pub fn remove(&mut self, batch: u64) {
        if self.reasons.remove(&batch).is_none() {
            return;
        }
        match self.reasons.values().next() {
            Some(reason) => self.health.set(Component::Forwarder, Level::Degraded, reason),
            None => {
                set(&self.counters.stopped, 0);
                self.health.set(Component::Forwarder, Level::Ok, "");
            }
        }
    }
}
