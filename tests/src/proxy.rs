//! A TCP proxy that does to connections what networks do: delays them, makes them narrow, stops or
//! swallows what they carry, cuts and refuses them. What it does is switched while it runs.
//!
//! Owns one port on 127.0.0.1 for its whole life. Knows nothing of what goes through it. Bytes arrive
//! in order and unchanged or not at all: a connection that lost a byte never carries another.
//!
//! Two threads for each connection and direction, one that reads and one that writes, with a bounded
//! queue between them: a delay does not narrow the connection.

mod connection;
#[cfg(test)]
mod tests;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::servers::{ReservedPort, stop_listening};
use connection::Connection;

/// Between two looks at the listener and at what is wanted of it.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What is done to every connection, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Every byte arrives so much later.
    Delay(Duration),
    /// So many bytes a second for each connection and direction.
    Throttle {
        bytes_per_s: u64,
    },
    /// Nothing is carried, nothing is lost: it goes on afterwards.
    Stall,
    /// What is sent disappears, connections look open: a dead peer. Those that lost something are cut
    /// when this ends.
    HalfOpen,
    /// Connections are cut and new ones refused.
    Refuse,
}

/// What the threads of one proxy share.
struct Shared {
    upstream: String,
    fault: Mutex<Fault>,
    switched: Condvar,
    connections: Mutex<Vec<Arc<Connection>>>,
    ended: AtomicBool,
    /// The listener is as the fault wants it.
    listener_settled: AtomicBool,
    accepted: AtomicU64,
    carried_bytes: AtomicU64,
}

impl Shared {
    fn fault(&self) -> Fault {
        *self.fault.lock().expect("no thread panics with the lock")
    }

    /// The fault that bytes of this connection meet now. One that swallows them marks it, under the lock:
    /// who ends that fault cuts what is marked, and must not come between.
    fn fault_on(&self, connection: &Connection) -> Fault {
        let fault = self.fault.lock().expect("no thread panics with the lock");
        if *fault == Fault::HalfOpen {
            connection.mark_lost();
        }
        *fault
    }

    /// Waits until `wanted` holds for the fault or the proxy ends.
    fn wait_for_fault(&self, wanted: impl Fn(Fault) -> bool) {
        let mut fault = self.fault.lock().expect("no thread panics with the lock");
        while !wanted(*fault) && !self.ended.load(Ordering::Relaxed) {
            fault = self.switched.wait(fault).expect("no thread panics with the lock");
        }
    }

    /// Says that the listener is as the fault wants it, if it is.
    fn settle_listener(&self, refuses: bool) {
        let fault = self.fault.lock().expect("no thread panics with the lock");
        if refuses == (*fault == Fault::Refuse) {
            self.listener_settled.store(true, Ordering::Release);
        }
    }

    fn cut(&self, which: impl Fn(&Connection) -> bool) -> usize {
        let mut connections = self.connections.lock().expect("no thread panics with the lock");
        let before = connections.len();
        connections.retain(|connection| {
            let cut = which(connection);
            if cut {
                connection.close();
            }
            !cut && !connection.is_closed()
        });
        before - connections.len()
    }
}

pub struct Proxy {
    shared: Arc<Shared>,
    port: ReservedPort,
    listener: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy on a free port whose connections lead to `upstream`, which need not be there yet.
    pub fn start(upstream: &str) -> Proxy {
        // Not port 0: nobody else may be given the port while it is refused.
        let port = ReservedPort::take();
        let address = port.address();
        let listener = listen(address).expect("the port is reserved");
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            fault: Mutex::new(Fault::None),
            switched: Condvar::new(),
            connections: Mutex::new(Vec::new()),
            ended: AtomicBool::new(false),
            listener_settled: AtomicBool::new(true),
            accepted: AtomicU64::new(0),
            carried_bytes: AtomicU64::new(0),
        });
        let seen = Arc::clone(&shared);
        let listener = std::thread::spawn(move || accept_until_ended(&seen, address, listener));
        Proxy { shared, port, listener: Some(listener) }
    }

    /// Where clients connect to.
    pub fn address(&self) -> String {
        self.port.address().to_string()
    }

    /// Switches; connections refuse or answer by the time this returns.
    pub fn set(&self, fault: Fault) {
        let before = {
            let mut current = self.shared.fault.lock().expect("no thread panics with the lock");
            // Under the lock, as the listener's own word is: what it says is of this fault.
            self.shared.listener_settled.store(false, Ordering::Relaxed);
            std::mem::replace(&mut *current, fault)
        };
        self.shared.switched.notify_all();
        if before == Fault::HalfOpen && fault != Fault::HalfOpen {
            self.shared.cut(Connection::has_lost);
        }
        while !self.shared.listener_settled.load(Ordering::Acquire) {
            std::thread::sleep(LOOK_EVERY);
        }
        if fault == Fault::Refuse {
            self.cut();
        }
    }

    /// Cuts the connections that are there; new ones are served. Gives how many there were.
    pub fn cut(&self) -> usize {
        self.shared.cut(|_| true)
    }

    /// Connections taken so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// In both directions together.
    pub fn carried_bytes(&self) -> u64 {
        self.shared.carried_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.switched.notify_all();
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        self.cut();
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn accept_until_ended(shared: &Arc<Shared>, address: SocketAddr, first: TcpListener) {
    let mut listener = Some(first);
    while !shared.ended.load(Ordering::Relaxed) {
        if shared.fault() == Fault::Refuse {
            listener.take().into_iter().for_each(stop_listening);
        } else if listener.is_none() {
            listener = listen(address).ok();
        }
        shared.settle_listener(listener.is_none());
        match listener.as_ref().map(TcpListener::accept) {
            Some(Ok((client, _))) => {
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                connection::serve(shared, client);
            }
            Some(Err(error)) if error.kind() != ErrorKind::WouldBlock => {}
            _ => std::thread::sleep(LOOK_EVERY),
        }
    }
    listener.into_iter().for_each(stop_listening);
}
