//! How far the group's member is behind, and with it whether Kafka answers while nothing comes.

use crate::health::{Component, Health};
use crate::kafka::Reader;
use crate::metrics::Metrics;
use crate::run::Positions;
use anyhow::Context as _;
use rdkafka::consumer::Consumer;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(2);

pub struct Lag {
    pub reader: Reader,
    pub topic: String,
    pub positions: Positions,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
}

impl Lag {
    /// On a thread of its own: asking brokers blocks, and the lag matters most when they are slow. Ends
    /// with the process.
    pub fn start(self) -> anyhow::Result<()> {
        let measure = move || loop {
            self.measure();
            std::thread::sleep(EVERY);
        };
        let thread = std::thread::Builder::new().name("lag".to_owned());
        thread.spawn(measure).map(drop).context("cannot start a thread")
    }

    fn measure(&self) {
        let ours = self.positions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let lag_of = |(partition, done): (i32, i64)| {
            let (_, high) = self.reader.fetch_watermarks(&self.topic, partition, PATIENCE).ok()?;
            Some((partition, (high - done).max(0)))
        };
        let lag: Option<Vec<(i32, i64)>> = ours.into_iter().map(lag_of).collect();
        // An old figure beats half of a new one.
        let Some(lag) = lag else { return };
        self.metrics.set_lag(&lag);
        // After a broker's restart no record may come for hours to tell that it is back. Without a
        // partition of ours nobody was asked.
        if !lag.is_empty() {
            self.health.set_up(Component::Kafka);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::{self, Kafka};
    use rdkafka::mocking::MockCluster;

    #[test]
    fn brokers_that_answer_are_up() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("events", 1, 1).unwrap();
        let kafka = Kafka::new(&cluster.bootstrap_servers(), &[]).unwrap();
        let check = |positions: &[(i32, i64)], expected: bool| {
            let health = Arc::new(Health::starting());
            health.set_down(Component::Kafka, "the broker restarts");
            let lag = Lag {
                reader: kafka::open(&kafka.reader("lag", false), None).unwrap(),
                topic: "events".to_owned(),
                positions: Arc::default(),
                metrics: Arc::new(Metrics::new()),
                health: Arc::clone(&health),
            };
            lag.positions.lock().unwrap().extend_from_slice(positions);
            lag.measure();
            assert_eq!(health.is_up(Component::Kafka), expected, "{positions:?}");
        };
        check(&[], false);
        check(&[(0, 0)], true);
    }
}
