//! ClickHouse as far as INSERTs go: one table, tokens that it remembers, and its ways to fail.
//!
//! An INSERT is taken whole or not at all. A token that was taken before makes it a success that
//! stores nothing. Which rows the answers show is decided by event id: copies collapse.

use crate::batch::{POISON_USER, number_of};
use bytes::Bytes;
use proto::backoff::Pace;
use proto::insert::{Failure, InsertFailure};
use proto::row::Rows;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Nobody listens.
    Down,
    TooManyParts,
    /// The table is missing.
    RefusesAll,
}

#[derive(Debug)]
pub struct Table {
    pub mood: Mood,
    tokens: BTreeSet<String>,
    /// How many rows are stored of each event, copies among them.
    events: BTreeMap<u64, u32>,
    pub rows: u64,
    pub inserts: u64,
}

impl Table {
    pub fn new() -> Table {
        let (tokens, events) = (BTreeSet::new(), BTreeMap::new());
        Table { mood: Mood::Well, tokens, events, rows: 0, inserts: 0 }
    }

    /// Executes an INSERT now.
    pub fn insert(&mut self, payloads: &[Bytes], rows: usize, token: &str) -> Result<(), Failure> {
        match self.mood {
            Mood::Well => {}
            Mood::Down => {
                let text = "connection refused";
                return Err(Failure::new(InsertFailure::Retry, Pace::Away, 0, text));
            }
            Mood::TooManyParts => {
                let text = "too many parts";
                return Err(Failure::new(InsertFailure::Retry, Pace::Busy, 252, text));
            }
            Mood::RefusesAll => {
                return Err(Failure::new(InsertFailure::Schema, Pace::Slow, 60, "no table"));
            }
        }
        if self.tokens.contains(token) {
            return Ok(());
        }
        let mut numbers = Vec::with_capacity(rows);
        for row in payloads.iter().flat_map(|payload| Rows::new(payload)) {
            let row = row.expect("a block's rows can be walked");
            if row.user_id == POISON_USER.as_bytes() {
                let text = "cannot parse this row";
                return Err(Failure::new(InsertFailure::Refused, Pace::Slow, 33, text));
            }
            numbers.push(number_of(&row).unwrap_or_else(|error| panic!("{error}")));
        }
        assert_eq!(numbers.len(), rows, "an INSERT says how many rows it has");
        self.tokens.insert(token.to_owned());
        for number in numbers {
            *self.events.entry(number).or_default() += 1;
        }
        self.rows += rows as u64;
        self.inserts += 1;
        Ok(())
    }

    /// Whether it is there and has its table.
    pub fn ping(&self) -> Result<(), Failure> {
        match self.mood {
            Mood::Well | Mood::TooManyParts => Ok(()),
            Mood::Down => Err(Failure::new(InsertFailure::Retry, Pace::Away, 0, "refused")),
            Mood::RefusesAll => {
                Err(Failure::new(InsertFailure::Schema, Pace::Slow, 60, "no table"))
            }
        }
    }

    pub fn has(&self, number: u64) -> bool {
        self.events.contains_key(&number)
    }

    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.events.keys().copied()
    }
}

/// What a client of ClickHouse's learns when its patience is over.
pub fn timed_out() -> Failure {
    Failure::new(InsertFailure::Unknown, Pace::Busy, 0, "no answer in time")
}
