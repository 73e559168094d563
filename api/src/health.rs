//! What the server depends on and whether each part of it works: the content of `/readyz`.
//!
//! Reasons are fixed sentences: `/readyz` needs no key, so causes (addresses, messages of other
//! servers) go to the log only.

use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependency {
    ClickHouse,
    Store,
}

impl Dependency {
    const ALL: [Dependency; 2] = [Dependency::ClickHouse, Dependency::Store];

    fn name(self) -> &'static str {
        match self {
            Dependency::ClickHouse => "clickhouse",
            Dependency::Store => "store",
        }
    }
}

/// Why a dependency does not work; nothing where it does.
type Reason = Option<&'static str>;

pub struct Health {
    reasons: Mutex<[Reason; Dependency::ALL.len()]>,
}

impl Health {
    pub fn starting() -> Health {
        Health { reasons: Mutex::new([Some("not reached yet"), None]) }
    }

    pub fn set_up(&self, dependency: Dependency) {
        self.set(dependency, None);
    }

    /// Gives whether the dependency worked, or failed for another reason, until now.
    pub fn set_down(&self, dependency: Dependency, reason: &'static str) -> bool {
        self.set(dependency, Some(reason)) != Some(reason)
    }

    fn set(&self, dependency: Dependency, reason: Reason) -> Reason {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut reasons[dependency as usize], reason)
    }

    /// `{"ready":…,"dependencies":{"clickhouse":{"ok":…[,"reason":…]},…}}` and whether it is ready.
    ///
    /// Ready means that a valid question would be answered: without ClickHouse none is, without the
    /// store all are, with the keys last known.
    pub fn report(&self) -> (bool, Value) {
        let reasons = *self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let mut dependencies = serde_json::Map::new();
        for dependency in Dependency::ALL {
            let state = match reasons[dependency as usize] {
                None => json!({ "ok": true }),
                Some(reason) => json!({ "ok": false, "reason": reason }),
            };
            dependencies.insert(dependency.name().to_owned(), state);
        }
        let ready = reasons[Dependency::ClickHouse as usize].is_none();
        (ready, json!({ "ready": ready, "dependencies": dependencies }))
    }
}
