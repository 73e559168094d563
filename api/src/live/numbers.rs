//! An app's live numbers from ClickHouse, right before merges.
//!
//! A row's identity is the whole sorting key (see [`crate::answers`]); of its rows the first
//! received is the event.
//!
//! - Events per minute go by the time they were received, read with FINAL: an event that was sent
//!   again counts where it came first, which may be before the window. FINAL over all of an app
//!   costs a multiple of the rest, so it sees only the days and the event ids of which something was
//!   received within the window. Both are in the identity: all rows of one pass, or none.
//! - Users need no FINAL, as in [`crate::answers::dau`].
//! - The last events are the newest by their own time, as in a timeline. A row among the newest may
//!   be the copy of an event with an earlier time, never the other way round: an event's own row is
//!   among the candidates whenever the event is that new.

use clickhouse::query::Query;
use uuid::Uuid;

use super::{LAST_EVENTS_MAX, MINUTES};
use crate::answers::timeline::{ShownEvent, push_event};
use crate::clock::{DAY_MS, rfc3339};
use crate::reply::AnswerBuffer;
use crate::warehouse::{Warehouse, WarehouseError};

const MINUTE_MS: i64 = 60_000;
/// Rows looked at for the last events; more when too many of them are copies.
const CANDIDATES_MIN: u64 = 1_000;
const CANDIDATES_GROWTH: u64 = 32;

/// Rows that were received within the last hour lie in partitions that changed within two: parts
/// are written after the rows in them were received. It is the difference between this month and
/// all of 13.
const SQL_MINUTES: &str = "
    WITH recent AS (
        SELECT DISTINCT partition_id FROM system.parts
        WHERE database = currentDatabase() AND table = 'events' AND active
            AND modification_time >= now() - 7200
    )
    SELECT intDiv(toUnixTimestamp64Milli(received_at), 60000) AS minute, count() AS events
    FROM events FINAL
    PREWHERE event_id IN (
        SELECT event_id
        FROM events
        WHERE app_id = {app_id:UUID}
            AND _partition_id IN (recent)
            AND received_at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
            AND received_at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    )
    WHERE app_id = {app_id:UUID}
        AND _partition_id IN (recent)
        AND toDate(timestamp) IN (
            SELECT DISTINCT toDate(timestamp)
            FROM events
            WHERE app_id = {app_id:UUID}
                AND _partition_id IN (recent)
                AND received_at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
                AND received_at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
        )
        AND received_at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
        AND received_at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    GROUP BY minute
    ORDER BY minute";

const SQL_USERS: &str = "
    SELECT uniqExact(user_id) AS users
    FROM events
    WHERE app_id = {app_id:UUID}
        AND timestamp >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
        AND timestamp < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')";

/// The time of the row that has `candidates` newer ones.
const SQL_NEWEST: &str = "
    SELECT toUnixTimestamp64Milli(timestamp) AS timestamp_ms
    FROM events
    WHERE app_id = {app_id:UUID}
        AND timestamp >= fromUnixTimestamp64Milli({floor_ms:Int64}, 'UTC')
    ORDER BY timestamp DESC
    LIMIT 1 OFFSET {candidates:UInt64}";

const SQL_LAST: &str = "
    SELECT id, name, user_id, timestamp_ms, received_ms, properties_text
    FROM (
        SELECT toString(event_id) AS id,
            event_name AS name,
            user_id,
            toUnixTimestamp64Milli(timestamp) AS timestamp_ms,
            toUnixTimestamp64Milli(received_at) AS received_ms,
            properties AS properties_text
        FROM events
        WHERE app_id = {app_id:UUID}
            AND timestamp >= fromUnixTimestamp64Milli({day_ms:Int64}, 'UTC')
            AND event_id IN (
                SELECT event_id
                FROM events
                WHERE app_id = {app_id:UUID}
                    AND timestamp >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')
            )
        ORDER BY version DESC
        LIMIT 1 BY toDate(timestamp), event_name, user_id, event_id
    )
    WHERE timestamp_ms >= {since_ms:Int64}
    ORDER BY timestamp_ms DESC, id, name, user_id
    LIMIT {limit:UInt32}";

#[derive(clickhouse::Row, serde::Deserialize)]
struct MinuteRow {
    /// Minutes since 1970.
    minute: i64,
    events: u64,
}

#[derive(clickhouse::Row, serde::Deserialize)]
struct UsersRow {
    users: u64,
}

#[derive(clickhouse::Row, serde::Deserialize)]
struct TimeRow {
    timestamp_ms: i64,
}

/// One app's numbers at one moment.
pub struct AppNumbers<'a> {
    pub warehouse: &'a Warehouse,
    pub app_id: Uuid,
    pub as_of_ms: i64,
    /// Seconds for one question where it is not the warehouse's own limit.
    pub limit: Option<u32>,
}

/// The window of the minutes: its first millisecond and the first after it.
pub fn window_ms(as_of_ms: i64) -> (i64, i64) {
    let end_minute = as_of_ms.div_euclid(MINUTE_MS) + 1;
    ((end_minute - MINUTES as i64) * MINUTE_MS, end_minute * MINUTE_MS)
}

impl AppNumbers<'_> {
    /// Appends the JSON object and gives the number of events in all the minutes.
    pub async fn push(&self, buffer: &mut AnswerBuffer) -> Result<u64, WarehouseError> {
        let event_count = self.push_minutes(buffer).await?;
        let users = self.users_today().await?;
        buffer.push(format!("],\"users_today\":{users},\"last_events\":[").as_bytes())?;
        self.push_last_events(buffer).await?;
        buffer.push(b"]}")?;
        Ok(event_count)
    }

    fn question(&self, sql: &'static str) -> Query {
        let question = self.warehouse.question(sql).param("app_id", self.app_id.to_string());
        match self.limit {
            Some(seconds) => question.with_setting("max_execution_time", seconds.to_string()),
            None => question,
        }
    }

    async fn push_minutes(&self, buffer: &mut AnswerBuffer) -> Result<u64, WarehouseError> {
        let (start_ms, end_ms) = window_ms(self.as_of_ms);
        let question = self.question(SQL_MINUTES).param("start_ms", start_ms);
        let rows: Vec<MinuteRow> = question.param("end_ms", end_ms).fetch_all().await?;
        let mut rows = rows.into_iter().peekable();
        let mut event_count = 0;
        let mut separator = "{\"minutes\":[";
        for minute in start_ms / MINUTE_MS..end_ms / MINUTE_MS {
            let counted = rows.next_if(|row| row.minute == minute).map_or(0, |row| row.events);
            let shown = rfc3339(minute * MINUTE_MS);
            let text = format!("{separator}{{\"minute\":\"{shown}\",\"count\":{counted}}}");
            buffer.push(text.as_bytes())?;
            event_count += counted;
            separator = ",";
        }
        match rows.next() {
            None => Ok(event_count),
            Some(_) => Err(WarehouseError::Failed("a minute outside of the window".to_owned())),
        }
    }

    async fn users_today(&self) -> Result<u64, WarehouseError> {
        let start_ms = day_of(self.as_of_ms);
        let question = self.question(SQL_USERS).param("start_ms", start_ms);
        let row: UsersRow = question.param("end_ms", start_ms + DAY_MS).fetch_one().await?;
        Ok(row.users)
    }

    async fn push_last_events(&self, buffer: &mut AnswerBuffer) -> Result<(), WarehouseError> {
        // Mostly today and yesterday have enough; all days are looked at only where they have not.
        let mut floor_ms = day_of(self.as_of_ms) - DAY_MS;
        let mut candidates = CANDIDATES_MIN;
        let before = buffer.bytes().len();
        loop {
            let question = self.question(SQL_NEWEST).param("floor_ms", floor_ms);
            let newest: Option<TimeRow> =
                question.param("candidates", candidates).fetch_optional().await?;
            let since_ms = newest.map_or(floor_ms, |row| row.timestamp_ms);
            let event_count = self.push_last_since(buffer, since_ms).await?;
            let everything = since_ms == floor_ms && floor_ms == 0;
            if event_count == LAST_EVENTS_MAX || everything {
                return Ok(());
            }
            buffer.truncate(before);
            if since_ms == floor_ms {
                floor_ms = 0;
            } else {
                candidates *= CANDIDATES_GROWTH;
            }
        }
    }

    async fn push_last_since(
        &self,
        buffer: &mut AnswerBuffer,
        since_ms: i64,
    ) -> Result<usize, WarehouseError> {
        let question = self.question(SQL_LAST).param("day_ms", day_of(since_ms));
        let question = question.param("since_ms", since_ms).param("limit", LAST_EVENTS_MAX as u32);
        let mut cursor = question.fetch::<ShownEvent<'_>>()?;
        let mut count = 0;
        while let Some(row) = cursor.next().await? {
            if count > 0 {
                buffer.push(b",")?;
            }
            push_event(buffer, &row)?;
            count += 1;
        }
        Ok(count)
    }
}

fn day_of(unix_ms: i64) -> i64 {
    unix_ms.div_euclid(DAY_MS) * DAY_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_ends_with_the_current_minute() {
        let check = |as_of: i64, start: i64, end: i64| assert_eq!(window_ms(as_of), (start, end));
        check(3_600_000, 60_000, 3_660_000);
        check(3_599_999, 0, 3_600_000);
        check(1_772_323_199_999, 1_772_319_600_000, 1_772_323_200_000);
    }

    #[test]
    fn every_question_reads_the_events_table() {
        for sql in [SQL_MINUTES, SQL_USERS, SQL_NEWEST, SQL_LAST] {
            assert!(sql.contains(&format!("FROM {}", proto::names::TABLE_EVENTS)));
        }
    }
}
