//! A stand-in for ClickHouse's HTTP, scripted, and sources of blocks in memory. The real ClickHouse
//! comes in the integration tests.
#![allow(dead_code, reason = "each test file uses its part")]

use engine::forward::{BlockSource, SourceError};
pub use proto::samples::block;
use proto::{Block, samples};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the stand-in does with one INSERT.
#[derive(Clone, Debug)]
pub enum Reply {
    Take,
    /// The same, answered only once this is true.
    TakeWhen(Arc<AtomicBool>),
    /// Nothing is stored; this status, this exception code.
    Refuse(u16, u32),
    /// It is stored, but the connection is closed without an answer.
    TakeAndClose,
    /// Nothing is stored, nothing answered.
    Hang,
}

#[derive(Clone, Debug)]
pub struct Insert {
    pub target: String,
    pub head: String,
    pub token: String,
    pub users: Vec<u64>,
}

type Script = Box<dyn FnMut(&Insert) -> Reply + Send>;

#[derive(Default)]
pub struct Seen {
    pub inserts: Vec<Insert>,
    /// How often each user's row was stored, tokens deduplicated as ClickHouse does.
    pub stored: BTreeMap<u64, u64>,
    pub in_flight_max: usize,
    in_flight: usize,
    tokens: HashSet<String>,
}

pub struct StandIn {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl StandIn {
    pub fn start(script: impl FnMut(&Insert) -> Reply + Send + 'static) -> StandIn {
        StandIn::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), Arc::default(), script)
    }

    /// With the memory of another one, as a restarted server has.
    pub fn start_at(
        address: SocketAddr,
        seen: Arc<Mutex<Seen>>,
        script: impl FnMut(&Insert) -> Reply + Send + 'static,
    ) -> StandIn {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, memory) = (stop.clone(), seen.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let (script, seen) = (script.clone(), memory.clone());
                let stopped = stopped.clone();
                std::thread::spawn(move || serve(stream.unwrap(), &script, &seen, &stopped));
            }
        });
        StandIn { address, seen, stop, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn stored(&self) -> BTreeMap<u64, u64> {
        self.seen.lock().unwrap().stored.clone()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve(stream: TcpStream, script: &Mutex<Script>, seen: &Mutex<Seen>, stop: &AtomicBool) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some((target, head, body)) = read_request(&mut reader) {
        if stop.load(Ordering::Acquire) {
            return;
        }
        if target == "/ping" {
            writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nOk.\n").unwrap();
            continue;
        }
        let token = target.split("insert_deduplication_token=").nth(1).unwrap_or_default();
        let users = samples::users(&body);
        let token = token.to_owned();
        let insert = Insert { target: target.clone(), head, token, users };
        {
            let mut seen = seen.lock().unwrap();
            seen.in_flight += 1;
            seen.in_flight_max = seen.in_flight_max.max(seen.in_flight);
            seen.inserts.push(insert.clone());
        }
        let mut reply = (script.lock().unwrap())(&insert);
        if let Reply::TakeWhen(gate) = &reply {
            wait_until("the gate opens", || {
                gate.load(Ordering::Acquire) || stop.load(Ordering::Acquire)
            });
            reply = Reply::Take;
        }
        let stored = matches!(reply, Reply::Take | Reply::TakeAndClose);
        {
            let mut seen = seen.lock().unwrap();
            seen.in_flight -= 1;
            if stored && seen.tokens.insert(insert.token.clone()) {
                for user in &insert.users {
                    *seen.stored.entry(*user).or_default() += 1;
                }
            }
        }
        match reply {
            Reply::Take | Reply::TakeWhen(_) => {
                writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap()
            }
            Reply::Refuse(status, code) => {
                let text = format!("Code: {code}. DB::Exception: scripted");
                let answer = format!(
                    "HTTP/1.1 {status} X\r\nX-ClickHouse-Exception-Code: {code}\r\n\
                     Content-Length: {}\r\n\r\n{text}",
                    text.len()
                );
                let _ = writer.write_all(answer.as_bytes());
            }
            Reply::TakeAndClose => return,
            Reply::Hang => {
                let mut byte = [0];
                let _ = reader.read(&mut byte);
                return;
            }
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<(String, String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_ascii_lowercase().replace("http/1.1", "");
    let length = head
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let target = head.split(' ').nth(1)?.to_owned();
    Some((target, head, body))
}

/// One source's blocks, and what it was told.
#[derive(Default)]
pub struct Feed {
    pub blocks: VecDeque<Block>,
    pub marked: Vec<u64>,
    pub fail_next: Option<SourceError>,
    pub fail_marks: usize,
    pub panic_next: bool,
}

pub type SharedFeed = Arc<Mutex<Feed>>;

pub struct MemorySource(pub SharedFeed);

impl BlockSource for MemorySource {
    fn next_block(&mut self) -> Result<Option<Block>, SourceError> {
        let mut feed = self.0.lock().unwrap();
        if feed.panic_next {
            drop(feed);
            panic!("scripted");
        }
        match feed.fail_next.take() {
            Some(error) => Err(error),
            None => Ok(feed.blocks.pop_front()),
        }
    }

    fn mark_forwarded(&mut self, sequence: u64) -> Result<(), SourceError> {
        let mut feed = self.0.lock().unwrap();
        if feed.fail_marks > 0 {
            feed.fail_marks -= 1;
            return Err(SourceError::Retry("scripted".to_owned()));
        }
        assert!(feed.marked.last().is_none_or(|last| *last < sequence), "marks only grow");
        feed.marked.push(sequence);
        Ok(())
    }
}

#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
