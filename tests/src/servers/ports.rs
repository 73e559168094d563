//! Ports of 127.0.0.1 for servers that must know theirs before they start, and keep it while they are
//! away.
//!
//! A reserved port is held by a socket that is bound and never listens: clients are refused, nobody
//! else is given the port, and the server it is meant for may listen on it, for all of them set
//! SO_REUSEADDR. A listener that only looks whether a port is free and is closed again will not do: a
//! process that is being started at that moment holds a copy of it until its exec.

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener};

use socket2::{Domain, SockRef, Socket, Type};

/// Below those that outgoing connections are given.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Nobody else's until this is dropped.
pub struct ReservedPort {
    number: u16,
    _socket: Socket,
}

impl ReservedPort {
    /// Any that nobody holds, listening or not.
    pub fn take() -> ReservedPort {
        let free = (0..1_000).find_map(|_| ReservedPort::reserve(random_port()).ok());
        free.expect("a thousand tries find a free port")
    }

    pub fn number(&self) -> u16 {
        self.number
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }

    fn reserve(number: u16) -> std::io::Result<ReservedPort> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, number));
        // Without SO_REUSEADDR this fails beside any other socket of that port, another reservation
        // too. Set afterwards it lets the server's own listener in.
        socket.bind(&address.into())?;
        socket.set_reuse_address(true)?;
        Ok(ReservedPort { number, _socket: socket })
    }
}

/// Clients are refused when this returns, whoever holds a copy of the listener.
pub fn stop_listening(listener: TcpListener) {
    SockRef::from(&listener).shutdown(Shutdown::Both).expect("a listener can be shut down");
}

fn random_port() -> u16 {
    let random = getrandom::u32().expect("the system gives random bytes");
    PORTS.start + (random % u32::from(PORTS.end - PORTS.start)) as u16
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::{ReservedPort, stop_listening};

    #[test]
    fn a_reserved_port_is_its_owners_alone() {
        let port = ReservedPort::take();
        assert!(ReservedPort::reserve(port.number()).is_err(), "it was given away twice");
        TcpStream::connect(port.address()).expect_err("nobody listens yet");
        let listener = TcpListener::bind(port.address()).expect("its server may listen");
        TcpStream::connect(port.address()).expect("the server answers");
        stop_listening(listener);
        TcpListener::bind(port.address()).expect("its server may come back");
    }

    #[test]
    fn a_port_with_a_server_is_not_free() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let number = listener.local_addr().expect("a bound listener").port();
        assert!(ReservedPort::reserve(number).is_err());
    }
}
