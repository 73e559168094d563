//! A started `unmogrowp-clickhouse` on a free port with a directory of its own, and a client small
//! enough to send what no proper client would.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub const PASSWORD: &str = "p4ss w%rd";
/// Loading the library from a cold disk takes its time.
const START_MAX: Duration = Duration::from_secs(90);
const REPLY_MAX: Duration = Duration::from_secs(20);

pub struct Server {
    child: Child,
    pub address: String,
    pub data: PathBuf,
    _directory: Option<tempfile::TempDir>,
}

pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The response ended as its head announced.
    pub whole: bool,
}

pub fn library() -> PathBuf {
    let path = std::env::var_os("UNMOGROWP_LIBCHDB").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").expect("HOME is set");
        PathBuf::from(home).join(".cache/unmogrowp/libchdb/libchdb.so")
    });
    assert!(path.exists(), "{} is missing: run ./dev, which fetches it", path.display());
    path
}

pub fn command(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unmogrowp-clickhouse"));
    command
        .args(["--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .arg("--lib")
        .arg(library())
        .env("UNMOGROWP_CLICKHOUSE_PASSWORD", PASSWORD)
        .env("UNMOGROWP_LOG", "warn")
        .stdin(Stdio::null());
    command
}

impl Server {
    pub fn start() -> Server {
        Server::start_with(&[])
    }

    pub fn start_with(flags: &[&str]) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let mut server = Server::start_in(&directory.path().join("data"), flags);
        server._directory = Some(directory);
        server
    }

    pub fn start_in(data: &Path, flags: &[&str]) -> Server {
        let ready = data.with_extension("ready");
        std::fs::remove_file(&ready).ok();
        let mut child = command(data).arg("--ready-file").arg(&ready).args(flags).spawn().unwrap();
        let deadline = Instant::now() + START_MAX;
        while !ready.exists() {
            assert!(child.try_wait().unwrap().is_none(), "the server ended at its start");
            assert!(Instant::now() < deadline, "the server is not ready in time");
            std::thread::sleep(Duration::from_millis(10));
        }
        let text = std::fs::read_to_string(&ready).unwrap();
        let url: serde_json::Value = serde_json::from_str(&text).unwrap();
        let address = url["clickhouse"].as_str().unwrap().strip_prefix("http://").unwrap();
        Server { child, address: address.to_owned(), data: data.to_owned(), _directory: None }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn terminate(&self) {
        let status = Command::new("kill").arg(self.pid().to_string()).status().unwrap();
        assert!(status.success());
    }

    pub fn wait_for_exit(&mut self, max: Duration) -> ExitStatus {
        let deadline = Instant::now() + max;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(REPLY_MAX)).unwrap();
        stream.set_write_timeout(Some(REPLY_MAX)).unwrap();
        stream
    }

    /// Sends bytes as they are and reads until the server closes.
    pub fn raw(&self, request: &[u8]) -> Reply {
        let mut stream = self.connect();
        // The server may answer and close before it has read all.
        stream.write_all(request).ok();
        read_reply(&mut stream)
    }

    pub fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut request = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n");
        let mut has_host = false;
        for (name, value) in headers {
            has_host |= name.eq_ignore_ascii_case("host");
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !has_host {
            request.push_str(&format!("Host: {}\r\n", self.address));
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        self.raw(&[request.as_bytes(), body].concat())
    }

    /// With the password.
    pub fn post(&self, target: &str, body: impl AsRef<[u8]>) -> Reply {
        let key = [("X-ClickHouse-User", "default"), ("X-ClickHouse-Key", PASSWORD)];
        self.send("POST", target, &key, body.as_ref())
    }

    pub fn get(&self, target: &str) -> Reply {
        let key = [("X-ClickHouse-User", "default"), ("X-ClickHouse-Key", PASSWORD)];
        self.send("GET", target, &key, b"")
    }

    /// The trimmed answer of a statement that must succeed.
    pub fn sql(&self, statement: &str) -> String {
        let reply = self.post("/", statement);
        assert_eq!(reply.status, 200, "{statement}: {}", reply.text());
        assert!(reply.whole, "{statement}: broken off");
        reply.text().trim_end().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

pub fn read_reply(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    let mut piece = [0; 64 << 10];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("no reply in time: {error}"),
        }
    }
    parse_reply(&bytes)
}

fn parse_reply(bytes: &[u8]) -> Reply {
    let Some(head_end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Reply { status: 0, headers: Vec::new(), body: Vec::new(), whole: false };
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let rest = &bytes[head_end + 4..];
    let mut reply = Reply { status, headers, body: rest.to_vec(), whole: true };
    if reply.header("transfer-encoding") == Some("chunked") {
        (reply.body, reply.whole) = join_chunks(rest);
    } else if let Some(length) = reply.header("content-length") {
        reply.whole = length.parse() == Ok(rest.len());
    }
    reply
}

fn join_chunks(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(line_end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&rest[..line_end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let data = &rest[line_end + 2..];
        if size == 0 {
            return (body, true);
        }
        if data.len() < size + 2 {
            body.extend_from_slice(&data[..size.min(data.len())]);
            return (body, false);
        }
        body.extend_from_slice(&data[..size]);
        rest = &data[size + 2..];
    }
    (body, false)
}

/// `%XX` for everything that is not a letter or digit.
pub fn url_encode(bytes: impl AsRef<[u8]>) -> String {
    let encode = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(*byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    bytes.as_ref().iter().map(encode).collect()
}
