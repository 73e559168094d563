//! What the group gives and takes: assignments, revocations, lost partitions, and positions that the
//! broker does not have.

use super::{Member, RESOLVE_PAUSE, Run};
use crate::assignment::{self, PositionError};
use crate::health::Component;
use crate::kafka::{self, GroupEvent};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use std::time::Instant;

impl Run {
    /// The topic that these partitions belonged to is gone, or was made again. What is under way must
    /// not be committed: in a topic of the same name it would skip records.
    pub(super) fn rejoin(&mut self) {
        if !self.worker.lose_all(Instant::now()) {
            return;
        }
        // What is under way ends before new partitions come.
        self.act();
        self.member.reader.unsubscribe();
        if let Err(error) = self.member.reader.subscribe(&[&self.member.topic]) {
            tracing::error!(%error, "cannot subscribe again");
        }
    }

    pub(super) fn on_group_event(&mut self, event: GroupEvent) {
        match event {
            GroupEvent::Assigned(partitions) => {
                tracing::info!(?partitions, "assigned");
                self.member.metrics.rebalances.inc();
                self.unresolved = Some((partitions, Instant::now()));
            }
            GroupEvent::Revoked { partitions, lost } => {
                tracing::info!(?partitions, lost, "revoked");
                self.member.metrics.rebalances.inc();
                self.unresolved = None;
                let now = Instant::now();
                if lost {
                    self.worker.lose(now, partitions);
                } else {
                    self.worker.revoke(now, partitions);
                }
                // Before anything that may block: what is lost must not be committed meanwhile.
                self.act();
            }
        }
    }

    /// Finds out where to read newly assigned partitions from.
    pub(super) fn resolve(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let Some((partitions, _)) = self.unresolved.take_if(|(_, at)| *at <= now) else {
            return Ok(());
        };
        let Member { reader, topic, accept_gap, health, .. } = &self.member;
        let resolved = assignment::resolve(reader, topic, &partitions, *accept_gap);
        let assigned = resolved.and_then(|starts| {
            assignment::assign(reader, topic, &starts)?;
            Ok(starts)
        });
        match assigned {
            Ok(starts) => {
                health.set_up(Component::Kafka);
                for (partition, offset) in starts {
                    self.worker.assign(now, partition, offset);
                }
                Ok(())
            }
            Err(PositionError::Kafka(error)) => {
                if health.set_down(Component::Kafka, &error.to_string()) {
                    tracing::warn!(%error, "positions cannot be read yet");
                }
                self.unresolved = Some((partitions, now + RESOLVE_PAUSE));
                Ok(())
            }
            Err(lost) => Err(lost.into()),
        }
    }

    pub(super) fn check_out_of_range(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        if self.out_of_range.take_if(|at| *at <= now).is_none() {
            return Ok(());
        }
        let reading: Vec<(i32, i64)> =
            self.worker.positions().map(|(partition, next, _)| (partition, next)).collect();
        let Member { reader, topic, accept_gap, .. } = &self.member;
        match assignment::check_out_of_range(reader, topic, &reading, *accept_gap) {
            // All positions anew: where one partition's records are of another time, all are.
            Ok(()) => self.rejoin(),
            Err(PositionError::Kafka(error)) => {
                tracing::warn!(%error, "positions cannot be read; tried again");
                self.out_of_range = Some(now + RESOLVE_PAUSE);
            }
            Err(lost) => return Err(lost.into()),
        }
        Ok(())
    }

    /// Answers a revocation.
    pub(super) fn give_back(&self, partitions: &[i32]) {
        let Member { reader, topic, .. } = &self.member;
        if let Err(error) = reader.incremental_unassign(&kafka::names(topic, partitions)) {
            tracing::warn!(%error, "cannot give partitions back by name");
            // Unanswered, the group would wait for this member for ever.
            let none = TopicPartitionList::new();
            let answered = reader.incremental_unassign(&none).or_else(|_| reader.unassign());
            if let Err(error) = answered {
                tracing::error!(%error, "cannot answer the group");
            }
        }
    }

    /// On the way out: an assignment whose positions are not known is answered with nothing, as the
    /// group cannot be left before it is answered. (To a group that moves partitions one by one,
    /// librdkafka takes a plain unassign only after that.)
    pub(super) fn decline(&mut self) {
        if self.unresolved.take().is_none() {
            return;
        }
        let Member { reader, .. } = &self.member;
        let none = TopicPartitionList::new();
        if let Err(error) = reader.incremental_assign(&none).or_else(|_| reader.unassign()) {
            tracing::warn!(%error, "cannot answer the assignment");
        }
    }
}
