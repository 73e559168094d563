//! ClickHouse exceptions as the HTTP protocol shows them: number, name, text, HTTP status.
//!
//! The engine's own messages pass through unchanged; those of this server use the same numbers, so
//! that a client needs one way to read both.

use hyper::StatusCode;

/// Error numbers of ClickHouse that this server raises itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    BadArguments = 36,
    ChecksumDoesntMatch = 40,
    NotImplemented = 48,
    SyntaxError = 62,
    UnknownCompressionMethod = 89,
    UnknownSetting = 115,
    RequiredPassword = 194,
    TooManySimultaneousQueries = 202,
    NetworkError = 210,
    CannotDecompress = 271,
    TooManyRowsOrBytes = 396,
    AccessDenied = 497,
    AuthenticationFailed = 516,
}

impl Code {
    fn name(self) -> &'static str {
        match self {
            Code::BadArguments => "BAD_ARGUMENTS",
            Code::ChecksumDoesntMatch => "CHECKSUM_DOESNT_MATCH",
            Code::NotImplemented => "NOT_IMPLEMENTED",
            Code::SyntaxError => "SYNTAX_ERROR",
            Code::UnknownCompressionMethod => "UNKNOWN_COMPRESSION_METHOD",
            Code::UnknownSetting => "UNKNOWN_SETTING",
            Code::RequiredPassword => "REQUIRED_PASSWORD",
            Code::TooManySimultaneousQueries => "TOO_MANY_SIMULTANEOUS_QUERIES",
            Code::NetworkError => "NETWORK_ERROR",
            Code::CannotDecompress => "CANNOT_DECOMPRESS",
            Code::TooManyRowsOrBytes => "TOO_MANY_ROWS_OR_BYTES",
            Code::AccessDenied => "ACCESS_DENIED",
            Code::AuthenticationFailed => "AUTHENTICATION_FAILED",
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Exception {
    pub code: u32,
    /// `Code: N. DB::Exception: … (NAME)`
    text: String,
}

impl Exception {
    pub fn new(code: Code, message: impl std::fmt::Display) -> Exception {
        let number = code as u32;
        let text = format!("Code: {number}. DB::Exception: {message} ({})", code.name());
        Exception { code: number, text }
    }

    /// Takes a message of the engine, which starts with `Code: N.`.
    pub fn from_engine(text: String) -> Exception {
        let number = text.strip_prefix("Code: ").and_then(|rest| rest.split('.').next());
        match number.and_then(|digits| digits.parse().ok()) {
            Some(code) => Exception { code, text },
            // 1002 is the engine's own number for what has none.
            None => Exception {
                code: 1002,
                text: format!("Code: 1002. DB::Exception: {text} (UNKNOWN_EXCEPTION)"),
            },
        }
    }

    /// The line a client reads.
    pub fn body(&self, version: &str) -> String {
        if self.text.contains("(version ") {
            return format!("{}\n", self.text);
        }
        format!("{} (version {version})\n", self.text)
    }

    /// As ClickHouse's HTTP handler maps them, with three deliberate differences: refused access
    /// (497), read-only (164) and a changed constrained setting (452) are 403 here, too many queries
    /// (202) is 503, and a result past the limit (396) is 413.
    pub fn status(&self) -> StatusCode {
        match self.code {
            194 => StatusCode::UNAUTHORIZED,
            164 | 192 | 193 | 452 | 497 | 516 => StatusCode::FORBIDDEN,
            // Malformed statements and data: parsing, types, arguments, checksums.
            6 | 7 | 26 | 27 | 33 | 36 | 38 | 40 | 41 | 42 | 43 | 44 | 53 | 62 | 69 | 70 | 72
            | 80 | 89 | 117 | 130 | 131 | 190 | 261 | 271 | 321 | 376 | 386 | 427 | 441 | 450
            | 456 | 457 | 467 | 675 => StatusCode::BAD_REQUEST,
            // Unknown columns, functions, tables, databases, formats, settings.
            8 | 16 | 46 | 47 | 50 | 56 | 60 | 63 | 73 | 81 | 115 => StatusCode::NOT_FOUND,
            159 => StatusCode::REQUEST_TIMEOUT,
            307 | 396 | 581 => StatusCode::PAYLOAD_TOO_LARGE,
            48 => StatusCode::NOT_IMPLEMENTED,
            202 | 439 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_messages_keep_number_and_text() {
        let check = |text: &str, code: u32, status: u16| {
            let exception = Exception::from_engine(text.to_owned());
            assert_eq!((exception.code, exception.status().as_u16()), (code, status), "{text}");
        };
        check("Code: 60. DB::Exception: Unknown table. (UNKNOWN_TABLE)", 60, 404);
        check("Code: 62. DB::Exception: Syntax error. (SYNTAX_ERROR)", 62, 400);
        check("something else", 1002, 500);
        check("Code: x. DB::Exception: y", 1002, 500);
    }
}
