//! Where ClickHouse is, who we are there, and what its client says of an error: the same for everyone
//! who is told by `--clickhouse-url`.
//!
//! Owns the text of that option. Knows no client and asks nobody: names are not resolved.

use std::error::Error;
use std::net::{IpAddr, Ipv6Addr};

/// No `Debug`: it holds the password.
#[derive(Clone)]
pub struct Address {
    origin: String,
    credentials: Option<(String, String)>,
    is_loopback: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--clickhouse-url (UNMOGROWP_CLICKHOUSE_URL) must look like http://user:password@host:8123, \
     percent-encoded, http only, without path and query; its value is not shown, it may hold a \
     password"
)]
pub struct AddressError;

impl Address {
    pub fn parse(url: &str) -> Result<Address, AddressError> {
        let rest = url.strip_prefix("http://").ok_or(AddressError)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, authority) = match rest.rsplit_once('@') {
            Some((credentials, authority)) => (Some(credentials), authority),
            None => (None, rest),
        };
        let is_loopback = is_loopback(host_of(authority)?);
        let credentials = match credentials.map(|text| text.split_once(':').unwrap_or((text, ""))) {
            Some((user, password)) => Some((decode(user)?, decode(password)?)),
            None => None,
        };
        Ok(Address { origin: format!("http://{authority}"), credentials, is_loopback })
    }

    /// Without credentials, path and closing slash.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// User and password; the password is empty where only a user was named.
    pub fn credentials(&self) -> Option<(&str, &str)> {
        self.credentials.as_ref().map(|(user, password)| (user.as_str(), password.as_str()))
    }

    /// What is sent there does not leave the machine.
    pub fn is_loopback(&self) -> bool {
        self.is_loopback
    }
}

/// The host of `host`, `host:port` or `[IPv6]:port`; a name as DNS and container networks have them.
fn host_of(authority: &str) -> Result<&str, AddressError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(AddressError)?;
            host.parse::<Ipv6Addr>().map_err(|_| AddressError)?;
            (host, port)
        }
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if host.is_empty() || !host.bytes().all(fits) {
                return Err(AddressError);
            }
            (host, port)
        }
    };
    let number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    match port.strip_prefix(':') {
        Some(digits) if number(digits) && digits.parse::<u16>().is_ok() => Ok(host),
        None if port.is_empty() => Ok(host),
        _ => Err(AddressError),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Percent-decoding that refuses what it does not understand.
fn decode(text: &str) -> Result<String, AddressError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    let digit = |byte: Option<u8>| {
        let value = byte.and_then(|byte| char::from(byte).to_digit(16));
        value.map(|value| value as u8).ok_or(AddressError)
    };
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => digit(bytes.next())? << 4 | digit(bytes.next())?,
            other => other,
        });
    }
    String::from_utf8(out).map_err(|_| AddressError)
}

/// An error with its causes, but for those that it already tells itself.
pub fn chain_text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_carry_credentials_and_know_the_machine() {
        let check = |url, origin: &str, credentials: Option<(&str, &str)>, local| {
            let address = Address::parse(url).unwrap();
            assert_eq!(address.origin(), origin);
            assert_eq!(address.credentials(), credentials, "{url}");
            assert_eq!(address.is_loopback(), local, "{url}");
        };
        check("http://127.0.0.1:8123", "http://127.0.0.1:8123", None, true);
        check("http://ch:8123/", "http://ch:8123", None, false);
        check("http://ch_1.example", "http://ch_1.example", None, false);
        check("http://me:p%40ss@localhost:1", "http://localhost:1", Some(("me", "p@ss")), true);
        check("http://me:p@ss@[::1]:8123", "http://[::1]:8123", Some(("me", "p@ss")), true);
        check("http://me:p%40ss@ch:8123", "http://ch:8123", Some(("me", "p@ss")), false);
        check("http://me@ch", "http://ch", Some(("me", "")), false);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let hosts = ["", "/", "ch/path", "ch?a=b", "ch#a", "bad host", "ch:", "ch:65536", "ch:+1"];
        let brackets = ["[::1", "[ch]:1", "[::1]1", "::1", "[127.0.0.1]"];
        let credentials = ["%z@c", "a:%zz@ch", "a:%ff@ch", "a:b%4@ch", "a:b@"];
        for rest in hosts.iter().chain(&brackets).chain(&credentials) {
            assert!(Address::parse(&format!("http://{rest}")).is_err(), "{rest}");
        }
        for url in ["", "ch:8123", "https://ch", "HTTP://ch"] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Told {
        text: &'static str,
        source: Option<Box<Told>>,
    }

    #[test]
    fn causes_are_told_once() {
        let chain = |texts: &[&'static str]| {
            let wrap = |source, text: &&'static str| Some(Box::new(Told { text, source }));
            let outermost = texts.iter().rev().fold(None, wrap);
            chain_text(&outermost.expect("at least one"))
        };
        assert_eq!(chain(&["away"]), "away");
        assert_eq!(chain(&["connect", "tcp", "refused"]), "connect: tcp: refused");
        assert_eq!(chain(&["network: tcp", "tcp", "refused"]), "network: tcp: refused");
    }
}
