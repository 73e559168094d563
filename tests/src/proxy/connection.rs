//! One connection through the proxy: two sockets, and for each direction a reader and a writer.
//!
//! Owns the sockets; closing them ends all four threads, wherever they wait.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::{Fault, Shared};

const CHUNK_BYTES: usize = 16 * 1024;
/// Between a reader and its writer: 4 MiB of a connection are on their way at most.
const CHUNKS_QUEUED_MAX: usize = 256;
/// A throttled writer sends so many pieces a second.
const PIECES_PER_S: u64 = 50;

pub(super) struct Connection {
    client: TcpStream,
    server: TcpStream,
    lost: AtomicBool,
    closed: AtomicBool,
}

impl Connection {
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(super) fn mark_lost(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    /// Whether it swallowed bytes, so that nothing sensible can follow them.
    pub(super) fn has_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Connects on to the server and starts the threads; without a server the client's connection ends.
pub(super) fn serve(shared: &Arc<Shared>, client: TcpStream) {
    let (shared, spawned) = (Arc::clone(shared), std::thread::Builder::new());
    // In a thread of its own, as connecting may take its time.
    let started = spawned.spawn(move || {
        let _ = client.set_nonblocking(false);
        let Ok(server) = TcpStream::connect(&shared.upstream) else { return };
        let connection = Connection {
            client,
            server,
            lost: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        };
        let _ = connection.client.set_nodelay(true);
        let _ = connection.server.set_nodelay(true);
        carry_both_ways(&shared, Arc::new(connection));
    });
    started.expect("the system gives a test its threads");
}

fn carry_both_ways(shared: &Arc<Shared>, connection: Arc<Connection>) {
    shared
        .connections
        .lock()
        .expect("no thread panics with the lock")
        .push(Arc::clone(&connection));
    if shared.fault() == Fault::Refuse || shared.ended.load(Ordering::Relaxed) {
        connection.close();
    }
    for to_server in [true, false] {
        let (sender, receiver) = sync_channel(CHUNKS_QUEUED_MAX);
        let (shared, held) = (Arc::clone(shared), Arc::clone(&connection));
        let read_shared = Arc::clone(&shared);
        let read_held = Arc::clone(&held);
        std::thread::spawn(move || read_all(&read_shared, &read_held, to_server, &sender));
        std::thread::spawn(move || write_all(&shared, &held, to_server, &receiver));
    }
}

type Chunk = (Instant, Vec<u8>);

fn read_all(shared: &Shared, connection: &Connection, to_server: bool, out: &SyncSender<Chunk>) {
    let mut from = if to_server { &connection.client } else { &connection.server };
    let mut buffer = [0; CHUNK_BYTES];
    loop {
        match from.read(&mut buffer) {
            // The writer passes the end on when it has written what came before.
            Ok(0) => return,
            Ok(count) => {
                shared.fault_on(connection);
                let lost = connection.has_lost();
                if !lost && out.send((Instant::now(), buffer[..count].to_vec())).is_err() {
                    return;
                }
            }
            Err(_) => {
                connection.close();
                return;
            }
        }
    }
}

fn write_all(shared: &Shared, connection: &Connection, to_server: bool, input: &Receiver<Chunk>) {
    let mut to = if to_server { &connection.server } else { &connection.client };
    while let Ok((arrived, bytes)) = input.recv() {
        let mut rest = &bytes[..];
        while !rest.is_empty() && !connection.is_closed() {
            let mut count = rest.len();
            match shared.fault_on(connection) {
                // What it swallows is marked by it.
                Fault::None | Fault::Refuse | Fault::HalfOpen => {}
                Fault::Delay(delay) => {
                    std::thread::sleep(delay.saturating_sub(arrived.elapsed()));
                }
                Fault::Throttle { bytes_per_s } => {
                    count = count.min((bytes_per_s / PIECES_PER_S).max(1) as usize);
                    std::thread::sleep(Duration::from_secs_f64(count as f64 / bytes_per_s as f64));
                }
                Fault::Stall => {
                    shared.wait_for_fault(|fault| fault != Fault::Stall);
                    continue;
                }
            }
            if connection.has_lost() {
                break;
            }
            if to.write_all(&rest[..count]).is_err() {
                connection.close();
                return;
            }
            shared.carried_bytes.fetch_add(count as u64, Ordering::Relaxed);
            rest = &rest[count..];
        }
    }
    // A dead peer does not say that it is gone.
    if !connection.has_lost() {
        let _ = to.shutdown(Shutdown::Write);
    }
}
