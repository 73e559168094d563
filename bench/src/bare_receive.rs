//! The least that a server can do with the same requests: receive the bytes, find where each request
//! ends, answer a constant 200. A thread for each core, each with its own listener on the one port.
//!
//! Nothing is parsed but the length, nothing is checked, nothing is kept. Needs requests with a
//! Content-Length spelled so, which is what the load generator sends.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use engine::driver;
use memchr::memmem;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 35\r\n\r\n\
    {\"status\":\"success\",\"data\":{\"n\":1}}";
const LISTENER: Token = Token(usize::MAX);
/// As the engine's receive buffers are, several of one connection's at once.
const RECEIVE_BYTES: usize = 256 * 1024;
/// Copies of the answer that one write sends.
const ANSWERS_AT_ONCE: usize = 256;

/// Starts the threads; they run until the process ends. Gives where they listen.
pub fn start() -> io::Result<SocketAddr> {
    driver::raise_file_limit()?;
    let cores = driver::available_cores();
    let listeners = driver::bind_listeners(SocketAddr::from(([127, 0, 0, 1], 0)), cores.len())?;
    let address = listeners[0].local_addr()?;
    for (core, listener) in cores.into_iter().zip(listeners) {
        let thread = std::thread::Builder::new().name(format!("shard-{core}"));
        thread.spawn(move || {
            driver::pin_to_core(core);
            serve(listener).expect("a poller on loopback works");
        })?;
    }
    Ok(address)
}

fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut clients: Vec<Option<Client>> = Vec::new();
    let mut received = vec![0; RECEIVE_BYTES];
    let answers = ANSWER.repeat(ANSWERS_AT_ONCE);
    loop {
        if let Err(error) = poll.poll(&mut events, None)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let token = Token(clients.len());
                    poll.registry().register(&mut stream, token, Interest::READABLE)?;
                    clients.push(Some(Client { stream, requests: Requests::default() }));
                }
                continue;
            }
            let place = &mut clients[event.token().0];
            let open = place.as_mut().is_some_and(|c| c.serve(&mut received, &answers).is_ok());
            if !open {
                *place = None;
            }
        }
    }
}

struct Client {
    stream: TcpStream,
    requests: Requests,
}

impl Client {
    /// Until there is nothing more to receive. An error is the end of the connection.
    fn serve(&mut self, received: &mut [u8], answers: &[u8]) -> io::Result<()> {
        loop {
            let count = match self.stream.read(received) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let mut left = self.requests.feed(&received[..count]) * ANSWER.len();
            while left > 0 {
                let part = left.min(answers.len());
                // The generator reads at once; a full buffer would be a bug there.
                self.stream.write_all(&answers[..part])?;
                left -= part;
            }
            if count < received.len() {
                return Ok(());
            }
        }
    }
}

/// Where one connection stands between requests.
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

    /// Requests completed, and bytes used; the rest is the begin of a head.
    fn feed_whole(&mut self, bytes: &[u8]) -> (usize, usize) {
        let (mut at, mut count) = (0, 0);
        let mut in_body = self.body_left > 0;
        loop {
            let skipped = self.body_left.min(bytes.len() - at);
            at += skipped;
            self.body_left -= skipped;
            if self.body_left > 0 {
                return (count, at);
            }
            count += usize::from(std::mem::take(&mut in_body));
            let rest = &bytes[at..];
            let Some(end) = memmem::find(rest, b"\r\n\r\n") else { return (count, at) };
            self.body_left = content_length(&rest[..end]);
            in_body = true;
            at += end + 4;
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"Content-Length: ";
    let at = memmem::rfind(head, NAME).expect("the generator states every length") + NAME.len();
    let digits = head[at..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_at_their_last_byte_however_they_are_split() {
        let request =
            |body: &str| format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let bytes = [request("abc"), request(""), request(&"x".repeat(300))].concat().into_bytes();
        // A body of no bytes ends with its head.
        for split in 0..=bytes.len() {
            let mut requests = Requests::default();
            let counted = requests.feed(&bytes[..split]) + requests.feed(&bytes[split..]);
            assert_eq!(counted, 3, "split at {split}");
        }
        let mut requests = Requests::default();
        assert_eq!(requests.feed(&bytes[..bytes.len() - 1]), 2, "the last is not whole");
        assert_eq!(requests.feed(&bytes[bytes.len() - 1..]), 1);
    }
}
