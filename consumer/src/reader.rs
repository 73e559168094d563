//! Reading a part of the topic without a group: from here to there, and then it ends.
//!
//! Shared by replay and export. Commits nothing and joins nothing.

use crate::kafka::{self, Kafka, Reader, list, names};
use anyhow::{Context as _, bail};
use bytes::Bytes;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const PATIENCE: Duration = Duration::from_secs(10);

/// A place in the topic, as somebody names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// The first record written at this moment or later; milliseconds since 1970.
    Time(i64),
    /// Of each partition named; the others are left out.
    Offsets(BTreeMap<i32, i64>),
}

impl Point {
    /// RFC 3339, or `partition:offset`, comma separated.
    pub fn parse(text: &str) -> Result<Point, String> {
        if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
            return Ok(Point::Time((moment.unix_timestamp_nanos() / 1_000_000) as i64));
        }
        let mut offsets = BTreeMap::new();
        for part in text.split(',') {
            let pair = part.trim().split_once(':').and_then(|(partition, offset)| {
                let (partition, offset) = (partition.parse().ok()?, offset.parse().ok()?);
                (partition >= 0 && offset >= 0).then_some((partition, offset))
            });
            let (partition, offset) = pair.ok_or(
                "RFC 3339, such as 2026-02-01T00:00:00Z, or partition:offset, such as 0:1500",
            )?;
            if offsets.insert(partition, offset).is_some() {
                return Err(format!("partition {partition} is named twice"));
            }
        }
        Ok(Point::Offsets(offsets))
    }
}

/// What is read of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub from: i64,
    /// Not read itself; `None` follows what comes.
    pub to: Option<i64>,
}

/// What a partition has, and what was found there for the points asked for.
#[derive(Clone, Copy, Debug)]
struct Marks {
    low: i64,
    high: i64,
    /// `None`: this partition is not named.
    from: Option<i64>,
    to: Option<i64>,
}

/// Pure: the span of one partition, and whether records before it are gone.
fn span(marks: Marks, follow: bool) -> Option<(Span, bool)> {
    let asked = marks.from?;
    let from = asked.max(marks.low);
    if follow {
        return Some((Span { from, to: None }, asked < marks.low));
    }
    let to = marks.to.unwrap_or(marks.high).min(marks.high);
    (from < to).then_some((Span { from, to: Some(to) }, asked < marks.low))
}

#[derive(Debug)]
pub enum Scanned {
    Record {
        partition: i32,
        offset: i64,
        value: Bytes,
    },
    /// Nothing came for a while.
    Idle,
    /// Every span was read.
    End,
}

pub struct Scan {
    pub reader: Reader,
    pub topic: String,
    pub spans: BTreeMap<i32, Span>,
    /// Those that are not read to their end.
    open: BTreeMap<i32, Option<i64>>,
}

impl Scan {
    /// Blocks while Kafka is asked.
    pub fn start(
        kafka: &Kafka,
        topic: &str,
        from: Option<&Point>,
        to: Option<&Point>,
        follow: bool,
    ) -> anyhow::Result<Scan> {
        // A group of this name is never joined; librdkafka wants one.
        let reader = kafka::open(&kafka.reader("unmogrowp-scan", true), None)?;
        let partitions =
            kafka::partitions(reader, topic, PATIENCE).context("Kafka does not answer")?;
        if partitions.is_empty() {
            bail!("there is no topic {topic}");
        }
        let from = offsets_at(reader, topic, &partitions, from)?;
        let to = offsets_at(reader, topic, &partitions, to)?;
        let mut spans = BTreeMap::new();
        for partition in partitions {
            let (low, high) = reader
                .fetch_watermarks(topic, partition, PATIENCE)
                .with_context(|| format!("partition {partition} cannot be asked"))?;
            let from = match &from {
                None => Some(low),
                Some(from) => from.get(&partition).map(|at| at.unwrap_or(high)),
            };
            let to = to.as_ref().and_then(|to| to.get(&partition).copied().flatten());
            let marks = Marks { low, high, from, to };
            if let Some((span, is_cut)) = span(marks, follow) {
                if is_cut {
                    tracing::warn!(
                        partition,
                        ?marks,
                        "the topic has lost records before its oldest"
                    );
                }
                spans.insert(partition, span);
            }
        }
        let starts = spans.iter().map(|(partition, span)| (*partition, span.from));
        reader.assign(&list(topic, starts)).context("partitions cannot be read")?;
        let open = spans.iter().map(|(partition, span)| (*partition, span.to)).collect();
        Ok(Scan { reader, topic: topic.to_owned(), spans, open })
    }

    pub fn next(&mut self, patience: Duration) -> anyhow::Result<Scanned> {
        loop {
            if self.open.is_empty() {
                return Ok(Scanned::End);
            }
            match self.reader.poll(patience) {
                None => return Ok(Scanned::Idle),
                Some(Ok(message)) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    let Some(&to) = self.open.get(&partition) else { continue };
                    if to.is_some_and(|to| offset + 1 >= to) {
                        self.close(partition);
                    }
                    if to.is_none_or(|to| offset < to) {
                        let value = kafka::value(message);
                        return Ok(Scanned::Record { partition, offset, value });
                    }
                }
                // Its last offsets may hold no records.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    if self.open.get(&partition).is_some_and(Option::is_some) {
                        self.close(partition);
                    }
                }
                Some(Err(error)) if is_passing(&error) => tracing::warn!(%error, "Kafka"),
                Some(Err(error)) => return Err(error).context("the topic cannot be read on"),
            }
        }
    }

    /// Whether there may be more of the partition's span.
    pub fn is_open(&self, partition: i32) -> bool {
        self.open.contains_key(&partition)
    }

    fn close(&mut self, partition: i32) {
        self.open.remove(&partition);
        if let Err(error) = self.reader.pause(&names(&self.topic, &[partition])) {
            tracing::debug!(%error, partition, "cannot pause");
        }
    }
}

/// Brokers that come back are worth waiting for.
fn is_passing(error: &KafkaError) -> bool {
    use rdkafka::error::RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure};
    use rdkafka::error::RDKafkaErrorCode::{OperationTimedOut, Resolve};
    let code = error.rdkafka_error_code();
    let passing = [AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve];
    code.is_some_and(|code| passing.contains(&code))
}

/// Of each partition that the point names its offset; `None` inside where everything is older.
fn offsets_at(
    reader: Reader,
    topic: &str,
    partitions: &[i32],
    point: Option<&Point>,
) -> anyhow::Result<Option<BTreeMap<i32, Option<i64>>>> {
    let at_ms = match point {
        None => return Ok(None),
        Some(Point::Offsets(offsets)) => {
            if let Some(stranger) = offsets.keys().find(|named| !partitions.contains(named)) {
                bail!("topic {topic} has no partition {stranger}");
            }
            return Ok(Some(offsets.iter().map(|(id, offset)| (*id, Some(*offset))).collect()));
        }
        Some(Point::Time(at_ms)) => *at_ms,
    };
    let asked: TopicPartitionList = list(topic, partitions.iter().map(|id| (*id, at_ms.max(0))));
    let answer = reader.offsets_for_times(asked, PATIENCE).context("Kafka does not answer")?;
    let mut offsets = BTreeMap::new();
    for element in answer.elements() {
        element.error().context("offsets of that time cannot be had")?;
        let offset = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        offsets.insert(element.partition(), offset);
    }
    Ok(Some(offsets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_a_time_or_offsets() {
        let offsets = |pairs: &[(i32, i64)]| Some(Point::Offsets(pairs.iter().copied().collect()));
        let check = |text, expected| assert_eq!(Point::parse(text).ok(), expected, "{text}");
        check("1970-01-01T00:00:01.5Z", Some(Point::Time(1_500)));
        check("1970-01-01T01:00:00+01:00", Some(Point::Time(0)));
        check("0:17", offsets(&[(0, 17)]));
        check("0:17, 3:0", offsets(&[(0, 17), (3, 0)]));
        for text in ["", "17", "0:-1", "-1:0", "0:1,0:2", "yesterday", "2026-02-01"] {
            check(text, None);
        }
    }

    #[test]
    fn a_span_stays_within_what_there_is() {
        let check = |from, to, follow, expected: Option<(i64, Option<i64>, bool)>| {
            let marks = Marks { low: 10, high: 50, from, to };
            let expected = expected.map(|(from, to, is_cut)| (Span { from, to }, is_cut));
            assert_eq!(span(marks, follow), expected, "{marks:?}");
        };
        check(Some(10), None, false, Some((10, Some(50), false)));
        check(Some(5), None, false, Some((10, Some(50), true)));
        check(Some(20), Some(30), false, Some((20, Some(30), false)));
        check(Some(20), Some(90), false, Some((20, Some(50), false)));
        check(Some(30), Some(30), false, None);
        check(Some(50), None, false, None);
        check(Some(50), None, true, Some((50, None, false)));
        check(None, Some(30), false, None);
    }
}
