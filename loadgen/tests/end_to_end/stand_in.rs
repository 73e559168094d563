//! A stand-in for the ingestion server and for the API: plain threads that read requests and answer
//! as a test says. Also runs the generator's binary against it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

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
        // A connection may end within a head.
        reader.read_line(&mut line).ok().filter(|&bytes| bytes > 0)?;
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
    load_meanwhile(address, flags, |_| ())
}

/// Sends exactly so many requests: in half a second, but for those that a busy machine delays,
/// which have two more.
pub fn load_exactly(requests: u64, address: SocketAddr, flags: &[&str]) -> Finished {
    let stages = format!("500ms@{},2s@0", 2 * requests);
    load(address, &[&["--stages", &stages], flags].concat())
}

/// `meanwhile` is given the id of the generator's process.
pub fn load_meanwhile(
    address: SocketAddr,
    flags: &[&str],
    meanwhile: impl FnOnce(u32),
) -> Finished {
    let url = format!("http://{address}");
    run(&[&["--url", &url][..], flags].concat(), meanwhile)
}

/// The same against the `ingest` of a file that `flags` name with --endpoints.
pub fn load_where_endpoints_say(flags: &[&str]) -> Finished {
    run(flags, |_| ())
}

fn run(flags: &[&str], meanwhile: impl FnOnce(u32)) -> Finished {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("report.json");
    let process = Command::new(env!("CARGO_BIN_EXE_unmogrowp-loadgen"))
        .args(["--app-id", "6f1c2f4e-0000-4000-8000-000000000001"])
        .args(["--api-key", "key", "--threads", "1"])
        .args(flags)
        .arg("--json")
        .arg(&json)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    meanwhile(process.id());
    let Output { status, stdout, stderr } = process.wait_with_output().unwrap();
    let json = std::fs::read(&json).ok();
    Finished {
        code: status.code(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
        json: json.map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap()),
    }
}

impl Finished {
    /// Sees whether requests arrived when they were due, in seconds since the first. They may be as
    /// late as the run itself says that its latest answer was.
    pub fn check_arrivals(&self, arrivals: &[Duration], due_s: impl Iterator<Item = f64>) {
        let late_s = self.json["corrected_latency_us"]["max"].as_f64().unwrap() / 1e6 + 0.001;
        for (number, (at, due_s)) in arrivals.iter().zip(due_s).enumerate() {
            let at_s = (*at - arrivals[0]).as_secs_f64();
            assert!((at_s - due_s).abs() <= late_s, "{number}: at {at_s} s, due at {due_s} s");
        }
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
