//! Every error that a client can be told, with its HTTP status and the body that carries it.

/// The `code` of an error body. The same words are metric labels, in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    InvalidRequest,
    ValidationError,
    InvalidParams,
    InvalidDate,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    LengthRequired,
    PayloadTooLarge,
    UriTooLong,
    UnsupportedMediaType,
    ExpectationFailed,
    RateLimited,
    HeadersTooLarge,
    InternalError,
    QueryError,
    NotImplemented,
    Unavailable,
    VersionNotSupported,
}

impl ErrorCode {
    pub const ALL: [ErrorCode; 21] = [
        ErrorCode::InvalidRequest,
        ErrorCode::ValidationError,
        ErrorCode::InvalidParams,
        ErrorCode::InvalidDate,
        ErrorCode::Unauthorized,
        ErrorCode::Forbidden,
        ErrorCode::NotFound,
        ErrorCode::MethodNotAllowed,
        ErrorCode::RequestTimeout,
        ErrorCode::LengthRequired,
        ErrorCode::PayloadTooLarge,
        ErrorCode::UriTooLong,
        ErrorCode::UnsupportedMediaType,
        ErrorCode::ExpectationFailed,
        ErrorCode::RateLimited,
        ErrorCode::HeadersTooLarge,
        ErrorCode::InternalError,
        ErrorCode::QueryError,
        ErrorCode::NotImplemented,
        ErrorCode::Unavailable,
        ErrorCode::VersionNotSupported,
    ];

    pub const fn http_status(self) -> u16 {
        match self {
            ErrorCode::InvalidRequest
            | ErrorCode::ValidationError
            | ErrorCode::InvalidParams
            | ErrorCode::InvalidDate => 400,
            ErrorCode::Unauthorized => 401,
            ErrorCode::Forbidden => 403,
            ErrorCode::NotFound => 404,
            ErrorCode::MethodNotAllowed => 405,
            ErrorCode::RequestTimeout => 408,
            ErrorCode::LengthRequired => 411,
            ErrorCode::PayloadTooLarge => 413,
            ErrorCode::UriTooLong => 414,
            ErrorCode::UnsupportedMediaType => 415,
            ErrorCode::ExpectationFailed => 417,
            ErrorCode::RateLimited => 429,
            ErrorCode::HeadersTooLarge => 431,
            ErrorCode::InternalError | ErrorCode::QueryError => 500,
            ErrorCode::NotImplemented => 501,
            ErrorCode::Unavailable => 503,
            ErrorCode::VersionNotSupported => 505,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorCode::InvalidRequest => "INVALID_REQUEST",
            ErrorCode::ValidationError => "VALIDATION_ERROR",
            ErrorCode::InvalidParams => "INVALID_PARAMS",
            ErrorCode::InvalidDate => "INVALID_DATE",
            ErrorCode::Unauthorized => "UNAUTHORIZED",
            ErrorCode::Forbidden => "FORBIDDEN",
            ErrorCode::NotFound => "NOT_FOUND",
            ErrorCode::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            ErrorCode::RequestTimeout => "REQUEST_TIMEOUT",
            ErrorCode::LengthRequired => "LENGTH_REQUIRED",
            ErrorCode::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            ErrorCode::UriTooLong => "URI_TOO_LONG",
            ErrorCode::UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
            ErrorCode::ExpectationFailed => "EXPECTATION_FAILED",
            ErrorCode::RateLimited => "RATE_LIMITED",
            ErrorCode::HeadersTooLarge => "HEADERS_TOO_LARGE",
            ErrorCode::InternalError => "INTERNAL_ERROR",
            ErrorCode::QueryError => "QUERY_ERROR",
            ErrorCode::NotImplemented => "NOT_IMPLEMENTED",
            ErrorCode::Unavailable => "UNAVAILABLE",
            ErrorCode::VersionNotSupported => "VERSION_NOT_SUPPORTED",
        }
    }

    /// The reason phrase of the status line.
    pub const fn reason_phrase(self) -> &'static str {
        match self.http_status() {
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            411 => "Length Required",
            413 => "Content Too Large",
            414 => "URI Too Long",
            415 => "Unsupported Media Type",
            417 => "Expectation Failed",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            500 => "Internal Server Error",
            501 => "Not Implemented",
            503 => "Service Unavailable",
            _ => "HTTP Version Not Supported",
        }
    }
}

/// Appends `{"status":"error","error":…,"code":…,"details":…}` to `out`.
///
/// `error` says what is wrong, `details` where or what to do about it; both are escaped here.
pub fn push_error_body(out: &mut Vec<u8>, code: ErrorCode, error: &str, details: &str) {
    out.extend_from_slice(b"{\"status\":\"error\",\"error\":\"");
    push_json_escaped(out, error);
    out.extend_from_slice(b"\",\"code\":\"");
    out.extend_from_slice(code.as_str().as_bytes());
    out.extend_from_slice(b"\",\"details\":\"");
    push_json_escaped(out, details);
    out.extend_from_slice(b"\"}");
}

/// Appends `text` as the inside of a JSON string.
pub fn push_json_escaped(out: &mut Vec<u8>, text: &str) {
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            control if (control as u32) < 0x20 => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let value = control as usize;
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[value >> 4], HEX[value & 15]]);
            }
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}
