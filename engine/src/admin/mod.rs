//! The admin port: `/healthz`, `/readyz`, `/metrics`, `/version`.
//!
//! Owns the health of the process and how it is shown; knows nothing of how events are taken.

mod health;

pub use health::{Ailment, Component, Health, HealthReport, Level};
