//! Who is served: a local client that knows the password, never a web page.
//!
//! A page in the user's browser can send requests to the loopback address. It can not leave out its
//! Origin header when it reads answers across origins, and with a rebound DNS name it can not hide
//! that name from the Host header: both are refused before anything else is looked at.

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HOST, ORIGIN};
use subtle::ConstantTimeEq;

use crate::exception::{Code, Exception};

pub struct Credentials {
    pub user: String,
    pub password: String,
}

/// A name and password from the URL, if it had them.
#[derive(Debug, Default)]
pub struct UrlCredentials {
    pub user: Option<String>,
    pub password: Option<String>,
}

pub fn check_origin(headers: &HeaderMap) -> Result<(), Exception> {
    let refuse = |what: &str| Err(Exception::new(Code::AccessDenied, what));
    if headers.contains_key(ORIGIN) {
        return refuse("requests of web pages (Origin header) are not served");
    }
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if host.to_str().is_ok_and(is_loopback_host) => Ok(()),
        _ => refuse("the Host header must name the loopback address or localhost"),
    }
}

fn is_loopback_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, port),
        _ => (host, "0"),
    };
    let is_loopback = name.eq_ignore_ascii_case("localhost")
        || name == "[::1]"
        || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    is_loopback && port.parse::<u16>().is_ok()
}

impl Credentials {
    /// The three ways that ClickHouse takes them; only one of them at a time.
    pub fn check(&self, headers: &HeaderMap, url: &UrlCredentials) -> Result<(), Exception> {
        let (user, password) = match presented(headers, url)? {
            Some(pair) => pair,
            None => {
                let message = "Authentication is required";
                return Err(Exception::new(Code::RequiredPassword, message));
            }
        };
        let user_matches = user.as_bytes().ct_eq(self.user.as_bytes());
        let password_matches = password.as_bytes().ct_eq(self.password.as_bytes());
        if bool::from(user_matches & password_matches) {
            return Ok(());
        }
        let message = "Authentication failed: password is incorrect, or there is no such user";
        Err(Exception::new(Code::AuthenticationFailed, message))
    }
}

fn presented(
    headers: &HeaderMap,
    url: &UrlCredentials,
) -> Result<Option<(String, String)>, Exception> {
    let text = |name: &str| {
        headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let default_user = || "default".to_owned();
    let (key_user, key) = (text("x-clickhouse-user"), text("x-clickhouse-key"));
    let basic = text(AUTHORIZATION.as_str());
    let from_url = url.user.is_some() || url.password.is_some();
    let ways = [key_user.is_some() || key.is_some(), basic.is_some(), from_url];
    if ways.iter().filter(|way| **way).count() > 1 {
        let message = "give the password in one way: X-ClickHouse-Key, Authorization or URL";
        return Err(Exception::new(Code::AuthenticationFailed, message));
    }
    if let Some(basic) = basic {
        return decode_basic(&basic).map(Some).ok_or_else(|| {
            Exception::new(Code::AuthenticationFailed, "only Basic authorization is known")
        });
    }
    if ways[0] {
        return Ok(Some((key_user.unwrap_or_else(default_user), key.unwrap_or_default())));
    }
    Ok(from_url.then(|| {
        let user = url.user.clone().unwrap_or_else(default_user);
        (user, url.password.clone().unwrap_or_default())
    }))
}

fn decode_basic(header: &str) -> Option<(String, String)> {
    use base64::Engine;
    let (scheme, encoded) = header.split_once(' ')?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    scheme.eq_ignore_ascii_case("basic").then(|| (user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_hosts() {
        let check = |host: &str, expected: bool| {
            assert_eq!(is_loopback_host(host), expected, "{host}");
        };
        for host in ["localhost", "LocalHost:8123", "127.0.0.1", "127.8.8.8:1", "[::1]", "[::1]:9"]
        {
            check(host, true);
        }
        for host in ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil:80", "::1"] {
            check(host, false);
        }
        for host in ["10.0.0.1:8123", "0.0.0.0", "localhost:", "localhost:99999", "a@127.0.0.1"] {
            check(host, false);
        }
    }
}
