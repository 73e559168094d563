//! HTTP/1.1 as bytes: the request's head, its chunked body, and the text of every answer.
//!
//! Owns the grammar and framing rules of RFC 9112 as far as one message goes. It must not know
//! sockets, time, paths, keys or JSON events; the connection decides what a head means and when an
//! answer is sent. Nothing here allocates except to grow the caller's output buffer.
//!
//! Invariants:
//! - How the bytes were split on their way never changes an answer.
//! - Input whose framing two readers could understand differently is a [`Reject`], never repaired.
//! - No byte is scanned again because more bytes came, but for the one or two before a line's end.

pub mod chunked;
pub mod date;
pub mod head;
pub mod reject;
pub mod respond;
pub mod scan;

pub use chunked::{ChunkedDecoder, ChunkedLimits, ChunkedStep};
pub use date::DateCache;
pub use head::{
    BodyFraming, ContentEncoding, ContentType, Expect, Head, HeadLimits, HeadParser, HeadStatus,
    Method, Span, Version,
};
pub use reject::Reject;
pub use respond::ResponseContext;
