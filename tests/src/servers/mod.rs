//! The servers that are not ours, as plain processes on free ports in folders of their own: one of
//! each for a test file. A server that is not installed fails the test that wants it.

pub mod kafka;
mod ports;
pub mod records;
pub mod redis;
pub mod topics;

use std::path::PathBuf;

pub use kafka::Broker;
pub use ports::{ReservedPort, stop_listening};
pub use redis::Redis;

/// The project's folder in the user's cache, where `./dev` puts what it fetches.
pub(crate) fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("unmogrowp")
}
