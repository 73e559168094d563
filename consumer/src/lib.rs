//! From Kafka to ClickHouse: the topic's blocks become rows, once the INSERT is done the offset is
//! committed, and what can be neither is a dead letter.
//!
//! Owns the consumer group, dead letters, replay and export. Must not know how events are ingested or
//! asked for: it meets the engine in the topic's blocks and the api in the tables. [`worker`] decides,
//! on top of [`desk`], [`partition`], [`position`], [`record`] and [`dead::Mail`]; they are pure.
//! Everything else moves bytes and time for them.

pub mod admin;
pub mod assignment;
pub mod cli;
pub mod commit;
pub mod dead;
pub mod deliver;
pub mod desk;
pub mod errands;
pub mod export;
pub mod fault;
pub mod health;
pub mod kafka;
pub mod lag;
pub mod metrics;
pub mod pace;
pub mod partition;
pub mod position;
pub mod reader;
pub mod ready_file;
pub mod record;
pub mod replay;
pub mod run;
pub mod serve;
pub mod warehouse;
pub mod worker;

#[cfg(test)]
mod samples;
