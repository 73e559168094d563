//! Which API keys are accepted, and for which app.
//!
//! Owns the immutable [`KeySnapshot`], its swap, and each shard's cache of verdicts. It holds hashes
//! of keys, never keys themselves, except for the accepted ones in a shard's bounded cache. Knows
//! nothing of HTTP, of who writes the snapshot file, or of limits per key.
//!
//! Invariants: a verdict is of the snapshot current when it is asked for; a key that is not accepted
//! is never stored.

mod poller;

pub use poller::{KeyPoller, KeyStats};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Longer keys are not looked at.
pub const KEY_BYTES_MAX: usize = 256;
/// Of the snapshot file.
pub const SNAPSHOT_BYTES_MAX: u64 = 64 << 20;
/// Accepted keys that a shard remembers by their bytes.
const CACHED_KEYS_MAX: usize = 1024;
const INGEST_SCOPE: &str = "ingest";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyVerdict {
    /// May ingest for this app (a UUID's bytes in the order they are written).
    Accepted([u8; 16]),
    Unknown,
    NoIngestScope,
    /// No snapshot was ever read: whether the key is good is not known here.
    NoSnapshot,
}

/// Why a snapshot file is not taken. The snapshot before it stays.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("it is not a JSON key snapshot: {0}")]
    Json(#[from] serde_json::Error),
    #[error("keys[{0}].sha256 is not 64 hexadecimal digits")]
    Hash(usize),
    #[error("keys[{0}].app_id is not a UUID")]
    AppId(usize),
    #[error("keys[{0}].sha256 stands there twice")]
    Twice(usize),
}

#[derive(Deserialize)]
struct SnapshotFile {
    version: u64,
    keys: Vec<KeyLine>,
}

#[derive(Deserialize)]
struct KeyLine {
    sha256: String,
    app_id: String,
    scopes: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct KeyEntry {
    app_id: [u8; 16],
    may_ingest: bool,
}

/// All keys at one moment.
#[derive(Debug, Default)]
pub struct KeySnapshot {
    /// As the file's writer counts.
    pub version: u64,
    keys: HashMap<[u8; 32], KeyEntry>,
}

impl KeySnapshot {
    /// Reads `{"version":N,"keys":[{"sha256":"<64 hex>","app_id":"<uuid>","scopes":[…]}]}`. Unknown
    /// members and scopes are left to later versions.
    pub fn parse(json: &[u8]) -> Result<KeySnapshot, SnapshotError> {
        let file: SnapshotFile = serde_json::from_slice(json)?;
        let mut keys = HashMap::with_capacity(file.keys.len());
        for (index, line) in file.keys.iter().enumerate() {
            let hash = parse_hex(&line.sha256).ok_or(SnapshotError::Hash(index))?;
            let app_id = parse_uuid(&line.app_id).ok_or(SnapshotError::AppId(index))?;
            let may_ingest = line.scopes.iter().any(|scope| scope == INGEST_SCOPE);
            if keys.insert(hash, KeyEntry { app_id, may_ingest }).is_some() {
                return Err(SnapshotError::Twice(index));
            }
        }
        Ok(KeySnapshot { version: file.version, keys })
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The hash is of 256 bits of which the caller knows nothing, so that the time of this look-up
    /// tells nothing about the keys there are.
    pub fn judge(&self, presented: &[u8]) -> KeyVerdict {
        if presented.len() > KEY_BYTES_MAX {
            return KeyVerdict::Unknown;
        }
        let hash: [u8; 32] = Sha256::digest(presented).into();
        match self.keys.get(&hash) {
            Some(entry) if entry.may_ingest => KeyVerdict::Accepted(entry.app_id),
            Some(_) => KeyVerdict::NoIngestScope,
            None => KeyVerdict::Unknown,
        }
    }
}

fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| (pair[at] as char).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(bytes)
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let dashes = [8, 13, 18, 23];
    let placed = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| (byte == b'-') == dashes.contains(&at));
    if !placed {
        return None;
    }
    parse_hex(&text.replace('-', ""))
}

/// The current snapshot, shared by all shards.
#[derive(Debug, Default)]
pub struct Keys {
    current: Mutex<Arc<KeySnapshot>>,
    /// Counts the swaps. Changed after `current`, so that who sees the new number finds the new
    /// snapshot behind the lock.
    generation: AtomicU64,
}

impl Keys {
    /// No keys at all: nothing is accepted until the first [`Keys::swap`].
    pub fn new() -> Arc<Keys> {
        Arc::new(Keys::default())
    }

    pub fn swap(&self, snapshot: KeySnapshot) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
        self.generation.fetch_add(1, Ordering::Release);
    }

    pub fn current(&self) -> Arc<KeySnapshot> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes with every swap.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }
}

/// One shard's verdicts: SHA-256 is computed once for an accepted key, not once a request.
pub struct KeyCache {
    keys: Arc<Keys>,
    snapshot: Arc<KeySnapshot>,
    generation: u64,
    /// Hashed with a random key of this process, so that nobody can aim at one bucket.
    accepted: HashMap<Box<[u8]>, [u8; 16]>,
}

impl KeyCache {
    pub fn new(keys: Arc<Keys>) -> KeyCache {
        let generation = keys.generation();
        let snapshot = keys.current();
        KeyCache { keys, snapshot, generation, accepted: HashMap::new() }
    }

    /// One relaxed load and one look-up where the key was accepted before; never blocks on a
    /// reader, and on the writer only for the swap of one pointer.
    #[inline]
    pub fn judge(&mut self, presented: &[u8]) -> KeyVerdict {
        let generation = self.keys.generation();
        if generation != self.generation {
            self.accepted.clear();
            self.snapshot = self.keys.current();
            self.generation = generation;
        }
        match self.accepted.get(presented) {
            Some(app_id) => KeyVerdict::Accepted(*app_id),
            None => self.judge_afresh(presented),
        }
    }

    #[cold]
    fn judge_afresh(&mut self, presented: &[u8]) -> KeyVerdict {
        if self.generation == 0 {
            return KeyVerdict::NoSnapshot;
        }
        let verdict = self.snapshot.judge(presented);
        if let KeyVerdict::Accepted(app_id) = verdict {
            if self.accepted.len() >= CACHED_KEYS_MAX {
                self.accepted.clear();
            }
            self.accepted.insert(presented.into(), app_id);
        }
        verdict
    }

    /// Keys remembered now.
    pub fn cached(&self) -> usize {
        self.accepted.len()
    }
}
