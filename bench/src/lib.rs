//! What the benches share: figures, and the servers that are compared.

pub mod peers;
pub mod record;
