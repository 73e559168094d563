//! What works and what does not, as set by those who know and read by `/readyz`.
//!
//! Each component is set by one thread and changes rarely; setting a level that already stands costs
//! one load.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The key snapshot.
    Keys,
    /// Whether ClickHouse can be reached.
    Clickhouse,
    /// Whether ClickHouse takes what the forwarder sends.
    Forwarder,
    /// Whether Kafka takes blocks, and whether its topic is as it should be.
    Kafka,
    /// What recovery found: acknowledged data that cannot be read.
    Recovery,
    /// The process itself: down from the start of its stop.
    Server,
    /// One shard, its journal included.
    Shard(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    Ok = 0,
    /// Something is wrong that no client sees.
    Degraded = 1,
    /// A valid batch would not get a 200 here, for now.
    Down = 2,
    /// Down for good: only a restart helps. A failed shard has closed its listener, so that the
    /// others get its clients.
    Failed = 3,
}

#[derive(Debug)]
struct Cell {
    level: AtomicU8,
    /// Set before the level, read after it.
    reason: Mutex<String>,
}

impl Cell {
    fn new(level: Level, reason: &str) -> Cell {
        Cell { level: AtomicU8::new(level as u8), reason: Mutex::new(reason.to_owned()) }
    }

    fn level(&self) -> Level {
        match self.level.load(Ordering::Acquire) {
            0 => Level::Ok,
            1 => Level::Degraded,
            2 => Level::Down,
            _ => Level::Failed,
        }
    }

    fn reason(&self) -> String {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, level: Level, reason: &str) {
        if self.level() == level && level == Level::Ok {
            return;
        }
        let mut stored = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if *stored != reason {
            reason.clone_into(&mut stored);
        }
        self.level.store(level as u8, Ordering::Release);
    }
}

/// Shared by everyone who has something to report.
#[derive(Debug)]
pub struct Health {
    keys: Cell,
    clickhouse: Cell,
    forwarder: Cell,
    kafka: Cell,
    recovery: Cell,
    server: Cell,
    shards: Vec<Cell>,
}

/// One component that is not well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ailment {
    pub component: Component,
    pub level: Level,
    pub reason: String,
}

/// All of it at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    /// A valid batch would get a 200.
    pub ready: bool,
    pub ailments: Vec<Ailment>,
}

impl Health {
    /// Nothing is known to work yet: keys and shards are down until they report.
    pub fn new(shards: usize) -> Arc<Health> {
        let recovering = || Cell::new(Level::Down, "the journal is being recovered");
        Arc::new(Health {
            keys: Cell::new(Level::Down, "the key snapshot was not read yet"),
            clickhouse: Cell::new(Level::Degraded, "not asked yet"),
            forwarder: Cell::new(Level::Ok, ""),
            kafka: Cell::new(Level::Ok, ""),
            recovery: Cell::new(Level::Ok, ""),
            server: Cell::new(Level::Ok, ""),
            shards: (0..shards).map(|_| recovering()).collect(),
        })
    }

    fn cell(&self, component: Component) -> &Cell {
        match component {
            Component::Keys => &self.keys,
            Component::Clickhouse => &self.clickhouse,
            Component::Forwarder => &self.forwarder,
            Component::Kafka => &self.kafka,
            Component::Recovery => &self.recovery,
            Component::Server => &self.server,
            Component::Shard(index) => &self.shards[index],
        }
    }

    /// `reason` is for people; it is shown on `/readyz` and must hold no secret.
    pub fn set(&self, component: Component, level: Level, reason: &str) {
        self.cell(component).set(level, reason);
    }

    pub fn level(&self, component: Component) -> Level {
        self.cell(component).level()
    }

    pub fn shard_levels(&self) -> impl Iterator<Item = Level> + '_ {
        self.shards.iter().map(Cell::level)
    }

    pub fn report(&self) -> HealthReport {
        use Component::{Clickhouse, Forwarder, Kafka, Keys, Recovery, Server};
        let named = [Server, Recovery, Keys, Kafka, Clickhouse, Forwarder];
        let shards = (0..self.shards.len()).map(Component::Shard);
        let mut ailments = Vec::new();
        for component in named.into_iter().chain(shards) {
            let cell = self.cell(component);
            let level = cell.level();
            if level != Level::Ok {
                ailments.push(Ailment { component, level, reason: cell.reason() });
            }
        }
        let stands_in_the_way = |ailment: &Ailment| match ailment.component {
            // A shard that is out has no listener; one that is down may still be handed a batch.
            Component::Shard(_) => ailment.level == Level::Down,
            _ => ailment.level >= Level::Down,
        };
        let serving = self.shard_levels().any(|level| level < Level::Down);
        let ready = serving && !ailments.iter().any(stands_in_the_way);
        HealthReport { ready, ailments }
    }
}

impl std::fmt::Display for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Component::Keys => f.write_str("keys"),
            Component::Clickhouse => f.write_str("clickhouse"),
            Component::Forwarder => f.write_str("forwarder"),
            Component::Kafka => f.write_str("kafka"),
            Component::Recovery => f.write_str("recovery"),
            Component::Server => f.write_str("server"),
            Component::Shard(index) => write!(f, "shard-{index}"),
        }
    }
}

impl Level {
    pub const fn as_str(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Degraded => "degraded",
            Level::Down => "down",
            Level::Failed => "failed",
        }
    }
}
