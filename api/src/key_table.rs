//! The valid keys in memory: what every request is checked against.
//!
//! Lookups are by SHA-256 and touch no disk. [`KeyTable::keep_fresh`] follows the store, and mends
//! the keys snapshot when it is behind or gone. Losing the store keeps the last keys: it opens no
//! door and closes none.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tracing::{error, info};
use uuid::Uuid;

use crate::api_key::{KeyHash, Scopes};
use crate::health::{Dependency, Health};
use crate::keys_snapshot::{self, SnapshotError};
use crate::store::{KeySet, Store};

/// The longest that a revoked key is still accepted here.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub app_id: Uuid,
    pub scopes: Scopes,
}

#[derive(Default)]
pub struct KeyTable {
    grants: RwLock<Arc<HashMap<KeyHash, Grant>>>,
}

impl KeyTable {
    pub fn find(&self, key: &[u8]) -> Option<Grant> {
        let hash = KeyHash::of(key);
        let grants = Arc::clone(&self.grants.read().unwrap_or_else(PoisonError::into_inner));
        grants.get(&hash).copied()
    }

    pub fn replace(&self, key_set: &KeySet) {
        let grant = |key: &crate::store::Key| Grant { app_id: key.app_id, scopes: key.scopes };
        let grants = key_set.keys.iter().map(|key| (key.hash, grant(key))).collect();
        *self.grants.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(grants);
    }

    /// Follows the store for as long as the process lives. `version` is the one already taken over.
    pub async fn keep_fresh(
        &self,
        mut store: Store,
        snapshot_path: PathBuf,
        mut version: i64,
        health: &Health,
    ) {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let outcome: Result<(), SnapshotError> = async {
                let newest = store.key_set_version().await?;
                if newest != version || !snapshot_path.exists() {
                    let key_set = keys_snapshot::write(&mut store, &snapshot_path).await?;
                    self.replace(&key_set);
                    version = key_set.version;
                    info!(version, keys = key_set.keys.len(), "keys changed");
                }
                Ok(())
            }
            .await;
            match outcome {
                Ok(()) => health.set_up(Dependency::Store),
                Err(cause) => {
                    if health.set_down(Dependency::Store, "apps and keys cannot be read") {
                        error!(%cause, "keys are not followed; the last known ones stay valid");
                    }
                }
            }
        }
    }
}
