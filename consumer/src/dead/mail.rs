//! The dead letters of one range on their way: all of them to the topic first, then to the table, one
//! parcel at a time, until everything is there. Pure.
//!
//! Knows neither Kafka's nor ClickHouse's client. Invariants: a letter is sent to a place again only
//! when the place has not confirmed it; [`Posted::All`] comes after every confirmation.

use super::letter::Letter;
use proto::backoff::Pace;
use std::time::Instant;

/// Letters handed to librdkafka at once; its queue has room for them.
const TOPIC_LETTERS_MAX: usize = 256;
const TOPIC_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Of one INSERT of letters.
const TABLE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A letter's cost beside its raw bytes and its reason, about.
const LETTER_OVERHEAD_BYTES: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Topic,
    Table,
}

/// What was not confirmed. Nothing in it may be left out, as it is not sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotWritten {
    pub left: Vec<Letter>,
    pub pace: Pace,
    /// For people.
    pub text: String,
}

/// What an outcome means for the letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    More,
    All,
    /// So many times in a row; tell [`Mail::rest`] for how long.
    Failed {
        times: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Sent,
    RestsUntil(Instant),
}

pub struct Mail {
    letters: Vec<Letter>,
    place: Place,
    /// Letters before this one were in a parcel to `place`.
    packed: usize,
    parcel: Vec<Letter>,
    /// Of this parcel, in a row.
    failures: u32,
    state: State,
}

impl Mail {
    /// At least one letter.
    pub fn new(letters: Vec<Letter>) -> Mail {
        assert!(!letters.is_empty(), "mail is never empty");
        let (place, parcel, state) = (Place::Topic, Vec::new(), State::Ready);
        let mut mail = Mail { letters, place, packed: 0, parcel, failures: 0, state };
        mail.pack();
        mail
    }

    /// The parcel to send, if it may go now. Its outcome must be told.
    pub fn next_parcel(&mut self, now: Instant) -> Option<(Place, Vec<Letter>)> {
        let waits = match self.state {
            State::Ready => false,
            State::Sent => true,
            State::RestsUntil(until) => now < until,
        };
        if waits {
            return None;
        }
        self.state = State::Sent;
        Some((self.place, self.parcel.clone()))
    }

    /// When [`Self::next_parcel`] gives one without anything happening.
    pub fn due(&self) -> Option<Instant> {
        match self.state {
            State::RestsUntil(until) => Some(until),
            State::Ready | State::Sent => None,
        }
    }

    pub fn on_outcome(&mut self, outcome: Result<(), NotWritten>) -> Posted {
        assert!(self.state == State::Sent, "an outcome belongs to a parcel that was sent");
        self.state = State::Ready;
        match outcome {
            Err(failure) if !failure.left.is_empty() => {
                self.parcel = failure.left;
                self.failures = self.failures.saturating_add(1);
                return Posted::Failed { times: self.failures };
            }
            Ok(()) | Err(_) => {}
        }
        self.failures = 0;
        if self.packed == self.letters.len() {
            if self.place == Place::Table {
                return Posted::All;
            }
            (self.place, self.packed) = (Place::Table, 0);
        }
        self.pack();
        Posted::More
    }

    /// The parcel goes again, but not before.
    pub fn rest(&mut self, until: Instant) {
        self.state = State::RestsUntil(until);
    }

    fn pack(&mut self) {
        let rest = &self.letters[self.packed..];
        let count = match self.place {
            Place::Topic => fitting(rest, TOPIC_LETTERS_MAX, TOPIC_BYTES_MAX),
            Place::Table => fitting(rest, usize::MAX, TABLE_BYTES_MAX),
        };
        self.parcel = rest[..count].to_vec();
        self.packed += count;
    }
}

/// How many of the letters go together: at least one.
fn fitting(letters: &[Letter], letters_max: usize, bytes_max: usize) -> usize {
    let mut bytes = 0;
    let fitting = letters.iter().take(letters_max).take_while(|letter| {
        bytes += letter.raw.len() + letter.reason.len() + LETTER_OVERHEAD_BYTES;
        bytes <= bytes_max
    });
    fitting.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::BadRecord;
    use crate::record::Unreadable;
    use proto::block::BlockError;
    use std::time::Duration;

    fn letters(count: usize, bytes: usize) -> Vec<Letter> {
        let raw = bytes::Bytes::from(vec![0; bytes]);
        let why = Unreadable::Block(BlockError::Magic);
        let letter =
            |offset| Letter::of_record(BadRecord { offset, bytes: raw.clone(), why }, 0, 0);
        (0..count as i64).map(letter).collect()
    }

    #[test]
    fn letters_go_in_parcels_that_their_place_has_room_for() {
        let check = |count: usize, bytes: usize, expected: &[(Place, usize)]| {
            let now = Instant::now();
            let mut mail = Mail::new(letters(count, bytes));
            let mut found = Vec::new();
            while let Some((place, parcel)) = mail.next_parcel(now) {
                found.push((place, parcel.len()));
                if mail.on_outcome(Ok(())) == Posted::All {
                    break;
                }
            }
            assert_eq!(found, expected, "{count} of {bytes} bytes");
        };
        use Place::{Table, Topic};
        check(1, 1, &[(Topic, 1), (Table, 1)]);
        check(600, 1, &[(Topic, 256), (Topic, 256), (Topic, 88), (Table, 600)]);
        let mib = 1024 * 1024;
        check(9, mib, &[(Topic, 7), (Topic, 2), (Table, 3), (Table, 3), (Table, 3)]);
        check(2, 9 * mib, &[(Topic, 1), (Topic, 1), (Table, 1), (Table, 1)]);
    }

    #[test]
    fn what_is_not_confirmed_is_sent_again_after_a_rest_and_nothing_else() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let all = letters(3, 1);
        let fail = |left: &[Letter]| {
            let (left, text) = (left.to_vec(), "away".to_owned());
            Err(NotWritten { left, pace: Pace::Slow, text })
        };
        let mut mail = Mail::new(all.clone());
        let mut check = |at, expected: Option<(Place, &[Letter])>, outcome, posted| {
            let found = mail.next_parcel(at);
            assert_eq!(found, expected.map(|(place, letters)| (place, letters.to_vec())));
            if found.is_none() {
                assert_eq!(mail.due(), Some(later));
                return;
            }
            assert_eq!((mail.next_parcel(at), mail.due()), (None, None), "one at a time");
            assert_eq!(mail.on_outcome(outcome), posted);
            if let Posted::Failed { .. } = posted {
                mail.rest(later);
            }
        };
        check(now, Some((Place::Topic, &all)), fail(&all[1..]), Posted::Failed { times: 1 });
        check(now, None, Ok(()), Posted::More);
        check(later, Some((Place::Topic, &all[1..])), fail(&all[2..]), Posted::Failed { times: 2 });
        check(later, Some((Place::Topic, &all[2..])), Ok(()), Posted::More);
        check(later, Some((Place::Table, &all)), fail(&all), Posted::Failed { times: 1 });
        check(later, Some((Place::Table, &all)), Ok(()), Posted::All);
    }
}
