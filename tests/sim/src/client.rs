//! SDKs: they send batches, several at a time on one connection, and send again what was not
//! answered with a 200.

use crate::batch::Kind;
use crate::faults::Fault;
use crate::world::{Event, World};
use std::collections::VecDeque;

/// A request without an answer for so long makes a client give up its connection.
const PATIENCE_US: u64 = 15_000_000;
const PIPELINE_MAX: usize = 4;

/// Why a client looks up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    Answered,
    Rested,
}

#[derive(Debug, Default)]
pub struct Client {
    pub link: Option<u64>,
    /// Batches to send again.
    again: VecDeque<usize>,
    /// One wake is on its way.
    awake: bool,
}

impl World {
    pub fn wake_client(&mut self, client: usize, why: Patience) {
        if std::mem::replace(&mut self.clients[client].awake, true) {
            return;
        }
        let rest = match why {
            Patience::Answered => self.between(10, 3_000),
            Patience::Rested => self.between(1_000, 60_000),
        };
        let at = self.now_us + rest;
        self.at(at, Event::Client(client));
    }

    pub fn client_lost(&mut self, client: usize, link: u64) {
        if self.clients[client].link == Some(link) {
            self.clients[client].link = None;
        }
        self.wake_client(client, Patience::Rested);
    }

    /// What became of one attempt; no status where the connection ended before the answer.
    pub fn resolve(&mut self, client: usize, batch: usize, status: Option<u16>) {
        let clock_jumped = self.clock_jumped;
        let known = &mut self.oracle.batches[batch];
        known.under_way -= 1;
        let again = match status {
            Some(200) => {
                assert_ne!(known.kind, Kind::Invalid, "an invalid batch was taken: {known:?}");
                known.acknowledged = true;
                self.stats.acknowledged += known.count;
                false
            }
            // Judged and refused, or never looked at: nothing of it is stored.
            Some(400..=499) => {
                let fine = known.kind == Kind::Invalid || clock_jumped || status != Some(400);
                assert!(fine, "a valid batch was refused with {status:?}: {known:?}");
                status != Some(400)
            }
            Some(_) | None => {
                known.open = true;
                true
            }
        };
        let gives_up = self.random.below(5) == 0;
        if again && !gives_up && !self.calm {
            self.clients[client].again.push_back(batch);
        }
    }

    pub fn on_client(&mut self, client: usize) {
        self.clients[client].awake = false;
        if self.calm && !self.needs_witness(client) {
            return;
        }
        let link = match self.clients[client].link {
            Some(link) => link,
            None => match self.connect(client) {
                Some(link) => {
                    self.clients[client].link = Some(link);
                    link
                }
                None => return self.wake_client(client, Patience::Rested),
            },
        };
        if self.strikes(Fault::HalfOpen) {
            self.abandon(link);
            return self.client_lost(client, link);
        }
        let asked = |world: &World| world.links.get(&link).map_or(PIPELINE_MAX, |l| l.asked.len());
        let at_once =
            if self.calm { 1 } else { 1 + self.random.below(PIPELINE_MAX as u64) as usize };
        while asked(self) < at_once {
            let batch = match self.clients[client].again.pop_front() {
                Some(batch) => batch,
                None => self.new_batch(),
            };
            let chunked = self.random.below(4) == 0;
            let request = self.oracle.batches[batch].request(chunked);
            self.oracle.batches[batch].under_way += 1;
            self.links.get_mut(&link).expect("asked about just above").asked.push_back(batch);
            self.note("ask", link, batch as u64);
            self.send(link, &request);
            let at = self.now_us + PATIENCE_US;
            self.at(at, Event::ClientGivesUp(link, batch));
        }
    }

    /// Rows that ClickHouse refuses are put aside once something else is taken: in the calm one
    /// client goes on, slowly, as clients do.
    fn needs_witness(&mut self, client: usize) -> bool {
        let needed = client == 0 && !self.all_placed();
        let at = self.now_us + 1_000_000;
        if needed && !std::mem::replace(&mut self.clients[client].awake, true) {
            self.at(at, Event::Client(client));
        }
        needed
    }

    fn new_batch(&mut self) -> usize {
        let kind = match self.random.below(4) {
            0 if self.strikes(Fault::InvalidBatch) => Kind::Invalid,
            1 if self.strikes(Fault::PoisonRow) => Kind::Poison,
            2 if self.strikes(Fault::LongBatch) => Kind::Long,
            _ => Kind::Good,
        };
        let (count, padding) = match kind {
            Kind::Long => (self.between(20, 60), self.between(20_000, 30_000) as usize),
            _ => (self.between(1, 12), self.random.below(200) as usize),
        };
        self.stats.events += count;
        self.oracle.add(count, kind, padding)
    }

    /// The client vanishes; the server is not told.
    fn abandon(&mut self, link: u64) {
        self.note("abandon", link, 0);
        let Some(open) = self.links.get_mut(&link) else { return };
        open.abandoned = true;
    }

    pub fn on_client_gives_up(&mut self, link: u64, batch: usize) {
        let waits = self.links.get(&link).is_some_and(|link| link.asked.contains(&batch));
        if waits {
            self.reset(link);
        }
    }
}
