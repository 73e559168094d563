//! Connections that are opened and send nothing, as most of a server's clients do most of the time.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;

use ::tests::http_client::authority;

pub struct IdleConnections(Vec<TcpStream>);

impl IdleConnections {
    /// Opens `count` of them to `url`.
    pub fn open(url: &str, count: usize) -> IdleConnections {
        let connect = |index: usize| {
            let stream = TcpStream::connect(authority(url));
            let stream = stream.unwrap_or_else(|error| {
                panic!("idle connection {index} of {count}: {error} (is ulimit -n above {count}?)")
            });
            stream.set_nonblocking(true).expect("a socket can be set non-blocking");
            stream
        };
        IdleConnections((0..count).map(connect).collect())
    }

    /// How many the server has not closed.
    pub fn still_open(&mut self) -> usize {
        let is_open = |stream: &mut TcpStream| matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        self.0.iter_mut().map(|stream| usize::from(is_open(stream))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn those_that_are_closed_do_not_count() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut idle = IdleConnections::open(&url, 3);
        let mut taken: Vec<_> = (0..3).map(|_| listener.accept().unwrap()).collect();
        assert_eq!(idle.still_open(), 3);
        taken.pop();
        ::tests::wait::wait_equal("one is closed", ::tests::wait::seconds(5), 2, || {
            idle.still_open()
        });
    }
}
