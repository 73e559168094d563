//! What the lanes and the topic's watcher know together: the one text on `/readyz`, whether a 200
//! may wait for Kafka, and when Kafka was last heard of.

use crate::admin::{Component, Health, Level};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub struct KafkaStatus {
    health: Arc<Health>,
    ailments: Mutex<Ailments>,
    /// The topic is what `kafka.ack` asks for.
    acks_allowed: AtomicBool,
    /// Counts Kafka's answers to the watcher.
    answers: AtomicU64,
    /// Lanes whose breaker is not closed: the watcher asks more often.
    unwell_lanes: AtomicU64,
}

#[derive(Default)]
struct Ailments {
    topic: String,
    lanes: Vec<String>,
}

impl KafkaStatus {
    pub fn new(health: Arc<Health>, lanes: usize) -> Arc<KafkaStatus> {
        let ailments =
            Ailments { topic: "not asked yet".into(), lanes: vec![String::new(); lanes] };
        let status = KafkaStatus {
            health,
            ailments: Mutex::new(ailments),
            acks_allowed: AtomicBool::new(false),
            answers: AtomicU64::new(0),
            unwell_lanes: AtomicU64::new(0),
        };
        status.change(|_| {});
        Arc::new(status)
    }

    /// An empty text: this lane is well.
    pub fn set_lane(&self, lane: usize, text: String) {
        self.change(|ailments| ailments.lanes[lane] = text);
    }

    pub fn set_topic(&self, text: String) {
        self.change(|ailments| ailments.topic = text);
    }

    fn change(&self, change: impl FnOnce(&mut Ailments)) {
        // A panic elsewhere leaves the texts whole: each change is one store.
        let mut ailments = self.ailments.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut ailments);
        let unwell = ailments.lanes.iter().filter(|text| !text.is_empty()).count();
        self.unwell_lanes.store(unwell as u64, Ordering::Relaxed);
        let Ailments { topic, lanes } = &*ailments;
        match lanes.iter().chain([topic]).find(|text| !text.is_empty()) {
            // Events are taken and kept whatever Kafka does.
            Some(text) => self.health.set(Component::Kafka, Level::Degraded, text),
            None => self.health.set(Component::Kafka, Level::Ok, ""),
        }
    }

    pub fn all_lanes_well(&self) -> bool {
        self.unwell_lanes.load(Ordering::Relaxed) == 0
    }

    pub fn allow_acks(&self, allowed: bool) {
        self.acks_allowed.store(allowed, Ordering::Release);
    }

    pub fn acks_allowed(&self) -> bool {
        self.acks_allowed.load(Ordering::Acquire)
    }

    pub fn on_answer(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Whether a block that is handed on would be inserted: ClickHouse is there and refuses nothing
    /// of what the forwarder has.
    pub fn direct_takes(&self) -> bool {
        let well = |component| self.health.level(component) == Level::Ok;
        well(Component::Clickhouse) && well(Component::Forwarder)
    }
}
