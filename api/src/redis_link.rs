//! The way to Redis: its address, one connection that is kept open in the background, and commands
//! with deadlines.
//!
//! Must not know what is stored there. Invariants: nobody who asks ever waits for a connection to be
//! made, or longer than the command's deadline; a connection that missed a deadline is dropped, so
//! that late replies cannot pile up on it; a reply is bounded by the question.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, RedisError,
};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::health::{Dependency, Health};

/// Between two looks at the connection: the longest that a Redis which is back stays unused.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
/// Of a command that no client waits for.
pub const COMMAND_TIME_MAX: Duration = Duration::from_millis(500);

/// Of commands at once; the next ones wait for their turn within their own deadline.
const COMMANDS_MAX: usize = 32;

/// Why Redis gave nothing, by what it says about the connection.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is no connection, or it broke; a new one is being made.
    #[error("Redis does not answer")]
    Away,
    /// The deadline passed; the command may have been carried out.
    #[error("Redis is slow")]
    Slow,
    /// Redis answered with a refusal: a key of another type, no rights, out of memory.
    #[error("Redis refused: {0}")]
    Refused(String),
}

/// The value is never in the text: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--redis (UNMOGROWP_REDIS_URL) must look like redis://user:password@host:6379/0, \
     percent-encoded; its value is not shown, it may hold a password"
)]
pub struct RedisUrlError;

struct Held {
    connection: MultiplexedConnection,
    generation: u64,
}

pub struct RedisLink {
    client: Client,
    /// Bounds the replies in memory.
    under_way: Semaphore,
    held: RwLock<Option<Held>>,
}

impl RedisLink {
    /// Connects nowhere yet: [`RedisLink::keep_connected`] does.
    pub fn new(url: &str) -> Result<RedisLink, RedisUrlError> {
        let scheme_known = url.starts_with("redis://") || url.starts_with("valkey://");
        let address = url.into_connection_info().ok().filter(|_| scheme_known);
        let client = Client::open(address.ok_or(RedisUrlError)?).map_err(|_| RedisUrlError)?;
        let under_way = Semaphore::new(COMMANDS_MAX);
        Ok(RedisLink { client, under_way, held: RwLock::new(None) })
    }

    /// Sends one command over the connection that is there.
    ///
    /// Cancel-safe in that nothing of ours breaks; the command may have been carried out.
    pub async fn ask<T: FromRedisValue>(
        &self,
        command: &Cmd,
        within: Duration,
    ) -> Result<T, LinkError> {
        let (mut connection, generation) = {
            let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
            let held = held.as_ref().ok_or(LinkError::Away)?;
            (held.connection.clone(), held.generation)
        };
        let asked = async {
            let _turn = self.under_way.acquire().await.expect("this semaphore is never closed");
            command.query_async(&mut connection).await
        };
        let failure = match timeout(within, asked).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => sort(&error),
            Err(_) => LinkError::Slow,
        };
        if !matches!(failure, LinkError::Refused(_)) {
            self.drop_connection(generation);
        }
        Err(failure)
    }

    fn drop_connection(&self, generation: u64) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        // By now another may have taken its place.
        if held.as_ref().is_some_and(|held| held.generation == generation) {
            *held = None;
        }
    }

    fn is_connected(&self) -> bool {
        self.held.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Keeps a connection for as long as the process lives, and `health` told.
    ///
    /// The crate's own connection manager is not used: it keeps a connection that only times out,
    /// and never tries again after a refused password.
    pub async fn keep_connected(&self, health: &Health) {
        let mut generation = 0;
        let mut was_up = false;
        loop {
            let state = if self.is_connected() {
                self.ask::<()>(&redis::cmd("PING"), COMMAND_TIME_MAX).await
            } else {
                generation += 1;
                self.connect(generation).await
            };
            match state {
                Ok(()) => {
                    health.set_up(Dependency::Redis);
                    if !was_up {
                        info!("connected to Redis");
                    }
                    was_up = true;
                }
                Err(error) => {
                    let reason = match error {
                        LinkError::Refused(_) => "Redis refuses us",
                        LinkError::Away | LinkError::Slow => "Redis does not answer",
                    };
                    if health.set_down(Dependency::Redis, reason) {
                        warn!(%error, "{reason}; live counters come from ClickHouse");
                    }
                    was_up = false;
                }
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    async fn connect(&self, generation: u64) -> Result<(), LinkError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIME_MAX))
            .set_response_timeout(Some(CONNECT_TIME_MAX));
        let connecting = async {
            let mut connection =
                self.client.get_multiplexed_async_connection_with_config(&config).await?;
            // A Redis that loads its data, or wants a password, takes connections all the same.
            redis::cmd("PING").query_async::<()>(&mut connection).await?;
            Ok(connection)
        };
        let connection = match timeout(CONNECT_TIME_MAX * 2, connecting).await {
            Ok(connected) => connected.map_err(|error: RedisError| sort(&error))?,
            Err(_) => return Err(LinkError::Slow),
        };
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        *held = Some(Held { connection, generation });
        Ok(())
    }
}

fn sort(error: &RedisError) -> LinkError {
    if error.kind() == ErrorKind::AuthenticationFailed {
        // The crate calls it unrecoverable, as it does a broken connection.
        LinkError::Refused(error.to_string())
    } else if error.is_timeout() {
        LinkError::Slow
    } else if error.is_unrecoverable_error() || error.is_io_error() {
        LinkError::Away
    } else {
        LinkError::Refused(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_redis_and_a_wrong_one_is_not_shown() {
        let check = |url, expected| assert_eq!(RedisLink::new(url).is_ok(), expected, "{url}");
        check("redis://127.0.0.1:6379", true);
        check("redis://127.0.0.1:6379/", true);
        check("redis://:p%40ss@cache:6379/2", true);
        check("redis://me:p%40ss@[::1]:6379", true);
        check("", false);
        check("127.0.0.1:6379", false);
        check("http://127.0.0.1:6379", false);
        check("rediss://127.0.0.1:6379", false);
        check("redis://127.0.0.1:6379/two", false);
        check("redis://127.0.0.1:port", false);
        let error = RedisLink::new("redis://me:secret@host:port").err().unwrap();
        assert!(!error.to_string().contains("secret"));
    }
}
