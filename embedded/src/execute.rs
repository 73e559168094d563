//! Runs one request's statement on a thread of its own.
//!
//! Owns: the order of things: text, connection, admission, rows in or rows out. Everything here may
//! block; time is bounded by `max_execution_time` of the request and by the client's patience: when
//! it goes, the statement is cancelled at its next piece.

use std::io::Read;

use crate::body::{BodyReader, ContentCoding, decoded, read_error, read_prefix, rejoin};
use crate::chdb::{Answer, Connection, Progress, StatementClass};
use crate::engine::{Engine, SessionOptions};
use crate::exception::{Code, Exception};
use crate::framing::{Framing, framing};
use crate::output::{Sink, WriteError};
use crate::statement::{Statement, split};

/// Text of a statement, without the rows of an INSERT. ClickHouse's own default is 256 KiB.
pub const STATEMENT_BYTES_MAX: usize = 1 << 20;
/// What a whole answer in a format that cannot be streamed may hold. The engine counts columns
/// before formatting, a constant one once a block; the hard bound is `--memory-max`.
pub const RESULT_BYTES_MAX: usize = 64 << 20;
/// Rows are handed to the engine in such pieces.
const ROWS_PIECE_BYTES: usize = 256 << 10;

/// All that the URL, the headers and a form said.
#[derive(Debug, Default)]
pub struct Request {
    pub query: Option<Vec<u8>>,
    pub database: Option<String>,
    pub default_format: Option<String>,
    pub settings: Vec<(String, String)>,
    pub params: Vec<(String, Vec<u8>)>,
    pub read_only: bool,
    pub native_blocks_in: bool,
}

enum Stop {
    Failed(Exception),
    ClientGone,
}

impl From<Exception> for Stop {
    fn from(exception: Exception) -> Stop {
        Stop::Failed(exception)
    }
}

impl From<WriteError> for Stop {
    fn from(error: WriteError) -> Stop {
        match error {
            WriteError::ClientGone => Stop::ClientGone,
            WriteError::TooLarge(exception) => Stop::Failed(exception),
        }
    }
}

pub fn execute(
    engine: &Engine,
    request: &Request,
    body: BodyReader,
    coding: ContentCoding,
    mut sink: Sink,
) {
    let body = match decoded(body, coding, request.native_blocks_in) {
        Ok(body) => body,
        Err(error) => return sink.fail(read_error(error)),
    };
    match run(engine, request, body, &mut sink) {
        Ok(progress) => sink.finish(progress),
        Err(Stop::Failed(exception)) => sink.fail(exception),
        Err(Stop::ClientGone) => tracing::debug!("the client went before its answer's end"),
    }
}

fn run(
    engine: &Engine,
    request: &Request,
    mut body: Box<dyn Read + Send>,
    sink: &mut Sink,
) -> Result<Progress, Stop> {
    // An INSERT in the URL: the whole body is rows.
    if let Some(query) = &request.query {
        check_length(query)?;
        if let Statement::InsertRows { head_end, format, data_start } = split(query) {
            let head = query[..head_end].to_vec();
            let mut rows = query[data_start..].to_vec();
            if rows.iter().all(u8::is_ascii_whitespace) {
                rows.clear();
            }
            let mut plain_values = false;
            if format.as_deref().is_none_or(|name| name.eq_ignore_ascii_case("Values")) {
                let (prefix, ended) = read_prefix(&mut body, STATEMENT_BYTES_MAX)?;
                rows.extend_from_slice(&prefix);
                plain_values = ended && engine.guard.is_plain(&rows);
            }
            let rows = rejoin(rows, 0, body);
            return insert(engine, request, &head, format, plain_values, rows);
        }
    }
    let (prefix, ended) = read_prefix(&mut body, STATEMENT_BYTES_MAX)?;
    let text = match &request.query {
        Some(query) if !prefix.is_empty() => [query.as_slice(), b"\n", &prefix].concat(),
        Some(query) => query.clone(),
        None => prefix,
    };
    if let Statement::InsertRows { head_end, format, data_start } = split(&text) {
        let head = text[..head_end].to_vec();
        let plain_values = ended && engine.guard.is_plain(&text[data_start..]);
        let rows = rejoin(text, data_start, body);
        return insert(engine, request, &head, format, plain_values, rows);
    }
    if !ended {
        return Err(too_long().into());
    }
    check_length(&text)?;
    select(engine, request, &text, sink)
}

fn check_length(text: &[u8]) -> Result<(), Exception> {
    if text.len() > STATEMENT_BYTES_MAX { Err(too_long()) } else { Ok(()) }
}

fn too_long() -> Exception {
    let what =
        format!("Max query size exceeded: a statement has at most {STATEMENT_BYTES_MAX} bytes");
    Exception::new(Code::SyntaxError, what)
}

fn insert(
    engine: &Engine,
    request: &Request,
    head: &[u8],
    format: Option<String>,
    plain_values: bool,
    mut rows: impl Read,
) -> Result<Progress, Stop> {
    check_length(head)?;
    let format =
        format.or_else(|| request.default_format.clone()).unwrap_or_else(|| "Values".to_owned());
    check_format_name(&format)?;
    let mut connection = engine.open(&SessionOptions {
        settings: &request.settings,
        database: request.database.as_deref(),
        read_only: request.read_only,
        // Expressions among values are SQL, so only where no denied name can be among them.
        values_expressions: plain_values && format.eq_ignore_ascii_case("Values"),
    })?;
    engine.guard.admit_insert_head(&mut connection, head, &format, &request.params)?;
    // A comment at the end of the head must not swallow the FORMAT that the engine appends.
    let head = [head, b"\n"].concat();
    let mut stream =
        connection.insert(&head, &format, &request.params).map_err(Exception::from_engine)?;
    let mut piece = vec![0; ROWS_PIECE_BYTES];
    loop {
        // A body that breaks off drops the stream here, unfinished: the engine discards its rows.
        let filled = fill(&mut rows, &mut piece).map_err(read_error)?;
        if filled == 0 {
            break;
        }
        stream.append(&piece[..filled]).map_err(Exception::from_engine)?;
    }
    Ok(stream.finish().map_err(Exception::from_engine)?)
}

fn fill(rows: &mut impl Read, piece: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < piece.len() {
        match rows.read(&mut piece[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

fn select(
    engine: &Engine,
    request: &Request,
    text: &[u8],
    sink: &mut Sink,
) -> Result<Progress, Stop> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(Exception::new(Code::SyntaxError, "Syntax error: Empty query").into());
    }
    let default_format = request.default_format.as_deref().unwrap_or("TabSeparated");
    check_format_name(default_format)?;
    let Statement::Whole { format } = split(text) else {
        return Err(Exception::new(Code::SyntaxError, "rows without an INSERT").into());
    };
    let format = format.unwrap_or_else(|| default_format.to_owned());
    sink.set_format(&format);
    let mut settings = request.settings.clone();
    let framing = framing(&format, text, &settings);
    if framing == Framing::Document {
        bound_result(&mut settings);
    }
    let mut connection = engine.open(&SessionOptions {
        settings: &settings,
        database: request.database.as_deref(),
        read_only: request.read_only,
        values_expressions: false,
    })?;
    let class = engine.guard.admit(&mut connection, text, &request.params)?;
    if class == StatementClass::ReadOnly
        && framing != Framing::Document
        && let Some(progress) =
            stream(&mut connection, request, text, default_format, framing, sink)?
    {
        return Ok(progress);
    }
    let answer =
        connection.query(text, default_format, &request.params).map_err(Exception::from_engine)?;
    sink.write(answer.bytes())?;
    Ok(answer.progress())
}

/// `None`: the engine streams no such statement (SHOW, DESCRIBE, EXPLAIN), and nothing was run.
fn stream(
    connection: &mut Connection,
    request: &Request,
    text: &[u8],
    format: &str,
    framing: Framing,
    sink: &mut Sink,
) -> Result<Option<Progress>, Stop> {
    let mut rows = match connection.stream_query(text, format, &request.params) {
        Ok(rows) => rows,
        Err(error) if error.contains("Streaming query is not supported") => return Ok(None),
        Err(error) => return Err(Exception::from_engine(error).into()),
    };
    let mut header_bytes = None;
    let mut progress = Progress::default();
    while let Some(piece) = rows.fetch().map_err(Exception::from_engine)? {
        let bytes = piece.bytes();
        let start = match header_bytes {
            None => {
                header_bytes = Some(framing.header_bytes(bytes));
                0
            }
            Some(header) => header,
        };
        sink.write(bytes.get(start..).unwrap_or_default())?;
        progress = Answer::progress(&piece);
    }
    Ok(Some(progress))
}

fn bound_result(settings: &mut Vec<(String, String)>) {
    if !settings.iter().any(|(name, _)| name == "max_result_bytes") {
        settings.push(("max_result_bytes".to_owned(), RESULT_BYTES_MAX.to_string()));
    }
    if !settings.iter().any(|(name, _)| name == "result_overflow_mode") {
        settings.push(("result_overflow_mode".to_owned(), "throw".to_owned()));
    }
}

fn check_format_name(format: &str) -> Result<(), Exception> {
    let is_name = format.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_name && !format.is_empty() {
        return Ok(());
    }
    Err(Exception::new(Code::BadArguments, format!("not the name of a format: {format:?}")))
}
