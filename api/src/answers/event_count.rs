//! How many events lie in a range of days, of all names or of one.
//!
//! Read with FINAL: of the rows of one identity it leaves one. The range is made of whole days and
//! the day is in the identity, so such rows are either all inside the range or all outside.

use serde_json::json;

use super::{Asking, range_meta, refuse};
use crate::params::RangeParams;
use crate::reply::{AnswerBody, Refusal};

pub(super) const SQL: &str = "
    SELECT count() AS events
    FROM events FINAL
    WHERE app_id = {app_id:UUID}
        AND timestamp >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
        AND timestamp < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')";

pub(super) const SQL_OF_NAME: &str = "
    SELECT count() AS events
    FROM events FINAL
    WHERE app_id = {app_id:UUID}
        AND timestamp >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
        AND timestamp < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
        AND event_name = {event_name:String}";

#[derive(clickhouse::Row, serde::Deserialize)]
struct CountRow {
    events: u64,
}

pub async fn answer(
    asking: &Asking<'_>,
    params: &RangeParams,
    event_name: Option<&str>,
) -> Result<AnswerBody, Refusal> {
    let question = async {
        let (start_ms, end_ms) = params.range.bounds_ms();
        let mut query = asking
            .warehouse
            .question(if event_name.is_some() { SQL_OF_NAME } else { SQL })
            .param("app_id", params.app_id.to_string())
            .param("start_ms", start_ms)
            .param("end_ms", end_ms);
        if let Some(name) = event_name {
            query = query.param("event_name", name);
        }
        let row: CountRow = query.fetch_one().await?;
        let mut buffer = asking.begin()?;
        buffer.push(format!("{{\"count\":{}}}", row.events).as_bytes())?;
        let mut meta = range_meta(params.range);
        meta["event_name"] = json!(event_name);
        Ok(asking.finish(buffer, row.events, meta)?)
    };
    asking.warehouse.ask(question).await.map_err(|error| refuse(error, "failed to count events"))
}
