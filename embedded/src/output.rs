//! From the executing thread to the response: pieces through a bounded queue, encoded on the way.
//!
//! Owns: what a client sees when a statement fails after its first bytes left. ClickHouse's way: the
//! header `X-ClickHouse-Exception-Tag` announces a tag, the body's end carries the message between
//! two marks with it; here the connection is broken off too, so that no client takes it for whole.

use std::io::Write;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::block_codec::compress_lz4;
use crate::chdb::Progress;
use crate::exception::{Code, Exception};

/// Pieces on their way to a client.
pub const QUEUE_PIECES: usize = 4;
/// A piece of plain output.
pub const PIECE_BYTES_MAX: usize = 1 << 20;
/// What `wait_end_of_query=1` may hold back.
pub const WAIT_BYTES_MAX: usize = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Plain,
    /// `compress=1`
    NativeBlocks,
    Gzip,
    Zstd,
    /// LZ4 frames, which the `clickhouse` crate asks for.
    Lz4Frame,
}

impl Encoding {
    pub fn content_encoding(self) -> Option<&'static str> {
        match self {
            Encoding::Plain | Encoding::NativeBlocks => None,
            Encoding::Gzip => Some("gzip"),
            Encoding::Zstd => Some("zstd"),
            Encoding::Lz4Frame => Some("lz4"),
        }
    }

    /// Each piece becomes a block, member or frame of its own; their sequence decodes as one.
    fn encode(self, plain: &[u8]) -> std::io::Result<Bytes> {
        Ok(match self {
            Encoding::Plain => Bytes::copy_from_slice(plain),
            Encoding::NativeBlocks => compress_lz4(plain).into(),
            Encoding::Gzip => {
                let level = flate2::Compression::fast();
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(plain)?;
                encoder.finish()?.into()
            }
            Encoding::Zstd => zstd::bulk::compress(plain, 1)?.into(),
            Encoding::Lz4Frame => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(plain)?;
                encoder.finish().map_err(std::io::Error::other)?.into()
            }
        })
    }
}

/// What the response's head says; known before its first byte.
#[derive(Clone, Debug)]
pub struct Head {
    pub format: String,
    pub progress: Progress,
    pub exception_tag: String,
}

#[derive(Debug)]
pub enum Output {
    Head(Head),
    Piece(Bytes),
    End,
    /// The statement failed before the head: the response is the exception.
    Failed(Exception),
    /// It failed later; the message was the last piece.
    Broken,
}

/// The client has gone; the statement is not worth continuing.
#[derive(Debug)]
pub struct ClientGone;

pub struct Sink {
    sender: mpsc::Sender<Output>,
    encoding: Encoding,
    version: String,
    /// Set until the head is sent.
    head: Option<Head>,
    exception_tag: String,
    /// Set with `wait_end_of_query=1`.
    held_back: Option<Vec<u8>>,
}

impl Sink {
    pub fn new(
        sender: mpsc::Sender<Output>,
        encoding: Encoding,
        wait_end_of_query: bool,
        exception_tag: String,
        version: String,
    ) -> Sink {
        let head = Head {
            format: String::new(),
            progress: Progress::default(),
            exception_tag: exception_tag.clone(),
        };
        let held_back = wait_end_of_query.then(Vec::new);
        Sink { sender, encoding, version, head: Some(head), exception_tag, held_back }
    }

    pub fn set_format(&mut self, format: &str) {
        if let Some(head) = &mut self.head {
            format.clone_into(&mut head.format);
        }
    }

    pub fn write(&mut self, plain: &[u8]) -> Result<(), WriteError> {
        if let Some(held_back) = &mut self.held_back {
            if held_back.len() + plain.len() > WAIT_BYTES_MAX {
                return Err(WriteError::TooLarge(Exception::new(
                    Code::TooManyRowsOrBytes,
                    format!(
                        "wait_end_of_query holds back at most {WAIT_BYTES_MAX} bytes of an answer"
                    ),
                )));
            }
            held_back.extend_from_slice(plain);
            return Ok(());
        }
        self.write_through(plain).map_err(|ClientGone| WriteError::ClientGone)
    }

    fn write_through(&mut self, plain: &[u8]) -> Result<(), ClientGone> {
        if let Some(head) = self.head.take() {
            self.send(Output::Head(head))?;
        }
        for piece in plain.chunks(PIECE_BYTES_MAX) {
            let encoded = self.encoding.encode(piece).expect("encoding into memory does not fail");
            self.send(Output::Piece(encoded))?;
        }
        Ok(())
    }

    /// Ends the answer; what it says of rows is in the head if nothing was sent yet.
    pub fn finish(mut self, progress: Progress) {
        if let Some(head) = &mut self.head {
            head.progress = progress;
        }
        let held_back = self.held_back.take().unwrap_or_default();
        if self.write_through(&held_back).is_ok() {
            self.send(Output::End).ok();
        }
    }

    pub fn fail(mut self, exception: Exception) {
        if self.head.is_some() {
            self.send(Output::Failed(exception)).ok();
            return;
        }
        let tag = self.exception_tag.clone();
        let message = exception.body(&self.version);
        let mark = "__exception__\r\n";
        let text = format!("\r\n{mark}{tag}\r\n{message}{} {tag}\r\n{mark}", message.len());
        if self.write_through(text.as_bytes()).is_ok() {
            self.send(Output::Broken).ok();
        }
    }

    fn send(&mut self, output: Output) -> Result<(), ClientGone> {
        self.sender.blocking_send(output).map_err(|_| ClientGone)
    }
}

pub enum WriteError {
    ClientGone,
    TooLarge(Exception),
}
