//! File, environment and flags, laid over each other and read into a [`Config`].

use super::keys::{KEYS, Key, is_name};
use super::{Config, PINNED_PROPERTIES, RunArgs};
use serde::Deserialize;
use std::path::Path;
use toml::{Table, Value};

/// `UNMOGROWP_ENGINE__SECTION__KEY` sets `section.key`.
pub const ENV_PREFIX: &str = "UNMOGROWP_ENGINE__";
/// Carries address, user, password and database of ClickHouse in one value.
/// One of librdkafka's properties; the rest of the name is the property's.
const PROPERTIES_PREFIX: &str = "kafka.properties.";
pub const ENV_CLICKHOUSE_URL: &str = "UNMOGROWP_CLICKHOUSE_URL";

/// Why a configuration is refused. The text is the whole answer to the one who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{origin} is not TOML: {message}")]
    NotToml { origin: String, message: String },
    #[error("{origin} sets {key}, which is not a key of the engine; the nearest one is {nearest}")]
    UnknownKey { origin: String, key: String, nearest: &'static str },
    #[error("{origin} sets {key} = {value}: it must be {range} ({advice})")]
    WrongValue { origin: String, key: String, value: String, range: String, advice: &'static str },
    #[error("--set {given}: write it as section.key=value, such as limits.headers_max=50")]
    NotAssignment { given: String },
    #[error("{key} = {value}: it must be {range}; {advice}")]
    Conflict { key: &'static str, value: String, range: String, advice: String },
}

/// The values collected so far, as `section → key → value`; every one was accepted by its [`Key`].
#[derive(Default)]
pub(super) struct Layers {
    values: Table,
}

impl Layers {
    pub fn add_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let origin = path.display().to_string();
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            // The error's own text quotes the line, which may hold a password.
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            let message = format!("line {line}: {}", error.message());
            ConfigError::NotToml { origin: origin.clone(), message }
        })?;
        for (section, value) in table {
            match value {
                Value::Table(keys) => {
                    let known = KEYS.iter().any(|key| key.name.starts_with(&format!("{section}.")));
                    if !known && keys.is_empty() {
                        return Err(unknown(&origin, &section));
                    }
                    for (key, value) in keys {
                        self.set(&format!("{section}.{key}"), value, &origin)?;
                    }
                }
                _ => return Err(unknown(&origin, &section)),
            }
        }
        Ok(())
    }

    pub fn add_environment(
        &mut self,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        let mut ours: Vec<(String, String)> = environment
            .filter(|(name, _)| name.starts_with(ENV_PREFIX) || name == ENV_CLICKHOUSE_URL)
            .collect();
        // "UNMOGROWP_CLICKHOUSE_URL" sorts before every name with the prefix, so that the
        // variable for one key wins over the one that carries them all.
        ours.sort();
        for (name, value) in ours {
            let key = match name.strip_prefix(ENV_PREFIX) {
                Some(rest) => key_of_environment(rest),
                None => "clickhouse.url".to_owned(),
            };
            self.set(&key, Value::String(value), &name)?;
        }
        Ok(())
    }

    /// `--set` first, in the order given, then the flags that have a name of their own.
    pub fn add_flags(&mut self, args: &RunArgs) -> Result<(), ConfigError> {
        for given in &args.set {
            let (key, value) = given.split_once('=').ok_or_else(|| ConfigError::NotAssignment {
                // What follows may be a secret: only the first word is repeated.
                given: given.split_whitespace().next().unwrap_or_default().to_owned(),
            })?;
            self.set(key.trim(), Value::String(value.trim().to_owned()), "--set")?;
        }
        for (flag, key, value) in args.named() {
            if let Some(value) = value {
                self.set(key, Value::String(value), flag)?;
            }
        }
        Ok(())
    }

    pub fn into_config(self) -> Result<Config, ConfigError> {
        Config::deserialize(self.values).map_err(|error| ConfigError::NotToml {
            origin: "the configuration".to_owned(),
            message: error.message().to_owned(),
        })
    }

    fn set(&mut self, name: &str, value: Value, origin: &str) -> Result<(), ConfigError> {
        if let Some(property) = name.strip_prefix(PROPERTIES_PREFIX) {
            let one = Table::from_iter([(property.to_owned(), value)]);
            return self.set("kafka.properties", Value::Table(one), origin);
        }
        let key = Key::find(name).ok_or_else(|| unknown(origin, name))?;
        if key.name == "kafka.properties" {
            refuse_pinned(&value, origin)?;
        }
        let value = key.accept(&value, origin)?;
        if let Value::Table(properties) = value {
            self.merge(name, properties);
            return Ok(());
        }
        if key.name == "clickhouse.url" {
            let url = value.as_str().and_then(split_url).expect("the key accepted it as a URL");
            self.put("clickhouse.url", url.address);
            // What the URL does not name keeps the value of an earlier layer.
            let parts =
                [("user", url.user), ("password", url.password), ("database", url.database)];
            for (part, value) in parts {
                if let Some(value) = value {
                    self.put(&format!("clickhouse.{part}"), value);
                }
            }
            return Ok(());
        }
        self.put(name, value);
        Ok(())
    }

    /// Lays a table over what an earlier layer has under the same name.
    fn merge(&mut self, name: &str, properties: Table) {
        let (section, key) = name.split_once('.').expect("every known key has a section");
        let section = self.values.entry(section).or_insert_with(|| Value::Table(Table::new()));
        let section = section.as_table_mut().expect("only tables are put here");
        let known = section.entry(key).or_insert_with(|| Value::Table(Table::new()));
        known.as_table_mut().expect("the key accepts only tables").extend(properties);
    }

    fn put(&mut self, name: &str, value: impl Into<Value>) {
        let (section, key) = name.split_once('.').expect("every known key has a section");
        let section = self.values.entry(section).or_insert_with(|| Value::Table(Table::new()));
        section.as_table_mut().expect("only tables are put here").insert(key.into(), value.into());
    }
}

/// `SECTION__KEY`; the name of a property of librdkafka has dots where the environment has underscores.
fn key_of_environment(rest: &str) -> String {
    let key = rest.to_ascii_lowercase().replacen("__", ".", 1);
    match key.strip_prefix("kafka.properties__") {
        Some(property) => format!("{PROPERTIES_PREFIX}{}", property.replace('_', ".")),
        None => key,
    }
}

/// Names the property that the engine sets itself, which the key's range can not.
fn refuse_pinned(value: &Value, origin: &str) -> Result<(), ConfigError> {
    let given = value.as_table().into_iter().flatten().map(|(name, value)| dotted(name, value));
    for name in given.flatten() {
        if PINNED_PROPERTIES.contains(&name.as_str()) {
            return Err(ConfigError::WrongValue {
                origin: origin.to_owned(),
                key: format!("{PROPERTIES_PREFIX}{name}"),
                value: "(hidden)".to_owned(),
                range: "left out: the engine's promises rest on what it sets there".to_owned(),
                advice: "the other keys of [kafka] have what may be chosen",
            });
        }
    }
    Ok(())
}

/// The names in a table whose dotted keys were read as tables in tables.
fn dotted(name: &str, value: &Value) -> Vec<String> {
    let Value::Table(inner) = value else { return vec![name.to_owned()] };
    let names = inner.iter().flat_map(|(last, value)| dotted(last, value));
    names.map(|last| format!("{name}.{last}")).collect()
}

fn unknown(origin: &str, key: &str) -> ConfigError {
    let distance = |known: &&Key| {
        let last = known.name.split_once('.').map_or(known.name, |(_, last)| last);
        edit_distance(known.name, key).min(edit_distance(last, key))
    };
    let nearest = KEYS.iter().min_by_key(distance).expect("there are keys").name;
    // A name from outside is repeated, but not without end.
    let key = key.chars().take(100).collect();
    ConfigError::UnknownKey { origin: origin.to_owned(), key, nearest }
}

/// Levenshtein's distance, over at most the first 100 bytes.
fn edit_distance(left: &str, right: &str) -> usize {
    let right = &right.as_bytes()[..right.len().min(100)];
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

pub(super) struct SplitUrl {
    /// `http://host:port`
    pub address: String,
    pub user: Option<String>,
    pub password: Option<String>,
    pub database: Option<String>,
}

/// Takes `http://[user[:password]@]host[:port][/database]` apart; the database may also stand as
/// `?database=`.
pub(super) fn split_url(text: &str) -> Option<SplitUrl> {
    let rest = text.strip_prefix("http://")?;
    let (authority, tail) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let (credentials, host) = match authority.rsplit_once('@') {
        Some((credentials, host)) => (Some(credentials), host),
        None => (None, authority),
    };
    let parsed: hyper::http::uri::Authority = host.parse().ok()?;
    if parsed.host().is_empty() || (host.ends_with(':') || host.contains('@')) {
        return None;
    }
    let port = parsed.port_u16().unwrap_or(8123);
    let address = format!("http://{}:{port}", parsed.host());
    let (user, password) = match credentials.map(|both| both.split_once(':').unwrap_or((both, "")))
    {
        Some((user, password)) => (Some(percent_decode(user)?), Some(percent_decode(password)?)),
        None => (None, None),
    };
    let name = match tail.trim_start_matches('/') {
        "" => None,
        query if query.starts_with('?') => Some(query.strip_prefix("?database=")?),
        path => Some(path.trim_end_matches('/')),
    };
    if name.is_some_and(|name| !is_name(name)) {
        return None;
    }
    Some(SplitUrl { address, user, password, database: name.map(str::to_owned) })
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}
