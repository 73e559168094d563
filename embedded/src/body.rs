//! A request's body as a blocking reader.
//!
//! The network side pushes the pieces through a bounded queue, the executing thread reads them
//! through the decoders that the request asked for. Memory for one body: the queue, one piece and
//! one block. A body that breaks off is an error, never an end, so that nothing half-read is stored.

use std::io::{self, Cursor, ErrorKind, Read};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use crate::block_codec::{BlockError, BlockReader};
use crate::exception::{Code, Exception};

/// Pieces in flight between network and engine; hyper's pieces are some hundred KiB at most.
const QUEUE_PIECES: usize = 4;
/// A client that sends nothing for so long is taken to be gone.
const PIECE_WAIT_MAX: Duration = Duration::from_secs(60);

type Piece = Result<Bytes, ErrorKind>;

pub struct BodyReader {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

/// The reader, and the work that feeds it, which ends when either side does.
pub fn channel(mut body: Incoming) -> (BodyReader, impl Future<Output = ()> + Send) {
    let (sender, pieces) = mpsc::channel(QUEUE_PIECES);
    let feed = async move {
        loop {
            let piece = match tokio::time::timeout(PIECE_WAIT_MAX, body.frame()).await {
                Err(_) => Err(ErrorKind::TimedOut),
                Ok(None) => Ok(Bytes::new()),
                Ok(Some(Err(_))) => Err(ErrorKind::ConnectionAborted),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if data.is_empty() => continue,
                    Ok(data) => Ok(data),
                    Err(_trailers) => continue,
                },
            };
            let last = !matches!(&piece, Ok(data) if !data.is_empty());
            if sender.send(piece).await.is_err() || last {
                return;
            }
        }
    };
    (BodyReader { pieces, current: Bytes::new(), ended: false }, feed)
}

impl BodyReader {
    pub fn empty() -> BodyReader {
        let (_, pieces) = mpsc::channel(1);
        BodyReader { pieces, current: Bytes::new(), ended: true }
    }
}

impl Read for BodyReader {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                // An empty piece is the end; a queue that closes without it is a body that broke.
                Some(Ok(piece)) => {
                    self.ended = piece.is_empty();
                    self.current = piece;
                }
                Some(Err(kind)) => return Err(kind.into()),
                None => return Err(ErrorKind::ConnectionAborted.into()),
            }
        }
        let count = target.len().min(self.current.len());
        target[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentCoding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
}

impl ContentCoding {
    pub fn parse(header: &str) -> Option<ContentCoding> {
        match header.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Some(ContentCoding::Identity),
            "gzip" | "x-gzip" => Some(ContentCoding::Gzip),
            "deflate" => Some(ContentCoding::Deflate),
            "zstd" => Some(ContentCoding::Zstd),
            _ => None,
        }
    }
}

/// Puts the decoders in front of a body: HTTP content coding outside, ClickHouse blocks inside.
pub fn decoded(
    body: impl Read + Send + 'static,
    coding: ContentCoding,
    native_blocks: bool,
) -> io::Result<Box<dyn Read + Send>> {
    let plain: Box<dyn Read + Send> = match coding {
        ContentCoding::Identity => Box::new(body),
        ContentCoding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(body)),
        ContentCoding::Deflate => Box::new(flate2::read::ZlibDecoder::new(body)),
        ContentCoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(body)?;
            // 2^27 = 128 MiB is the window that the format's specification asks decoders to allow
            // at most by default; 2^23 is what it recommends to support.
            decoder.window_log_max(23)?;
            Box::new(decoder)
        }
    };
    Ok(if native_blocks { Box::new(BlockReader::new(plain)) } else { plain })
}

/// Up to `limit` bytes, and whether the body ended within them.
pub fn read_prefix(body: &mut impl Read, limit: usize) -> Result<(Vec<u8>, bool), Exception> {
    let mut prefix = Vec::new();
    body.take(limit as u64 + 1).read_to_end(&mut prefix).map_err(read_error)?;
    let ended = prefix.len() <= limit;
    Ok((prefix, ended))
}

/// The bytes already taken, then the rest.
pub fn rejoin(prefix: Vec<u8>, start: usize, rest: Box<dyn Read + Send>) -> impl Read + Send {
    let mut head = Cursor::new(prefix);
    head.set_position(start as u64);
    head.chain(rest)
}

pub fn read_error(error: io::Error) -> Exception {
    if let Some(block) = error.get_ref().and_then(|inner| inner.downcast_ref::<BlockError>()) {
        let code = match block {
            BlockError::Checksum => Code::ChecksumDoesntMatch,
            BlockError::Method(_) => Code::UnknownCompressionMethod,
            BlockError::Size { .. } | BlockError::Payload => Code::CannotDecompress,
        };
        return Exception::new(code, block);
    }
    match error.kind() {
        ErrorKind::ConnectionAborted | ErrorKind::TimedOut => {
            Exception::new(Code::NetworkError, "the request's body broke off")
        }
        ErrorKind::UnexpectedEof => {
            Exception::new(Code::CannotDecompress, "the compressed body is cut short")
        }
        _ => Exception::new(Code::CannotDecompress, format!("cannot decode the body: {error}")),
    }
}
