//! Positions of assigned partitions: asks Kafka what there is, and has [`crate::position`] decide.

use crate::kafka::{Reader, list, names};
use crate::position::{Found, Lost, Start, decide};
use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;
use std::collections::HashMap;
use std::time::Duration;

/// Of each question; nothing is polled meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum PositionError {
    /// Ask again.
    #[error("positions cannot be read: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// Somebody has to decide.
    #[error(
        "topic {topic}, partition {partition}: {lost}. Nothing was skipped. --accept-gap goes on at \
         the oldest record there is"
    )]
    Lost { topic: String, partition: i32, lost: Lost },
}

/// Where to read each of `partitions` from.
pub fn resolve(
    reader: Reader,
    topic: &str,
    partitions: &[i32],
    accept_gap: bool,
) -> Result<Vec<(i32, i64)>, PositionError> {
    let committed = committed(reader, topic, partitions)?;
    let mut starts = Vec::with_capacity(partitions.len());
    for &partition in partitions {
        let (low, high) = reader.fetch_watermarks(topic, partition, PATIENCE)?;
        let found =
            Found { committed: committed.get(&partition).copied(), low, high, reading: None };
        starts.push((partition, start(topic, partition, found, accept_gap)?));
    }
    Ok(starts)
}

/// After the broker had no record where we were reading: whether going on is allowed. `reading` is the
/// next offset of each partition; after `Ok` all of them are to be resolved anew.
pub fn check_out_of_range(
    reader: Reader,
    topic: &str,
    reading: &[(i32, i64)],
    accept_gap: bool,
) -> Result<(), PositionError> {
    let partitions: Vec<i32> = reading.iter().map(|(partition, _)| *partition).collect();
    let committed = committed(reader, topic, &partitions)?;
    for &(partition, at) in reading {
        let (low, high) = reader.fetch_watermarks(topic, partition, PATIENCE)?;
        if !(low..=high).contains(&at) {
            let committed = committed.get(&partition).copied();
            let found = Found { committed, low, high, reading: Some(at) };
            start(topic, partition, found, accept_gap)?;
        }
    }
    Ok(())
}

fn start(
    topic: &str,
    partition: i32,
    found: Found,
    accept_gap: bool,
) -> Result<i64, PositionError> {
    match decide(found, accept_gap) {
        Start::GoOn(offset) => {
            tracing::info!(partition, offset, high = found.high, "goes on where the group stopped");
            Ok(offset)
        }
        Start::Begin => {
            tracing::info!(partition, high = found.high, "begins with the topic's first record");
            Ok(0)
        }
        Start::Remade => {
            tracing::warn!(partition, ?found, "the topic was made again: from its first record");
            Ok(0)
        }
        Start::Gap(offset) => {
            tracing::warn!(
                partition,
                offset,
                ?found,
                "records are missing; accepted by the operator"
            );
            Ok(offset)
        }
        Start::Stop(lost) => Err(PositionError::Lost { topic: topic.to_owned(), partition, lost }),
    }
}

fn committed(reader: Reader, topic: &str, partitions: &[i32]) -> KafkaResult<HashMap<i32, i64>> {
    let answer = reader.committed_offsets(names(topic, partitions), PATIENCE)?;
    let mut committed = HashMap::new();
    for element in answer.elements() {
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            committed.insert(element.partition(), offset);
        }
    }
    Ok(committed)
}

/// Tells the reader that these partitions are to be read from these offsets.
///
/// librdkafka remembers that a partition was paused here beyond its revocation: unless it is resumed,
/// one that comes back is never read again.
pub fn assign(reader: Reader, topic: &str, starts: &[(i32, i64)]) -> KafkaResult<()> {
    let partitions: Vec<i32> = starts.iter().map(|(partition, _)| *partition).collect();
    if let Err(error) = reader.resume(&names(topic, &partitions)) {
        tracing::debug!(%error, ?partitions, "cannot resume");
    }
    reader.incremental_assign(&list(topic, starts.iter().copied()))
}
