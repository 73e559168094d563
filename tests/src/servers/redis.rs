//! Redis, on one port for its whole life, with nothing kept on disk.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::Process;
use crate::servers::ReservedPort;
use crate::wait::{seconds, wait_for};

const READY_WITHIN: Duration = seconds(20);
const STOP_WITHIN: Duration = seconds(10);

pub struct Redis {
    process: Option<Process>,
    port: ReservedPort,
    folder: TempDir,
}

impl Redis {
    pub fn start() -> Redis {
        let port = ReservedPort::take();
        let folder = tempfile::Builder::new().prefix("unmogrowp-redis-").tempdir().expect("folder");
        let mut redis = Redis { process: None, port, folder };
        redis.start_again();
        redis
    }

    pub fn address(&self) -> String {
        self.port.address().to_string()
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Starts it empty, on the port it has, and waits until it answers.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "Redis is running already");
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &self.port.number().to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(self.folder.path())
            .args(["--save", "", "--appendonly", "no", "--maxmemory", "64mb"]);
        let mut process =
            Process::start("redis", self.folder.path().join("redis.log"), &mut command);
        wait_for("Redis answers", READY_WITHIN, || {
            if let Some(status) = process.exited() {
                panic!("Redis ended before it was ready: {status}\n{}", process.log_text());
            }
            self.ask("PING").filter(|answer| answer.starts_with("+PONG"))
        });
        self.process = Some(process);
    }

    /// One command in a line, and what came back at first; None when nobody answers within a second.
    pub fn ask(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address()).ok()?;
        stream.set_read_timeout(Some(seconds(1))).ok()?;
        stream.write_all(format!("{command}\r\n").as_bytes()).ok()?;
        let mut answer = [0; 64 * 1024];
        let read = stream.read(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer[..read]).into_owned())
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("Redis runs")
    }

    pub fn pause(&mut self) {
        self.process().signal("STOP");
    }

    pub fn resume(&mut self) {
        self.process().signal("CONT");
    }

    pub fn stop(&mut self) {
        self.process().terminate(STOP_WITHIN);
        self.process = None;
    }

    pub fn kill(&mut self) {
        self.process().kill_9();
        self.process = None;
    }
}
