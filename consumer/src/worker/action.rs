//! What the worker wants done, and what it has done so far.

use crate::dead::{Letter, Place};
use crate::partition::RangeId;
use proto::insert::Insert;

/// What is to be done. Everything that has an outcome must be told it, once.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send it; [`super::Worker::on_insert`]. Its id is the range's.
    Insert(Insert),
    /// Write them; [`super::Worker::on_letters`].
    Letters(Parcel),
    /// `(partition, next offset to read)`; [`super::Worker::on_commit`] for each.
    Commit(Vec<(i32, i64)>),
    /// What was asked to be committed and is not yet, must not be any more; its outcome is told all the
    /// same.
    ForgetCommits,
    Pause(i32),
    Resume(i32),
    /// Nobody waits for what is under way of this range; its outcome is of no interest.
    Abandon(RangeId),
    /// The revocation of these partitions may be answered now.
    GiveBack(Vec<i32>),
    /// Ask whether ClickHouse is well; [`super::Worker::on_probe`].
    Probe,
}

/// Dead letters for one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    pub range: RangeId,
    pub place: Place,
    pub letters: Vec<Letter>,
}

/// What has found its place so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub rows: u64,
    pub dead_rows: u64,
    pub dead_records: u64,
}
