//! What a successful response carries: body, content type, summary.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;

use crate::chdb::Progress;
use crate::output::Output;

/// The pieces that the executing thread sends. A sequence that stops without `End` is broken off,
/// so that the client does not take it for whole.
pub struct OutputBody {
    outputs: mpsc::Receiver<Output>,
    ended: bool,
}

impl OutputBody {
    pub fn new(outputs: mpsc::Receiver<Output>) -> OutputBody {
        OutputBody { outputs, ended: false }
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
        match self.outputs.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Output::Piece(bytes))) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Poll::Ready(Some(Output::End)) => {
                self.ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(_) => {
                self.ended = true;
                let message = "the statement failed after its first rows";
                Poll::Ready(Some(Err(std::io::Error::other(message))))
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
