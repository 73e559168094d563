//! The engine's lanes to Kafka, and librdkafka as far as they see it: a queue whose records arrive
//! late, twice, or nobody knows whether.

use crate::clock::us_of;
use crate::faults::Fault;
use crate::forwarding::lock;
use crate::world::{Event, World};
use bytes::Bytes;
use engine::admin::Health;
use engine::forward::kafka::{
    Bell, Complaint, Failure, KafkaStatus, Lane, LaneLimits, LaneParts, RecordSink, Refusal,
    Report, Reports, SendFailure, Sign, Slot, Tag, Waiter, handover,
};
use engine::forward::{BlockSource, FrameSource};
use engine::metrics::KafkaCounters;
use engine::shard::DeliveryWatch;
use proto::BlockHeader;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a broker takes as one record, in the runs in which some are too large.
const RECORD_BYTES_MAX: usize = 200 * 1024;
/// Less than librdkafka's queue takes here in records: the lane itself must keep to it.
const QUEUE_BYTES_MAX: usize = 3 << 19;

pub struct Lanes {
    lane: Lane,
    outbox: Arc<Mutex<Outbox>>,
    status: Arc<KafkaStatus>,
    /// Shards that the lane has woken.
    woken: Arc<Mutex<Vec<usize>>>,
    pub watches: Vec<Arc<DeliveryWatch>>,
    idle: bool,
}

/// What librdkafka holds for one lane.
#[derive(Default)]
struct Outbox {
    reports: Option<Reports>,
    /// Taken, not yet on the wire.
    queued: Vec<(Tag, Bytes)>,
    /// On the wire, by number.
    sent: BTreeMap<u64, (Tag, Bytes)>,
    purge: bool,
    fatal: Option<String>,
    next: u64,
}

impl Outbox {
    fn bytes(&self) -> usize {
        let records = self.queued.iter().chain(self.sent.values());
        records.map(|(_, bytes)| bytes.len()).sum()
    }
}

struct Sink(Arc<Mutex<Outbox>>);

impl RecordSink for Sink {
    fn send(&self, _header: &BlockHeader, block: &Bytes, tag: Tag) -> Result<(), Refusal> {
        let mut outbox = lock(&self.0);
        if outbox.queued.len() + outbox.sent.len() >= 16 {
            return Err(Refusal::Full);
        }
        // librdkafka copies: the journal's memory goes back to the shard.
        outbox.queued.push((tag, Bytes::copy_from_slice(block)));
        Ok(())
    }

    fn purge(&self) {
        lock(&self.0).purge = true;
    }

    fn fatal_error(&self) -> Option<String> {
        lock(&self.0).fatal.clone()
    }
}

fn failed(kind: SendFailure, sign: Sign) -> Failure {
    Failure { kind, sign, text: format!("{kind:?}") }
}

impl Lanes {
    /// One lane for all journals, and what it hands to the direct forwarder.
    pub fn new(
        world: &mut World,
        sources: Vec<Box<dyn FrameSource>>,
        health: &Arc<Health>,
    ) -> (Lanes, Vec<Box<dyn BlockSource>>) {
        let status = KafkaStatus::new(Arc::clone(health), 1);
        status.set_topic(String::new());
        let outbox = Arc::<Mutex<Outbox>>::default();
        let woken = Arc::<Mutex<Vec<usize>>>::default();
        let bell = Arc::<Bell>::default();
        let (mut slots, mut direct, mut watches) = (Vec::new(), Vec::new(), Vec::new());
        for (shard, frames) in sources.into_iter().enumerate() {
            let (to_forwarder, handed) = handover(&bell);
            let watch = Arc::<DeliveryWatch>::default();
            watches.push(Arc::clone(&watch));
            let woken = Arc::clone(&woken);
            let wake = Box::new(move || lock(&woken).push(shard));
            slots.push(Slot::new(frames, to_forwarder, Some(Waiter { watch, wake })));
            direct.push(Box::new(handed) as Box<dyn BlockSource>);
        }
        let made = Arc::clone(&outbox);
        let make_sink = Box::new(move |reports: Reports, _linger: Duration| {
            let mut outbox = lock(&made);
            // What an earlier sink held is never reported.
            let next = outbox.next;
            *outbox = Outbox { reports: Some(reports), next, ..Outbox::default() };
            Ok(Box::new(Sink(Arc::clone(&made))) as Box<dyn RecordSink>)
        });
        let limits = LaneLimits {
            queue_bytes_max: QUEUE_BYTES_MAX,
            linger: Duration::from_millis(5),
            breaker_failures: 5,
            open_for: Duration::from_millis(100),
            stall: Duration::from_millis(300),
            direct_after: Duration::from_millis(world.build.direct_after_ms),
            topic: "events".to_owned(),
        };
        let lane = Lane::new(LaneParts {
            index: 0,
            limits,
            slots,
            status: Arc::clone(&status),
            counters: Arc::<KafkaCounters>::default(),
            make_sink,
            complaint: Arc::<Complaint>::default(),
        });
        (Lanes { lane, outbox, status, woken, watches, idle: false }, direct)
    }

    pub fn is_idle(&self) -> bool {
        self.idle
    }
}

impl World {
    pub fn turn_lanes(&mut self) {
        for _ in 0..10_000 {
            let now = self.now();
            let answers = self.kafka.as_ref().is_some_and(|kafka| !kafka.is_down);
            let Some(lanes) = self.lanes() else { return };
            if answers {
                lanes.status.on_answer();
                // The topic is looked at only now; until then no 200 waits for it.
                lanes.status.allow_acks(true);
            }
            let turn = lanes.lane.turn(now);
            lanes.idle = turn.idle;
            let queued = lock(&lanes.outbox).bytes();
            assert!(queued <= QUEUE_BYTES_MAX, "{queued} bytes are with librdkafka");
            self.carry_records();
            self.wake_shards();
            if !turn.more {
                assert!(turn.rest_until > now, "a deadline is over, and nothing was done about it");
                self.turn_forwarding_at(us_of(turn.rest_until));
                return;
            }
        }
        panic!("the lane turns for ever");
    }

    fn lanes(&mut self) -> Option<&mut Lanes> {
        self.engine.as_mut()?.forwarding.lanes.as_mut()
    }

    fn wake_shards(&mut self) {
        let Some(lanes) = self.lanes() else { return };
        let woken = std::mem::take(&mut *lock(&lanes.woken));
        for shard in woken {
            self.at(self.now_us, Event::ShardWoken(self.incarnation, shard));
        }
    }

    /// Records go onto the wire, or come back where they were taken back.
    fn carry_records(&mut self) {
        let Some(lanes) = self.lanes() else { return };
        let shared = Arc::clone(&lanes.outbox);
        let mut outbox = lock(&shared);
        if std::mem::take(&mut outbox.purge) {
            let queued = std::mem::take(&mut outbox.queued);
            let sent = std::mem::take(&mut outbox.sent);
            let back = queued.into_iter().map(|(tag, _)| (tag, SendFailure::Retry));
            // On the wire they may arrive all the same.
            let mut all: Vec<(Tag, SendFailure)> = back.collect();
            for (tag, bytes) in sent.into_values() {
                all.push((tag, SendFailure::Unknown));
                if self.random.below(2) == 0 {
                    let at = self.now_us + self.between(100, 100_000);
                    self.at(at, Event::RecordStrays(bytes));
                }
            }
            for (tag, kind) in all {
                report(&outbox, tag, Err(failed(kind, Sign::Nothing)));
            }
        }
        for (tag, bytes) in std::mem::take(&mut outbox.queued) {
            let number = outbox.next;
            outbox.next += 1;
            self.note("produce", number, tag.sequence);
            outbox.sent.insert(number, (tag, bytes));
            let slow = self.strikes(Fault::KafkaSlow);
            let delay = if slow { self.between(10_000, 800_000) } else { self.between(100, 2_000) };
            let at = self.now_us + delay;
            self.at(at, Event::RecordArrives(self.incarnation, number));
        }
    }

    /// A record reaches its broker.
    pub fn on_record_arrives(&mut self, number: u64) {
        let Some(lanes) = self.lanes() else { return };
        let shared = Arc::clone(&lanes.outbox);
        let mut outbox = lock(&shared);
        let Some((tag, bytes)) = outbox.sent.get(&number).cloned() else { return };
        if self.kafka.as_ref().is_none_or(|kafka| kafka.is_down) {
            // librdkafka goes on trying by itself.
            let at = self.now_us + self.between(5_000, 60_000);
            return self.at(at, Event::RecordArrives(self.incarnation, number));
        }
        let too_large = self.faults.is_on(Fault::RecordTooLarge) && bytes.len() > RECORD_BYTES_MAX;
        let outcome = if too_large {
            Err(failed(SendFailure::Reject, Sign::Alive))
        } else if self.strikes(Fault::ProduceFails) {
            Err(failed(SendFailure::Retry, Sign::Failing))
        } else if self.strikes(Fault::ProducerFatal) {
            outbox.fatal = Some("fenced".to_owned());
            Err(failed(SendFailure::Fatal, Sign::Failing))
        } else {
            let unknown = self.strikes(Fault::ProduceUnknown);
            let copies = 1 + u64::from(self.strikes(Fault::ProduceTwice));
            for _ in 0..copies {
                self.append_record(bytes.clone());
            }
            if unknown { Err(failed(SendFailure::Unknown, Sign::Failing)) } else { Ok(()) }
        };
        outbox.sent.remove(&number);
        self.note("produced", number, u64::from(outcome.is_ok()));
        report(&outbox, tag, outcome);
        drop(outbox);
        let at = self.now_us + self.between(50, 1_000);
        self.turn_forwarding_at(at);
    }

    /// The engine's process is gone; what was on the wire may arrive.
    pub fn lose_records(&mut self, lanes: &Lanes) {
        let sent = std::mem::take(&mut lock(&lanes.outbox).sent);
        for (_, bytes) in sent.into_values() {
            if self.random.below(2) == 0 {
                let at = self.now_us + self.between(100, 100_000);
                self.at(at, Event::RecordStrays(bytes));
            }
        }
    }
}

fn report(outbox: &Outbox, tag: Tag, outcome: Result<(), Failure>) {
    if let Some(reports) = &outbox.reports {
        // A lane that is gone needs no reports.
        let _ = reports.send(Report { tag, outcome });
    }
}
