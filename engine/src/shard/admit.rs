//! The judgement of a head, in the contract's order: path, method, key, expectation, content type
//! and encoding, body framing and size. What is refused here is answered at once; its body is read
//! and dropped, so that the connection stays.

use proto::ErrorCode;

use super::Shard;
use crate::connection::{AnswerStyle, Connection, Phase, Request};
use crate::http::{
    BodyFraming, ChunkedDecoder, ContentEncoding, ContentType, Expect, Head, Method,
};
use crate::inflate::Coding;
use crate::keys::KeyVerdict;

const PATH_EVENTS: &[u8] = b"/api/v1/events";
const PATH_HEALTH: &[u8] = b"/healthz";
const PATH_READY: &[u8] = b"/readyz";
const ALLOW_EVENTS: &str = "POST, OPTIONS";
const ALLOW_HEALTH: &str = "GET, HEAD";

/// Why a head was refused, with everything its answer needs.
struct Refusal {
    code: ErrorCode,
    error: &'static str,
    details: &'static str,
    allow: Option<&'static str>,
}

impl Refusal {
    const fn new(code: ErrorCode, error: &'static str, details: &'static str) -> Refusal {
        Refusal { code, error, details, allow: None }
    }
}

impl Shard {
    /// Judges `head`; `arrived_bytes` of what follows it are here already.
    pub(super) fn admit(
        &mut self,
        connection: &mut Connection,
        head: &Head,
        bytes: &[u8],
        arrived_bytes: usize,
    ) {
        let style = AnswerStyle {
            version: head.version,
            keep_alive: head.keep_alive && !self.draining,
            head_only: head.method == Method::Head,
            cors_origin: head.origin.and_then(|origin| self.match_origin(origin.of(bytes))),
        };
        match head.path.of(bytes) {
            PATH_EVENTS if head.method == Method::Options => {
                self.answer_preflight(connection, style, ALLOW_EVENTS);
                self.skip_body(connection, head);
            }
            PATH_EVENTS => match self.judge_ingest(head, bytes, style) {
                Ok(request) => self.expect_body(connection, head, request, arrived_bytes),
                Err(refusal) => self.refuse_head(connection, head, style, &refusal),
            },
            path @ (PATH_HEALTH | PATH_READY) => {
                if matches!(head.method, Method::Get | Method::Head) {
                    self.answer_health(connection, style, path == PATH_READY);
                    self.skip_body(connection, head);
                } else {
                    let refusal = Refusal { allow: Some(ALLOW_HEALTH), ..METHOD_NOT_ALLOWED };
                    self.refuse_head(connection, head, style, &refusal);
                }
            }
            _ => self.refuse_head(connection, head, style, &NOT_FOUND),
        }
    }

    fn judge_ingest(
        &mut self,
        head: &Head,
        bytes: &[u8],
        style: AnswerStyle,
    ) -> Result<Request, Refusal> {
        if head.method != Method::Post {
            return Err(Refusal { allow: Some(ALLOW_EVENTS), ..METHOD_NOT_ALLOWED });
        }
        let key = head.api_key.ok_or(KEY_MISSING)?;
        let app_id = match self.keys.judge(key.of(bytes)) {
            KeyVerdict::Accepted(app_id) => app_id,
            KeyVerdict::Unknown => return Err(KEY_UNKNOWN),
            KeyVerdict::NoIngestScope => return Err(KEY_WITHOUT_SCOPE),
            KeyVerdict::NoSnapshot => return Err(KEYS_NOT_KNOWN),
        };
        if head.expect == Expect::Unknown {
            return Err(EXPECTATION_UNKNOWN);
        }
        if head.content_type == ContentType::Other {
            return Err(CONTENT_TYPE_UNKNOWN);
        }
        let coding = match head.content_encoding {
            ContentEncoding::Identity => None,
            ContentEncoding::Gzip => Some(Coding::Gzip),
            ContentEncoding::Deflate => Some(Coding::Deflate),
            ContentEncoding::Zstd => Some(Coding::Zstd),
            ContentEncoding::Unknown => return Err(CONTENT_ENCODING_UNKNOWN),
        };
        if head.body == BodyFraming::None {
            return Err(LENGTH_MISSING);
        }
        let partial = asks_for_partial(head.query.of(bytes));
        Ok(Request { app_id, started_us: self.now.monotonic_us, coding, partial, style })
    }

    /// The head is good: on to its body.
    fn expect_body(
        &mut self,
        connection: &mut Connection,
        head: &Head,
        request: Request,
        arrived_bytes: usize,
    ) {
        connection.phase_since_us = self.now.monotonic_us;
        let too_large = matches!(head.body, BodyFraming::Length(length)
            if length > self.limits.body_bytes_max as u64);
        if too_large {
            self.refuse_too_large(connection, &request);
            return;
        }
        let whole_here = matches!(head.body, BodyFraming::Length(length)
            if length <= arrived_bytes as u64);
        if head.expect == Expect::Continue && !whole_here {
            self.answer_continue(connection, request.style);
        }
        connection.phase = match head.body {
            BodyFraming::Length(left) => Phase::Body { request, left },
            BodyFraming::Chunked => {
                Phase::ChunkedBody { request, decoder: ChunkedDecoder::default() }
            }
            BodyFraming::None => unreachable!("judge_ingest refused a POST without a body"),
        };
    }

    fn refuse_head(
        &mut self,
        connection: &mut Connection,
        head: &Head,
        style: AnswerStyle,
        refusal: &Refusal,
    ) {
        let Refusal { code, error, details, allow } = *refusal;
        self.answer_error(connection, style, code, error, details, allow);
        self.skip_body(connection, head);
    }

    /// What follows a head that is answered already is read and dropped. A body past the limit is
    /// not worth reading: the connection closes after the answer.
    fn skip_body(&mut self, connection: &mut Connection, head: &Head) {
        if connection.closing.is_some() {
            return;
        }
        connection.phase_since_us = self.now.monotonic_us;
        connection.body_received_bytes = 0;
        match head.body {
            BodyFraming::None | BodyFraming::Length(0) => self.next_request(connection),
            BodyFraming::Length(left) if left <= self.limits.body_bytes_max as u64 => {
                connection.phase = Phase::Skip { left };
            }
            BodyFraming::Length(_) => {
                self.close_after_answers(connection, crate::connection::Closing::AfterDrain);
            }
            BodyFraming::Chunked => {
                connection.phase = Phase::SkipChunked { decoder: ChunkedDecoder::default() };
            }
        }
    }

    fn match_origin(&self, origin: &[u8]) -> Option<u16> {
        self.cors_origins
            .iter()
            .position(|allowed| allowed == "*" || allowed.as_bytes() == origin)
            .map(|index| index as u16)
    }
}

/// `?partial=1` or `?partial=true`, whatever stands around it.
fn asks_for_partial(query: &[u8]) -> bool {
    query
        .split(|byte| *byte == b'&')
        .any(|parameter| parameter == b"partial=1" || parameter == b"partial=true")
}

const NOT_FOUND: Refusal =
    Refusal::new(ErrorCode::NotFound, "no such path", "events are sent to POST /api/v1/events");
const METHOD_NOT_ALLOWED: Refusal = Refusal::new(
    ErrorCode::MethodNotAllowed,
    "this path does not know the method",
    "the Allow header lists the methods it knows",
);
const KEY_MISSING: Refusal =
    Refusal::new(ErrorCode::Unauthorized, "no API key", "send the key in the X-API-Key header");
const KEY_UNKNOWN: Refusal = Refusal::new(
    ErrorCode::Unauthorized,
    "unknown API key",
    "the key in X-API-Key is not one of ours, or was revoked",
);
const KEY_WITHOUT_SCOPE: Refusal = Refusal::new(
    ErrorCode::Forbidden,
    "the API key may not send events",
    "use a key with the scope `ingest`",
);
/// Not a 401: SDKs take that as final and would drop their events.
const KEYS_NOT_KNOWN: Refusal = Refusal::new(
    ErrorCode::Unavailable,
    "API keys are not known here yet",
    "nothing of this batch was stored; try again after Retry-After seconds",
);
const EXPECTATION_UNKNOWN: Refusal = Refusal::new(
    ErrorCode::ExpectationFailed,
    "unknown expectation",
    "the only expectation known here is 100-continue",
);
const CONTENT_TYPE_UNKNOWN: Refusal = Refusal::new(
    ErrorCode::UnsupportedMediaType,
    "unsupported Content-Type",
    "send application/json, or no Content-Type",
);
const CONTENT_ENCODING_UNKNOWN: Refusal = Refusal::new(
    ErrorCode::UnsupportedMediaType,
    "unsupported Content-Encoding",
    "send gzip, deflate, zstd or identity, one of them at most",
);
const LENGTH_MISSING: Refusal = Refusal::new(
    ErrorCode::LengthRequired,
    "no Content-Length",
    "send Content-Length, or Transfer-Encoding: chunked",
);
