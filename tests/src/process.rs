//! One process that a test started: where its binary is, its log, its signals, its end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::servers::cache;
use crate::wait::wait_for;

/// Lines of a process's log that a failing test prints.
const LOG_LINES_SHOWN: usize = 30;

pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in `log` and no input.
    pub fn start(name: &str, log: PathBuf, command: &mut Command) -> Process {
        let output = File::options().create(true).append(true).open(&log).expect("log file");
        let errors = output.try_clone().expect("a second handle on the log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} could not be started: {error}"));
        Process { name: name.to_owned(), child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the ready file is there and gives its content.
    pub fn ready(&mut self, file: &Path, within: Duration) -> Value {
        let what = format!("{} is ready", self.name);
        wait_for(&what, within, || {
            if let Some(status) = self.exited() {
                panic!("{} ended before it was ready: {status}", self.name);
            }
            serde_json::from_slice(&std::fs::read(file).ok()?).ok()
        })
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours can be waited for")
    }

    /// SIGKILL, and gone when this returns.
    pub fn kill_9(&mut self) {
        self.child.kill().expect("a child of ours can be killed");
        self.child.wait().expect("a killed child ends");
    }

    /// Sends a signal by its name: `TERM`, `STOP`, `CONT`, `INT`, `HUP`.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    pub fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        let what = format!("{} has ended", self.name);
        wait_for(&what, within, || self.exited())
    }

    pub fn terminate(&mut self, within: Duration) -> ExitStatus {
        self.signal("TERM");
        self.wait_exit(within)
    }

    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let text = self.log_text();
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
            eprintln!("--- the end of {}'s log:\n{}", self.name, lines[from..].join("\n"));
        }
    }
}

/// Through the shell's own `kill`: a raw one would be unsafe code.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -s {name} {pid}")])
        .status()
        .expect("a shell can be started");
    assert!(status.success(), "SIG{name} could not be sent to process {pid}");
}

/// The folder of the binaries under test: `UNMOGROWP_BIN_DIR`, or where this test was compiled to.
pub fn binaries_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("UNMOGROWP_BIN_DIR") {
        return PathBuf::from(folder);
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test.ancestors().nth(2).expect("tests are compiled to PROFILE/deps/NAME");
    folder.to_owned()
}

pub fn binary(name: &str) -> PathBuf {
    let path = binaries_folder().join(name);
    assert!(path.exists(), "{} is not there: run ./dev test", path.display());
    path
}

/// The ClickHouse engine's library: `UNMOGROWP_LIBCHDB`, or what `./dev` put into the user's cache.
pub fn libchdb() -> PathBuf {
    if let Some(path) = std::env::var_os("UNMOGROWP_LIBCHDB") {
        return PathBuf::from(path);
    }
    let kept = std::fs::read_dir(cache()).into_iter().flatten().flatten();
    let found = kept.map(|entry| entry.path().join("libchdb.so")).find(|path| path.exists());
    found.expect("libchdb.so is in the user's cache: run ./dev test, which fetches it")
}

/// The root of the checkout.
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the checkout").to_owned()
}
