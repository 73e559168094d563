//! The background job: at most once a second, over all instances that share a Redis, it computes
//! the numbers of the active apps and lays them into Redis.
//!
//! One instance at a time, by a lock that is held through the pause after the round, too: so the
//! rounds of all instances together keep to the share of [`super::pace`]. An instance that dies
//! with the lock holds the others up for [`LOCK_TIME_MAX`]; meanwhile ClickHouse answers.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tracing::{info, warn};
use uuid::Uuid;

use super::figures::Trouble;
use super::numbers::{AppNumbers, window_ms};
use super::pace::{kept_for, pause_after};
use super::stored::{self, VALUE_BYTES_MAX};
use crate::clock::now_ms;
use crate::redis_link::{COMMAND_TIME_MAX, LinkError, RedisLink};
use crate::router::Router;
use crate::warehouse::WarehouseError;

/// Of one round, the busiest ones; the others' questions go to ClickHouse. With the bound on a
/// value, 128 MiB in Redis.
const APPS_MAX: usize = 64;
const ROUND_TIME_MAX: Duration = Duration::from_secs(20);
const LOCK_TIME_MAX: Duration = Duration::from_secs(25);
/// ClickHouse's own limit for one question of a round.
const QUESTION_SECONDS_MAX: u32 = 10;
/// Between two looks at a lock that another instance holds.
const LOCK_LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Which apps had something received since the window began, the busiest first. Counts copies, too:
/// it chooses, it answers nothing.
const SQL_ACTIVE: &str = "
    WITH recent AS (
        SELECT DISTINCT partition_id FROM system.parts
        WHERE database = currentDatabase() AND table = 'events' AND active
            AND modification_time >= now() - 7200
    )
    SELECT toString(app_id) AS app
    FROM events
    WHERE _partition_id IN (recent)
        AND received_at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
        AND received_at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    GROUP BY app_id
    ORDER BY count() DESC, app
    LIMIT {apps_max:UInt64}";

/// Shortens the lock, if it is still ours.
const LUA_KEEP_FOR: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
    return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";

/// What ended a round before its end.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
    #[error(transparent)]
    Redis(#[from] LinkError),
    #[error("the round took over {} s", ROUND_TIME_MAX.as_secs())]
    TooLong,
}

/// Keeps the connection and the numbers for as long as the process lives; without a Redis, nothing.
pub async fn keep_counting(router: &Router) {
    let Some(link) = &router.redis else { return };
    let job = Job {
        router,
        link,
        token: Uuid::new_v4().to_string(),
        lock: format!("unmogrowp:{}:live:lock", router.warehouse.database()),
    };
    tokio::join!(link.keep_connected(&router.health), job.run());
}

struct Job<'a> {
    router: &'a Router,
    link: &'a RedisLink,
    /// Says whose the lock is.
    token: String,
    lock: String,
}

impl Job<'_> {
    async fn run(&self) {
        let mut told = None;
        let mut last_round = Duration::ZERO;
        loop {
            if !self.router.migrated.load(Ordering::Acquire) || !self.take_lock().await {
                sleep(LOCK_LOOK_INTERVAL).await;
                continue;
            }
            let started = Instant::now();
            let outcome = self.round(started, last_round).await;
            last_round = started.elapsed();
            let figures = &self.router.metrics.live;
            figures.rounds.inc();
            figures.round_seconds.observe(last_round.as_secs_f64());
            let (trouble, text) = match outcome {
                Ok((trouble, apps)) => {
                    figures.apps.set(apps as i64);
                    (trouble, String::new())
                }
                Err(error) => (Some(sort(&error)), error.to_string()),
            };
            if let Some(trouble) = trouble {
                figures.trouble(trouble);
            }
            if trouble != told {
                match trouble {
                    Some(trouble) => warn!(?trouble, error = text, "live counters are not whole"),
                    None => info!("live counters are whole again"),
                }
                told = trouble;
            }
            let pause = pause_after(last_round);
            self.keep_lock_for(pause.mul_f64(0.95)).await;
            sleep(pause).await;
        }
    }

    async fn take_lock(&self) -> bool {
        let mut command = redis::cmd("SET");
        command.arg(&self.lock).arg(&self.token).arg("NX");
        command.arg("PX").arg(LOCK_TIME_MAX.as_millis() as u64);
        // Trouble with Redis is told by who keeps the connection.
        let taken: Result<Option<String>, LinkError> =
            self.link.ask(&command, COMMAND_TIME_MAX).await;
        matches!(taken, Ok(Some(_)))
    }

    async fn keep_lock_for(&self, pause: Duration) {
        let mut command = redis::cmd("EVAL");
        command.arg(LUA_KEEP_FOR).arg(1).arg(&self.lock);
        command.arg(&self.token).arg(pause.as_millis() as u64);
        // If this is lost, the lock ends by itself.
        let _ = self.link.ask::<i64>(&command, COMMAND_TIME_MAX).await;
    }

    /// Gives what is not whole, if anything, and the number of apps.
    async fn round(
        &self,
        started: Instant,
        last_round: Duration,
    ) -> Result<(Option<Trouble>, usize), RoundError> {
        let apps = self.within(started, self.active_apps()).await??;
        let mut trouble = (apps.len() > APPS_MAX).then_some(Trouble::TooManyApps);
        let chosen = &apps[..apps.len().min(APPS_MAX)];
        for app_id in chosen {
            let stored = self.within(started, self.count_app(*app_id, started, last_round));
            if !stored.await?? {
                trouble = Some(Trouble::TooLarge);
            }
        }
        Ok((trouble, chosen.len()))
    }

    async fn within<T>(
        &self,
        started: Instant,
        work: impl Future<Output = T>,
    ) -> Result<T, RoundError> {
        let left = ROUND_TIME_MAX.saturating_sub(started.elapsed());
        timeout(left, work).await.map_err(|_| RoundError::TooLong)
    }

    async fn active_apps(&self) -> Result<Vec<Uuid>, RoundError> {
        let (start_ms, end_ms) = window_ms(now_ms());
        let question = async {
            let question = self.router.warehouse.question(SQL_ACTIVE);
            let question = question.param("start_ms", start_ms).param("end_ms", end_ms);
            let question = question.param("apps_max", APPS_MAX as u64 + 1);
            let question =
                question.with_setting("max_execution_time", QUESTION_SECONDS_MAX.to_string());
            Ok(question.fetch_all::<String>().await?)
        };
        let apps = self.router.warehouse.ask(question).await?;
        let unreadable = |_| WarehouseError::Failed("an app_id that is not a UUID".to_owned());
        Ok(apps.iter().map(|app| app.parse().map_err(unreadable)).collect::<Result<_, _>>()?)
    }

    /// Whether the app's numbers were small enough to be stored.
    async fn count_app(
        &self,
        app_id: Uuid,
        started: Instant,
        last_round: Duration,
    ) -> Result<bool, RoundError> {
        let warehouse = &self.router.warehouse;
        let as_of_ms = now_ms();
        let question = async {
            let mut buffer = self.router.memory.buffer();
            buffer.push(stored::head(app_id, as_of_ms).as_bytes())?;
            let limit = Some(QUESTION_SECONDS_MAX);
            AppNumbers { warehouse, app_id, as_of_ms, limit }.push(&mut buffer).await?;
            Ok(buffer)
        };
        let buffer = warehouse.ask(question).await?;
        if buffer.bytes().len() > VALUE_BYTES_MAX {
            return Ok(false);
        }
        let kept = kept_for(last_round.max(started.elapsed()));
        let mut command = redis::cmd("SET");
        command.arg(stored::key(warehouse.database(), app_id)).arg(buffer.bytes());
        command.arg("PX").arg(kept.as_millis() as u64);
        self.link.ask::<()>(&command, COMMAND_TIME_MAX).await?;
        Ok(true)
    }
}

fn sort(error: &RoundError) -> Trouble {
    match error {
        RoundError::Warehouse(_) => Trouble::ClickHouse,
        RoundError::Redis(_) => Trouble::Redis,
        RoundError::TooLong => Trouble::TooLong,
    }
}
