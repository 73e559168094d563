//! The way to ClickHouse: its address, the settings of every question, how many run at once, and
//! what a failure means for the caller.
//!
//! Values travel as server-side parameters (`{name:Type}`), never inside the SQL text: that is why
//! [`Warehouse::question`] takes a `'static` text and nothing else does.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use clickhouse::Client;
use clickhouse::error::Error as ClientError;
use clickhouse::query::Query;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use proto::clickhouse::{Address, chain_text};

/// How long a question waits for one of the running ones to end.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// How much longer than ClickHouse's own limit we wait before we call it away.
const GRACE: Duration = Duration::from_secs(5);
/// ClickHouse refuses a query because it runs too many: TOO_MANY_SIMULTANEOUS_QUERIES.
const CODE_TOO_MANY_QUERIES: u32 = 202;

/// Why there is no answer, by what the asker can do about it.
#[derive(Debug, thiserror::Error)]
pub enum WarehouseError {
    /// Retry later: ClickHouse is not there. The text is for the log.
    #[error("ClickHouse is away: {0}")]
    Away(String),
    /// Retry later: a bound of ours is reached.
    #[error("{0}")]
    Busy(&'static str),
    /// Retrying is no use: ClickHouse refused the query, or its answer is not what we expect.
    #[error("ClickHouse failed the query: {0}")]
    Failed(String),
}

impl From<ClientError> for WarehouseError {
    fn from(error: ClientError) -> WarehouseError {
        match error {
            ClientError::Network(_) | ClientError::TimedOut => {
                WarehouseError::Away(chain_text(&error))
            }
            ClientError::BadResponse(message) => match exception_code(&message) {
                Some(CODE_TOO_MANY_QUERIES) => WarehouseError::Busy("ClickHouse is busy"),
                Some(_) => WarehouseError::Failed(message),
                // No exception of ClickHouse's: something in front of it, or it is going down.
                None => WarehouseError::Away(message),
            },
            other => WarehouseError::Failed(chain_text(&other)),
        }
    }
}

/// The number in `Code: 159. DB::Exception: …`.
fn exception_code(message: &str) -> Option<u32> {
    let after = message.split_once("Code: ")?.1;
    let digits = after.split(|character: char| !character.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn client_of(address: &Address) -> Client {
    let mut client = Client::default().with_url(address.origin());
    if let Some((user, password)) = address.credentials() {
        client = client.with_user(user).with_password(password);
    }
    client
}

pub struct Warehouse {
    /// For statements that must run before the database exists.
    server: Client,
    client: Client,
    database: String,
    running: Arc<Semaphore>,
    query_time_max: Duration,
}

impl Warehouse {
    pub fn new(
        address: &Address,
        database: &str,
        queries_max: u16,
        query_time_max: Duration,
    ) -> Warehouse {
        let server = client_of(address);
        let client = server.clone().with_database(database);
        Warehouse {
            server,
            client,
            database: database.to_owned(),
            running: Arc::new(Semaphore::new(queries_max.into())),
            query_time_max,
        }
    }

    pub fn database(&self) -> &str {
        &self.database
    }

    /// A statement of ours, outside any database and any bound.
    pub fn server_statement(&self, sql: &'static str) -> Query {
        self.server.query(sql)
    }

    /// A statement of ours within the database: migrations and probes.
    pub fn statement(&self, sql: &str) -> Query {
        self.client.query(sql)
    }

    /// A question of a client's.
    ///
    /// Partitions are months of the timestamp's day, and that day is in the sorting key: rows of
    /// one key never lie in two partitions, so FINAL need not merge across them.
    pub fn question(&self, sql: &'static str) -> Query {
        self.client
            .query(sql)
            .with_setting("max_execution_time", self.query_time_max.as_secs().to_string())
            .with_setting("do_not_merge_across_partitions_select_final", "1")
    }

    /// Runs `question` once a place is free, within this warehouse's time limits.
    ///
    /// Cancel-safe: dropping it frees the place; ClickHouse ends the query at its own time limit.
    pub async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, WarehouseError>>,
    ) -> Result<T, WarehouseError> {
        let _place = timeout(QUEUE_TIMEOUT, self.running.acquire())
            .await
            .map_err(|_| WarehouseError::Busy("too many questions are being answered"))?
            .expect("this semaphore is never closed");
        match timeout(self.query_time_max + GRACE, question).await {
            Ok(outcome) => outcome,
            Err(_) => Err(WarehouseError::Away("no answer within the time limit".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_sorted_by_what_the_asker_can_do() {
        let check = |message: &str, expected: &str| {
            let error = WarehouseError::from(ClientError::BadResponse(message.to_owned()));
            let found = match error {
                WarehouseError::Away(_) => "away",
                WarehouseError::Busy(_) => "busy",
                WarehouseError::Failed(_) => "failed",
            };
            assert_eq!(found, expected, "{message}");
        };
        check("Code: 159. DB::Exception: Timeout exceeded", "failed");
        check("Code: 202. DB::Exception: Too many simultaneous queries", "busy");
        check("Code: 60", "failed");
        check("503 Service Unavailable", "away");
    }
}
