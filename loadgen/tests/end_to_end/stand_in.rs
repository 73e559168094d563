//! A stand-in for the ingestion server and for the API: plain threads that read requests and answer
//! as a test says. Also runs the generator's binary against it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

pub struct Request {
    pub connection: usize,
    /// Of this connection, from 0.
    pub number: usize,
    pub path: String,
    pub body: Vec<u8>,
}

impl Request {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What becomes of a request.
pub enum Reply {
    /// Written piece by piece, each flushed alone.
    Pieces(Vec<Vec<u8>>),
    /// The connection is closed without an answer.
    Close,
}

pub fn answer(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

pub fn reply(status: u16) -> Reply {
    Reply::Pieces(vec![answer(status, "{}")])
}

/// Serves until the test's process ends. `handle` is called in the order of each connection.
pub fn serve(handle: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let handle = Arc::new(handle);
    thread::spawn(move || {
        for (connection, stream) in listener.incoming().enumerate() {
            let handle = Arc::clone(&handle);
            thread::spawn(move || serve_connection(stream.unwrap(), connection, &*handle));
        }
    });
    address
}

fn serve_connection(
    stream: TcpStream,
    connection: usize,
    handle: &(impl Fn(&Request) -> Reply + ?Sized),
) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(&stream);
    for number in 0.. {
        let Some((path, body)) = read_request(&mut reader) else { return };
        match handle(&Request { connection, number, path, body }) {
            Reply::Close => return,
            Reply::Pieces(pieces) => {
                for piece in pieces {
                    if (&stream).write_all(&piece).is_err() {
                        return;
                    }
                }
            }
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((path, body))
}

pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// Null when no report was written.
    pub json: Value,
}

/// Runs the generator against `address` with these further flags.
pub fn load(address: SocketAddr, flags: &[&str]) -> Finished {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join(format!("{run}.json"));
    let url = format!("http://{address}");
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_unmogrowp-loadgen"))
        .args(["--url", &url, "--app-id", "6f1c2f4e-0000-4000-8000-000000000001"])
        .args(["--api-key", "key", "--threads", "1"])
        .args(flags)
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    let json = std::fs::read(&json).ok();
    Finished {
        code: status.code(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
        json: json.map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap()),
    }
}

/// Remembers things from the stand-in's threads for the test.
#[derive(Clone, Default)]
pub struct Seen<T>(Arc<Mutex<Vec<T>>>);

impl<T> Seen<T> {
    pub fn push(&self, thing: T) {
        self.0.lock().unwrap().push(thing);
    }

    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}
