//! One API key: how it is made, what is kept of it, and what it may do.
//!
//! A key is `umg_` and 48 hexadecimal digits (192 random bits). Only its SHA-256 is stored: a key
//! of that entropy needs no slow hash, and a fixed 32 bytes makes looking one up the same work for
//! every key that is tried.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

pub const PREFIX: &str = "umg_";
const SECRET_BYTES: usize = 24;
/// Characters of a key that lists may show, so that people can tell keys apart.
const SHOWN_CHARS: usize = PREFIX.len() + 4;

/// A key in clear. It has no `Debug`, so that no log can show it by accident.
pub struct ApiKey(String);

impl ApiKey {
    pub fn random() -> Result<ApiKey, getrandom::Error> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret)?;
        Ok(ApiKey(format!("{PREFIX}{}", hex(&secret))))
    }

    /// Reads a key that an earlier run has written down.
    pub fn from_text(text: &str) -> Option<ApiKey> {
        let digits = text.strip_prefix(PREFIX)?;
        let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (digits.len() == SECRET_BYTES * 2 && digits.bytes().all(lower_hex))
            .then(|| ApiKey(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn hash(&self) -> KeyHash {
        KeyHash::of(self.0.as_bytes())
    }

    pub fn first_chars(&self) -> &str {
        &self.0[..SHOWN_CHARS]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(pub [u8; 32]);

impl KeyHash {
    pub fn of(key: &[u8]) -> KeyHash {
        KeyHash(Sha256::digest(key).into())
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a key may do. Written `ingest`, `read` or `ingest,read`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes {
    pub ingest: bool,
    pub read: bool,
}

impl Scopes {
    pub fn names(self) -> Vec<&'static str> {
        [(self.ingest, "ingest"), (self.read, "read")]
            .into_iter()
            .filter_map(|(held, name)| held.then_some(name))
            .collect()
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(","))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a comma-separated list of: ingest, read")]
pub struct ScopesError(String);

impl FromStr for Scopes {
    type Err = ScopesError;

    fn from_str(text: &str) -> Result<Scopes, ScopesError> {
        let mut scopes = Scopes { ingest: false, read: false };
        for name in text.split(',') {
            match name.trim() {
                "ingest" => scopes.ingest = true,
                "read" => scopes.read = true,
                _ => return Err(ScopesError(text.to_owned())),
            }
        }
        Ok(scopes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_recognisable_and_differ() {
        let (one, other) = (ApiKey::random().unwrap(), ApiKey::random().unwrap());
        assert!(one.as_str().starts_with(PREFIX) && one.as_str().len() == 52);
        assert_ne!(one.as_str(), other.as_str());
        assert_eq!(ApiKey::from_text(one.as_str()).unwrap().hash(), one.hash());
        for text in ["", "umg_", "umg_12", &one.as_str().to_uppercase(), "other_0123"] {
            assert!(ApiKey::from_text(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_hash_is_the_sha_256_of_the_whole_key() {
        // Computed with `printf %s umg_ | sha256sum`.
        let expected = "199afabfb9d3a8013cf58505ef3142d0b934c3f6848e81e11b17de5a50b0e8de";
        assert_eq!(KeyHash::of(b"umg_").to_string(), expected);
    }

    #[test]
    fn scopes_are_a_list_of_known_words() {
        let check = |text: &str, expected: Option<&str>| {
            let parsed = text.parse::<Scopes>().ok().map(|scopes| scopes.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        };
        check("ingest,read", Some("ingest,read"));
        check("read, ingest", Some("ingest,read"));
        check("read", Some("read"));
        check("", None);
        check("admin", None);
        check("read,", None);
    }
}
