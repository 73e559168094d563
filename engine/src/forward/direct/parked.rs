//! Batches that ClickHouse refuses whole, while nothing of the kind is taken: set aside, so that those
//! behind them may go and be the witness that a refusal is the rows' own matter.
//!
//! A batch comes back when something was taken since, or when its rest is over, as somebody may have
//! put a table right. What is set aside is bounded; what finds no room keeps its place among those on
//! their way, and in the end holds the sources back: where everything is refused, nothing need go.

use proto::insert::{TakenBack, Witness};
use std::time::Instant;

pub(super) struct Parked {
    pub batch: u64,
    pub bytes: usize,
    pub back: TakenBack,
}

impl Parked {
    fn returns(&self, now: Instant, witness: &Witness) -> bool {
        now >= self.back.until || self.back.refusals.have_witness(witness)
    }
}

pub(super) struct ParkingLot {
    batches: Vec<Parked>,
    bytes: usize,
    bytes_max: usize,
    batches_max: usize,
}

impl ParkingLot {
    pub fn new(bytes_max: usize, batches_max: usize) -> ParkingLot {
        ParkingLot { batches: Vec::new(), bytes: 0, bytes_max, batches_max }
    }

    pub fn has_room(&self, bytes: usize) -> bool {
        self.batches.len() < self.batches_max && self.bytes + bytes <= self.bytes_max
    }

    pub fn park(&mut self, batch: Parked) {
        self.bytes += batch.bytes;
        self.batches.push(batch);
    }

    /// The next one to try again.
    pub fn take(&mut self, now: Instant, witness: &Witness) -> Option<Parked> {
        let at = self.batches.iter().position(|batch| batch.returns(now, witness))?;
        let batch = self.batches.remove(at);
        self.bytes -= batch.bytes;
        Some(batch)
    }

    /// Whether none is to be tried again yet.
    pub fn rests(&self, now: Instant, witness: &Witness) -> bool {
        !self.batches.iter().any(|batch| batch.returns(now, witness))
    }

    pub fn due(&self) -> Option<Instant> {
        self.batches.iter().map(|batch| batch.back.until).min()
    }
}
