//! Listeners: one per shard on the same address, so that the kernel spreads connections and no
//! shard ever touches another's.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::system;

pub use system::raise_file_limit;

/// Connections that wait to be accepted; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// `count` listeners on `address`. With port 0 the first takes a free one and the rest share it.
pub fn bind_listeners(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut address = address;
    let mut listeners = Vec::with_capacity(count);
    refuse_if_taken(address)?;
    for _ in 0..count {
        let socket = system::stream_socket(address.is_ipv6())?;
        system::listen(&socket, address, BACKLOG)?;
        let listener = TcpListener::from(socket);
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// SO_REUSEPORT would let two engines share a port without a word; a plain bind says that it is
/// taken.
fn refuse_if_taken(address: SocketAddr) -> io::Result<()> {
    if address.port() != 0 {
        drop(TcpListener::bind(address)?);
    }
    Ok(())
}
