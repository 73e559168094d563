//! Where a partition is read from: a decision of its own, since a wrong one loses events silently.
//!
//! Pure. librdkafka never decides (`auto.offset.reset=error`): offsets, watermarks and the operator's
//! `--accept-gap` go in, a start or a stop comes out.
//!
//! Invariant: no record is skipped unless the operator accepted it.

/// What is known about a partition before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The group's committed offset: the next one to read.
    pub committed: Option<i64>,
    /// The oldest offset that the topic still has.
    pub low: i64,
    /// The offset that the next record will get.
    pub high: i64,
    /// Where we were reading when the broker said that there is no such offset.
    pub reading: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Where the group stopped.
    GoOn(i64),
    /// A new topic, from its first record.
    Begin,
    /// The topic was deleted and made again: from its first record.
    Remade,
    /// Records are missing, and the operator has accepted it.
    Gap(i64),
    Stop(Lost),
}

/// Why nothing is read until somebody decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    #[error(
        "the group has no committed offset, and the topic has lost its first records (it begins at \
         offset {low}): they may never have been read"
    )]
    NoOffset { low: i64 },
    #[error(
        "the group is at offset {at}, but the topic begins at {low}: what lies between is gone"
    )]
    Head { at: i64, low: i64 },
    #[error(
        "the group is at offset {at}, but the topic ends at {high}: records were lost, or the topic \
         was made again"
    )]
    Tail { at: i64, high: i64 },
    #[error("the broker has no record at offset {at}, where this partition was being read")]
    Reading { at: i64 },
}

pub fn decide(found: Found, accept_gap: bool) -> Start {
    let lost = match (found.committed, found.reading) {
        (None, Some(_)) if found.low == 0 => return Start::Remade,
        (None, None) if found.low == 0 => return Start::Begin,
        (None, _) => Lost::NoOffset { low: found.low },
        (Some(at), _) if at < found.low => Lost::Head { at, low: found.low },
        (Some(at), _) if at > found.high => Lost::Tail { at, high: found.high },
        (Some(_), Some(at)) if at < found.low => Lost::Head { at, low: found.low },
        (Some(_), Some(at)) if at > found.high => Lost::Tail { at, high: found.high },
        (Some(_), Some(at)) => Lost::Reading { at },
        (Some(at), None) => return Start::GoOn(at),
    };
    if accept_gap { Start::Gap(found.low) } else { Start::Stop(lost) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_its_start() {
        let check = |committed, low, high, reading, expected| {
            let found = Found { committed, low, high, reading };
            assert_eq!(decide(found, false), expected, "{found:?}");
            let accepted = match expected {
                Start::Stop(_) => Start::Gap(low),
                other => other,
            };
            assert_eq!(decide(found, true), accepted, "{found:?}, the gap accepted");
        };
        use Start::{Begin, GoOn, Remade, Stop};
        // At an assignment.
        check(None, 0, 0, None, Begin);
        check(None, 0, 90, None, Begin);
        check(None, 5, 90, None, Stop(Lost::NoOffset { low: 5 }));
        check(None, 90, 90, None, Stop(Lost::NoOffset { low: 90 }));
        check(Some(0), 0, 0, None, GoOn(0));
        check(Some(7), 0, 90, None, GoOn(7));
        check(Some(7), 7, 90, None, GoOn(7));
        check(Some(90), 90, 90, None, GoOn(90));
        check(Some(6), 7, 90, None, Stop(Lost::Head { at: 6, low: 7 }));
        check(Some(91), 7, 90, None, Stop(Lost::Tail { at: 91, high: 90 }));
        // While reading.
        check(None, 0, 3, Some(50), Remade);
        check(None, 0, 100, Some(50), Remade);
        check(None, 2, 3, Some(50), Stop(Lost::NoOffset { low: 2 }));
        check(Some(40), 0, 45, Some(50), Stop(Lost::Tail { at: 50, high: 45 }));
        check(Some(50), 0, 45, Some(50), Stop(Lost::Tail { at: 50, high: 45 }));
        check(Some(40), 45, 90, Some(42), Stop(Lost::Head { at: 40, low: 45 }));
        check(Some(40), 0, 90, Some(50), Stop(Lost::Reading { at: 50 }));
    }
}
