//! Every reason why bytes are not a request, and the one place that says what each is answered.
//!
//! Owns reasons that lie in the message's own bytes. What depends on configuration beyond a head's
//! limits (paths, keys, body size) is the connection's.

use proto::ErrorCode;

/// Why a head or a chunked body was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reject {
    TooManyLeadingCrlfs,
    BadMethod,
    MethodTooLong,
    EmptyTarget,
    BadTarget,
    BadTargetForm,
    TargetTooLong,
    MissingVersion,
    BadVersion,
    UnsupportedVersion,
    BareCr,
    BareLf,
    SpaceBeforeFirstHeader,
    ObsFold,
    EmptyHeaderName,
    BadHeaderName,
    MissingColon,
    SpaceBeforeColon,
    ControlInHeaderValue,
    HeadTooLarge,
    TooManyHeaders,
    MissingHost,
    DuplicateHost,
    BadHost,
    BadContentLength,
    ContentLengthOverflow,
    DuplicateContentLength,
    BadTransferEncoding,
    ChunkedNotLast,
    UnsupportedTransferEncoding,
    TransferEncodingInHttp10,
    LengthAndTransferEncoding,
    DuplicateApiKey,
    BadChunkSize,
    ChunkSizeOverflow,
    BadChunkExtension,
    ChunkExtensionsTooLong,
    BadChunkEnd,
    TrailersTooLarge,
}

impl Reject {
    pub const ALL: [Reject; 39] = [
        Reject::TooManyLeadingCrlfs,
        Reject::BadMethod,
        Reject::MethodTooLong,
        Reject::EmptyTarget,
        Reject::BadTarget,
        Reject::BadTargetForm,
        Reject::TargetTooLong,
        Reject::MissingVersion,
        Reject::BadVersion,
        Reject::UnsupportedVersion,
        Reject::BareCr,
        Reject::BareLf,
        Reject::SpaceBeforeFirstHeader,
        Reject::ObsFold,
        Reject::EmptyHeaderName,
        Reject::BadHeaderName,
        Reject::MissingColon,
        Reject::SpaceBeforeColon,
        Reject::ControlInHeaderValue,
        Reject::HeadTooLarge,
        Reject::TooManyHeaders,
        Reject::MissingHost,
        Reject::DuplicateHost,
        Reject::BadHost,
        Reject::BadContentLength,
        Reject::ContentLengthOverflow,
        Reject::DuplicateContentLength,
        Reject::BadTransferEncoding,
        Reject::ChunkedNotLast,
        Reject::UnsupportedTransferEncoding,
        Reject::TransferEncodingInHttp10,
        Reject::LengthAndTransferEncoding,
        Reject::DuplicateApiKey,
        Reject::BadChunkSize,
        Reject::ChunkSizeOverflow,
        Reject::BadChunkExtension,
        Reject::ChunkExtensionsTooLong,
        Reject::BadChunkEnd,
        Reject::TrailersTooLarge,
    ];

    /// The labels of [`Reject::ALL`], in its order.
    pub const LABELS: [&'static str; Reject::ALL.len()] = {
        let mut labels = [""; Reject::ALL.len()];
        let mut index = 0;
        while index < labels.len() {
            labels[index] = Reject::ALL[index].label();
            index += 1;
        }
        labels
    };

    /// Whether the connection ends with the answer. It always does: where the next request begins
    /// is unknown, or was said by bytes not to be trusted.
    pub const fn closes(self) -> bool {
        true
    }

    pub const fn error_code(self) -> ErrorCode {
        self.answer().0
    }

    /// What the client is told.
    pub const fn message(self) -> &'static str {
        self.answer().1
    }

    /// The value of the metric's `reason` label.
    pub const fn label(self) -> &'static str {
        self.answer().2
    }

    const fn answer(self) -> (ErrorCode, &'static str, &'static str) {
        use ErrorCode::*;
        match self {
            Reject::TooManyLeadingCrlfs => {
                (InvalidRequest, "too many empty lines before the request", "leading_crlfs")
            }
            Reject::BadMethod => (InvalidRequest, "the method is not a token", "method"),
            Reject::MethodTooLong => (NotImplemented, "the method is too long", "method_length"),
            Reject::EmptyTarget => (InvalidRequest, "the request target is empty", "empty_target"),
            Reject::BadTarget => {
                (InvalidRequest, "a byte is not allowed in a request target", "target_byte")
            }
            Reject::BadTargetForm => (
                InvalidRequest,
                "the request target is neither a path nor an absolute http URL",
                "target_form",
            ),
            Reject::TargetTooLong => {
                (UriTooLong, "the request target is too long", "target_length")
            }
            Reject::MissingVersion => {
                (InvalidRequest, "the request line has no HTTP version", "missing_version")
            }
            Reject::BadVersion => {
                (InvalidRequest, "the HTTP version is malformed", "version_syntax")
            }
            Reject::UnsupportedVersion => {
                (VersionNotSupported, "only HTTP/1.1 and HTTP/1.0 are spoken here", "version")
            }
            Reject::BareCr => (InvalidRequest, "a CR is not followed by LF", "bare_cr"),
            Reject::BareLf => (InvalidRequest, "an LF has no CR before it", "bare_lf"),
            Reject::SpaceBeforeFirstHeader => {
                (InvalidRequest, "white space before the first header", "space_before_header")
            }
            Reject::ObsFold => (InvalidRequest, "a header is folded over two lines", "obs_fold"),
            Reject::EmptyHeaderName => (InvalidRequest, "a header has no name", "empty_name"),
            Reject::BadHeaderName => {
                (InvalidRequest, "a header's name is not a token", "name_byte")
            }
            Reject::MissingColon => (InvalidRequest, "a header has no colon", "missing_colon"),
            Reject::SpaceBeforeColon => {
                (InvalidRequest, "white space before a header's colon", "space_before_colon")
            }
            Reject::ControlInHeaderValue => {
                (InvalidRequest, "a control character in a header's value", "value_byte")
            }
            Reject::HeadTooLarge => {
                (HeadersTooLarge, "the request's head is too large", "head_bytes")
            }
            Reject::TooManyHeaders => (HeadersTooLarge, "too many headers", "header_count"),
            Reject::MissingHost => (InvalidRequest, "the Host header is missing", "missing_host"),
            Reject::DuplicateHost => {
                (InvalidRequest, "the Host header is repeated", "duplicate_host")
            }
            Reject::BadHost => (InvalidRequest, "the host is malformed", "host"),
            Reject::BadContentLength => {
                (InvalidRequest, "Content-Length is not a plain decimal number", "content_length")
            }
            Reject::ContentLengthOverflow => {
                (InvalidRequest, "Content-Length is out of range", "content_length_overflow")
            }
            Reject::DuplicateContentLength => {
                (InvalidRequest, "Content-Length is repeated", "duplicate_content_length")
            }
            Reject::BadTransferEncoding => {
                (InvalidRequest, "Transfer-Encoding is malformed", "transfer_encoding_syntax")
            }
            Reject::ChunkedNotLast => (
                InvalidRequest,
                "chunked is not the last transfer coding, or there twice",
                "chunked_not_last",
            ),
            Reject::UnsupportedTransferEncoding => {
                (NotImplemented, "the only transfer coding here is chunked", "transfer_encoding")
            }
            Reject::TransferEncodingInHttp10 => {
                (InvalidRequest, "Transfer-Encoding in HTTP/1.0", "transfer_encoding_http10")
            }
            Reject::LengthAndTransferEncoding => (
                InvalidRequest,
                "both Content-Length and Transfer-Encoding",
                "length_and_transfer_encoding",
            ),
            Reject::DuplicateApiKey => {
                (InvalidRequest, "the X-API-Key header is repeated", "duplicate_api_key")
            }
            Reject::BadChunkSize => {
                (InvalidRequest, "a chunk's size is not a hexadecimal number", "chunk_size")
            }
            Reject::ChunkSizeOverflow => {
                (InvalidRequest, "a chunk's size is out of range", "chunk_size_overflow")
            }
            Reject::BadChunkExtension => {
                (InvalidRequest, "a chunk extension is malformed", "chunk_extension")
            }
            Reject::ChunkExtensionsTooLong => {
                (InvalidRequest, "the chunk extensions are too long", "chunk_extension_bytes")
            }
            Reject::BadChunkEnd => {
                (InvalidRequest, "a chunk's data is not followed by CRLF", "chunk_end")
            }
            Reject::TrailersTooLarge => {
                (HeadersTooLarge, "the trailers are too many or too large", "trailers")
            }
        }
    }
}
