//! Kafka: one topic whose records stay, the group's offsets, and who reads which partition.
//!
//! A simple coordinator: partitions are spread over the members that are there; one that must move is
//! revoked and moves when it is given back, or when its owner's session has ended. A commit by who
//! does not own the partition any more is refused, as a stale generation's is.

use crate::faults::Fault;
use crate::world::World;
use bytes::Bytes;
use std::collections::BTreeMap;

pub const PARTITIONS: i32 = 3;

#[derive(Debug, Default)]
pub struct Kafka {
    pub is_down: bool,
    pub partitions: BTreeMap<i32, Vec<Bytes>>,
    pub committed: BTreeMap<i32, i64>,
    /// What lies below was there once.
    low: BTreeMap<i32, i64>,
    /// Member of each partition.
    pub owners: BTreeMap<i32, u64>,
}

impl Kafka {
    pub fn new() -> Kafka {
        let partitions = (0..PARTITIONS).map(|partition| (partition, Vec::new())).collect();
        Kafka { partitions, ..Kafka::default() }
    }

    pub fn committed(&self, partition: i32) -> i64 {
        self.committed.get(&partition).copied().unwrap_or(0)
    }

    /// Forgets what every reader is done with.
    pub fn forget_consumed(&mut self) {
        self.low = self.committed.clone();
    }

    /// The record at an offset; nothing at or behind the end.
    pub fn record(&self, partition: i32, offset: i64) -> Option<Bytes> {
        let low = self.low.get(&partition).copied().unwrap_or(0);
        assert!(
            offset >= low,
            "offset {offset} of partition {partition} is read, {low} is committed"
        );
        self.partitions[&partition].get(offset as usize).cloned()
    }

    pub fn is_consumed(&self) -> bool {
        self.partitions
            .iter()
            .all(|(partition, records)| self.committed(*partition) == records.len() as i64)
    }

    /// False: the partition is another's now.
    pub fn commit(&mut self, member: u64, partition: i32, offset: i64) -> bool {
        if self.owners.get(&partition) != Some(&member) {
            return false;
        }
        let end = self.partitions[&partition].len() as i64;
        assert!((0..=end).contains(&offset), "offset {offset} of partition {partition} is beyond");
        self.committed.insert(partition, offset);
        true
    }
}

impl World {
    pub fn append_record(&mut self, bytes: Bytes) {
        let partition = self.random.below(PARTITIONS as u64) as i32;
        let Some(kafka) = &mut self.kafka else { return };
        let records = kafka.partitions.get_mut(&partition).expect("all partitions are there");
        records.push(bytes);
        // Whoever reads it fetches again.
        if let Some(owner) = kafka.owners.get(&partition).copied() {
            self.wake_consumer_soon(owner);
        }
    }

    /// A record whose producer has given it up.
    pub fn on_record_strays(&mut self, bytes: Bytes) {
        if self.kafka.as_ref().is_some_and(|kafka| !kafka.is_down) || self.calm {
            self.note("stray record", bytes.len() as u64, 0);
            self.append_record(bytes);
        }
    }

    /// Who should read what, by who is there; what is free is given out at once, what must move is
    /// asked back.
    pub fn rebalance(&mut self) {
        let members: Vec<u64> = self.consumers.keys().copied().collect();
        let Some(kafka) = &self.kafka else { return };
        if members.is_empty() || kafka.is_down {
            return;
        }
        let owners = kafka.owners.clone();
        for partition in 0..PARTITIONS {
            let target = members[partition as usize % members.len()];
            match owners.get(&partition) {
                Some(owner) if *owner == target => {}
                Some(owner) if self.consumers.contains_key(owner) => {
                    self.ask_back(*owner, partition);
                }
                // Its owner is dead and its session has not ended yet.
                Some(_) => {}
                None => self.give_partition(target, partition),
            }
        }
    }

    /// The session of a dead member has ended.
    pub fn on_session_ends(&mut self, member: u64) {
        if let Some(kafka) = &mut self.kafka {
            kafka.owners.retain(|_, owner| *owner != member);
        }
        self.rebalance();
    }

    /// A live member is taken for dead: its partitions go to others before it knows.
    pub fn fence_somebody(&mut self) {
        if !self.strikes(Fault::ConsumerFenced) {
            return;
        }
        let members: Vec<u64> = self.consumers.keys().copied().collect();
        if members.is_empty() {
            return;
        }
        let member = members[self.random.below(members.len() as u64) as usize];
        self.fence(member);
    }
}
