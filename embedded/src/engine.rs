//! The engine of one data directory: its lock, its boot, its sessions, its end.
//!
//! Owns: `DIR/lock`, `DIR/config`, `DIR/clickhouse`, and the one connection that keeps the engine up.
//! Each request gets a connection of its own, opened and closed around it: 0.3 ms, and nothing that
//! a request sets can reach the next one. Must not know HTTP.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail};

use crate::chdb::{Connection, Library};
use crate::engine_config::{FIXED_SETTINGS, Limits, server_xml, users_xml};
use crate::exception::{Code, Exception};
use crate::guard::Guard;

pub struct Engine {
    library: &'static Library,
    path_argument: CString,
    pub guard: Guard,
    /// Keeps the engine up; the closing of the last connection would stop it.
    anchor: std::sync::Mutex<Option<Connection>>,
    pub version: String,
    _lock: File,
}

/// What a request wants of its connection.
#[derive(Default)]
pub struct SessionOptions<'a> {
    pub settings: &'a [(String, String)],
    pub database: Option<&'a str>,
    pub read_only: bool,
    /// Rows in the format Values may hold expressions.
    pub values_expressions: bool,
}

impl Engine {
    pub fn start(data: &Path, library_path: &Path, limits: &Limits) -> anyhow::Result<Engine> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        let config = data.join("config");
        builder.create(&config).with_context(|| format!("cannot create {}", config.display()))?;
        // The engine resolves a relative path against its own idea of where it is.
        let data = data.canonicalize().with_context(|| format!("no such {}", data.display()))?;
        let lock = take_lock(&data.join("lock"))?;
        let path = data.join("clickhouse");
        let (users, server) = (data.join("config/users.xml"), data.join("config/server.xml"));
        write_private(&users, &users_xml(FIXED_SETTINGS, limits))?;
        write_private(&server, &server_xml(&xml_text(&users)?, limits))?;

        let library = Library::load(library_path).with_context(|| {
            format!("cannot load libchdb from {}; ./dev fetches it", library_path.display())
        })?;
        let path_argument = argument("--path=", &path)?;
        let boot = [path_argument.clone(), argument("--config-file=", &server)?];
        let Some(mut anchor) = library.connect(&boot) else {
            bail!("the engine did not start on {} (its reason is above)", path.display());
        };
        let guard = Guard::new(&mut anchor).context("cannot ask the engine for its functions")?;
        let version = anchor
            .query(b"SELECT version()", "TSVRaw", &[])
            .map_err(anyhow::Error::msg)
            .map(|answer| String::from_utf8_lossy(answer.bytes()).trim().to_owned())?;
        tracing::info!(chdb = library.version, clickhouse = version, path = %path.display(), "engine is up");
        let anchor = std::sync::Mutex::new(Some(anchor));
        Ok(Engine { library, path_argument, guard, anchor, version, _lock: lock })
    }

    /// A fresh connection with the request's settings, database and rights.
    pub fn open(&self, options: &SessionOptions<'_>) -> Result<Connection, Exception> {
        let mut arguments = vec![self.path_argument.clone()];
        if options.values_expressions {
            // Arguments are not subject to the constraints that fix these settings for statements.
            arguments.push(c"--input_format_values_interpret_expressions=1".to_owned());
            arguments.push(c"--input_format_values_deduce_templates_of_expressions=1".to_owned());
        }
        let mut connection = self.library.connect(&arguments).ok_or_else(|| {
            Exception::new(Code::NetworkError, "the engine takes no more connections")
        })?;
        if let Some(sql) = set_statement(options)? {
            run(&mut connection, &sql)?;
        }
        if let Some(database) = options.database {
            run(&mut connection, &format!("USE {}", quote(database, '`')))?;
        }
        if options.read_only {
            run(&mut connection, "SET readonly = 2")?;
        }
        Ok(connection)
    }

    /// Closes the last connection, which stops merges and unloads the tables. Threads that the
    /// engine does not manage to join (it says so after any DDL) end with the process.
    pub fn stop(&self) {
        let anchor = self.anchor.lock().map(|mut anchor| anchor.take());
        drop(anchor);
        let joined = self.library.shutdown();
        tracing::info!(joined, "engine is closed");
    }
}

fn run(connection: &mut Connection, sql: &str) -> Result<(), Exception> {
    connection.query(sql.as_bytes(), "Null", &[]).map(drop).map_err(Exception::from_engine)
}

/// Sets by statement, not by connection arguments: those skip the constraints and do not say what
/// was wrong. Values are string literals, which the engine converts to the setting's type.
fn set_statement(options: &SessionOptions<'_>) -> Result<Option<String>, Exception> {
    let mut changes = Vec::with_capacity(options.settings.len());
    for (name, value) in options.settings {
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name || name.is_empty() {
            return Err(Exception::new(Code::UnknownSetting, format!("Unknown setting '{name}'")));
        }
        changes.push(format!("{name} = {}", quote(value, '\'')));
    }
    Ok((!changes.is_empty()).then(|| format!("SET {}", changes.join(", "))))
}

fn quote(text: &str, quote: char) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(quote);
    for character in text.chars() {
        if character == quote || character == '\\' {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push(quote);
    quoted
}

fn take_lock(path: &Path) -> anyhow::Result<File> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).ok();
            bail!("{} is held by process {}", path.display(), holder.trim());
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    file.set_len(0).and_then(|()| file.rewind())?;
    writeln!(file, "{} (unmogrowp-clickhouse)", std::process::id())?;
    Ok(file)
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn xml_text(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"))
}

fn argument(prefix: &str, path: &Path) -> anyhow::Result<CString> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(CString::new(format!("{prefix}{text}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_values_are_literals_and_names_are_names() {
        let check = |name: &str, value: &str, expected: Option<&str>| {
            let settings = [(name.to_owned(), value.to_owned())];
            let options = SessionOptions { settings: &settings, ..Default::default() };
            assert_eq!(set_statement(&options).ok().flatten().as_deref(), expected);
        };
        check("max_threads", "1", Some("SET max_threads = '1'"));
        check("log_comment", "a'b\\c", Some(r"SET log_comment = 'a\'b\\c'"));
        check("max_threads = 1, x", "1", None);
        check("", "1", None);
    }
}
