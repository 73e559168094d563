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
    Redis,
}

impl Dependency {
    const ALL: [Dependency; 3] = [Dependency::ClickHouse, Dependency::Store, Dependency::Redis];

    fn name(self) -> &'static str {
        match self {
            Dependency::ClickHouse => "clickhouse",
            Dependency::Store => "store",
            Dependency::Redis => "redis",
        }
    }
}

/// Why a dependency does not work; nothing where it does.
type Reason = Option<&'static str>;

pub struct Health {
    reasons: Mutex<[Reason; Dependency::ALL.len()]>,
    has_redis: bool,
}

impl Health {
    /// Redis is named where one is configured.
    pub fn starting(has_redis: bool) -> Health {
        const NOT_REACHED: Reason = Some("not reached yet");
        Health { reasons: Mutex::new([NOT_REACHED, None, NOT_REACHED]), has_redis }
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
    /// Ready means that a valid question would be answered: without ClickHouse none is; without the
    /// store all are, with the keys last known; without Redis all are, the live one more slowly.
    pub fn report(&self) -> (bool, Value) {
        let reasons = *self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let mut dependencies = serde_json::Map::new();
        let named = |dependency: &Dependency| self.has_redis || *dependency != Dependency::Redis;
        for dependency in Dependency::ALL.into_iter().filter(named) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_is_named_where_it_is_used_and_never_decides() {
        let check = |has_redis, redis_up, expected: Option<bool>| {
            let health = Health::starting(has_redis);
            health.set_up(Dependency::ClickHouse);
            if redis_up {
                health.set_up(Dependency::Redis);
            }
            let (ready, report) = health.report();
            assert!(ready);
            let redis = report["dependencies"].get("redis");
            assert_eq!(redis.map(|state| state["ok"] == true), expected);
        };
        check(false, false, None);
        check(true, true, Some(true));
        check(true, false, Some(false));
    }
}
