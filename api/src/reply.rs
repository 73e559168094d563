//! What goes back to a client: the success envelope, the error envelope, and the memory that
//! answers may take together.
//!
//! ```text
//! {"status":"success","data":…,"meta":{…}}
//! {"status":"error","error":"…","code":"…","details":"…"}
//! ```

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use proto::ErrorCode;
use proto::error_code::push_error_body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub type AnswerBody = Full<Bytes>;

/// Memory is counted in pieces of this size.
const PIECE_BYTES: usize = 64 * 1024;
/// Of all answers that are being made or sent: four of the largest timelines, thousands of others.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Why a request gets an error, as the client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: ErrorCode,
    pub error: Cow<'static, str>,
    pub details: String,
}

impl Refusal {
    pub fn new(code: ErrorCode, error: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { code, error: error.into(), details: String::new() }
    }

    pub fn details(mut self, details: impl Into<String>) -> Refusal {
        self.details = details.into();
        self
    }

    pub fn into_response(self) -> Response<AnswerBody> {
        let mut body = Vec::with_capacity(256);
        push_error_body(&mut body, self.code, &self.error, &self.details);
        let status = StatusCode::from_u16(self.code.http_status())
            .expect("every error code has a valid status");
        let mut response = json_response(status, AnswerBody::from(body));
        match self.code {
            ErrorCode::MethodNotAllowed => {
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            ErrorCode::Unavailable => {
                response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
            }
            _ => {}
        }
        response
    }
}

pub fn json_response(status: StatusCode, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The bound on the bytes of all answers together.
#[derive(Clone)]
pub struct AnswerMemory {
    pieces: Arc<Semaphore>,
}

/// All of [`AnswerMemory`] is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

impl AnswerMemory {
    pub fn new() -> AnswerMemory {
        AnswerMemory { pieces: Arc::new(Semaphore::new(ANSWER_BYTES_MAX / PIECE_BYTES)) }
    }

    pub fn buffer(&self) -> AnswerBuffer {
        AnswerBuffer { bytes: Vec::new(), memory: self.clone(), held: None }
    }
}

/// Bytes of one answer, counted against the bound until they are sent.
pub struct AnswerBuffer {
    bytes: Vec<u8>,
    memory: AnswerMemory,
    held: Option<OwnedSemaphorePermit>,
}

impl AnswerBuffer {
    /// Room for `more` bytes; what is then appended to it must not be longer.
    pub fn room(&mut self, more: usize) -> Result<&mut Vec<u8>, OutOfMemory> {
        let needed = self.bytes.len() + more;
        let capacity = self.bytes.capacity();
        if needed > capacity {
            let grown = needed.max(capacity * 2).next_multiple_of(PIECE_BYTES);
            let pieces = (grown - capacity).div_ceil(PIECE_BYTES) as u32;
            let taken = Arc::clone(&self.memory.pieces).try_acquire_many_owned(pieces);
            let taken = taken.map_err(|_| OutOfMemory)?;
            match &mut self.held {
                Some(held) => held.merge(taken),
                None => self.held = Some(taken),
            }
            self.bytes.reserve_exact(grown - self.bytes.len());
        }
        Ok(&mut self.bytes)
    }

    pub fn push(&mut self, text: &[u8]) -> Result<(), OutOfMemory> {
        self.room(text.len())?.extend_from_slice(text);
        Ok(())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes back what was appended after the first `len` bytes; their memory stays taken.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    pub fn into_body(self) -> AnswerBody {
        AnswerBody::new(Bytes::from_owner(Held { bytes: self.bytes, _held: self.held }))
    }
}

/// Bytes and their share of the memory. The share is given back when the last reference to the
/// bytes goes, which is when the connection has written them.
struct Held {
    bytes: Vec<u8>,
    _held: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_together_stay_within_the_bound() {
        let memory = AnswerMemory { pieces: Arc::new(Semaphore::new(3)) };
        let mut first = memory.buffer();
        first.push(&[b'x'; PIECE_BYTES]).unwrap();
        let mut second = memory.buffer();
        second.push(b"y").unwrap();
        assert_eq!(first.push(&[b'x'; PIECE_BYTES + 1]), Err(OutOfMemory));
        drop(second);
        first.push(&[b'x'; PIECE_BYTES]).unwrap();
        assert_eq!(memory.pieces.available_permits(), 1);
        drop(first.into_body());
        assert_eq!(memory.pieces.available_permits(), 3);
    }
}
