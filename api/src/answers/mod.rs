//! The answers. Each module holds one question's SQL, why that SQL is right before merges, and the
//! JSON it becomes.
//!
//! A row's identity is the whole sorting key (app, UTC day, name, user, event id): two rows that
//! share it are one event, sent or inserted more than once.

pub mod dau;
pub mod event_count;
pub mod live;
pub mod timeline;

use std::time::Instant;

use proto::ErrorCode;
use serde_json::{Map, Value, json};
use tracing::{error, warn};
use uuid::Uuid;

use crate::clock::{now_ms, rfc3339};
use crate::params::DayRange;
use crate::reply::{AnswerBody, AnswerBuffer, AnswerMemory, OutOfMemory, Refusal};
use crate::warehouse::{Warehouse, WarehouseError};

/// What an answer is made with.
pub struct Asking<'a> {
    pub warehouse: &'a Warehouse,
    pub memory: &'a AnswerMemory,
    pub started: Instant,
}

impl From<OutOfMemory> for WarehouseError {
    fn from(_: OutOfMemory) -> WarehouseError {
        WarehouseError::Busy("the memory for answers is taken")
    }
}

impl Asking<'_> {
    /// A buffer that the `data` value goes into.
    fn begin(&self) -> Result<AnswerBuffer, OutOfMemory> {
        let mut buffer = self.memory.buffer();
        buffer.push(b"{\"status\":\"success\",\"data\":")?;
        Ok(buffer)
    }

    /// Closes the envelope around `data`.
    fn finish(
        &self,
        mut buffer: AnswerBuffer,
        count: u64,
        more: Value,
    ) -> Result<AnswerBody, OutOfMemory> {
        let mut meta = Map::new();
        let elapsed_us = self.started.elapsed().as_micros() as f64;
        meta.insert("processing_time_ms".to_owned(), json!(elapsed_us / 1_000.0));
        meta.insert("count".to_owned(), json!(count));
        meta.insert("generated_at".to_owned(), json!(rfc3339(now_ms())));
        // Every answer but one is computed when it is asked for; that one says so in `more`.
        meta.insert("stale_ms".to_owned(), json!(0));
        if let Value::Object(more) = more {
            meta.extend(more);
        }
        buffer.push(format!(",\"meta\":{}}}", Value::Object(meta)).as_bytes())?;
        Ok(buffer.into_body())
    }
}

fn range_meta(range: DayRange) -> Value {
    json!({
        "start_date": range.start.to_string(),
        "end_date": range.end.to_string(),
        "timezone": "UTC",
    })
}

/// Turns a failure into what the client may know of it. The cause goes to the log, under an id that
/// the client gets to see.
fn refuse(error: WarehouseError, failed_to: &'static str) -> Refusal {
    match error {
        WarehouseError::Busy(reason) => {
            Refusal::new(ErrorCode::Unavailable, "too busy to answer").details(reason)
        }
        WarehouseError::Away(_) => {
            warn!(%error, "no answer");
            Refusal::new(ErrorCode::Unavailable, "the event store is away")
                .details("try again in a moment")
        }
        WarehouseError::Failed(_) => {
            let error_id = Uuid::new_v4();
            error!(%error, %error_id, "{failed_to}");
            Refusal::new(ErrorCode::QueryError, failed_to).details(format!("error_id={error_id}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_reads_the_events_table() {
        let from = format!("FROM {}\n", proto::names::TABLE_EVENTS);
        let from_final = format!("FROM {} FINAL\n", proto::names::TABLE_EVENTS);
        assert!(dau::SQL.contains(&from) && timeline::SQL.contains(&from));
        assert!(event_count::SQL.contains(&from_final));
        assert!(event_count::SQL_OF_NAME.contains(&from_final));
    }
}
