//! The targets, one file each.

pub mod block;
pub mod chunked;
pub mod embedded_http;
pub mod head;
pub mod journal;
pub mod json;
