//! A blocking HTTP/1.1 client that sends exactly what it is given and reads one answer at a time.
//!
//! Not strict and not complete: it reads what our servers send (Content-Length, chunked, or until
//! the connection closes), and every read has a deadline.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long one read or write may take before the test fails.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(20);

pub struct Client {
    stream: TcpStream,
    host: String,
    received: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// `http://user:password@host:port/path` without user and path.
pub fn authority(url: &str) -> &str {
    let rest = url.strip_prefix("http://").expect("an http URL");
    let rest = rest.split('/').next().expect("split gives one part at least");
    rest.rsplit_once('@').map_or(rest, |(_, host)| host)
}

impl Client {
    pub fn connect(url: &str) -> Client {
        Client::try_connect(url).unwrap_or_else(|error| panic!("connecting to {url}: {error}"))
    }

    pub fn try_connect(url: &str) -> std::io::Result<Client> {
        let host = authority(url).to_owned();
        let stream = TcpStream::connect(&host)?;
        stream.set_read_timeout(Some(SOCKET_TIMEOUT))?;
        stream.set_write_timeout(Some(SOCKET_TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, host, received: Vec::new() })
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the server takes the bytes");
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Says that nothing more will be sent; answers can still be read.
    pub fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("the sending side can be closed");
    }

    /// The next answer; an interim one (100) is an answer of its own.
    pub fn receive(&mut self) -> Response {
        self.try_receive().expect("an answer")
    }

    pub fn try_receive(&mut self) -> std::io::Result<Response> {
        let head_bytes = loop {
            if let Some(at) = find(&self.received, b"\r\n\r\n") {
                break at + 4;
            }
            self.fill_more()?;
        };
        let head: Vec<u8> = self.received.drain(..head_bytes).collect();
        let (status, headers) = parse_head(&head)?;
        let value = |name| header_of(&headers, name);
        let body = if status < 200 || status == 204 || status == 304 {
            Vec::new()
        } else if value("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
            self.chunked_body()?
        } else if let Some(length) = value("content-length") {
            let length = length.parse().map_err(|_| invalid("Content-Length is a number"))?;
            self.exactly(length)?
        } else {
            while self.fill()? > 0 {}
            std::mem::take(&mut self.received)
        };
        Ok(Response { status, headers, body })
    }

    /// The head of an answer to HEAD, which has a length and no body.
    pub fn receive_head(&mut self) -> Response {
        while find(&self.received, b"\r\n\r\n").is_none() {
            self.fill_more().expect("an answer's head");
        }
        let end = find(&self.received, b"\r\n\r\n").expect("the loop above found it") + 4;
        let head: Vec<u8> = self.received.drain(..end).collect();
        let (status, headers) = parse_head(&head).expect("an answer's head");
        Response { status, headers, body: Vec::new() }
    }

    /// Whether the server closes without another byte.
    pub fn closes(&mut self) -> bool {
        self.received.is_empty() && matches!(self.fill(), Ok(0))
    }

    /// Sends a request with Host, the given headers and a Content-Length; gives the answer.
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        self.try_request(method, target, headers, body).expect("an answer")
    }

    pub fn try_request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Response> {
        let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for (name, value) in headers {
            bytes.push_str(&format!("{name}: {value}\r\n"));
        }
        if method != "GET" || !body.is_empty() {
            bytes.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        bytes.push_str("\r\n");
        let mut bytes = bytes.into_bytes();
        bytes.extend_from_slice(body);
        self.try_send(&bytes)?;
        self.try_receive()
    }

    fn fill(&mut self) -> std::io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let read = self.stream.read(&mut buffer)?;
        self.received.extend_from_slice(&buffer[..read]);
        Ok(read)
    }

    fn fill_more(&mut self) -> std::io::Result<()> {
        match self.fill()? {
            0 => Err(std::io::Error::new(ErrorKind::UnexpectedEof, "closed within an answer")),
            _ => Ok(()),
        }
    }

    fn exactly(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        while self.received.len() < length {
            self.fill_more()?;
        }
        Ok(self.received.drain(..length).collect())
    }

    fn line(&mut self) -> std::io::Result<String> {
        loop {
            if let Some(at) = find(&self.received, b"\r\n") {
                let line: Vec<u8> = self.received.drain(..at + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            self.fill_more()?;
        }
    }

    fn chunked_body(&mut self) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| invalid("a chunk's size"))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.exactly(size)?);
            self.line()?;
        }
    }
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        header_of(&self.headers, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {} {:?}", self.status, self.text()))
    }

    /// The `code` of an error's body.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

fn header_of<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

fn parse_head(head: &[u8]) -> std::io::Result<(u16, Vec<(String, String)>)> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| invalid("a status line"))?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    Ok((status, headers))
}

fn invalid(what: &str) -> std::io::Error {
    std::io::Error::new(ErrorKind::InvalidData, format!("expected {what}"))
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}
