//! Carries to ClickHouse and to the place of dead letters what the worker wants there: one attempt
//! each, and how it ended. Decides nothing.

use crate::dead::{DeadSink, Letter, NotWritten, Place};
use crate::fault::{self, Point};
use crate::metrics::Metrics;
use crate::warehouse::Inserter;
use bytes::Bytes;
use proto::insert::{Failure, Insert};
use std::sync::Arc;
use std::time::Instant;

pub struct Deliverer {
    inserter: Inserter,
    dead: DeadSink,
    metrics: Arc<Metrics>,
}

impl Deliverer {
    pub fn new(inserter: Inserter, dead: DeadSink, metrics: Arc<Metrics>) -> Deliverer {
        Deliverer { inserter, dead, metrics }
    }

    /// `Ok` only when ClickHouse has said that it is done. Dropped before that, the INSERT may have
    /// been taken.
    pub async fn insert(&self, insert: Insert) -> Result<(), Failure> {
        let Insert { payloads, rows, token, .. } = insert;
        let bytes = payloads.iter().map(Bytes::len).sum();
        fault::pass(Point::BeforeInsert);
        let sent_at = Instant::now();
        let outcome = self.inserter.insert(payloads, rows, &token).await;
        match &outcome {
            Ok(()) => {
                fault::pass(Point::AfterInsert);
                self.metrics.on_insert(rows, bytes, sent_at.elapsed());
            }
            Err(failure) => self.metrics.on_failure(failure.kind),
        }
        outcome
    }

    /// `Ok` when the place has confirmed every letter.
    pub async fn write(&self, place: Place, letters: Vec<Letter>) -> Result<(), NotWritten> {
        self.dead.write(place, letters).await
    }

    /// Whether ClickHouse answers, and has the table of events.
    pub async fn probe(&self) -> Result<(), Failure> {
        self.inserter.probe().await
    }
}
