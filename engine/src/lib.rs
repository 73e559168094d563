pub mod admin;
pub mod config;
pub mod keys;
pub mod metrics;
pub mod http;
pub mod journal;
pub mod json;
