//! The servers that are not ours, as plain processes on free ports in folders of their own: one of
//! each for a test file. A server that is not installed fails the test that wants it.

pub mod kafka;
pub mod records;
pub mod redis;
pub mod topics;

use std::net::TcpListener;
use std::path::PathBuf;

pub use kafka::Broker;
pub use redis::Redis;

/// Below those that outgoing connections are given: none of them takes a port while its server is away.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Ports of 127.0.0.1 that nobody listens on, for servers that must know theirs beforehand.
pub fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let mut held: Vec<TcpListener> = Vec::new();
    for _ in 0..1_000 {
        if held.len() == COUNT {
            break;
        }
        let random = getrandom::u32().expect("the system gives random bytes");
        let span = u32::from(PORTS.end - PORTS.start);
        let port = PORTS.start + (random % span) as u16;
        held.extend(TcpListener::bind(("127.0.0.1", port)));
    }
    let port = |listener: &TcpListener| listener.local_addr().expect("a bound listener").port();
    let ports: Vec<u16> = held.iter().map(port).collect();
    ports.try_into().expect("a thousand tries find a few free ports")
}

/// The project's folder in the user's cache, where `./dev` puts what it fetches.
pub(crate) fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("unmogrowp")
}
