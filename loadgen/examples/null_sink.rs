//! A stand-in that answers 200 to every request without looking at it, to measure the generator
//! itself: `null_sink PORT SECONDS`, port 0 for a free one. It prints its address, serves one thread
//! and ends by itself.
//!
//! Needs requests with a Content-Length spelled so, which is what the generator sends.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use memchr::memmem;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 35\r\n\r\n\
    {\"status\":\"success\",\"data\":{\"n\":1}}";
const LISTENER: Token = Token(usize::MAX);
const SCRATCH_BYTES: usize = 256 * 1024;

#[derive(Default)]
struct Requests {
    /// Bytes of the current body still to come.
    body_left: usize,
    partial_head: Vec<u8>,
}

impl Requests {
    /// How many requests these bytes complete.
    fn feed(&mut self, bytes: &[u8]) -> usize {
        if self.partial_head.is_empty() {
            let (count, used) = self.feed_whole(bytes);
            self.partial_head.extend_from_slice(&bytes[used..]);
            return count;
        }
        let mut joined = std::mem::take(&mut self.partial_head);
        joined.extend_from_slice(bytes);
        let (count, used) = self.feed_whole(&joined);
        self.partial_head.extend_from_slice(&joined[used..]);
        count
    }

    fn feed_whole(&mut self, bytes: &[u8]) -> (usize, usize) {
        let (mut at, mut count) = (0, 0);
        loop {
            let skipped = self.body_left.min(bytes.len() - at);
            at += skipped;
            self.body_left -= skipped;
            if self.body_left > 0 {
                return (count, at);
            }
            let rest = &bytes[at..];
            let Some(end) = memmem::find(rest, b"\r\n\r\n") else { return (count, at) };
            self.body_left = content_length(&rest[..end]);
            at += end + 4;
            count += 1;
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"Content-Length: ";
    let at = memmem::rfind(head, NAME).expect("the generator states every length") + NAME.len();
    let digits = head[at..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'))
}

fn serve(
    stream: &mut TcpStream,
    requests: &mut Requests,
    scratch: &mut [u8],
    answers: &[u8],
) -> io::Result<bool> {
    loop {
        match stream.read(scratch) {
            Ok(0) => return Ok(false),
            Ok(count) => {
                let mut left = requests.feed(&scratch[..count]) * ANSWER.len();
                while left > 0 {
                    // Answers are small and read at once; a full buffer here is a generator's bug.
                    let part = left.min(answers.len());
                    stream.write_all(&answers[..part])?;
                    left -= part;
                }
                if count < scratch.len() {
                    return Ok(true);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

fn main() -> io::Result<()> {
    let mut words = std::env::args().skip(1).map(|word| word.parse::<u16>());
    let (Some(Ok(port)), Some(Ok(seconds))) = (words.next(), words.next()) else {
        eprintln!("usage: null_sink PORT SECONDS");
        std::process::exit(2);
    };
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let mut listener = TcpListener::bind(std::net::SocketAddr::from(([127, 0, 0, 1], port)))?;
    println!("http://{}", listener.local_addr()?);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut connections: Vec<Option<(TcpStream, Requests)>> = Vec::new();
    let mut scratch = vec![0; SCRATCH_BYTES];
    let answers = ANSWER.repeat(1024);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        poll.poll(&mut events, Some(left))?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let token = Token(connections.len());
                    poll.registry().register(&mut stream, token, Interest::READABLE)?;
                    connections.push(Some((stream, Requests::default())));
                }
            } else if let Some((stream, requests)) = &mut connections[event.token().0] {
                let open = serve(stream, requests, &mut scratch, &answers).unwrap_or(false);
                if !open || event.is_read_closed() {
                    connections[event.token().0] = None;
                }
            }
        }
    }
}
