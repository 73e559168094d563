//! A real Redis, as a plain foreground process in a temporary directory. Speaks just enough of its
//! protocol to look into it and to write nonsense there.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tests::servers::ReservedPort;

use super::wait_for;

const PASSWORD: &str = "r@dis:p/w%";

pub struct Redis {
    pub port: ReservedPort,
    child: Option<Child>,
    directory: TempDir,
}

impl Redis {
    pub fn start() -> Redis {
        let directory = tempfile::tempdir().unwrap();
        let mut redis = Redis { port: ReservedPort::take(), child: None, directory };
        redis.start_again();
        redis
    }

    /// At the address it had, empty.
    pub fn start_again(&mut self) {
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.number().to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(["--requirepass", PASSWORD, "--maxmemory", "64mb", "--dir"])
            .arg(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server runs: install the package redis-server");
        self.child = Some(child);
        wait_for("Redis", || self.try_command(&[b"PING"]).filter(|reply| reply == b"PONG"));
    }

    pub fn url(&self) -> String {
        format!("redis://:{}@{}/0", super::encode(PASSWORD), self.port.address())
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// It keeps its connections, and takes new ones, but answers nothing.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn resume(&self) {
        self.signal("-CONT");
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The reply as bytes; nothing is an empty one.
    #[track_caller]
    pub fn command(&self, words: &[&[u8]]) -> Vec<u8> {
        self.try_command(words).expect("Redis answers")
    }

    fn try_command(&self, words: &[&[u8]]) -> Option<Vec<u8>> {
        let stream = TcpStream::connect(self.port.address()).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let mut reader = BufReader::new(stream);
        for words in [&[b"AUTH".as_slice(), PASSWORD.as_bytes()] as &[&[u8]], words] {
            let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
            for word in words {
                bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                bytes.extend_from_slice(word);
                bytes.extend_from_slice(b"\r\n");
            }
            reader.get_mut().write_all(&bytes).ok()?;
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let line = line.trim_end();
            let reply = match line.split_at_checked(1)? {
                ("$", "-1") => Vec::new(),
                ("$", length) => {
                    let mut reply = vec![0; length.parse::<usize>().ok()? + 2];
                    reader.read_exact(&mut reply).ok()?;
                    reply.truncate(reply.len() - 2);
                    reply
                }
                ("-", error) => panic!("Redis: {error}"),
                (_, simple) => simple.as_bytes().to_vec(),
            };
            if words[0] != b"AUTH" {
                return Some(reply);
            }
        }
        None
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
