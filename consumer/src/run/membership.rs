//! What the group gives and takes: assignments, revocations, lost partitions, and positions that the
//! broker does not have.

use super::{Member, RESOLVE_PAUSE, Revocation, Run};
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
        let ours: Vec<i32> = self.desk.positions().map(|(partition, _, _)| partition).collect();
        if ours.is_empty() {
            return;
        }
        ours.into_iter().for_each(|partition| self.lose(partition));
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
                let until = Instant::now() + self.member.revoke_patience;
                for &partition in &partitions {
                    if lost {
                        self.lose(partition);
                    } else {
                        self.desk.revoke(partition, until);
                    }
                }
                let ours = |partition: &i32| self.desk.has(*partition);
                let busy = partitions.iter().copied().filter(ours).collect();
                self.revocation = Some(Revocation { all: partitions, busy });
            }
        }
    }

    fn lose(&mut self, partition: i32) {
        self.committer.forget();
        self.member.deliverer.forget(partition);
        if let Some(flight) = self.desk.lose(partition).and_then(|id| self.flights.remove(&id)) {
            flight.abort();
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
                starts.iter().for_each(|(partition, offset)| self.desk.assign(*partition, *offset));
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
            self.desk.positions().map(|(partition, next, _)| (partition, next)).collect();
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

    /// Answers a revocation once none of its partitions is busy.
    pub(super) fn give_back(&mut self) {
        let Some(revocation) = &mut self.revocation else { return };
        revocation.busy.retain(|partition| self.desk.has(*partition));
        if !revocation.busy.is_empty() {
            return;
        }
        let Member { reader, topic, .. } = &self.member;
        if let Err(error) = reader.incremental_unassign(&kafka::names(topic, &revocation.all)) {
            tracing::warn!(%error, "cannot give partitions back by name");
            // Unanswered, the group would wait for this member for ever.
            let none = TopicPartitionList::new();
            let answered = reader.incremental_unassign(&none).or_else(|_| reader.unassign());
            if let Err(error) = answered {
                tracing::error!(%error, "cannot answer the group");
            }
        }
        self.revocation = None;
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
