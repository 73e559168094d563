//! Where a URL points: `http://HOST[:PORT]`, resolved to the address that answers.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long one address may take to accept when a name has several.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host and port as in the URL, for the `Host` field.
    pub authority: String,
    /// Without a slash at the end; requests append their own path to it.
    pub path: String,
    host: String,
    port: u16,
}

impl Target {
    pub fn parse(url: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{url:?} is not a usable URL: {why}");
        let rest = url.strip_prefix("http://").ok_or_else(|| wrong("it must begin http://"))?;
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        if path.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
            return Err(wrong("its path holds a character that a URL must not"));
        }
        // An IPv6 address stands in brackets, and its colons are not the port's.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| wrong("its port is not 0 to 65535"))?)
            }
            _ => (authority, 80),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let legal = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
        if host.is_empty() || !host.chars().all(legal) {
            return Err(wrong("its host is empty or holds a character that a host must not"));
        }
        Ok(Target {
            authority: authority.to_owned(),
            path: path.trim_end_matches('/').to_owned(),
            host: host.to_owned(),
            port,
        })
    }

    /// The address to use: the only one, or the first that accepts a connection (`localhost` is
    /// often ::1 first while the server listens on 127.0.0.1).
    pub fn resolve(&self) -> io::Result<SocketAddr> {
        let addresses: Vec<_> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        if let [only] = addresses[..] {
            return Ok(only);
        }
        let mut last_error = io::Error::other("the name has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, PROBE_TIMEOUT) {
                Ok(_) => return Ok(address),
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: Option<(&str, u16, &str)>) {
        let parsed = Target::parse(url);
        let seen = parsed.as_ref().ok().map(|t| (t.host.as_str(), t.port, t.path.as_str()));
        assert_eq!(seen, expected, "{url}");
    }

    #[test]
    fn urls() {
        check("http://127.0.0.1:8080", Some(("127.0.0.1", 8080, "")));
        check("http://localhost/", Some(("localhost", 80, "")));
        check("http://[::1]:99/a/b/", Some(("::1", 99, "/a/b")));
        check("http://[::1]", Some(("::1", 80, "")));
        for wrong in [
            "",
            "127.0.0.1:8080",
            "https://x",
            "http://",
            "http://:80",
            "http://x:y",
            "http://x:70000",
            "http://a b",
            "http://user@host",
            "http://h/a b",
        ] {
            check(wrong, None);
        }
    }
}
