//! The ClickHouse engine as a library behind ClickHouse's HTTP protocol.
//!
//! A request's way: `server` (HTTP, places) → `judge` (doors, parameters) → `execute` on a thread of
//! its own → `guard` (may it run?) → `chdb` (the engine) → `output` → the response. Knows nothing of
//! events. A library so that the fuzz targets reach what reads a client's bytes; nothing else uses it.

pub mod block_codec;
pub mod body;
pub mod chdb;
pub mod cli;
pub mod doors;
pub mod engine;
pub mod engine_config;
pub mod exception;
pub mod execute;
pub mod form;
pub mod framing;
pub mod guard;
pub mod judge;
pub mod lexer;
pub mod output;
pub mod response;
pub mod server;
pub mod statement;
pub mod url_params;
pub mod write_back;
