//! The boundary to `libchdb.so`, loaded at run time: the crate's only unsafe code.
//!
//! Owns: symbol lookup, every pointer that crosses the boundary, and the rule of who frees what.
//! Must not know: HTTP, which statements are allowed, what a setting means.
//!
//! Invariants, on which each SAFETY comment below leans:
//! - The signatures are those of `chdb.h` of chDB 26.7; `Library::load` refuses a library that lacks
//!   one of the symbols. All handles are pointers to opaque structs.
//! - The library is never unloaded: its threads outlive the last connection, and unmapping their
//!   code crashes the process. `Library` is leaked on purpose.
//! - A connection runs one statement at a time. `&mut self` on every call, and the borrow that an
//!   open stream keeps, make a second one a compile error.
//! - Every result and stream is destroyed exactly once, by `Drop`, before its connection is closed.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::path::Path;

type ConnectionPtr = *mut c_void;
type ResultPtr = *mut c_void;
type StreamPtr = *mut c_void;

#[repr(C)]
struct QueryAnalysis {
    struct_size: u32,
    statement_count: u32,
    flags: u32,
    query_class: u32,
}

type WithParams = unsafe extern "C" fn(
    ConnectionPtr,
    *const u8,
    usize,
    *const u8,
    usize,
    *const *const u8,
    *const usize,
    *const *const u8,
    *const usize,
    usize,
) -> *mut c_void;

/// The entry points that are used, of those `chdb.h` offers.
pub struct Library {
    connect: unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut ConnectionPtr,
    close: unsafe extern "C" fn(*mut ConnectionPtr),
    shutdown: unsafe extern "C" fn() -> c_int,
    query: WithParams,
    stream_query: WithParams,
    stream_fetch: unsafe extern "C" fn(ConnectionPtr, ResultPtr) -> ResultPtr,
    stream_cancel: unsafe extern "C" fn(ConnectionPtr, ResultPtr),
    insert: WithParams,
    insert_append: unsafe extern "C" fn(StreamPtr, *const c_void, usize) -> c_int,
    insert_done: unsafe extern "C" fn(StreamPtr) -> ResultPtr,
    insert_cancel: unsafe extern "C" fn(StreamPtr),
    insert_error: unsafe extern "C" fn(StreamPtr) -> *const c_char,
    insert_destroy: unsafe extern "C" fn(StreamPtr),
    classify: unsafe extern "C" fn(
        ConnectionPtr,
        *const u8,
        usize,
        *const u8,
        usize,
        *mut QueryAnalysis,
    ) -> c_int,
    result_buffer: unsafe extern "C" fn(ResultPtr) -> *const u8,
    result_length: unsafe extern "C" fn(ResultPtr) -> usize,
    result_error: unsafe extern "C" fn(ResultPtr) -> *const c_char,
    result_rows_written: unsafe extern "C" fn(ResultPtr) -> u64,
    result_bytes_written: unsafe extern "C" fn(ResultPtr) -> u64,
    result_storage_rows_read: unsafe extern "C" fn(ResultPtr) -> u64,
    result_storage_bytes_read: unsafe extern "C" fn(ResultPtr) -> u64,
    result_destroy: unsafe extern "C" fn(ResultPtr),
    pub version: String,
    _never_unloaded: ManuallyDrop<libloading::Library>,
}

/// What the engine's own parser says about a text, without running it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classification {
    pub statement_count: u32,
    pub class: StatementClass,
    pub has_secrets: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementClass {
    ReadOnly,
    Mutating,
    /// Users, functions, named collections: outside any database.
    MutatingGlobal,
    /// Session state, SYSTEM, BACKUP, INTO OUTFILE, INSERT INTO FUNCTION.
    Control,
    /// Did not parse, or is not known to the classifier.
    Unknown,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub read_rows: u64,
    pub read_bytes: u64,
    pub written_rows: u64,
    pub written_bytes: u64,
}

/// Named values for `{name:Type}` places. They never become part of the statement's text.
pub type Params = [(String, Vec<u8>)];

impl Library {
    /// Loads the library for the rest of the process's life and keeps it from taking over the
    /// process's signal handlers.
    pub fn load(path: &Path) -> Result<&'static Library, libloading::Error> {
        // SAFETY: the initialisers of libchdb register C++ factories only; nothing of this process
        // depends on a state that they change.
        let library = unsafe { libloading::Library::new(path)? };
        macro_rules! symbol {
            ($name:literal) => {{
                // SAFETY: the field or binding it is assigned to has the signature that chdb.h of
                // this release declares for the name; the copy stays valid, see the invariants.
                let symbol = unsafe { library.get(concat!($name, "\0").as_bytes())? };
                *symbol
            }};
        }
        let set_signal_handlers: unsafe extern "C" fn(c_int) =
            symbol!("chdb_set_signal_handlers_enabled");
        let version: unsafe extern "C" fn() -> *const c_char = symbol!("chdb_version");
        // SAFETY: takes a flag, may be called at any time before the first connection.
        unsafe { set_signal_handlers(0) };
        // SAFETY: returns a NUL-terminated string with static life.
        let version = unsafe { CStr::from_ptr(version()) }.to_string_lossy().into_owned();
        Ok(Box::leak(Box::new(Library {
            connect: symbol!("chdb_connect"),
            close: symbol!("chdb_close_conn"),
            shutdown: symbol!("chdb_shutdown"),
            query: symbol!("chdb_query_with_params_n"),
            stream_query: symbol!("chdb_stream_query_with_params_n"),
            stream_fetch: symbol!("chdb_stream_fetch_result"),
            stream_cancel: symbol!("chdb_stream_cancel_query"),
            insert: symbol!("chdb_stream_insert_with_params_n"),
            insert_append: symbol!("chdb_stream_append"),
            insert_done: symbol!("chdb_stream_done"),
            insert_cancel: symbol!("chdb_stream_cancel_insert"),
            insert_error: symbol!("chdb_stream_insert_error"),
            insert_destroy: symbol!("chdb_destroy_insert_stream"),
            classify: symbol!("chdb_classify_query_n"),
            result_buffer: symbol!("chdb_result_buffer"),
            result_length: symbol!("chdb_result_length"),
            result_error: symbol!("chdb_result_error"),
            result_rows_written: symbol!("chdb_result_rows_written"),
            result_bytes_written: symbol!("chdb_result_bytes_written"),
            result_storage_rows_read: symbol!("chdb_result_storage_rows_read"),
            result_storage_bytes_read: symbol!("chdb_result_storage_bytes_read"),
            result_destroy: symbol!("chdb_destroy_query_result"),
            version,
            _never_unloaded: ManuallyDrop::new(library),
        })))
    }

    /// Opens a connection. The first one boots the engine on its `--path`; the closing of the last
    /// one stops it. `None` means that the engine refused; it wrote the reason to standard error.
    pub fn connect(&'static self, arguments: &[CString]) -> Option<Connection> {
        let mut argv: Vec<*mut c_char> = std::iter::once(c"clickhouse".as_ptr())
            .chain(arguments.iter().map(|argument| argument.as_ptr()))
            .map(|pointer| pointer.cast_mut())
            .collect();
        let argc = c_int::try_from(argv.len()).expect("a handful of arguments");
        // SAFETY: argv holds argc pointers to NUL-terminated strings that outlive the call; the
        // engine parses them and does not write through them.
        let slot = unsafe { (self.connect)(argc, argv.as_mut_ptr()) };
        if slot.is_null() {
            return None;
        }
        // SAFETY: a non-null slot points to the connection handle until chdb_close_conn.
        let handle = unsafe { *slot };
        (!handle.is_null()).then_some(Connection { library: self, slot, handle })
    }

    /// Joins the engine's threads. False while a connection is open or a thread does not end.
    pub fn shutdown(&self) -> bool {
        // SAFETY: callable from any thread at any time; refuses by itself while connections exist.
        unsafe { (self.shutdown)() == 0 }
    }

    /// Copies a C string that may be null.
    ///
    /// # Safety
    /// `text` is null or points to a NUL-terminated string that lives through the call.
    unsafe fn copy_text(text: *const c_char) -> Option<String> {
        // SAFETY: by this function's contract.
        (!text.is_null())
            .then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().trim_end().to_owned())
    }
}

/// One session of the engine. Dropping it closes it.
pub struct Connection {
    library: &'static Library,
    slot: *mut ConnectionPtr,
    handle: ConnectionPtr,
}

// SAFETY: the engine ties a connection to no thread; it only forbids two statements at once on it,
// and every method takes `&mut self`. It is not Sync.
unsafe impl Send for Connection {}

impl Connection {
    /// Runs a statement to its end with the whole answer in memory.
    pub fn query(&mut self, sql: &[u8], format: &str, params: &Params) -> Result<Answer, String> {
        let result = self.call(self.library.query, sql, format, params);
        self.answer(result).into_result()
    }

    /// Starts a SELECT whose answer is fetched in pieces, each a *complete document* of the format.
    pub fn stream_query(
        &mut self,
        sql: &[u8],
        format: &str,
        params: &Params,
    ) -> Result<RowStream<'_>, String> {
        let result = self.call(self.library.stream_query, sql, format, params);
        let first = self.answer(result);
        match first.error() {
            Some(error) => Err(error),
            None => Ok(RowStream { connection: self, stream: first }),
        }
    }

    /// Starts an INSERT whose rows are appended in pieces. `sql` ends before FORMAT or VALUES.
    pub fn insert(
        &mut self,
        sql: &[u8],
        format: &str,
        params: &Params,
    ) -> Result<InsertStream<'_>, String> {
        let handle = self.call(self.library.insert, sql, format, params);
        let stream = InsertStream { library: self.library, handle, _connection: PhantomData };
        match stream.error() {
            Some(error) => Err(error),
            None => Ok(stream),
        }
    }

    pub fn classify(&mut self, sql: &[u8]) -> Classification {
        let mut analysis = QueryAnalysis {
            struct_size: size_of::<QueryAnalysis>() as u32,
            statement_count: 0,
            flags: 0,
            query_class: 4,
        };
        // SAFETY: sql is a readable buffer of the length given, the target database may be null,
        // and the struct announces its own size.
        let state = unsafe {
            (self.library.classify)(
                self.handle,
                sql.as_ptr(),
                sql.len(),
                std::ptr::null(),
                0,
                &mut analysis,
            )
        };
        let class = match (state, analysis.query_class) {
            (0, 0) => StatementClass::ReadOnly,
            (0, 1) => StatementClass::Mutating,
            (0, 2) => StatementClass::MutatingGlobal,
            (0, 3) => StatementClass::Control,
            _ => StatementClass::Unknown,
        };
        let has_secrets = analysis.flags & 1 != 0;
        Classification { statement_count: analysis.statement_count, class, has_secrets }
    }

    fn call(&self, function: WithParams, sql: &[u8], format: &str, params: &Params) -> ResultPtr {
        let names: Vec<*const u8> = params.iter().map(|(name, _)| name.as_ptr()).collect();
        let name_lengths: Vec<usize> = params.iter().map(|(name, _)| name.len()).collect();
        let values: Vec<*const u8> = params.iter().map(|(_, value)| value.as_ptr()).collect();
        let value_lengths: Vec<usize> = params.iter().map(|(_, value)| value.len()).collect();
        // SAFETY: every pointer is to a readable buffer of the length beside it and the four arrays
        // have `params.len()` entries; all outlive the call, which copies what it keeps. The
        // handle is open because `self` is, and no other statement runs on it, see the invariants.
        unsafe {
            function(
                self.handle,
                sql.as_ptr(),
                sql.len(),
                format.as_ptr(),
                format.len(),
                names.as_ptr(),
                name_lengths.as_ptr(),
                values.as_ptr(),
                value_lengths.as_ptr(),
                params.len(),
            )
        }
    }

    fn answer(&self, handle: ResultPtr) -> Answer {
        Answer { library: self.library, handle }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: the slot came from chdb_connect and is closed once; results and streams on it are
        // gone, because they borrow the connection or own their memory.
        unsafe { (self.library.close)(self.slot) };
    }
}

/// A result that the engine made and that owns its memory.
pub struct Answer {
    library: &'static Library,
    handle: ResultPtr,
}

impl Answer {
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: buffer and length are those of one live result; the engine does not change it
        // before it is destroyed, which `Drop` does after this borrow. Null goes with length 0.
        unsafe {
            let length = (self.library.result_length)(self.handle);
            let buffer = (self.library.result_buffer)(self.handle);
            if buffer.is_null() || length == 0 {
                return &[];
            }
            std::slice::from_raw_parts(buffer, length)
        }
    }

    pub fn progress(&self) -> Progress {
        // SAFETY: plain reads of counters of a live result.
        unsafe {
            Progress {
                read_rows: (self.library.result_storage_rows_read)(self.handle),
                read_bytes: (self.library.result_storage_bytes_read)(self.handle),
                written_rows: (self.library.result_rows_written)(self.handle),
                written_bytes: (self.library.result_bytes_written)(self.handle),
            }
        }
    }

    fn error(&self) -> Option<String> {
        if self.handle.is_null() {
            return Some("Code: 1002. DB::Exception: no result. (UNKNOWN_EXCEPTION)".to_owned());
        }
        // SAFETY: the result is live and its error text lives as long as it.
        unsafe { Library::copy_text((self.library.result_error)(self.handle)) }
    }

    fn into_result(self) -> Result<Answer, String> {
        match self.error() {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: destroyed once, here.
            unsafe { (self.library.result_destroy)(self.handle) };
        }
    }
}

/// A running SELECT. Dropping it cancels what is left of it.
pub struct RowStream<'connection> {
    connection: &'connection mut Connection,
    stream: Answer,
}

impl RowStream<'_> {
    /// The next piece; `None` at the end.
    pub fn fetch(&mut self) -> Result<Option<Answer>, String> {
        // SAFETY: stream and connection belong together and are live; `&mut self` serialises.
        let handle = unsafe {
            (self.connection.library.stream_fetch)(self.connection.handle, self.stream.handle)
        };
        let piece = self.connection.answer(handle).into_result()?;
        Ok((!piece.bytes().is_empty()).then_some(piece))
    }
}

impl Drop for RowStream<'_> {
    fn drop(&mut self) {
        // SAFETY: cancelling a finished stream does nothing; the stream itself is destroyed after
        // this, by the drop of `stream`, and the connection lives on.
        unsafe {
            (self.connection.library.stream_cancel)(self.connection.handle, self.stream.handle);
        }
    }
}

/// A running INSERT. Dropped before `finish`, it is cancelled: rows that already went to storage as
/// a whole block stay (ClickHouse has no roll-back), rows of the open block do not.
pub struct InsertStream<'connection> {
    library: &'static Library,
    handle: StreamPtr,
    _connection: PhantomData<&'connection mut Connection>,
}

impl InsertStream<'_> {
    /// Copies the bytes into the stream's bounded queue; blocks while that is full.
    pub fn append(&mut self, rows: &[u8]) -> Result<(), String> {
        // SAFETY: the buffer is readable for its length and is copied; the stream is live.
        let state =
            unsafe { (self.library.insert_append)(self.handle, rows.as_ptr().cast(), rows.len()) };
        if state == 0 {
            return Ok(());
        }
        // A worker that failed reports through the final result only; asking for it joins it.
        match self.take_result() {
            Err(error) => Err(error),
            Ok(_) => {
                Err("Code: 1002. DB::Exception: The insert ended early. (UNKNOWN_EXCEPTION)"
                    .to_owned())
            }
        }
    }

    /// Ends the rows and waits until they are stored.
    pub fn finish(mut self) -> Result<Progress, String> {
        self.take_result()
    }

    fn take_result(&mut self) -> Result<Progress, String> {
        // SAFETY: finishing a live stream; a second call returns an error result, not a crash.
        let handle = unsafe { (self.library.insert_done)(self.handle) };
        let answer = Answer { library: self.library, handle }.into_result()?;
        Ok(answer.progress())
    }

    fn error(&self) -> Option<String> {
        // SAFETY: the stream handle is never null and its error text lives as long as it.
        unsafe { Library::copy_text((self.library.insert_error)(self.handle)) }
    }
}

impl Drop for InsertStream<'_> {
    fn drop(&mut self) {
        // SAFETY: cancelling a finished stream does nothing; destroyed once, here, and before the
        // connection, which this borrows.
        unsafe {
            (self.library.insert_cancel)(self.handle);
            (self.library.insert_destroy)(self.handle);
        }
    }
}
