//! What a lane asks of whoever carries its records to Kafka, and what it is told of them.
//!
//! librdkafka ([`super::producer`]) is one such sink. A lane knows none of its codes: an outcome
//! comes sorted by what follows from it.

use super::failure::Failure;
use bytes::Bytes;
use crossbeam_channel::Sender;
use proto::BlockHeader;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Which block a record is, and when it was sent.
#[derive(Clone, Copy, Debug)]
pub struct Tag {
    /// The lane's slot.
    pub source: usize,
    pub sequence: u64,
    pub bytes: usize,
    /// Of the sink. A failure that an earlier one tells of counts for nothing.
    pub generation: u64,
    pub sent_at: Instant,
}

#[derive(Clone, Debug)]
pub struct Report {
    pub tag: Tag,
    /// `Err`: it was not delivered, or nobody knows.
    pub outcome: Result<(), Failure>,
}

/// Where a sink leaves its reports. The lane takes them with its next turn; there are never more than
/// there are records in the sink.
pub type Reports = Sender<Report>;

/// Why a record was not taken.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// The queue is full: wait for reports.
    Full,
    Failed(Failure),
}

/// Carries records to Kafka. No call waits for a server.
pub trait RecordSink: Send {
    /// Takes one block, header and rows. Its report comes later, once; never, if the sink is gone
    /// before.
    fn send(&self, header: &BlockHeader, block: &Bytes, tag: Tag) -> Result<(), Refusal>;

    /// Takes everything back; each record's report says so.
    fn purge(&self);

    /// Why this sink is of no use any more, if so.
    fn fatal_error(&self) -> Option<String>;
}

/// Makes a lane's sink: the first, and another after each that is of no use any more. It may hold
/// records for so long to send them together.
pub type SinkMaker =
    Box<dyn FnMut(Reports, Duration) -> anyhow::Result<Box<dyn RecordSink>> + Send>;

/// The last thing that a sink complained of, for people. Outlives the sink.
#[derive(Debug, Default)]
pub struct Complaint(Mutex<String>);

impl Complaint {
    const CHARS_MAX: usize = 300;

    pub fn set(&self, text: &str) {
        let mut stored = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *stored = text.chars().take(Self::CHARS_MAX).collect();
    }

    pub fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
