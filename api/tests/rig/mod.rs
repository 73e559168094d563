//! Starts the real ClickHouse engine and the API, speaks HTTP with them, and stops them when the
//! test ends. Owns no expectation about answers.

// Each test file uses its part of this.
#![allow(dead_code)]

pub mod redis;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use proto::row::Row;
use serde_json::Value;
use tempfile::TempDir;
use tests::servers::ReservedPort;
use uuid::Uuid;

/// Loading the ClickHouse library from a cold disk takes longest.
const DEADLINE: Duration = Duration::from_secs(90);
const PASSWORD: &str = "p@ss:w/rd%";

/// Waits until `condition` gives something.
#[track_caller]
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A binary of the workspace: in UNMOGROWP_BIN_DIR, or next to this test's own directory.
fn binary(name: &str) -> PathBuf {
    let directory = std::env::var_os("UNMOGROWP_BIN_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let test = std::env::current_exe().expect("a test has a path");
        test.ancestors().nth(2).expect("target/<profile>/deps/<test>").to_path_buf()
    });
    let path = directory.join(name);
    assert!(
        path.is_file(),
        "{} is missing: build it, or name its directory in UNMOGROWP_BIN_DIR",
        path.display()
    );
    path
}

/// A child process that does not outlive the test.
pub struct Process(Child);

impl Process {
    /// Sends SIGTERM and gives the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        wait_for("the process to end", || self.0.try_wait().unwrap()).code()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        wait_for("the process to end", || self.0.try_wait().unwrap()).code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Reply {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// One request on a connection of its own. `target` goes out as it is.
pub fn http(
    address: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Reply> {
    let mut head =
        format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    raw(address, &[head.as_bytes(), body].concat())
}

/// Sends `bytes` and reads one reply to the end of the connection.
pub fn raw(address: &str, bytes: &[u8]) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(bytes)?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    let broken = || std::io::Error::other(format!("no reply: {}", String::from_utf8_lossy(&reply)));
    let end = reply.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(broken)?;
    let head = String::from_utf8_lossy(&reply[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut body = reply[end + 4..].to_vec();
    if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        body = unchunk(&body);
    }
    Ok(Reply { status: status.ok_or_else(broken)?, headers, body })
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&rest[..line]).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[(line + 4 + size).min(rest.len())..];
    }
    body
}

/// Encodes everything but unreserved characters.
pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

pub struct ClickHouse {
    pub address: String,
    /// Its own while it is away, too.
    _port: ReservedPort,
    process: Option<Process>,
    data: PathBuf,
}

impl ClickHouse {
    pub fn start(data: &Path) -> ClickHouse {
        let port = ReservedPort::take();
        let (address, data) = (port.address().to_string(), data.to_path_buf());
        let mut clickhouse = ClickHouse { address, _port: port, process: None, data };
        clickhouse.start_again();
        clickhouse
    }

    /// At the address it had.
    pub fn start_again(&mut self) {
        let data = &self.data;
        let ready_file = data.with_extension("ready.json");
        let _ = std::fs::remove_file(&ready_file);
        let library =
            std::env::var_os("UNMOGROWP_LIBCHDB").map(PathBuf::from).unwrap_or_else(|| {
                let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
                home.join(".cache/unmogrowp/libchdb/libchdb.so")
            });
        assert!(library.is_file(), "{} is missing: see UNMOGROWP_LIBCHDB", library.display());
        let child = Command::new(binary("unmogrowp-clickhouse"))
            .arg("--data")
            .arg(data)
            .args(["--listen", &self.address, "--user", "default", "--ready-file"])
            .arg(&ready_file)
            .env("UNMOGROWP_LIBCHDB", library)
            .env("UNMOGROWP_CLICKHOUSE_PASSWORD", PASSWORD)
            // Days are UTC whatever the machine thinks.
            .env("TZ", "America/New_York")
            .stdin(Stdio::null())
            .spawn()
            .expect("the binary runs");
        let mut process = Process(child);
        wait_for("ClickHouse", || {
            assert!(process.0.try_wait().unwrap().is_none(), "ClickHouse ended at its start");
            ready_file.exists().then_some(())
        });
        self.process = Some(process);
    }

    pub fn url(&self) -> String {
        format!("http://default:{}@{}", encode(PASSWORD), self.address)
    }

    fn post(&self, target: &str, body: &[u8]) -> Reply {
        let headers = [("X-ClickHouse-User", "default"), ("X-ClickHouse-Key", PASSWORD)];
        http(&self.address, "POST", target, &headers, body).unwrap()
    }

    #[track_caller]
    pub fn query(&self, sql: &str) -> String {
        let reply = self.post("/?database=unmogrowp", sql.as_bytes());
        let text = String::from_utf8(reply.body).unwrap();
        assert_eq!(reply.status, 200, "{sql}: {text}");
        text.trim_end().to_owned()
    }

    /// Inserts as the engine does: one block of row layout 1.
    #[track_caller]
    pub fn insert(&self, rows: &[Event]) {
        let mut bytes = Vec::new();
        rows.iter().for_each(|row| row.row().encode(&mut bytes));
        let sql = format!(
            "INSERT INTO {} ({}) FORMAT {}",
            proto::names::TABLE_EVENTS,
            proto::names::EVENTS_COLUMNS,
            proto::names::EVENTS_FORMAT
        );
        let reply = self.post(&format!("/?database=unmogrowp&query={}", encode(&sql)), &bytes);
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    }

    pub fn stop(&mut self) {
        let _ = self.process.take().expect("it runs").terminate();
    }
}

/// An event as a test writes it.
#[derive(Clone)]
pub struct Event {
    pub app_id: Uuid,
    pub event_id: Uuid,
    pub timestamp_ms: i64,
    pub received_at_ms: i64,
    pub event_name: String,
    pub user_id: String,
    pub properties: String,
}

impl Event {
    pub fn new(app_id: Uuid, user_id: &str, timestamp: &str) -> Event {
        Event {
            app_id,
            event_id: Uuid::new_v4(),
            timestamp_ms: ms(timestamp),
            received_at_ms: ms("2026-03-01T12:00:00.000Z"),
            event_name: "opened".to_owned(),
            user_id: user_id.to_owned(),
            properties: "{}".to_owned(),
        }
    }

    fn row(&self) -> Row<'_> {
        Row {
            app_id: *self.app_id.as_bytes(),
            event_id: *self.event_id.as_bytes(),
            timestamp_ms: self.timestamp_ms,
            received_at_ns: self.received_at_ms * 1_000_000,
            event_name: self.event_name.as_bytes(),
            user_id: self.user_id.as_bytes(),
            properties: self.properties.as_bytes(),
        }
    }
}

pub fn ms(text: &str) -> i64 {
    let format = &time::format_description::well_known::Rfc3339;
    let time = time::OffsetDateTime::parse(text, format).unwrap();
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap()
}

pub struct Api {
    pub address: String,
    process: Option<Process>,
}

impl Api {
    /// Sends SIGTERM and gives the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.process.take().expect("it runs").terminate()
    }
}

/// ClickHouse, the API, and a demo key, all in one directory.
pub struct Rig {
    // Dropped before the directory that they write to.
    pub api: Api,
    pub clickhouse: ClickHouse,
    pub directory: TempDir,
    pub app_id: Uuid,
    pub key: String,
}

pub fn path_text(path: &Path) -> String {
    path.to_str().expect("temporary paths are UTF-8").to_owned()
}

/// Runs a subcommand in `directory`'s store to its end.
pub fn command(directory: &Path, words: &[&str]) -> Output {
    Command::new(binary("unmogrowp-api"))
        .args(words)
        .env("UNMOGROWP_STORE", directory.join("apps.sqlite"))
        .env("UNMOGROWP_KEYS_SNAPSHOT", directory.join("keys.json"))
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

/// The JSON lines that a subcommand prints.
#[track_caller]
pub fn command_lines(directory: &Path, words: &[&str]) -> Vec<Value> {
    let output = command(directory, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

pub fn demo(directory: &Path) -> Value {
    let out = path_text(&directory.join("demo.json"));
    command_lines(directory, &["demo", "--out", &out]).remove(0)
}

/// Starts `serve` and gives the process and the path of its ready file.
pub fn spawn_api(directory: &Path, clickhouse_url: &str, listen: &str) -> (Process, PathBuf) {
    spawn_api_with(directory, clickhouse_url, listen, None)
}

fn spawn_api_with(
    directory: &Path,
    clickhouse_url: &str,
    listen: &str,
    redis_url: Option<&str>,
) -> (Process, PathBuf) {
    let ready_file = directory.join("api.ready.json");
    // Of an instance that runs already, or ran.
    let _ = std::fs::remove_file(&ready_file);
    let child = Command::new(binary("unmogrowp-api"))
        .args(["serve", "--listen", listen, "--head-seconds-max", "2", "--ready-file"])
        .arg(&ready_file)
        .env("UNMOGROWP_CLICKHOUSE_URL", clickhouse_url)
        .env("UNMOGROWP_STORE", directory.join("apps.sqlite"))
        .env("UNMOGROWP_KEYS_SNAPSHOT", directory.join("keys.json"))
        .env("TZ", "Asia/Tokyo")
        .env("UNMOGROWP_REDIS_URL", redis_url.unwrap_or_default())
        .stdin(Stdio::null())
        .spawn()
        .expect("the binary runs");
    (Process(child), ready_file)
}

pub fn start_api(directory: &Path, clickhouse_url: &str, redis_url: Option<&str>) -> Api {
    let (mut process, ready_file) =
        spawn_api_with(directory, clickhouse_url, "127.0.0.1:0", redis_url);
    let url = wait_for("the API", || {
        assert!(process.0.try_wait().unwrap().is_none(), "the API ended at its start");
        let ready: Value =
            serde_json::from_str(&std::fs::read_to_string(&ready_file).ok()?).unwrap();
        Some(ready["api"].as_str().unwrap().to_owned())
    });
    Api { address: url.trim_start_matches("http://").to_owned(), process: Some(process) }
}

impl Rig {
    pub fn start() -> Rig {
        Rig::start_with(None)
    }

    pub fn start_with(redis_url: Option<&str>) -> Rig {
        let directory = tempfile::tempdir().unwrap();
        let clickhouse = ClickHouse::start(&directory.path().join("clickhouse"));
        let demo = demo(directory.path());
        let api = start_api(directory.path(), &clickhouse.url(), redis_url);
        let app_id = demo["app_id"].as_str().unwrap().parse().unwrap();
        let key = demo["api_key"].as_str().unwrap().to_owned();
        Rig { api, clickhouse, directory, app_id, key }
    }

    pub fn event(&self, user_id: &str, timestamp: &str) -> Event {
        Event::new(self.app_id, user_id, timestamp)
    }

    pub fn get(&self, target: &str) -> Reply {
        http(&self.api.address, "GET", target, &[("X-API-Key", &self.key)], b"").unwrap()
    }

    #[track_caller]
    fn data(&self, target: &str) -> Value {
        let reply = self.get(target);
        let mut json = reply.json();
        assert_eq!((reply.status, &json["status"]), (200, &Value::from("success")), "{json}");
        assert!(json["meta"]["processing_time_ms"].is_number() && json["meta"]["count"].is_u64());
        json["data"].take()
    }

    /// The `dau` numbers of a range, day by day.
    #[track_caller]
    pub fn dau(&self, start: &str, end: &str) -> Vec<(String, u64)> {
        let app_id = self.app_id;
        let target =
            format!("/api/v1/analytics/dau?app_id={app_id}&start_date={start}&end_date={end}");
        let data = self.data(&target);
        let day =
            |day: &Value| (day["date"].as_str().unwrap().to_owned(), day["dau"].as_u64().unwrap());
        data.as_array().unwrap().iter().map(day).collect()
    }

    #[track_caller]
    pub fn count(&self, start: &str, end: &str, event_name: Option<&str>) -> u64 {
        let app_id = self.app_id;
        let mut target = format!(
            "/api/v1/analytics/events/count?app_id={app_id}&start_date={start}&end_date={end}"
        );
        if let Some(name) = event_name {
            target.push_str(&format!("&event_name={}", encode(name)));
        }
        self.data(&target)["count"].as_u64().unwrap()
    }

    #[track_caller]
    pub fn timeline(&self, user_id: &str, more: &str) -> Vec<Value> {
        let (app_id, user_id) = (self.app_id, encode(user_id));
        let data = self.data(&format!("/api/v1/users/{user_id}/events?app_id={app_id}{more}"));
        data.as_array().unwrap().clone()
    }
}
