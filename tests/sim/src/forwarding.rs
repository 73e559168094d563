//! Blocks from the journals into ClickHouse, the direct way.

use crate::clock::us_of;
use crate::faults::Fault;
use crate::table::timed_out;
use crate::world::{Event, World};
use bytes::Bytes;
use engine::admin::Health;
use engine::journal::{Feed, FeedError};
use proto::Block;
use proto::backoff::Backoff;
use proto::breaker::Breaker;
use proto::insert::{Delivery, Dispatcher, Failure, Progress};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub struct Forwarding {
    feeds: Vec<Feed>,
    dispatcher: Dispatcher,
    next_id: u64,
    shipped: BTreeMap<u64, (usize, u64)>,
    done: Vec<BTreeMap<u64, bool>>,
}

impl Forwarding {
    pub fn new(world: &mut World, feeds: Vec<Feed>, _health: Arc<Health>) -> Forwarding {
        let backoff = Backoff { min: Duration::from_millis(5), max: Duration::from_secs(2) };
        let breaker = Breaker::new(5, Duration::from_millis(200));
        let dispatcher = Dispatcher::new(breaker, backoff, world.random.next_u64());
        let done = feeds.iter().map(|_| BTreeMap::new()).collect();
        Forwarding { feeds, dispatcher, next_id: 1, shipped: BTreeMap::new(), done }
    }

    pub fn is_idle(&self) -> bool {
        self.dispatcher.is_empty() && self.feeds.iter().all(Feed::is_drained)
    }
}

impl World {
    pub fn turn_forwarding(&mut self) {
        let now = self.now();
        let Some(engine) = &mut self.engine else { return };
        let forwarding = &mut engine.forwarding;
        for shard in 0..forwarding.feeds.len() {
            while forwarding.dispatcher.len() < 4 {
                let block = match forwarding.feeds[shard].next_block() {
                    Ok(Some(block)) => block,
                    Ok(None) | Err(FeedError::Io { .. }) => break,
                    Err(error) => panic!("{error}"),
                };
                self.oracle.on_block(shard, &block.header, block.payload());
                let id = forwarding.next_id;
                forwarding.next_id += 1;
                let payload = Bytes::copy_from_slice(block.payload());
                let delivery = Delivery::new(vec![Block { header: block.header, payload }]);
                forwarding.dispatcher.add(id, delivery, None);
                forwarding.shipped.insert(id, (shard, block.header.id.sequence));
                forwarding.done[shard].insert(block.header.id.sequence, false);
            }
        }
        while let Some(engine) = &mut self.engine
            && let Some(insert) = engine.forwarding.dispatcher.next_insert(now)
        {
            self.note("insert", insert.id, insert.rows as u64);
            let unknown = self.strikes(Fault::InsertUnknown);
            let delay = if unknown { self.between(200, 500_000) } else { self.between(100, 3_000) };
            let at = self.now_us + delay;
            let what = Arc::new((insert.payloads, insert.rows, insert.token));
            self.at(at, Event::InsertArrives(self.incarnation, insert.id, what, unknown));
            if unknown {
                let at = self.now_us + self.between(1_000, 300_000);
                let answer = Event::InsertAnswered(self.incarnation, insert.id, Err(timed_out()));
                self.at(at, answer);
            }
        }
        if let Some(due) = self.engine.as_ref().and_then(|e| e.forwarding.dispatcher.due()) {
            self.turn_forwarding_at(us_of(due).max(self.now_us + 1));
        }
    }

    pub fn on_insert_arrives(
        &mut self,
        incarnation: u64,
        id: u64,
        insert: &(Vec<Bytes>, usize, String),
        loses_answer: bool,
    ) {
        let outcome = self.table.insert(&insert.0, insert.1, &insert.2);
        self.note("inserted", id, u64::from(outcome.is_ok()));
        if !loses_answer {
            let at = self.now_us + self.between(50, 1_000);
            self.at(at, Event::InsertAnswered(incarnation, id, outcome));
        }
    }

    pub fn on_insert_answered(&mut self, id: u64, outcome: Result<(), Failure>) {
        let now = self.now();
        let Some(engine) = &mut self.engine else { return };
        let forwarding = &mut engine.forwarding;
        if let Some(Progress::Finished(dead)) = forwarding.dispatcher.on_outcome(id, &outcome, now)
        {
            let (shard, sequence) = forwarding.shipped.remove(&id).expect("it was shipped");
            for row in dead {
                for row in proto::row::Rows::new(&row.bytes) {
                    let number = crate::batch::number_of(&row.expect("rows")).expect("ours");
                    self.oracle.dead.insert(number);
                }
            }
            forwarding.done[shard].insert(sequence, true);
            let mut mark = None;
            while let Some(first) = forwarding.done[shard].first_entry()
                && *first.get()
            {
                mark = Some(first.remove_entry().0);
            }
            if let Some(mark) = mark {
                let _ = forwarding.feeds[shard].mark_forwarded(mark);
            }
        }
        self.turn_forwarding();
    }
}
