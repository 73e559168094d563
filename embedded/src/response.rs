//! What a successful response carries: body, content type, summary.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;
use tokio::time::Sleep;

use crate::chdb::Progress;
use crate::output::Output;

/// The pieces that the executing thread sends. A sequence that stops without `End` is broken off,
/// so that the client does not take it for whole.
pub struct OutputBody {
    outputs: mpsc::Receiver<Output>,
    ended: bool,
    /// Runs between the exception's text and the breaking of the connection: hyper drops what it
    /// has not written when a body fails, and writes while a body is pending.
    breaking: Option<Pin<Box<Sleep>>>,
}

const FLUSH_WAIT: Duration = Duration::from_millis(20);

impl OutputBody {
    pub fn new(outputs: mpsc::Receiver<Output>) -> OutputBody {
        OutputBody { outputs, ended: false, breaking: None }
    }
}

impl Body for OutputBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(sleep) = &mut self.breaking {
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.ended = true;
            let message = "the statement failed after its first rows";
            return Poll::Ready(Some(Err(std::io::Error::other(message))));
        }
        match self.outputs.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Output::Piece(bytes))) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Poll::Ready(Some(Output::End)) => {
                self.ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(_) => {
                self.breaking = Some(Box::pin(tokio::time::sleep(FLUSH_WAIT)));
                self.poll_frame(context)
            }
        }
    }
}

pub fn content_type(format: &str) -> &'static str {
    match format.to_ascii_lowercase().as_str() {
        "" => "text/plain; charset=UTF-8",
        "tsv" | "tabseparated" => "text/tab-separated-values; charset=UTF-8",
        "tsvwithnames"
        | "tabseparatedwithnames"
        | "tsvwithnamesandtypes"
        | "tabseparatedwithnamesandtypes" => {
            "text/tab-separated-values; charset=UTF-8; header=present"
        }
        "csv" => "text/csv; charset=UTF-8; header=absent",
        "csvwithnames" | "csvwithnamesandtypes" => "text/csv; charset=UTF-8; header=present",
        "json" | "jsoncompact" | "jsonstrings" | "jsoncolumns" => "application/json; charset=UTF-8",
        "jsoneachrow" | "jsoncompacteachrow" | "ndjson" | "jsonlines" => {
            "application/x-ndjson; charset=UTF-8"
        }
        "xml" => "application/xml; charset=UTF-8",
        "markdown" => "text/markdown; charset=UTF-8",
        "rowbinary"
        | "rowbinarywithnames"
        | "rowbinarywithnamesandtypes"
        | "native"
        | "parquet"
        | "arrow"
        | "arrowstream"
        | "orc"
        | "avro"
        | "msgpack"
        | "rawblob" => "application/octet-stream",
        _ => "text/plain; charset=UTF-8",
    }
}

/// `X-ClickHouse-Summary`: a JSON object whose numbers are strings.
pub fn summary(progress: &Progress) -> String {
    format!(
        "{{\"read_rows\":\"{}\",\"read_bytes\":\"{}\",\"written_rows\":\"{}\",\
         \"written_bytes\":\"{}\",\"result_rows\":\"{}\"}}",
        progress.read_rows,
        progress.read_bytes,
        progress.written_rows,
        progress.written_bytes,
        progress.written_rows,
    )
}
