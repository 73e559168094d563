//! All deliveries of one client on their way: which INSERT may go now, what its outcome means, and
//! when the same is sent again. Pure: time comes in as an argument, jitter from a seed.
//!
//! Invariants: of one delivery one INSERT is under way at a time, and the same piece is sent until
//! ClickHouse has given its word on it; an attempt that the breaker let through always reports back
//! to it, so that it never stays half open.

use super::answer::{Failure, InsertFailure};
use super::delivery::{DeadRow, Delivery, Step};
use super::witness::Witness;
use crate::backoff::{Backoff, Pace};
use crate::block::Block;
use crate::breaker::{Admission, Breaker, BreakerState};
use crate::planted::{Planted, is_planted};
use crate::random::SplitMix64;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// An INSERT to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insert {
    /// The delivery's.
    pub id: u64,
    /// The bytes of the rows, in order.
    pub payloads: Vec<Bytes>,
    pub rows: usize,
    pub token: String,
}

/// What an outcome means for its delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to send at once.
    Goes,
    /// Every row is in ClickHouse or here. The delivery is gone.
    Finished(Vec<DeadRow>),
    /// ClickHouse is away or overloaded, so many times in a row; sent again after a rest.
    Outage { times: u32 },
    /// Somebody must do something first, so many times in a row; sent again after a rest.
    NeedsHand { times: u32 },
    /// Everything of it is refused, so many times in a row, and nothing of the kind was taken since;
    /// sent again after a rest. Nothing of it is stored: see [`Dispatcher::take_back`].
    Refused { times: u32 },
}

/// How rows that nobody takes were refused so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// In a row.
    pub times: u32,
    /// The witness's moment at the first refusal of exactly these rows.
    pub moment: Option<u64>,
}

impl Refusals {
    /// Whether something of the kind was taken since, so that the rows are to blame themselves.
    pub fn have_witness(&self, witness: &Witness) -> bool {
        self.moment.is_some_and(|moment| witness.since(moment))
    }
}

/// What was refused whole, to be added again at `until`.
pub struct TakenBack {
    pub blocks: Vec<Block>,
    pub refusals: Refusals,
    pub until: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    /// Under way, with the witness's number.
    Sent(u64),
    RestsUntil(Instant),
}

struct Shipment {
    delivery: Delivery,
    state: State,
    /// In a row.
    outages: u32,
    /// For want of a table or a right, too.
    refusals: Refusals,
}

pub struct Dispatcher {
    shipments: BTreeMap<u64, Shipment>,
    breaker: Breaker,
    backoff: Backoff,
    witness: Witness,
    jitter: SplitMix64,
    /// Where the search for the next INSERT begins, so that each gets its turn.
    next_id: u64,
    /// Nothing goes before: the breaker's word.
    closed_until: Option<Instant>,
}

impl Dispatcher {
    pub fn new(breaker: Breaker, backoff: Backoff, seed: u64) -> Dispatcher {
        Dispatcher {
            shipments: BTreeMap::new(),
            breaker,
            backoff,
            witness: Witness::default(),
            jitter: SplitMix64::new(seed),
            next_id: 0,
            closed_until: None,
        }
    }

    /// `refusals` of the same rows when they were taken back; none of new ones.
    pub fn add(&mut self, id: u64, delivery: Delivery, refusals: Refusals) {
        let shipment = Shipment { delivery, state: State::Ready, outages: 0, refusals };
        let known = self.shipments.insert(id, shipment);
        assert!(known.is_none(), "delivery {id} is on its way already");
    }

    /// Takes a delivery back whatever has become of it. An INSERT of it that is under way counts as
    /// failed.
    pub fn remove(&mut self, id: u64, now: Instant) {
        let shipment = self.shipments.remove(&id);
        if shipment.is_some_and(|shipment| matches!(shipment.state, State::Sent(_))) {
            self.breaker.on_failure(now);
        }
    }

    /// After [`Progress::Refused`]: makes way for others until the rest is over.
    pub fn take_back(&mut self, id: u64) -> TakenBack {
        let shipment = self.shipments.remove(&id).expect("it was refused just now");
        let State::RestsUntil(until) = shipment.state else {
            unreachable!("what was refused whole rests");
        };
        let blocks = shipment.delivery.into_blocks();
        TakenBack { blocks, refusals: shipment.refusals, until }
    }

    /// Of the rows of this delivery.
    pub fn bytes_of(&self, id: u64) -> usize {
        self.shipments.get(&id).map_or(0, |shipment| shipment.delivery.bytes())
    }

    /// What was taken, and when.
    pub fn witness(&self) -> &Witness {
        &self.witness
    }

    pub fn len(&self) -> usize {
        self.shipments.len()
    }

    pub fn is_empty(&self) -> bool {
        self.shipments.is_empty()
    }

    /// INSERTs under way.
    pub fn in_flight(&self) -> usize {
        let sent = |shipment: &&Shipment| matches!(shipment.state, State::Sent(_));
        self.shipments.values().filter(sent).count()
    }

    /// Whether nothing is under way, nor may anything go yet.
    pub fn rests(&self, now: Instant) -> bool {
        let closed = self.closed_until.is_some_and(|until| now < until);
        self.shipments.values().all(|shipment| match shipment.state {
            State::Sent(_) => false,
            State::Ready => closed,
            State::RestsUntil(until) => closed || now < until,
        })
    }

    /// Whether only somebody's hand can help, or another's success: all that is here was refused, and
    /// rests. That ClickHouse has been away since changes nothing.
    pub fn is_stuck(&self, now: Instant) -> bool {
        self.shipments.values().all(|shipment| {
            let Shipment { state, refusals, .. } = shipment;
            let rests = matches!(state, State::RestsUntil(until) if now < *until);
            rests && refusals.times > 0 && !refusals.have_witness(&self.witness)
        })
    }

    pub fn breaker_state(&self) -> BreakerState {
        self.breaker.state()
    }

    /// The same rests for something else of the caller's.
    pub fn pause(&mut self, pace: Pace, attempts: u32) -> Duration {
        self.backoff.delay(pace, attempts, self.jitter.unit())
    }

    /// The next INSERT to send, if one may go now. Its outcome must be told.
    pub fn next_insert(&mut self, now: Instant) -> Option<Insert> {
        let mut order =
            self.shipments.range(self.next_id..).chain(self.shipments.range(..self.next_id));
        let (&id, _) = order.find(|(_, shipment)| shipment.is_due(now))?;
        self.closed_until = match self.breaker.admit(now) {
            Admission::Go => None,
            Admission::Wait(wait) => Some(now + wait),
        };
        if self.closed_until.is_some() {
            return None;
        }
        self.next_id = id + 1;
        let shipment = self.shipments.get_mut(&id).expect("found just above");
        shipment.state = State::Sent(self.witness.begin());
        let delivery = &shipment.delivery;
        let (payloads, rows) = (delivery.payloads(), delivery.row_count());
        Some(Insert { id, payloads, rows, token: delivery.token() })
    }

    /// When [`Self::next_insert`] may give one without anything happening; `None` for never.
    pub fn due(&self) -> Option<Instant> {
        let soonest = self.shipments.values().filter_map(|shipment| match shipment.state {
            State::Sent(_) => None,
            State::Ready => self.closed_until,
            State::RestsUntil(until) => Some(self.closed_until.map_or(until, |at| at.max(until))),
        });
        soonest.min()
    }

    /// The INSERT of this delivery ended; the outcome of one that was taken back is of no interest
    /// any more.
    pub fn on_outcome(
        &mut self,
        id: u64,
        outcome: &Result<(), Failure>,
        now: Instant,
    ) -> Option<Progress> {
        let shipment = self.shipments.get_mut(&id)?;
        let State::Sent(number) = shipment.state else { return None };
        shipment.state = State::Ready;
        self.closed_until = None;
        let progress = match outcome {
            Ok(()) => {
                self.breaker.on_answer();
                self.witness.on_taken(number);
                (shipment.outages, shipment.refusals.times) = (0, 0);
                match shipment.delivery.on_taken() {
                    Step::Finished => Progress::Finished(Vec::new()),
                    Step::Send | Step::Stalled => Progress::Goes,
                }
            }
            Err(failure) if failure.is_outage() => {
                self.breaker.on_failure(now);
                if is_planted(Planted::BreakerForgetsBlock)
                    && self.breaker.state() == BreakerState::Open
                {
                    self.shipments.remove(&id);
                    return Some(Progress::Finished(Vec::new()));
                }
                shipment.outages += 1;
                Progress::Outage { times: shipment.outages }
            }
            Err(failure) => {
                self.breaker.on_answer();
                shipment.on_refusal(failure, &self.witness)
            }
        };
        let rest = match progress {
            Progress::Outage { times }
            | Progress::NeedsHand { times }
            | Progress::Refused { times } => Some(times),
            Progress::Goes | Progress::Finished(_) => None,
        };
        if let (Some(times), Err(failure)) = (rest, outcome) {
            let rest = self.backoff.delay(failure.pace, times, self.jitter.unit());
            shipment.state = State::RestsUntil(now + rest);
        }
        if let Progress::Finished(_) = progress {
            let shipment = self.shipments.remove(&id).expect("it is the one that was asked about");
            return Some(Progress::Finished(shipment.delivery.into_dead_rows()));
        }
        Some(progress)
    }
}

impl Shipment {
    fn is_due(&self, now: Instant) -> bool {
        match self.state {
            State::Ready => true,
            State::Sent(_) => false,
            State::RestsUntil(until) => now >= until,
        }
    }

    fn on_refusal(&mut self, failure: &Failure, witness: &Witness) -> Progress {
        self.outages = 0;
        if failure.kind != InsertFailure::Refused {
            self.refusals.times += 1;
            return Progress::NeedsHand { times: self.refusals.times };
        }
        let moment = *self.refusals.moment.get_or_insert_with(|| witness.moment());
        match self.delivery.on_refused(failure, witness.since(moment)) {
            Step::Send => Progress::Goes,
            Step::Finished => Progress::Finished(Vec::new()),
            Step::Stalled => {
                self.refusals.times += 1;
                Progress::Refused { times: self.refusals.times }
            }
        }
    }
}

#[cfg(test)]
#[path = "dispatcher_tests.rs"]
mod tests;
