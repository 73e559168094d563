//! The way to ClickHouse: its address, one INSERT of raw bytes, and what a failure of it means.
//!
//! Knows nothing of Kafka, of batches and of retries. Row data never gets into a statement's text.

use crate::fault;
use bytes::Bytes;
use clickhouse::error::Error as ClientError;
use clickhouse::{Client, Compression};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use proto::backoff::Pace;
pub use proto::clickhouse::Address;
use proto::clickhouse::chain_text;
use proto::insert::{
    Failure, InsertFailure, SETTING_BLOCK_ROWS, SETTING_TOKEN, SETTINGS, sort_answer, statement,
};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Shorter than ClickHouse's own keep-alive, so that it does not close a connection under a request.
const IDLE_MAX: Duration = Duration::from_secs(2);
const PING_PATIENCE: Duration = Duration::from_secs(5);

/// Compressed only where the bytes leave the machine.
pub fn client_of(address: &Address, database: &str) -> Client {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_MAX)
        .build(connector);
    let compression = if address.is_loopback() { Compression::None } else { Compression::Lz4 };
    let mut client = Client::with_http_client(http)
        .with_url(address.origin())
        .with_database(database)
        .with_compression(compression);
    if let Some((user, password)) = address.credentials() {
        client = client.with_user(user).with_password(password);
    }
    client
}

/// 1 to 64 letters, digits and `_`, not a digit first: it stands in statements as it is.
pub fn database_name(name: &str) -> Result<String, String> {
    let first_ok = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let rest_ok = name.chars().all(|rest| rest.is_ascii_alphanumeric() || rest == '_');
    if first_ok && rest_ok && name.len() <= 64 {
        Ok(name.to_owned())
    } else {
        Err("1 to 64 letters, digits and _, not a digit first".to_owned())
    }
}

#[derive(Clone)]
pub struct Inserter {
    client: Client,
    statement: String,
    patience: Duration,
}

impl Inserter {
    pub fn new(address: &Address, database: &str, patience: Duration) -> Inserter {
        let mut client = client_of(address, database);
        for (name, value) in SETTINGS {
            client = client.with_setting(name, value);
        }
        Inserter { client, statement: statement(database), patience }
    }

    /// Sends `payloads` as one INSERT into `events`. `Ok` only when ClickHouse has said that it is
    /// done.
    ///
    /// Dropped while it waits, the INSERT is cut off; what came of it is not known.
    pub async fn insert(
        &self,
        payloads: Vec<Bytes>,
        rows: usize,
        token: &str,
    ) -> Result<(), Failure> {
        let mut insert = self
            .client
            .insert_formatted_with(self.statement.as_str())
            .with_setting(SETTING_BLOCK_ROWS, (rows + 1).to_string())
            .with_setting(SETTING_TOKEN, token);
        let half = payloads.len() / 2;
        let sending = async {
            for (index, payload) in payloads.into_iter().enumerate() {
                if index == half {
                    fault::pass(fault::Point::DuringInsert);
                }
                insert.send(payload).await?;
            }
            insert.end().await
        };
        self.within(sending).await
    }

    /// Sends rows of `columns` into a table of ours that is not `events`.
    pub async fn insert_rows(&self, statement: &str, rows: Bytes) -> Result<(), Failure> {
        let mut insert = self.client.insert_formatted_with(statement);
        let sending = async {
            insert.send(rows).await?;
            insert.end().await
        };
        self.within(sending).await
    }

    /// Whether ClickHouse answers, and has the table of events.
    pub async fn probe(&self) -> Result<(), Failure> {
        let probe = self.client.query("SELECT 1 FROM events LIMIT 0").execute();
        match tokio::time::timeout(PING_PATIENCE, probe).await {
            Ok(outcome) => outcome.map_err(|error| sort(&error)),
            Err(_) => Err(late(PING_PATIENCE)),
        }
    }

    async fn within(
        &self,
        sending: impl Future<Output = Result<(), ClientError>>,
    ) -> Result<(), Failure> {
        match tokio::time::timeout(self.patience, sending).await {
            Ok(outcome) => outcome.map_err(|error| sort(&error)),
            Err(_) => Err(late(self.patience)),
        }
    }
}

fn late(patience: Duration) -> Failure {
    let text = format!("no answer within {} s", patience.as_secs());
    Failure::new(InsertFailure::Unknown, Pace::Busy, 0, &text)
}

/// What an error of the client means for the INSERT.
pub fn sort(error: &ClientError) -> Failure {
    match error {
        ClientError::BadResponse(text) => sort_text(text),
        ClientError::Network(source) => {
            let client = source.downcast_ref::<hyper_util::client::legacy::Error>();
            let nobody = client.is_some_and(hyper_util::client::legacy::Error::is_connect);
            let kind = if nobody { InsertFailure::Retry } else { InsertFailure::Unknown };
            Failure::new(kind, Pace::Away, 0, &chain_text(error))
        }
        ClientError::TimedOut => {
            Failure::new(InsertFailure::Unknown, Pace::Busy, 0, "no answer in time")
        }
        // Nothing of ours: never a reason to put rows aside.
        other => Failure::new(InsertFailure::Unknown, Pace::Slow, 0, &chain_text(other)),
    }
}

/// The client gives ClickHouse's exception, or `Code: N` from its header, or the HTTP status line.
fn sort_text(text: &str) -> Failure {
    let number = |text: &str| {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        (digits > 0).then(|| text[..digits].to_owned())
    };
    let code = text.strip_prefix("Code: ").and_then(number);
    let status = number(text).and_then(|status| status.parse().ok()).unwrap_or(500);
    match sort_answer(status, code.as_deref(), text) {
        Err(failure) => failure,
        Ok(()) => Failure::new(InsertFailure::Unknown, Pace::Busy, 0, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_sorted_by_what_follows() {
        use InsertFailure::{Access, Refused, Retry, Schema, Unknown};
        let check = |text: &str, kind, code| {
            let failure = sort(&ClientError::BadResponse(text.to_owned()));
            assert_eq!((failure.kind, failure.code), (kind, code), "{text}");
        };
        check("Code: 60. DB::Exception: no such table", Schema, 60);
        check("Code: 252", Retry, 252);
        check("Code: 33. DB::Exception: Cannot read all data", Refused, 33);
        check("Code: 516. DB::Exception: Authentication failed", Access, 516);
        check("Code: 210. DB::NetException: reset", Unknown, 210);
        check("503 Service Unavailable", Retry, 0);
        check("504 Gateway Time-out", Unknown, 0);
        check("401 Unauthorized", Access, 0);
        check("<html>", Retry, 0);
        assert_eq!(sort(&ClientError::TimedOut).kind, Unknown);
        assert_eq!(sort(&ClientError::NotEnoughData).kind, Unknown);
    }

    #[test]
    fn only_plain_database_names_are_taken() {
        for (name, good) in [("unmogrowp", true), ("_1", true), ("1a", false), ("a b", false)] {
            assert_eq!(database_name(name).is_ok(), good, "{name}");
        }
    }
}
