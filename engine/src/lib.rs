pub mod admin;
pub mod config;
pub mod forward;
pub mod keys;
pub mod metrics;
