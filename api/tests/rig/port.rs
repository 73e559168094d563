//! A port of 127.0.0.1 for a server that must know its own before it starts, and keeps it while it is
//! away: held by a socket that is bound and never listens. Clients are refused, nobody else is given
//! the port, and the server may listen on it, as it sets SO_REUSEADDR.
//!
//! A listener that is closed again will not do: a process that is being started at that moment holds
//! a copy of it until its exec, and anybody may be given the port afterwards.

use tokio::net::TcpSocket;

/// Nobody else's until this is dropped.
pub struct ReservedPort {
    pub number: u16,
    _socket: TcpSocket,
}

impl ReservedPort {
    pub fn take() -> ReservedPort {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        // Only now: set before, it would let us have a port that another one reserved.
        socket.set_reuseaddr(true).unwrap();
        let number = socket.local_addr().unwrap().port();
        ReservedPort { number, _socket: socket }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}
