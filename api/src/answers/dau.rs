//! Daily active users: how many different users sent at least one event on each day.
//!
//! Read without FINAL, and exact before merges all the same: rows of one identity share their day
//! and their user, so a row that is there twice changes no day's set of users.

use super::{Asking, range_meta, refuse};
use crate::params::RangeParams;
use crate::reply::{AnswerBody, Refusal};
use crate::warehouse::WarehouseError;

pub(super) const SQL: &str = "
    SELECT toUInt16(toDate(timestamp)) AS day, uniqExact(user_id) AS users
    FROM events
    WHERE app_id = {app_id:UUID}
        AND timestamp >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
        AND timestamp < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    GROUP BY day
    ORDER BY day";

#[derive(clickhouse::Row, serde::Deserialize)]
struct DayRow {
    /// Days since 1970-01-01.
    day: u16,
    users: u64,
}

pub async fn answer(asking: &Asking<'_>, params: &RangeParams) -> Result<AnswerBody, Refusal> {
    let question = async {
        let (start_ms, end_ms) = params.range.bounds_ms();
        let rows: Vec<DayRow> = asking
            .warehouse
            .question(SQL)
            .param("app_id", params.app_id.to_string())
            .param("start_ms", start_ms)
            .param("end_ms", end_ms)
            .fetch_all()
            .await?;
        let mut buffer = asking.begin()?;
        let mut rows = rows.into_iter().peekable();
        let mut separator = "[";
        for (number, date) in params.range.days() {
            let counted = rows.next_if(|row| i64::from(row.day) == number);
            let users = counted.map_or(0, |row| row.users);
            buffer
                .push(format!("{separator}{{\"date\":\"{date}\",\"dau\":{users}}}").as_bytes())?;
            separator = ",";
        }
        buffer.push(b"]")?;
        if rows.next().is_some() {
            return Err(WarehouseError::Failed("a day outside of the range".to_owned()));
        }
        let day_count = params.range.day_count() as u64;
        Ok(asking.finish(buffer, day_count, range_meta(params.range))?)
    };
    asking.warehouse.ask(question).await.map_err(|error| refuse(error, "failed to fetch DAU"))
}
