//! Ingestion: HTTP in, journal, forwarder out. See `ARCHITECTURE.md` at the root for an event's way.

pub mod admin;
pub mod config;
pub mod connection;
pub mod driver;
pub mod environment;
pub mod feed_source;
pub mod forward;
pub mod http;
pub mod inflate;
pub mod journal;
pub mod journal_tools;
pub mod json;
pub mod keys;
pub mod metrics;
pub mod run;
pub mod shard;
