//! A blocking HTTP client for the few questions asked outside the load: one connection, GET only.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::response::{Head, parse_head};
use crate::target::Target;

/// An analytics answer over millions of events takes its time; a hanging server is still noticed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// A timeline of 1,000 of the largest events fits.
const BODY_BYTES_MAX: u64 = 128 * 1024 * 1024;

pub struct ApiClient {
    stream: TcpStream,
    target: Target,
    api_key: Option<String>,
    received: Vec<u8>,
}

impl ApiClient {
    pub fn connect(target: &Target, api_key: Option<&str>) -> io::Result<Self> {
        Ok(ApiClient {
            stream: open(target)?,
            target: target.clone(),
            api_key: api_key.map(str::to_owned),
            received: Vec::new(),
        })
    }

    /// Status and body of `GET {the target's path}{path}`. A connection that the server has closed
    /// meanwhile is made again, once.
    pub fn get(&mut self, path: &str) -> io::Result<(u16, Vec<u8>)> {
        match self.exchange(path) {
            Ok(answer) => Ok(answer),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(error),
            Err(_) => {
                self.stream = open(&self.target)?;
                self.exchange(path)
            }
        }
    }

    fn exchange(&mut self, path: &str) -> io::Result<(u16, Vec<u8>)> {
        let key =
            self.api_key.as_ref().map_or(String::new(), |key| format!("X-API-Key: {key}\r\n"));
        let request = format!(
            "GET {}{path} HTTP/1.1\r\nHost: {}\r\n{key}\r\n",
            if path.is_empty() && self.target.path.is_empty() { "/" } else { &self.target.path },
            self.target.authority
        );
        self.stream.write_all(request.as_bytes())?;
        self.received.clear();
        let head = loop {
            let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            match parse_head(&self.received).map_err(invalid)? {
                Some(Head { status, head_bytes, .. }) if status < 200 => {
                    self.received.drain(..head_bytes);
                }
                Some(head) => break head,
                None => self.read_more()?,
            }
        };
        if head.body_bytes > BODY_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"));
        }
        let end = head.head_bytes + head.body_bytes as usize;
        while self.received.len() < end {
            self.read_more()?;
        }
        Ok((head.status, self.received[head.head_bytes..end].to_vec()))
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut part = [0; 64 * 1024];
        let count = self.stream.read(&mut part)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.received.extend_from_slice(&part[..count]);
        Ok(())
    }
}

fn open(target: &Target) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(target.resolve()?)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(stream)
}
