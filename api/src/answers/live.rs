//! What happens in an app now: events per minute, today's users, the last events.
//!
//! From Redis, where it gives whole and young numbers within a short deadline, else from ClickHouse.
//! Both are made by [`crate::live::numbers`], which tells why they are right before merges.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Asking, refuse};
use crate::clock::{now_ms, rfc3339};
use crate::live::numbers::AppNumbers;
use crate::live::stored::{self, VALUE_BYTES_MAX};
use crate::live::{LiveFigures, Miss};
use crate::redis_link::{LinkError, RedisLink};
use crate::reply::{AnswerBody, Refusal};
use crate::warehouse::WarehouseError;

const FAILED_TO: &str = "failed to fetch the live counters";
/// A Redis that takes longer is slower than what it is there to spare.
const REDIS_TIME_MAX: Duration = Duration::from_millis(50);

pub async fn answer(
    asking: &Asking<'_>,
    redis: Option<&RedisLink>,
    figures: &LiveFigures,
    app_id: Uuid,
) -> Result<AnswerBody, Refusal> {
    if let Some(link) = redis {
        match from_redis(asking, link, app_id).await {
            Ok(Ok(body)) => {
                figures.hits.inc();
                return Ok(body);
            }
            Ok(Err(error)) => return Err(refuse(error, FAILED_TO)),
            Err(miss) => figures.fallback(miss),
        }
    }
    let question = async {
        let mut buffer = asking.begin()?;
        let as_of_ms = now_ms();
        let numbers = AppNumbers { warehouse: asking.warehouse, app_id, as_of_ms, limit: None };
        let event_count = numbers.push(&mut buffer).await?;
        Ok(asking.finish(buffer, event_count, meta(as_of_ms, "clickhouse"))?)
    };
    asking.warehouse.ask(question).await.map_err(|error| refuse(error, FAILED_TO))
}

/// The answer; or why there is none in Redis; or that it cannot be given.
async fn from_redis(
    asking: &Asking<'_>,
    link: &RedisLink,
    app_id: Uuid,
) -> Result<Result<AnswerBody, WarehouseError>, Miss> {
    let mut command = redis::cmd("GETRANGE");
    // One byte more than what is stored is enough to know that something else lies there.
    command.arg(stored::key(asking.warehouse.database(), app_id)).arg(0).arg(VALUE_BYTES_MAX);
    let value: Vec<u8> = link.ask(&command, REDIS_TIME_MAX).await.map_err(|error| match error {
        LinkError::Away => Miss::Away,
        LinkError::Slow => Miss::Slow,
        LinkError::Refused(_) => Miss::Refused,
    })?;
    if value.is_empty() {
        return Err(Miss::Empty);
    }
    let stored = stored::read(&value, app_id, now_ms()).ok_or(Miss::Unreadable)?;
    let made = || {
        let mut buffer = asking.begin()?;
        buffer.push(stored.data.as_bytes())?;
        Ok(asking.finish(buffer, stored.event_count, meta(stored.as_of_ms, "redis"))?)
    };
    Ok(made())
}

fn meta(as_of_ms: i64, source: &'static str) -> Value {
    // The clock of the instance that computed it may be ahead of ours.
    let age_ms = (now_ms() - as_of_ms).max(0);
    json!({
        "as_of": rfc3339(as_of_ms),
        "age_ms": age_ms,
        "stale_ms": age_ms,
        "source": source,
        "timezone": "UTC",
    })
}
