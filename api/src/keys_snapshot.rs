//! The keys snapshot: the one file from which the engine learns which keys exist.
//!
//! ```text
//! {"version":N,"keys":[{"sha256":"<64 hex digits>","app_id":"<uuid>","scopes":["ingest","read"]}]}
//! ```
//!
//! Written whole and renamed into place (0600), so a reader that polls it never sees half of it.
//! `version` grows with each change of the keys, also across processes: writers take their turn
//! under the store's write lock. The file holds hashes, never a key.

use std::io;
use std::path::Path;

use serde::Serialize;

use crate::private_file;
use crate::store::{KeySet, Store, StoreError};

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot write the keys snapshot {path}: {cause}")]
    Write { path: String, cause: io::Error },
}

#[derive(Serialize)]
struct Snapshot {
    version: i64,
    keys: Vec<SnapshotKey>,
}

#[derive(Serialize)]
struct SnapshotKey {
    sha256: String,
    app_id: String,
    scopes: Vec<&'static str>,
}

/// Writes the valid keys of the store to `path` and gives them.
pub async fn write(store: &mut Store, path: &Path) -> Result<KeySet, SnapshotError> {
    let published = store.publish_keys(|key_set| {
        private_file::create_directory_of(path)
            .and_then(|()| private_file::replace(path, &encode(key_set)))
    });
    published
        .await?
        .map_err(|cause| SnapshotError::Write { path: path.display().to_string(), cause })
}

fn encode(key_set: &KeySet) -> Vec<u8> {
    let keys = key_set.keys.iter().map(|key| SnapshotKey {
        sha256: key.hash.to_string(),
        app_id: key.app_id.to_string(),
        scopes: key.scopes.names(),
    });
    let snapshot = Snapshot { version: key_set.version, keys: keys.collect() };
    serde_json::to_vec(&snapshot).expect("numbers and strings always have a JSON form")
}
