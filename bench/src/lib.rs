//! What the benches share: figures.

pub mod record;
