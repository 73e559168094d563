//! Partitions whose range needs somebody's hand, and why: told on `/readyz` and by a metric.

use crate::health::{Component, Health};
use crate::metrics::Metrics;
use std::collections::BTreeMap;
use std::sync::Arc;

pub struct Stalls {
    reasons: BTreeMap<i32, String>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

impl Stalls {
    pub fn new(health: Arc<Health>, metrics: Arc<Metrics>) -> Stalls {
        Stalls { reasons: BTreeMap::new(), health, metrics }
    }

    pub fn begin(&mut self, partition: i32, reason: &str) {
        if self.reasons.insert(partition, reason.to_owned()).as_deref() != Some(reason) {
            tracing::error!(reason, "inserting needs attention; nothing is lost or committed");
        }
        self.metrics.stalled.set(self.reasons.len() as i64);
        self.health.set_down(Component::Inserts, reason);
    }

    /// Something of the partition was taken, or it is not ours any more.
    pub fn end(&mut self, partition: i32) {
        if self.reasons.remove(&partition).is_none() {
            return;
        }
        self.metrics.stalled.set(self.reasons.len() as i64);
        match self.reasons.values().next() {
            Some(reason) => drop(self.health.set_down(Component::Inserts, reason)),
            None => self.health.set_up(Component::Inserts),
        }
    }
}
