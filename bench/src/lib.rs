//! What the benches share. The benches themselves are in `benches/`.

pub mod record;
