//! The admin port: `/healthz`, `/readyz`, `/metrics`, `/version`.
//!
//! Owns the health of the process and how it is shown; knows nothing of how events are taken. Its
//! address belongs on loopback: it asks nobody for a key.

mod health;
mod pages;
mod server;

pub use health::{Ailment, Component, Health, HealthReport, Level};
pub use pages::readiness_body;
pub use server::AdminServer;
