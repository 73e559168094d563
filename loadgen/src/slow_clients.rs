//! Clients that send their requests a byte at a time, beside the load. What becomes of them is told
//! apart from it: a server may answer, refuse (408) or close, and all of these are right.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use serde::Serialize;

use crate::response::parse_head;
use crate::template::RequestTemplate;

/// Between two bytes of one client.
const BYTE_INTERVAL: Duration = Duration::from_millis(200);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// No connection of the load has this number, so no other request has these ids.
const CONNECTION: u64 = crate::event_id::CONNECTIONS_MAX - 2;

#[derive(Clone, Debug, Default, Serialize)]
pub struct SlowUse {
    /// Kept open at a time.
    pub connections: u64,
    pub bytes: u64,
    /// By status; each answer ends its connection, and another one is made.
    pub answers: BTreeMap<u16, u64>,
    /// By the server, without an answer.
    pub closed: u64,
    pub connection_errors: u64,
}

struct SlowClient {
    stream: TcpStream,
    request: Vec<u8>,
    sent: usize,
}

/// Trickles until `stop` is closed.
pub fn trickle(
    address: SocketAddr,
    count: u64,
    template: &RequestTemplate,
    stop: &Receiver<()>,
) -> SlowUse {
    let mut seen = SlowUse { connections: count, ..SlowUse::default() };
    let mut clients: Vec<Option<SlowClient>> = (0..count).map(|_| None).collect();
    let mut made = 0;
    while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(BYTE_INTERVAL) {
        for slot in &mut clients {
            if slot.is_none() {
                *slot = connect(address, template, made).map_or_else(
                    |_| {
                        seen.connection_errors += 1;
                        None
                    },
                    Some,
                );
                made += 1;
            }
            if let Some(client) = slot
                && client.step(&mut seen).is_none()
            {
                *slot = None;
            }
        }
    }
    seen
}

fn connect(
    address: SocketAddr,
    template: &RequestTemplate,
    number: u64,
) -> std::io::Result<SlowClient> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(SlowClient { stream, request: template.request(CONNECTION, number), sent: 0 })
}

impl SlowClient {
    /// One byte more, and a look for the answer. None when the connection is over.
    fn step(&mut self, seen: &mut SlowUse) -> Option<()> {
        let mut answer = [0; 2_048];
        match self.stream.read(&mut answer) {
            Ok(0) => {
                seen.closed += 1;
                return None;
            }
            // Answers come in one piece; the rest of it does not matter.
            Ok(count) => {
                match parse_head(&answer[..count]) {
                    Ok(Some(head)) => *seen.answers.entry(head.status).or_default() += 1,
                    _ => seen.closed += 1,
                }
                return None;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => {
                seen.closed += 1;
                return None;
            }
        }
        // All sent: only the answer is left to come.
        if let Some(byte) = self.request.get(self.sent..=self.sent) {
            // What a failed write means, the next read says.
            let count = self.stream.write(byte).unwrap_or(0);
            self.sent += count;
            seen.bytes += count as u64;
        }
        Some(())
    }
}
